"""The command lines of a cluster's programs, each setting with its reason. Nothing is run here."""

DOMAIN = "cluster.local"
# Controllers are held to 20 requests per second otherwise, and the first of them start four seconds later.
UNHURRIED = ["--kube-api-qps=500", "--kube-api-burst=1000"]
# There is one of each, so none waits to be elected.
ALONE = ["--leader-elect=false"]


def etcd(data, client, peer):
    """`client` and `peer` are URLs on the loopback interface."""
    return [
        "etcd",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # A test cluster need not survive a power cut, and disks of build machines are slow.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(certificates, etcd_url, port, services):
    """The API server: RBAC as in production, service-account tokens for any audience."""
    return [
        "kube-apiserver",
        f"--etcd-servers={etcd_url}",
        f"--secure-port={port}",
        f"--service-cluster-ip-range={services}",
        f"--tls-cert-file={certificates}/apiserver.crt",
        f"--tls-private-key-file={certificates}/apiserver.key",
        f"--client-ca-file={certificates}/ca.crt",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={certificates}/sa.pub",
        f"--service-account-signing-key-file={certificates}/sa.key",
    ]


def apiserver_alone(address):
    """What the API server wants beside `apiserver` where there is no node."""
    return [
        f"--bind-address={address}",
        # Nobody looks for it by the Service `kubernetes`, which may not point to a loopback address.
        "--endpoint-reconciler-type=none",
        "--advertise-address=192.0.2.1",
    ]


def apiserver_of_node(certificates, address):
    return [
        f"--advertise-address={address}",
        # For `kubectl logs`, `exec` and `port-forward`.
        f"--kubelet-certificate-authority={certificates}/ca.crt",
        f"--kubelet-client-certificate={certificates}/admin.crt",
        f"--kubelet-client-key={certificates}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        # Webhooks are called at the pods themselves: one way less that has to be there in time.
        "--enable-aggregator-routing=true",
        # What it makes for itself, which nobody uses.
        "--cert-dir=/run/kube-apiserver",
    ]


def controller_manager(certificates, kubeconfig):
    return [
        "kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={certificates}/sa.key",
        f"--root-ca-file={certificates}/ca.crt",
        f"--cluster-signing-cert-file={certificates}/ca.crt",
        f"--cluster-signing-key-file={certificates}/ca.key",
        "--cert-dir=/run/kube-controller-manager",
        *ALONE,
        *UNHURRIED,
    ]


def scheduler(kubeconfig):
    return ["kube-scheduler", f"--kubeconfig={kubeconfig}", "--cert-dir=/run/kube-scheduler", *ALONE, *UNHURRIED]


def kubelet(config, kubeconfig, root, name, address):
    return [
        "kubelet",
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={root}",
        f"--cert-dir={root}/pki",
        f"--hostname-override={name}",
        f"--node-ip={address}",
    ]
