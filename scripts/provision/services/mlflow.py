"""MLflow's tracking server and registry, from PyPI, with SQLite behind it and artifacts through its proxy.

Its Python (SMARTLOG_TEST_MLFLOW_PYTHON) has onnxruntime too: tests load with it what the product logged.
"""

from __future__ import annotations

import urllib.request
from pathlib import Path

from .. import core, install


class Mlflow(core.Service):
    name = "mlflow"
    ports = ("http",)

    def install(self) -> None:
        self._interpreter()

    def prepare(self, home: core.Home) -> None:
        (home.path / "artifacts").mkdir(exist_ok=True)

    def command(self, home: core.Home) -> list:
        return [
            "/usr/bin/env",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false",  # eight more processes, half a gigabyte
            "MLFLOW_DISABLE_TELEMETRY=true",
            self._interpreter(),
            *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", home.port("http"), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{home.path / 'mlflow.db'}"),
            *("--serve-artifacts", "--artifacts-destination", home.path / "artifacts"),
        ]

    def ready(self, home: core.Home) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{home.address('http')}/health", timeout=2) as answer:
            return answer.status == 200

    def env(self, home: core.Home) -> dict[str, str]:
        return {"MLFLOW": f"http://{home.address('http')}", "MLFLOW_PYTHON": str(self._interpreter())}

    def _interpreter(self) -> Path:
        return install.python_venv("mlflow", install.REPOSITORY / "tests" / "services" / "requirements-mlflow.txt")
