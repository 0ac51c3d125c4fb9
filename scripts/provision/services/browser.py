"""Chromium of Debian, driven by Playwright's library from npm; axe-core beside it. No browser is downloaded."""

from __future__ import annotations

from pathlib import Path

from .. import core, install

PACKAGES = {"playwright-core": "1.65.1", "axe-core": "4.14.1"}


class Browser(core.Service):
    name = "browser"

    def install(self) -> None:
        install.program("chromium", "chromium")
        self._modules()

    def env(self, home: core.Home) -> dict[str, str]:
        return {
            "BROWSER": str(install.program("chromium", "chromium")),
            "BROWSER_NODE": str(install.program("node", "nodejs")),
            "BROWSER_MODULES": str(self._modules()),
        }

    def _modules(self) -> Path:
        return install.npm("browser", PACKAGES)


class Recorder(Browser):
    """The same with what encodes pictures: for scripts/recording."""

    name = "recorder"

    def env(self, home: core.Home) -> dict[str, str]:
        return {f"RECORDER_{name}": value for name, value in super().env(home).items()}

    def _modules(self) -> Path:
        return install.npm("recorder", {**PACKAGES, "gifenc": "1.0.3", "pngjs": "7.0.0"})
