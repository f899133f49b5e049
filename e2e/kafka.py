"""A real Apache Kafka (KRaft) on free ports, with its own tools to look into it."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

from cluster.certificates import Authority
from harness import ROOT, free_port, until

JARS = ROOT / ".cache/tools/kafka"
# A broker for tests starts quickly and stays small; a benchmark takes the JVM as it comes.
QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
SETTINGS = {
    "process.roles": "broker,controller", "controller.listener.names": "CONTROLLER", "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "4", "transaction.state.log.num.partitions": "4",
    "controlled.shutdown.enable": "true", "log.retention.ms": "-1",
}
# The first broker's port for users comes next, where nobody else may have it.
USUAL_PORT = 9092
# What leaders and elections wait for, for tests that end them.
IMPATIENT = {
    "broker.heartbeat.interval.ms": "300", "broker.session.timeout.ms": "2000", "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000", "controller.quorum.election.backoff.max.ms": "300",
}


def install():
    """Brings the jars, once; Maven looks them up by the version in scripts/versions.env."""
    wanted = re.search(r"^KAFKA_VERSION=(.+)$", (ROOT / "scripts/versions.env").read_text(), re.MULTILINE)[1]
    folder = JARS / wanted
    if not folder.is_dir():
        for program in ("java", "mvn"):
            if not shutil.which(program):
                raise RuntimeError(f"Apache Kafka needs {program}: run scripts/setup.sh, or install a Java 17 and Maven")
        JARS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=JARS) as temporary:
            command = ["mvn", "--quiet", "--batch-mode", "--file", ROOT / "e2e/fixtures/kafka.pom.xml", f"-Dkafka.version={wanted}"]
            command += ["dependency:copy-dependencies", f"-DoutputDirectory={temporary}/jars"]
            subprocess.run(command, check=True, timeout=600)
            # Another run may have been first.
            if not folder.is_dir():
                pathlib.Path(temporary, "jars").rename(folder)
    return folder


# The listener for users: TLS, and a password that is proven without being sent, or sent.
SECURE = {
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL", "ssl.keystore.type": "PEM",
    "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
    "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
}
# Users may do nothing until it is allowed, but for our own tools and the brokers.
STRICT = {"authorizer_class_name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super_users": "User:ANONYMOUS"}


class Broker:
    """One broker, which may be killed and started again."""

    def __init__(self, kafka, number, ports):
        self.kafka, self.number, self.ports = kafka, number, ports
        self.folder = kafka.folder / f"broker-{number}"
        self.process = None

    def format(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        listeners = [f"PLAINTEXT://127.0.0.1:{self.ports[0]}", f"CONTROLLER://127.0.0.1:{self.ports[1]}"]
        if self.kafka.users:
            listeners.append(f"SASL_SSL://{self.kafka.address}:{self.ports[2]}")
        settings = {
            **SETTINGS, **self.kafka.settings, "node.id": self.number, "log.dirs": self.folder / "data",
            "listeners": ",".join(listeners),
            "controller.quorum.voters": ",".join(f"{b.number}@127.0.0.1:{b.ports[1]}" for b in self.kafka.brokers),
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        users = [f"--add-scram=SCRAM-SHA-512=[name={name},password={password}]" for name, password in self.kafka.users.items()]
        self.kafka.java("kafka.tools.StorageTool", "format", "-t", self.kafka.cluster_id, "-c", path, *users)

    def start(self):
        command = self.kafka.command("kafka.Kafka", self.folder / "server.properties", heap=self.kafka.heap)
        with open(self.folder / "log", "a") as log:
            self.mark = log.tell()
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"Kafka ended:\n{(self.folder / 'log').read_text()[-3000:]}")
        with open(self.folder / "log") as log:
            log.seek(self.mark)
            return "Kafka Server started" in log.read()

    def end(self, how=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)


class Kafka:
    """A cluster of brokers, ready once made; `bootstrap` names them. With `users`, passwords by name, they also listen at `secure`
    for these alone, over TLS; `client` is what a client needs there, and `bootstrap` is for our own tools. With an `address` that
    is this test's alone, such as a node's link, users find them there at Kafka's usual ports."""

    def __init__(self, brokers=1, heap="384m", options=QUICK, users=None, address=None, **settings):
        self.jars = install()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-kafka-"))
        self.heap, self.options, self.users, self.address = heap, options, users or {}, address or "127.0.0.1"
        replicas = {
            "default.replication.factor": brokers, "offsets.topic.replication.factor": brokers,
            "transaction.state.log.replication.factor": brokers, "min.insync.replicas": 2 if brokers > 2 else 1,
            "transaction.state.log.min.isr": 1,
        }
        impatient = IMPATIENT if brokers > 1 else {}
        self.settings = {**replicas, **impatient, **{name.replace("_", "."): value for name, value in settings.items()}}
        if users:
            known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
            login = f"org.apache.kafka.common.security.plain.PlainLoginModule required {known};"
            self.settings |= SECURE | {"listener.name.sasl_ssl.plain.sasl.jaas.config": login, "ssl.keystore.location": self.certify()}
        self.cluster_id = "c2FsbHlwb3J0LXRlc3RzMA"
        secure = (lambda number: USUAL_PORT + number) if address else lambda _: free_port()
        self.brokers = [Broker(self, number, (free_port(), free_port(), secure(number))) for number in range(1, brokers + 1)]
        try:
            self.format()
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def bootstrap(self):
        return ",".join(f"127.0.0.1:{broker.ports[0]}" for broker in self.brokers)

    @property
    def secure(self):
        return ",".join(f"{self.address}:{broker.ports[2]}" for broker in self.brokers)

    def certify(self):
        """The brokers' certificate and key, in one file. It is good for the address, and not for the name of this machine."""
        authority = Authority(self.folder / "tls", "kafka")
        authority.issue("broker", "/CN=broker", "serverAuth", [f"IP:{self.address}"])
        keystore = self.folder / "tls/broker.pem"
        keystore.write_text((self.folder / "tls/broker.key").read_text() + (self.folder / "tls/broker.crt").read_text())
        return keystore

    def client(self, name, password=None, authority=None, mechanism="SCRAM-SHA-512"):
        """librdkafka's properties of a user; the right ones, unless others are given."""
        return (f"security.protocol=sasl_ssl\nsasl.mechanism={mechanism}\nsasl.username={name}\n"
                f"sasl.password={password or self.users[name]}\nssl.ca.location={authority or self.folder / 'tls/ca.crt'}\n")

    def command(self, main, *arguments, heap="256m"):
        java = ["java", f"-Xmx{heap}", *self.options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"]
        return [*java, "-cp", f"{self.jars}/*", main, *map(str, arguments)]

    def java(self, main, *arguments, timeout=60, given=None):
        """Runs one of Kafka's own tools on what is `given` to it; gives its standard output."""
        result = subprocess.run(self.command(main, *arguments), capture_output=True, text=True, errors="replace", timeout=timeout, input=given)
        if result.returncode:
            raise RuntimeError(f"{main} ended with {result.returncode}:\n{result.stdout[-1500:]}{result.stderr[-3000:]}")
        return result.stdout

    def format(self):
        """Makes every broker's folder anew, empty."""
        for broker in self.brokers:
            broker.format()

    def start(self):
        for broker in self.brokers:
            broker.start()
        for broker in self.brokers:
            until(broker.is_up, 60, "Kafka is up")

    def kill(self):
        for broker in self.brokers:
            broker.end()

    def topics(self, *arguments):
        return self.java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.bootstrap, *arguments)

    def allow(self, name, *rights):
        """Allows a user of a strict cluster what the arguments of Kafka's tool say."""
        address = ("--bootstrap-server", self.bootstrap)
        self.java("org.apache.kafka.tools.AclCommand", *address, "--add", "--allow-principal", f"User:{name}", *rights)

    def leader(self, topic, partition=0):
        lines = self.topics("--describe", "--topic", topic)
        return int(re.search(rf"Partition: {partition}\s+Leader: (\d+)", lines)[1])

    def counts(self, topic):
        """How many records each partition of a topic has that has any; empty where the topic is not there."""
        try:
            lines = self.java("org.apache.kafka.tools.GetOffsetShell", "--bootstrap-server", self.bootstrap, "--topic", topic)
        except RuntimeError:
            return {}
        found = (line.split(":") for line in lines.split())
        return {int(partition): int(count) for _, partition, count in found if count != "0"}

    def count(self, topic):
        """How many records a topic has; 0 where it is not there."""
        return sum(self.counts(topic).values())

    def consume(self, topic, *properties):
        """What the console's consumer prints of every record, by partition in order; `properties` are its formatter's."""
        # Each partition by its number: a group's members depend on a coordinator, which may be busy after the broker's start.
        printed = [self.java(
            "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", self.bootstrap, "--topic", topic, "--partition", partition,
            "--offset", "earliest", "--max-messages", count, "--timeout-ms", 20_000,
            *(f"--formatter-property={name}" for name in ("print.headers=true", "print.key=true", *properties)))
            for partition, count in self.counts(topic).items()]
        return "".join(printed)

    def records(self, topic, values=False):
        """Every record of a topic, by partition in order: its headers, its `key`, and where `values` says so its JSON `value`."""
        printed = self.consume(topic, f"print.value={str(values).lower()}", "headers.separator=\x1f", "key.separator=\x1e")
        return [record(line) for line in printed.split("\n") if "ce_id:" in line]

    def values(self, topic):
        """Every record of a topic, as it is: its headers, its key and its value, which is bytes."""
        printed = self.consume(
            topic, "value.deserializer=org.apache.kafka.common.serialization.BytesDeserializer", "headers.separator=\x1f", "key.separator=\x1e")
        # What is not printable, and the backslash, is \xNN.
        unescaped = lambda text: re.sub(rb"\\x([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())  # noqa: E731
        records = [line.split("\x1e") for line in printed.split("\n") if line.count("\x1e") == 2]
        return [(headers, key, unescaped(value)) for headers, key, value in records]

    def stop(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def record(line):
    headers, key, *value = line.split("\x1e")
    headers = dict(header.split(":", 1) for header in headers.split("\x1f"))
    return {**headers, "key": key, **({"value": json.loads(value[0])} if value else {})}
