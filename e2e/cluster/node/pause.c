/* The process that holds a pod's namespaces: it lives until it is told to end, and takes leave of orphans. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    for (int received; sigwait(&signals, &received) == 0 && received == SIGCHLD;)
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    return 0;
}
