"""MinIO: the S3 endpoint that behaves like S3 (conditional writes are atomic, wrong checksums and keys are refused).

A test tool only: nothing of it is part of the product. It makes its buckets when tests ask for them. Its build takes
minutes the first time; it is kept in the cache. `moto` is the quick one, with the rest of AWS beside S3.
"""

from __future__ import annotations

import urllib.request

from .. import core, install

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
REGION = "eu-west-1"


class Minio(core.Service):
    name = "minio"
    ports = ("s3", "console")

    def install(self) -> None:
        _server()

    def command(self, home: core.Home) -> list:
        # The settings go by `env`: a service is started without the variables of whoever starts it.
        settings = {
            "MINIO_ROOT_USER": home.secret("user"),
            "MINIO_ROOT_PASSWORD": home.secret("password"),
            "MINIO_REGION": REGION,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CI_CD": "on",  # a folder of the root disk will do
        }
        server = [_server(), "server", home.path / "data", "--address", home.address("s3")]
        variables = [f"{name}={value}" for name, value in settings.items()]
        return [install.needed("env", "install coreutils"), *variables, *server, "--console-address", home.address("console")]

    def ready(self, home: core.Home) -> bool:
        return answers(f"http://{home.address('s3')}/minio/health/ready")

    def env(self, home: core.Home) -> dict[str, str]:
        return {
            "MINIO_PROGRAM": str(_server()),
            "MINIO": f"http://{home.address('s3')}",
            "MINIO_USER": home.secret("user"),
            "MINIO_PASSWORD": home.secret("password"),
            "MINIO_REGION": REGION,
        }


def answers(url: str) -> bool:
    """Whether the URL answers 200; an HTTP error and a refused connection are both an OSError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=2) as answer:
        return answer.status == 200


def _server():
    return install.go("minio", "github.com/minio/minio", VERSION)
