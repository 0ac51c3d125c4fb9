"""Redis, from Debian, without persistence: 64 MB, the least recently used key goes first."""

from __future__ import annotations

import socket

from .. import core, install


class Redis(core.Service):
    name = "redis"
    ports = ("redis",)

    def install(self) -> None:
        install.program("redis-server", "redis-server")

    def command(self, home: core.Home) -> list:
        options = {
            "--port": home.port("redis"),
            "--bind": "127.0.0.1",
            "--save": "",
            "--appendonly": "no",
            "--dir": home.path,
            "--maxmemory": "64mb",
            "--maxmemory-policy": "allkeys-lru",
            "--daemonize": "no",
        }
        server = install.program("redis-server", "redis-server")
        return [server, *(part for option in options.items() for part in option)]

    def ready(self, home: core.Home) -> bool:
        with socket.create_connection(("127.0.0.1", home.port("redis")), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"REDIS": f"redis://{home.address('redis')}"}
