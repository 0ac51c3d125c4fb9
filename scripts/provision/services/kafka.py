"""Apache Kafka 4.1, one KRaft broker, from Maven Central: jars and a Java 17 runtime, no archive to unpack.

Listeners, all on 127.0.0.1:

    plain      SMARTLOG_TEST_KAFKA        no authentication; the broker's own connections use it too
    sasl_ssl   SMARTLOG_TEST_KAFKA_SASL   TLS with a certificate of our own authority; SCRAM-SHA-512, -256 and PLAIN
    proxied    SMARTLOG_TEST_KAFKA_PROXY  advertised as the port at which toxiproxy listens, so that a client that
                                          enters through the proxy stays behind it
"""

from __future__ import annotations

import base64
import os
import secrets
import socket
import struct
from pathlib import Path

from .. import core, install

VERSION = "4.1.0"
ARTIFACTS = {
    "org.apache.kafka:kafka_2.13": VERSION,
    "org.apache.logging.log4j:log4j-core": "2.24.3",
    "org.apache.logging.log4j:log4j-slf4j-impl": "2.24.3",
}
USER = "smartlog"
JVM = "-Xms128m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"  # quick to start, 180 MB resident

LOG4J = """\
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
"""

# Beside the plain lines of a combined broker and controller, each line says what it is for.
PROPERTIES = """\
node.id=1
process.roles=broker,controller
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl_ssl},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl_ssl},PROXIED://127.0.0.1:{proxy}
inter.broker.listener.name=PLAIN
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={home}/data

sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={home}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={home}/ca.crt

# One broker: nothing can be replicated.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Small, for tests beside builds on two cores. The cleaner's buffer would be 128 MB.
num.network.threads=2
num.io.threads=2
background.threads=2
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
log.cleaner.dedupe.buffer.size=2097152
group.initial.rebalance.delay.ms=0

# A broker that was killed is let in again when its session ends: 3 s instead of 9.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.election.backoff.max.ms=500
controller.quorum.fetch.timeout.ms=1000

# Tests write records of any time, past and future, so nothing is refused or deleted by time unless a topic says so.
# A topic that sets its own retention sees it enforced within seconds.
log.retention.ms=-1
log.message.timestamp.after.max.ms=9223372036854775807
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
log.segment.delete.delay.ms=1000
"""


class Kafka(core.Service):
    name = "kafka"
    ports = ("plain", "sasl_ssl", "controller", "proxied", "proxy")

    def install(self) -> None:
        self._class_archive()

    def prepare(self, home: core.Home) -> None:
        password = home.secret("password")
        make_certificates(home.path)
        text = PROPERTIES.format(home=home.path, user=USER, password=password, **home.memory["ports"])
        core.write_atomically(home.path / "server.properties", text, 0o600)
        (home.path / "log4j2.properties").write_text(LOG4J, encoding="utf-8")
        format_storage(self._java(home), home.path, password)

    def command(self, home: core.Home) -> list:
        return [*self._java(home), "kafka.Kafka", home.path / "server.properties"]

    def ready(self, home: core.Home) -> bool:
        return brokers_known_by(home.port("plain")) > 0

    def env(self, home: core.Home) -> dict[str, str]:
        return {
            "KAFKA": home.address("plain"),
            "KAFKA_SASL": home.address("sasl_ssl"),
            "KAFKA_SASL_USER": USER,
            "KAFKA_SASL_PASSWORD": home.secret("password"),
            "KAFKA_CA": str(home.path / "ca.crt"),
        }

    def _java(self, home: core.Home) -> list:
        """Everything before the main class. SMARTLOG_KAFKA_JVM replaces the options, for benchmarks."""
        options = os.environ.get("SMARTLOG_KAFKA_JVM", JVM).split()
        log4j = f"-Dlog4j2.configurationFile={home.path / 'log4j2.properties'}"
        archive = f"-XX:SharedArchiveFile={self._class_archive()}"
        return [java_program(), *options, archive, "-Xlog:disable", log4j, "-cp", f"{jars()}/*"]

    def _class_archive(self) -> Path:
        """Class data of a running broker, kept beside the jars: halves the start. Made by one run."""
        version = install.run([java_program(), "-version"], "java -version")
        name = f"kafka-classes-{VERSION}-{install.digest(version + str(jars()))}"

        def build(folder: Path) -> None:
            record_classes(folder)

        return install.built(name, build) / "classes.jsa"


def record_classes(folder: Path) -> None:
    """Runs a broker in `folder` once and has the Java machine write down which classes it loaded."""
    recorder = _Recorder(folder / "classes.jsa")
    home = core.Home(core.open_state(folder / "run"), recorder)
    core.start(home)
    core.stop(home)
    core.purge(home.state)
    if not (folder / "classes.jsa").exists():
        raise core.ProvisionError(f"Java wrote no class archive; the broker's log was in {home.log}")


class _Recorder(Kafka):
    """The same broker, writing the archive at its end instead of reading it."""

    def __init__(self, archive: Path):
        self._archive = archive

    def _java(self, home: core.Home) -> list:
        log4j = f"-Dlog4j2.configurationFile={home.path / 'log4j2.properties'}"
        write = f"-XX:ArchiveClassesAtExit={self._archive}"
        return [java_program(), *JVM.split(), write, "-Xlog:disable", log4j, "-cp", f"{jars()}/*"]


def java_program() -> Path:
    return install.needed("java", "install a Java 17 runtime")


def jars() -> Path:
    return install.maven(f"kafka-{VERSION}", ARTIFACTS) / "libs"


def format_storage(java: list, folder: Path, password: str) -> None:
    """Lays the metadata log, with the SCRAM credentials in it."""
    cluster = base64.urlsafe_b64encode(b"\x01" + secrets.token_bytes(15)).decode().rstrip("=")
    arguments = ["format", "-t", cluster, "-c", folder / "server.properties"]
    for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256"):
        arguments += ["--add-scram", f"{mechanism}=[name={USER},password={password}]"]
    plain = [option for option in java if not str(option).startswith("-XX:ArchiveClassesAtExit")]
    install.run([*plain, "kafka.tools.StorageTool", *arguments], "formatting Kafka's storage", cwd=folder)


def make_certificates(folder: Path) -> None:
    """ca.crt and server.pem (key and certificate for 127.0.0.1 and localhost), by openssl."""
    openssl = install.program("openssl", "openssl")
    new_key = ["-newkey", "rsa:2048", "-nodes"]

    def call(*arguments) -> None:
        install.run([openssl, *arguments], "openssl", cwd=folder)

    call("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650", "-subj", "/CN=smartlog tests")
    call("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="utf-8")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650", "-extfile", "names"]
    call("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)
    pem = (folder / "server.key").read_text() + (folder / "server.crt").read_text()
    core.write_atomically(folder / "server.pem", pem, 0o600)


def brokers_known_by(port: int) -> int:
    """How many live brokers a broker names: a Metadata request (version 1, no topics) and its answer.

    Raises OSError while nobody answers. A broker that is up and not yet let in by the controller names none.
    """
    request = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.makefile("rb")
        length = struct.unpack(">i", _exactly(answer, 4))[0]
        return struct.unpack(">ii", _exactly(answer, length)[:8])[1]


def _exactly(stream, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ConnectionError(f"expected {count} bytes, got {len(data)}")
    return data
