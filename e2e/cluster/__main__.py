"""`python3 e2e/cluster COMMAND`: what `make cluster` and the like call."""

import argparse
import os
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
from cluster import build  # noqa: E402
from cluster.node import USERS, Node  # noqa: E402


def main():
    parser = argparse.ArgumentParser(prog="cluster", description="A real one-node Kubernetes, without Docker")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("programs", help="build the control plane's programs and print the folder that has them")
    for name, what in [("up", "start the node, if it does not run, and print its kubeconfig"), ("down", "remove every trace")]:
        command = commands.add_parser(name, help=what)
        command.add_argument("--number", type=int, default=USERS, help="which, of several beside each other (%(default)s)")
    load = commands.add_parser("load", help="import images into the node")
    load.add_argument("archive", nargs="+")
    load.add_argument("--number", type=int, default=USERS, help="into which node (%(default)s)")
    arguments = parser.parse_args()
    if arguments.command == "programs":
        print(build.build(build.control_plane()))
        return
    if os.geteuid() != 0:
        sys.exit("cluster: a node needs root, for namespaces and control groups: run this with sudo, or give KUBECONFIG")
    node = Node(arguments.number)
    if arguments.command == "down":
        node.stop()
    elif arguments.command == "load":
        for archive in arguments.archive:
            node.load(pathlib.Path(archive).resolve())
    else:
        if not node.is_running():
            node.start()
        print(node.kubeconfig)


main()
