"""Toxiproxy: a TCP proxy that tests make slow, cut, or silent, by its HTTP interface.

It comes with one proxy per service that runs beside it: `kafka` and `postgres`. Add toxics by
`POST /proxies/kafka/toxics`, cut by `POST /proxies/kafka {"enabled": false}`, undo all by `POST /reset`.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from .. import core, install
from .kafka import Kafka
from .postgres import Postgres, url

VERSION = "v2.5.0"


class Toxiproxy(core.Service):
    name = "toxiproxy"
    ports = ("http", "postgres")

    def install(self) -> None:
        _server()

    def command(self, home: core.Home) -> list:
        return [_server(), "-host", "127.0.0.1", "-port", home.port("http")]

    def ready(self, home: core.Home) -> bool:
        return bool(_call(home, "GET", "/version"))

    def started(self, home: core.Home) -> None:
        """Its proxies live in memory, so each start lays them anew."""
        proxies = [
            {"name": name, "listen": listen, "upstream": upstream, "enabled": True}
            for name, (listen, upstream) in self._routes(home).items()
        ]
        _call(home, "POST", "/populate", proxies)

    def env(self, home: core.Home) -> dict[str, str]:
        routes = self._routes(home)
        values = {"TOXIPROXY": f"http://{home.address('http')}"}
        if "kafka" in routes:
            values["KAFKA_PROXY"] = routes["kafka"][0]
        if "postgres" in routes:
            values["POSTGRES_PROXY"] = url(home.port("postgres"))
        return values

    def _routes(self, home: core.Home) -> dict[str, tuple[str, str]]:
        """Proxy name to (address it listens on, address behind it), for the services of the same state folder."""
        kafka, postgres = core.Home(home.state, Kafka()), core.Home(home.state, Postgres())
        routes = {}
        if kafka.known():
            routes["kafka"] = (kafka.address("proxy"), kafka.address("proxied"))
        if postgres.known():
            routes["postgres"] = (home.address("postgres"), postgres.address("sql"))
        return routes


def _server() -> Path:
    return install.go("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server", VERSION)


def _call(home: core.Home, method: str, path: str, body=None) -> bytes:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://{home.address('http')}{path}", data, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        return answer.read()
