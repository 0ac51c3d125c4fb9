"""DynamoDB Local, AWS's own, from Maven Central: transactions, conditions and limits as in the real one, data in memory."""

from __future__ import annotations

import http.client
from pathlib import Path

from .. import core, install

ARTIFACTS = {"com.amazonaws:DynamoDBLocal": "2.6.1"}


class DynamoDB(core.Service):
    name = "dynamodb"
    ports = ("http",)

    def install(self) -> None:
        _libs()

    def command(self, home: core.Home) -> list:
        java = install.needed("java", "install a Java 17 runtime")
        options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Djava.library.path={_libs()}"]
        main = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
        server = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", home.port("http")]
        return [java, *options, "-cp", f"{_libs()}/*", main, *server]

    def ready(self, home: core.Home) -> bool:
        """Whether it answers; what it says to a request without a signature is a refusal."""
        connection = http.client.HTTPConnection("127.0.0.1", home.port("http"), timeout=2)
        connection.request("GET", "/")
        return connection.getresponse().status == 400

    def env(self, home: core.Home) -> dict[str, str]:
        return {"DYNAMODB": f"http://{home.address('http')}"}


def _libs() -> Path:
    return install.maven("dynamodb", ARTIFACTS) / "libs"
