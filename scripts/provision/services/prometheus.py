"""Prometheus and Alertmanager, from Debian, scraping every second.

Tests drop target files into SMARTLOG_TEST_PROMETHEUS_TARGETS (*.json, found within six seconds) and rule files into
SMARTLOG_TEST_PROMETHEUS_RULES (*.yml, then POST /-/reload). Alertmanager's configuration is the file
SMARTLOG_TEST_ALERTMANAGER_CONFIG; write a receiver into it, then POST /-/reload.
"""

from __future__ import annotations

import urllib.request

from .. import core, install

ALERTMANAGER_CONFIG = "route: {receiver: none, group_wait: 1s, group_interval: 1s}\nreceivers: [{name: none}]\n"
PROMETHEUS_CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ['{home}/rules/*.yml']
scrape_configs:
  - job_name: tests
    file_sd_configs: [{{files: ['{home}/targets/*.json'], refresh_interval: 1s}}]
alerting:
  alertmanagers: [{{static_configs: [{{targets: [{alertmanagers}]}}]}}]
"""


class Alertmanager(core.Service):
    name = "alertmanager"
    ports = ("http",)

    def install(self) -> None:
        self._program()

    def prepare(self, home: core.Home) -> None:
        (home.path / "alertmanager.yml").write_text(ALERTMANAGER_CONFIG, encoding="utf-8")

    def command(self, home: core.Home) -> list:
        return [
            self._program(),
            f"--config.file={home.path / 'alertmanager.yml'}",
            f"--storage.path={home.path / 'data'}",
            f"--web.listen-address={home.address('http')}",
            "--cluster.listen-address=",  # empty: no gossip port
        ]

    def ready(self, home: core.Home) -> bool:
        return says_ready(home)

    def env(self, home: core.Home) -> dict[str, str]:
        config = str(home.path / "alertmanager.yml")
        return {"ALERTMANAGER": f"http://{home.address('http')}", "ALERTMANAGER_CONFIG": config}

    def _program(self):
        return install.program("prometheus-alertmanager", "prometheus-alertmanager")


class Prometheus(core.Service):
    name = "prometheus"
    ports = ("http",)

    def install(self) -> None:
        install.program("prometheus", "prometheus")

    def prepare(self, home: core.Home) -> None:
        for folder in ("rules", "targets"):
            (home.path / folder).mkdir(exist_ok=True)
        alertmanager = core.Home(home.state, Alertmanager())
        known = f"'{alertmanager.address('http')}'" if alertmanager.known() else ""
        text = PROMETHEUS_CONFIG.format(home=home.path, alertmanagers=known)
        (home.path / "prometheus.yml").write_text(text, encoding="utf-8")

    def command(self, home: core.Home) -> list:
        return [
            install.program("prometheus", "prometheus"),
            f"--config.file={home.path / 'prometheus.yml'}",
            f"--storage.tsdb.path={home.path / 'data'}",
            "--storage.tsdb.retention.time=1h",
            f"--web.listen-address={home.address('http')}",
            "--web.enable-lifecycle",
        ]

    def ready(self, home: core.Home) -> bool:
        return says_ready(home)

    def env(self, home: core.Home) -> dict[str, str]:
        return {
            "PROMETHEUS": f"http://{home.address('http')}",
            "PROMETHEUS_RULES": str(home.path / "rules"),
            "PROMETHEUS_TARGETS": str(home.path / "targets"),
            "PROMTOOL": str(install.program("promtool", "prometheus")),
        }


def says_ready(home: core.Home) -> bool:
    """Whether /-/ready answers 200; an HTTP error and a refused connection are both an OSError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{home.address('http')}/-/ready", timeout=2) as answer:
        return answer.status == 200
