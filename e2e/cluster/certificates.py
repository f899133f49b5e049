"""Certificates: one authority, and what it signs. Elliptic keys, since they are made in no time."""

import base64
import subprocess

# Longer than any cluster of ours lives.
DAYS = "365"


class Authority:
    """A certificate authority whose files stand in `folder`: `ca.crt`, `ca.key`, and `NAME.crt` and `NAME.key` of each."""

    def __init__(self, folder, name="kubernetes"):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.make("ca", f"/CN={name}", ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"])

    def issue(self, name, subject, usage, alternatives=()):
        extensions = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", f"extendedKeyUsage={usage}"]
        if alternatives:
            extensions.append("subjectAltName=" + ",".join(alternatives))
        self.make(name, subject, extensions, ["-CA", self.folder / "ca.crt", "-CAkey", self.folder / "ca.key"])

    def issue_local(self, name, address="127.0.0.1"):
        """A server's certificate for this machine, as it is reached at `address`."""
        self.issue(name, "/CN=localhost", "serverAuth", [f"IP:{address}", "DNS:localhost"])

    def make(self, name, subject, extensions, signer=()):
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", DAYS]
        command += ["-subj", subject, "-keyout", key, "-out", certificate, *signer]
        # Nothing but these extensions, whatever the machine's own configuration adds.
        command += ["-config", "/dev/stdin", *(part for extension in extensions for part in ("-addext", extension))]
        configuration = b"[req]\ndistinguished_name=dn\n[dn]\n"
        subprocess.run(command, input=configuration, check=True, capture_output=True)
        key.chmod(0o600)

    def kubeconfig(self, path, server, name):
        """How the owner of the certificate `name` reaches the API server."""

        def data(file):
            return base64.b64encode((self.folder / file).read_bytes()).decode()

        path.write_text(
            f"""apiVersion: v1
kind: Config
clusters:
- name: sallyport
  cluster: {{server: "{server}", certificate-authority-data: {data("ca.crt")}}}
users:
- name: {name}
  user: {{client-certificate-data: {data(f"{name}.crt")}, client-key-data: {data(f"{name}.key")}}}
contexts:
- name: sallyport
  context: {{cluster: sallyport, user: {name}}}
current-context: sallyport
"""
        )
        path.chmod(0o600)


def signing_key(folder):
    """The key that signs service-account tokens: `sa.key`, `sa.pub`."""
    private, public = folder / "sa.key", folder / "sa.pub"
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "genpkey", *curve, "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
