"""What checks the files by which smartlog is installed: Compose, kustomizations, workflows, the Dockerfile; and dbt."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from .. import core, install

SOURCES = install.REPOSITORY / "scripts" / "provision" / "manifests"
KUBERNETES = "v1.36.3"
OPERATOR = "v0.85.0"


class Manifests(core.Service):
    """The loaders of docker compose and kubectl, as one program that prints JSON: scripts/provision/manifests."""

    name = "manifests"

    def install(self) -> None:
        manifests()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"MANIFESTS": str(manifests())}


class Kubeconform(core.Service):
    """kubeconform, with strict schemas made from Kubernetes' own OpenAPI document and the Prometheus operator's CRDs."""

    name = "kubeconform"

    def install(self) -> None:
        _kubeconform()
        schemas()

    def env(self, home: core.Home) -> dict[str, str]:
        location = f"{schemas()}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
        return {"KUBECONFORM": str(_kubeconform()), "KUBECONFORM_SCHEMAS": location}


class Actionlint(core.Service):
    """Checks GitHub workflows."""

    name = "actionlint"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"ACTIONLINT": str(self._program())}

    def _program(self) -> Path:
        return install.go("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12")


class Hadolint(core.Service):
    """Checks the Dockerfile."""

    name = "hadolint"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"HADOLINT": str(self._program())}

    def _program(self) -> Path:
        requirements = install.REPOSITORY / "tests" / "services" / "requirements-hadolint.txt"
        return install.python_venv("hadolint", requirements).parent / "hadolint"


class Buildah(core.Service):
    """buildah, which builds and mounts the image where there is no container engine: scripts/image-check."""

    name = "buildah"

    def install(self) -> None:
        install.program("buildah", "buildah")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"BUILDAH": str(install.program("buildah", "buildah"))}


class Systemd(core.Service):
    """systemd-analyze, which judges units where no systemd runs, too."""

    name = "systemd"

    def install(self) -> None:
        install.program("systemd-analyze", "systemd")

    def env(self, home: core.Home) -> dict[str, str]:
        return {"SYSTEMD": str(install.program("systemd-analyze", "systemd"))}


class Dbt(core.Service):
    """dbt with its adapter for PostgreSQL."""

    name = "dbt"

    def install(self) -> None:
        self._program()

    def env(self, home: core.Home) -> dict[str, str]:
        return {"DBT": str(self._program())}

    def _program(self) -> Path:
        requirements = install.REPOSITORY / "tests" / "services" / "requirements-dbt.txt"
        return install.python_venv("dbt", requirements).parent / "dbt"


def manifests() -> Path:
    recipe = "".join((SOURCES / name).read_text(encoding="utf-8") for name in ("main.go", "go.mod", "go.sum"))

    def build(folder: Path) -> None:
        compiler = install.needed("go", "install Go 1.25 or newer")
        install.run([compiler, "build", "-trimpath", "-o", folder / "manifests", "."], "go build of manifests", cwd=SOURCES)

    return install.built(f"manifests-{install.digest(recipe)}", build) / "manifests"


def composed(variables: dict[str, str]) -> dict:
    """The Compose project of this repository, as `docker compose` would load it with these variables alone."""
    words = [f"{name}={value}" for name, value in variables.items()]
    return json.loads(install.run([manifests(), "compose", install.REPOSITORY, *words], "loading the Compose file"))


def _kubeconform() -> Path:
    return install.go("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0")


def schemas() -> Path:
    """A folder of JSON schemas, KIND-GROUP-VERSION.json, in which an unknown key is an error."""

    def build(folder: Path) -> None:
        document = _of_module("k8s.io/kubernetes", KUBERNETES, "api/openapi-spec/swagger.json", folder)
        for name, schema in _of_openapi(json.loads(document)):
            (folder / f"{name}.json").write_text(json.dumps(schema), encoding="utf-8")
        for kind in ("servicemonitors", "prometheusrules"):
            path = f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
            crd = folder / "crd.yaml"
            crd.write_text(_of_module("github.com/prometheus-operator/prometheus-operator", OPERATOR, path, folder))
            name, schema = _of_crd(json.loads(install.run([manifests(), "yaml", crd], "reading a CRD")))
            (folder / f"{name}.json").write_text(json.dumps(schema), encoding="utf-8")
            crd.unlink()

    return install.built(f"kubernetes-schemas-{KUBERNETES}-{OPERATOR}", build)


def _of_module(module: str, version: str, path: str, scratch: Path) -> str:
    """A file of a Go module, which is fetched from the proxy, read, and dropped."""
    compiler = install.needed("go", "install Go 1.25 or newer")
    modules = scratch / "modules"
    environment = {**os.environ, "GOMODCACHE": str(modules), "GOFLAGS": "-modcacherw"}
    install.run([compiler, "mod", "download", f"{module}@{version}"], f"download of {module}", cwd=scratch, env=environment)
    text = (modules / f"{module}@{version}" / path).read_text(encoding="utf-8")
    shutil.rmtree(modules)
    return text


def _of_openapi(document: dict):
    """(name, schema) of each kind, with what it refers to inside."""
    definitions = _strict(document["definitions"])
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    for definition in definitions.values():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        if len(kinds) != 1:
            continue
        kind, group, version = kinds[0]["kind"], kinds[0]["group"], kinds[0]["version"]
        needed = _referred(definition, definitions, set())
        schema = {**definition, "definitions": {name: definitions[name] for name in needed}}
        yield _named(kind, group, version), _fixed(schema, kind, group, version)


def _of_crd(crd: dict) -> tuple[str, dict]:
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    version = next(version for version in crd["spec"]["versions"] if version["storage"])
    schema = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return _named(kind, group, version["name"]), _fixed(schema, kind, group, version["name"])


def _named(kind: str, group: str, version: str) -> str:
    first = group.split(".")[0]
    return "-".join(part for part in (kind.lower(), first, version) if part)


def _fixed(schema: dict, kind: str, group: str, version: str) -> dict:
    api = f"{group}/{version}" if group else version
    properties = {**schema["properties"], "apiVersion": {"enum": [api]}, "kind": {"enum": [kind]}}
    return {**schema, "properties": properties}


def _strict(node):
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: _strict(value) for key, value in node.items()}
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string") is True:
        return {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    if node.get("type") == "object" and isinstance(node.get("properties"), dict):
        node.setdefault("additionalProperties", False)
    return node


def _referred(node, definitions: dict, found: set) -> set:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            name = reference.rpartition("/")[2]
            if name not in found:
                found.add(name)
                _referred(definitions[name], definitions, found)
        for value in node.values():
            _referred(value, definitions, found)
    elif isinstance(node, list):
        for value in node:
            _referred(value, definitions, found)
    return found
