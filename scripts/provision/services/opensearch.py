"""OpenSearch: the core server from Maven Central, one node, without login and without modules (no security, no reindex)."""

from __future__ import annotations

from pathlib import Path

from .. import core, install
from .kafka import java_program
from .minio import answers

VERSION = "2.19.1"
ARTIFACTS = {
    "org.opensearch:opensearch": VERSION,
    "org.opensearch.plugin:transport-netty4-client": VERSION,
    "org.opensearch.client:opensearch-rest-client": VERSION,
    "org.apache.logging.log4j:log4j-core": "2.21.0",
}
SOURCE = install.REPOSITORY / "scripts" / "provision" / "opensearch" / "Server.java"
LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class OpenSearch(core.Service):
    name = "opensearch"
    ports = ("http", "transport")

    def install(self) -> None:
        _jars()

    def prepare(self, home: core.Home) -> None:
        (home.path / "log4j2.properties").write_text(LOG4J, encoding="utf-8")

    def command(self, home: core.Home) -> list:
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        log4j = f"-Dlog4j2.configurationFile={home.path / 'log4j2.properties'}"
        where = [home.path, home.port("http"), home.port("transport")]
        return [java_program(), *options, log4j, "-cp", f"{_jars()}/*", SOURCE, *where]

    def ready(self, home: core.Home) -> bool:
        return answers(f"http://{home.address('http')}/_cluster/health?wait_for_status=yellow&timeout=1s")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"OPENSEARCH": f"http://{home.address('http')}"}


def _jars() -> Path:
    return install.maven("opensearch", ARTIFACTS) / "libs"
