"""The schema of a Terraform provider, read out of the bindings that its makers publish for other languages.

Each file of the bindings carries its TypeScript source in its source map, and that says of every attribute whether it is
required, optional or computed, its type, and which blocks it nests. What the provider checks beyond its schema (allowed
words, forms of names, JSON policies) is not in it.

    {"provider": BLOCK, "resources": {TYPE: BLOCK}, "data": {TYPE: BLOCK}}
    BLOCK = {"attributes": {NAME: {"type", "required", "optional", "computed"}},
             "blocks": {NAME: {"nesting", "min_items", "max_items", "block": BLOCK}}}
"""

from __future__ import annotations

import base64
import json
import re
import tarfile
from pathlib import Path

SOURCE_MAP = re.compile(r"sourceMappingURL=data:application/json;base64,([A-Za-z0-9+/=]+)")
PIECE = re.compile(r"^export (?:class (\w+) extends ([\w.]+)|function (\w+)ToHclTerraform\()(.*?)^\}", re.M | re.S)
ENTRY = re.compile(r"^ +(\w+): \{\n +value: (.*),\n +isBlock: (\w+),\n +type: \"(\w+)\",\n +storageClassType: \"(\w+)\",", re.M)
FLAGS = re.compile(r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n +(.*)\n +(.*)")
PLAIN = {"string": "string", "number": "number", "boolean": "bool", "any": "string"}
GETTERS = {"String": "string", "Number": "number", "Boolean": "bool", "List": ["list", "string"], "StringMap": ["map", "string"]}
KINDS = {"cdktf.TerraformResource": "resources", "cdktf.TerraformDataSource": "data", "cdktf.TerraformProvider": "provider"}


def extract(tarball: Path, wanted: set[str]) -> dict:
    """The schema of the provider and of the `wanted` types ("aws_s3_bucket", "data.aws_caller_identity")."""
    schema: dict = {"provider": None, "resources": {}, "data": {}}
    folders = {folder_of(name) for name in wanted} | {"provider"}
    with tarfile.open(tarball) as archive:
        for member in archive:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[1] == "lib" and parts[2] in folders and parts[3] == "index.js":
                _add(schema, archive.extractfile(member).read().decode())
    found = set(schema["resources"]) | {f"data.{name}" for name in schema["data"]}
    if schema["provider"] is None or not wanted <= found:
        raise ValueError(f"{tarball.name} lacks {', '.join(sorted(wanted - found)) or 'the provider itself'}")
    return schema


def folder_of(name: str) -> str:
    """aws_s3_bucket is in s3-bucket, data.aws_caller_identity in data-aws-caller-identity."""
    if name.startswith("data."):
        return name.replace(".", "-").replace("_", "-")
    return name.partition("_")[2].replace("_", "-")


def _add(schema: dict, javascript: str) -> None:
    source = json.loads(base64.b64decode(SOURCE_MAP.search(javascript)[1]))["sourcesContent"][0]
    classes, functions, kind, main = {}, {}, None, None
    for name, base, function, body in PIECE.findall(source):
        if function:
            functions[function] = body
        else:
            classes[name] = body
            if base in KINDS:
                kind, main = KINDS[base], name
    block = _block(ENTRY.findall(classes[main].partition("synthesizeHclAttributes()")[2]), main, classes, functions)
    if kind == "provider":
        schema[kind] = block
    else:
        schema[kind][re.search(r'tfResourceType = "(\w+)"', classes[main])[1]] = block


def _block(entries: list, owner: str, classes: dict, functions: dict) -> dict:
    flags = {found[0]: found[1:] for found in FLAGS.findall(classes.get(owner, ""))}
    block: dict = {"attributes": {}, "blocks": {}}
    for name, (computed, optional, required, *lines) in flags.items():
        if computed == "true" and optional == "false" and required == "false":
            block["attributes"][name] = {"type": _computed_type(lines), "computed": True}
    for name, value, is_block, shape, storage in entries:
        computed, optional, required, *_ = flags.get(name, ("false", "true", "false"))
        maker = re.search(r"(\w+)ToHclTerraform", re.sub(r"cdktf\.\w+", "", value))
        if is_block == "true" and maker and maker[1] in functions:
            inner = storage.removesuffix("List")
            single = re.search(rf"= new {inner}OutputReference\(this, \"{name}\"", classes.get(owner, ""))
            nested = _block(ENTRY.findall(functions[maker[1]]), f"{inner}OutputReference", classes, functions)
            block["blocks"][name] = {
                "nesting": "single" if shape == "struct" else shape,
                "min_items": int(required == "true" and shape != "struct"),
                "max_items": int(bool(single) and shape != "struct"),
                "block": nested,
            }
        else:
            block["attributes"][name] = {
                "type": _type(shape, storage),
                "required": required == "true",
                "optional": required != "true",
                "computed": computed == "true",
            }
    return block


def _type(shape: str, storage: str):
    if shape == "simple":
        return PLAIN.get(storage, "dynamic")
    element = PLAIN.get(re.sub(r"(List|Map)$", "", storage))
    return [shape, element] if element else "dynamic"


def _computed_type(lines: list):
    getter = re.search(r"get(String|Number|Boolean|List|StringMap)Attribute", " ".join(lines))
    return GETTERS[getter[1]] if getter else "dynamic"
