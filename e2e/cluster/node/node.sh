#!/usr/bin/env bash
# The node's first process, in namespaces of its own: with it ends all that runs in here, and every mount.
# Its environment: NAME (host name), STATE (folder), ADDRESS and GATEWAY (of the link to the machine), CGROUPS (what the
# machine mounts where: controllers:path, without controllers for the second generation), SCRATCH (where a file system in
# memory must lie, or nothing).
set -euo pipefail

hostname "$NAME"
ip link set lo up

# The machine's /sys would show its own network and control groups, and runc would find those first.
umount --recursive --lazy /sys
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
for mounted in $CGROUPS; do
    controllers=${mounted%%:*} path=${mounted#*:}
    mkdir -p "$path"
    case $controllers in
        '') mount -t cgroup2 cgroup2 "$path" ;;
        name=*) mount -t cgroup -o "none,$controllers" cgroup "$path" ;;
        *) mount -t cgroup -o "$controllers" cgroup "$path" ;;
    esac
done
mkdir -p /var/lib/cni
for path in /run /var/log /var/lib/cni $SCRATCH; do
    mount -t tmpfs -o mode=755 tmpfs "$path"
done
# The kubelet sets these for the whole machine. It gets to see that they are as it wants them.
mkdir /run/kernel
while read -r setting value; do
    seen=/run/kernel/${setting//\//.}
    echo "$value" > "$seen"
    mount --bind "$seen" "/proc/sys/$setting"
done <<'SETTINGS'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SETTINGS
# Mounts that the kubelet makes must be seen in the containers.
mount --make-rshared /

until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip address add "$ADDRESS/30" dev eth0
ip link set eth0 up
ip route add default via "$GATEWAY"
sysctl -qw net.ipv4.ip_forward=1
# Also traffic between two pods on the bridge passes the forward hook, where policies are enforced.
sysctl -qw net.bridge.bridge-nf-call-iptables=1
# Connections that nobody holds any more would keep this network alive after the node's end.
sysctl -qw net.ipv4.tcp_orphan_retries=1 net.ipv4.tcp_fin_timeout=5

# The second generation allows processes in leaves only: this one moves beside the pods, as its parent has been moved.
if [ "$CGROUPS" = :/sys/fs/cgroup ]; then
    mkdir /sys/fs/cgroup/node
    echo 0 > /sys/fs/cgroup/node/cgroup.procs
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
    done
fi

# A program that ends is started again, unless a file in `held` bears its name.
supervise() {
    while :; do
        if [ -e "$STATE/held/$1" ]; then sleep 0.1; continue; fi
        "$STATE/components/$1" >> "$STATE/log/$1.log" 2>&1 < /dev/null || true
        echo "$1 ended"
        sleep 0.2
    done
}
# These are of no use before the API server serves; they would wait, with growing pauses.
supervise etcd &
supervise containerd &
supervise kube-apiserver &
until kubectl --kubeconfig "$STATE/kubeconfig" get --raw /readyz >/dev/null 2>&1; do sleep 0.1; done
for name in kube-controller-manager kube-scheduler kubelet kube-proxy kube-netpol; do
    supervise "$name" &
done
wait
