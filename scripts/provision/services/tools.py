"""What tests and checks call and what does not run as a server."""

from __future__ import annotations

from pathlib import Path

from .. import core, install


class Kcat(core.Service):
    """kcat 1.7.1 of Debian. Its librdkafka 2.0.2 cannot log in to Kafka 4.1 by SCRAM (PLAIN works): use Python there."""

    name = "kcat"

    def install(self) -> None:
        install.program("kcat", "kcat")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"KCAT": str(install.program("kcat", "kcat"))}


class Python(core.Service):
    """An interpreter with the packages of tests/services/requirements.txt, for oracles and independent clients."""

    name = "python"

    def install(self) -> None:
        self._interpreter()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"PYTHON": str(self._interpreter())}

    def _interpreter(self) -> Path:
        return install.python_venv("python", install.REPOSITORY / "tests" / "services" / "requirements.txt")


class Schemathesis(core.Service):
    """Asks an API what its OpenAPI document allows and forbids, and checks the answers against it."""

    name = "schemathesis"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"SCHEMATHESIS": str(self._program())}

    def _program(self) -> Path:
        requirements = install.REPOSITORY / "tests" / "services" / "requirements-schemathesis.txt"
        return install.python_venv("schemathesis", requirements).parent / "schemathesis"


class AwsCli(core.Service):
    """The AWS CLI, for what documents and Compose's setup have it do on local endpoints."""

    name = "awscli"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"AWSCLI": str(self._program())}

    def _program(self) -> Path:
        requirements = install.REPOSITORY / "tests" / "services" / "requirements-awscli.txt"
        return install.python_venv("awscli", requirements).parent / "aws"


class CargoDeny(core.Service):
    """Checks licences, sources and banned crates; without its network features it never fetches anything."""

    name = "cargo-deny"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"CARGO_DENY": str(self._program())}

    def _program(self) -> Path:
        return install.cargo("cargo-deny", "0.20.2", "--no-default-features")


class Tarpaulin(core.Service):
    """Coverage of tests, without any component of the toolchain beyond the compiler."""

    name = "tarpaulin"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"TARPAULIN": str(self._program())}

    def _program(self) -> Path:
        return install.cargo("cargo-tarpaulin", "0.37.5")


class CargoLambda(core.Service):
    """Builds the function for arm64, against the C library of Amazon Linux; with zig, its linker."""

    name = "cargo-lambda"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"CARGO_LAMBDA": str(self._program())}

    def _program(self) -> Path:
        requirements = install.REPOSITORY / "tests" / "services" / "requirements-lambda.txt"
        return install.python_venv("lambda", requirements).parent / "cargo-lambda"


class Shellcheck(core.Service):
    """Lint for shell scripts."""

    name = "shellcheck"

    def install(self) -> None:
        install.program("shellcheck", "shellcheck")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"SHELLCHECK": str(install.program("shellcheck", "shellcheck"))}


class Graphviz(core.Service):
    """Draws the diagrams of the documents."""

    name = "graphviz"

    def install(self) -> None:
        install.program("dot", "graphviz")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"GRAPHVIZ": str(install.program("dot", "graphviz"))}
