"""The brokers of compose/, with the settings that stand there, as processes of this machine.

Kafka 4.1 (KRaft) and the pairing of Kafka 3.9 with ZooKeeper 3.8, from Maven Central. Addresses and folders are this
machine's; every other setting is the Compose file's, turned into a property as the images do it.
"""

from __future__ import annotations

import socket
from pathlib import Path

from .. import core, install
from . import kafka
from .manifests import composed

# ZooKeeper 3.8.4 comes as a dependency of this Kafka.
ARTIFACTS = {"org.apache.kafka:kafka_2.13": "3.9.1", "org.slf4j:slf4j-reload4j": "1.7.36"}
LOG4J = """\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1} %m%n
"""
JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable"]


class ComposedKafka(core.Service):
    """The service `kafka` of the Compose file."""

    name = "kafkacompose"
    ports = ("internal", "controller", "host")

    def install(self) -> None:
        kafka.Kafka().install()
        composed({})

    def prepare(self, home: core.Home) -> None:
        (home.path / "log4j2.properties").write_text(kafka.LOG4J, encoding="utf-8")
        write_properties(home, _environment("kafka"), {"controller.quorum.voters": f"1@{home.address('controller')}"})
        arguments = ["format", "-t", "bm8tY2x1c3Rlci1oZXJlLg", "-c", home.path / "server.properties"]
        install.run([*self._java(home), "kafka.tools.StorageTool", *arguments], "formatting Kafka's storage", cwd=home.path)

    def command(self, home: core.Home) -> list:
        return [*self._java(home), "kafka.Kafka", home.path / "server.properties"]

    def ready(self, home: core.Home) -> bool:
        return kafka.brokers_known_by(home.port("internal")) > 0

    def env(self, home: core.Home) -> dict[str, str]:
        return {"KAFKACOMPOSE": home.address("internal"), "KAFKACOMPOSE_HOST": home.address("host")}

    def _java(self, home: core.Home) -> list:
        log4j = f"-Dlog4j2.configurationFile={home.path / 'log4j2.properties'}"
        heap = _environment("kafka")["KAFKA_HEAP_OPTS"].split()
        return [kafka.java_program(), *heap, *JVM, log4j, "-cp", f"{kafka.jars()}/*"]


class Zookeeper(core.Service):
    """The service `zookeeper` of the Compose file's profile of that name."""

    name = "zookeeper"
    ports = ("client",)

    def install(self) -> None:
        _jars()
        composed({})

    def prepare(self, home: core.Home) -> None:
        environment = _environment("zookeeper")
        lines = [
            f"tickTime={environment['ZOO_TICK_TIME']}",
            f"admin.enableServer={environment['ZOO_ADMINSERVER_ENABLED']}",
            f"4lw.commands.whitelist={environment['ZOO_4LW_COMMANDS_WHITELIST']}",
            f"dataDir={home.path / 'data'}",
            f"clientPort={home.port('client')}",
            "clientPortAddress=127.0.0.1",
        ]
        (home.path / "zoo.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (home.path / "log4j.properties").write_text(LOG4J, encoding="utf-8")

    def command(self, home: core.Home) -> list:
        heap = _environment("zookeeper")["JVMFLAGS"].split()
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return [*_java(home, heap), main, home.path / "zoo.cfg"]

    def ready(self, home: core.Home) -> bool:
        with socket.create_connection(("127.0.0.1", home.port("client")), timeout=2) as connection:
            connection.sendall(b"ruok")
            return connection.recv(4) == b"imok"

    def env(self, home: core.Home) -> dict[str, str]:
        return {"ZOOKEEPER": home.address("client")}


class ZookeeperKafka(core.Service):
    """The service `kafka-zookeeper` of the same profile; start it with `zookeeper`."""

    name = "kafkazookeeper"
    ports = ("internal", "host")

    def install(self) -> None:
        _jars()
        composed({})

    def prepare(self, home: core.Home) -> None:
        zookeeper = core.Home(home.state, Zookeeper())
        if not zookeeper.known():
            raise core.ProvisionError("kafkazookeeper needs zookeeper: name both")
        (home.path / "log4j.properties").write_text(LOG4J, encoding="utf-8")
        write_properties(home, _environment("kafka-zookeeper"), {"zookeeper.connect": zookeeper.address("client")})

    def command(self, home: core.Home) -> list:
        heap = _environment("kafka-zookeeper")["KAFKA_HEAP_OPTS"].split()
        return [*_java(home, heap), "kafka.Kafka", home.path / "server.properties"]

    def ready(self, home: core.Home) -> bool:
        return kafka.brokers_known_by(home.port("internal")) > 0

    def env(self, home: core.Home) -> dict[str, str]:
        return {"KAFKAZOOKEEPER": home.address("internal"), "KAFKAZOOKEEPER_HOST": home.address("host")}


def _environment(service: str) -> dict[str, str]:
    return composed({"COMPOSE_PROFILES": "zookeeper"})["services"][service]["environment"]


def write_properties(home: core.Home, environment: dict[str, str], replaced: dict[str, str]) -> None:
    """server.properties as the images make it of KAFKA_…, with the addresses and folders of this machine."""
    properties = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    for key in ("listeners", "advertised.listeners"):
        names = [listener.partition("://")[0] for listener in properties[key].split(",")]
        replaced[key] = ",".join(f"{name}://{home.address(name.lower())}" for name in names)
    properties.update(replaced, **{"log.dirs": str(home.path / "data")})
    text = "".join(f"{key}={value}\n" for key, value in properties.items())
    (home.path / "server.properties").write_text(text, encoding="utf-8")


def _java(home: core.Home, heap: list) -> list:
    log4j = f"-Dlog4j.configuration=file:{home.path / 'log4j.properties'}"
    return [kafka.java_program(), *heap, *JVM, log4j, "-cp", f"{_jars()}/*"]


def _jars() -> Path:
    return install.maven("kafka-zookeeper", ARTIFACTS) / "libs"
