"""Terraform with providers that know only their schema, and Checkov.

The configuration in terraform/ is checked by Terraform itself: init, validate, plan, test. The real providers cannot be
had from a package registry, so stand-ins are made once: their schema comes from the bindings that their makers publish on
npm, and a small program (scripts/provision/terraform/provider) serves it. What the real provider checks beyond its schema,
and what AWS says, stays unchecked: docs/AWS_SETUP.md lists it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
from pathlib import Path

from .. import core, install

# npm package with its version, and the provider that it was generated from.
BINDINGS = {
    "aws": ("@cdktf/provider-aws@21.22.1", "6.25.0"),
    "google": ("@cdktf/provider-google@16.12.1", "7.14.0"),
}
SOURCES = install.REPOSITORY / "scripts" / "provision" / "terraform"
CONFIGURATION = install.REPOSITORY / "terraform"
PLATFORM = f"linux_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"


class Terraform(core.Service):
    name = "terraform"

    def install(self) -> None:
        install.needed("terraform", "install Terraform 1.10 or newer")
        mirror()

    def env(self, home: core.Home) -> dict[str, str]:
        program = install.needed("terraform", "install Terraform 1.10 or newer")
        return {"TERRAFORM": str(program), "TERRAFORM_CONFIG": str(mirror() / "terraformrc")}


class Checkov(core.Service):
    """Looks for insecure settings in terraform/."""

    name = "checkov"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"CHECKOV": str(self._program())}

    def _program(self) -> Path:
        requirements = install.REPOSITORY / "tests" / "services" / "requirements-checkov.txt"
        return install.python_venv("checkov", requirements).parent / "checkov"


def mirror() -> Path:
    """A folder with a mirror of the stand-ins and the `terraformrc` that makes Terraform take them from there."""
    wanted = {provider: used_types(provider) for provider in BINDINGS}
    sources = sorted(path for path in SOURCES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    recipe = "".join(path.read_text(encoding="utf-8") for path in sources) + json.dumps([BINDINGS, wanted, PLATFORM])

    def build(folder: Path) -> None:
        program = _build_provider(folder)
        for provider, types in wanted.items():
            _lay(folder, provider, set(types), program)
        program.unlink()
        # The folder is renamed when it is whole, so the path within is the one that it will have.
        final = install.cache() / "tools" / name / "mirror"
        (folder / "terraformrc").write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{final}"\n  }}\n}}\n')

    name = f"terraform-providers-{install.digest(recipe)}"
    return install.built(name, build)


def used_types(provider: str) -> list[str]:
    """The resources and data sources of a provider that terraform/ uses."""
    found = set()
    for file in CONFIGURATION.rglob("*.tf"):
        for kind, name in re.findall(rf'^(resource|data) "({provider}_\w+)"', file.read_text(encoding="utf-8"), re.M):
            found.add(name if kind == "resource" else f"data.{name}")
    return sorted(found)


def _build_provider(folder: Path) -> Path:
    source, program = folder / "source", folder / "provider"
    shutil.copytree(SOURCES / "provider", source)
    compiler = install.needed("go", "install Go 1.25 or newer")
    install.run([compiler, "build", "-trimpath", "-o", program, "."], "go build of the provider", cwd=source)
    shutil.rmtree(source)
    return program


def _lay(folder: Path, provider: str, types: set[str], program: Path) -> None:
    package, version = BINDINGS[provider]
    npm = install.needed("npm", "install Node.js with npm")
    packed = install.run([npm, "pack", "--silent", package], f"npm pack of {package}", cwd=folder).split()[-1]
    document = _extractor().extract(folder / packed, types)
    document["source"] = f"hashicorp/{provider}"
    (folder / packed).unlink()
    place = folder / "mirror" / "registry.terraform.io" / "hashicorp" / provider / version / PLATFORM
    place.mkdir(parents=True)
    shutil.copy(program, place / f"terraform-provider-{provider}_v{version}")
    (place / "schema.json").write_text(json.dumps(document), encoding="utf-8")
    os.chmod(place / f"terraform-provider-{provider}_v{version}", 0o755)


def _extractor():
    spec = importlib.util.spec_from_file_location("schema", SOURCES / "schema.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
