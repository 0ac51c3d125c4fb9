"""moto: S3, DynamoDB, IAM, SNS, SQS, STS and Budgets in one port, state in memory (a restart empties it).

It accepts wrong secrets and wrong checksums; where those matter, use `minio`.
"""

from __future__ import annotations

from pathlib import Path

from .. import core, install
from .minio import REGION, answers


class Moto(core.Service):
    name = "moto"
    ports = ("aws",)

    def install(self) -> None:
        _python()

    def command(self, home: core.Home) -> list:
        return [_python().parent / "moto_server", "-H", "127.0.0.1", "-p", home.port("aws")]

    def ready(self, home: core.Home) -> bool:
        return answers(f"http://{home.address('aws')}/moto-api/")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"MOTO": f"http://{home.address('aws')}", "MOTO_REGION": REGION, "MOTO_PYTHON": str(_python())}


def _python() -> Path:
    return install.python_venv("moto", install.REPOSITORY / "tests" / "services" / "requirements-moto.txt")
