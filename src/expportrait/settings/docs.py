"""Writes config.yaml, its schema and docs/settings.md from the settings' models."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from expportrait.settings.config import SECTIONS, Config, Section
from expportrait.settings.schema import FILE, schema_text


def yaml_text() -> str:
    """Returns config.yaml: every setting with its default and what it means."""
    lines = [
        f"# yaml-language-server: $schema={FILE}",
        "# Every setting with its default, written by `python -m expportrait.settings`; bounds: docs/settings.md.",
        "# Your own values: in my.yaml beside your manifest my.csv, or by --configfile; both win over this file.",
        "",
    ]
    for name, field in Config.model_fields.items():
        if name in SECTIONS:
            empty = "" if type(field.default).model_fields else " {}"
            lines += ["", f"# {_first_line(field.default)}", f"{name}:{empty}"]
            lines += [f"  {line}" for line in _yaml_lines(field.default)]
        else:
            lines += _yaml_lines(Config(), name)
    return "\n".join(lines) + "\n"


def _yaml_lines(model: Section, *names: str) -> list[str]:
    values, fields, lines = model.model_dump(mode="json"), type(model).model_fields, []
    for name in names or fields:
        group = name in model.groups()
        lines.append(f"{name}: {'' if group else _yaml(values[name])}".rstrip() + f"  # {fields[name].description}")
        lines += [f"  {line}" for line in _yaml_lines(getattr(model, name))] if group else []
    return lines


def _yaml(value: Any) -> str:
    text = "" if value is None else json.dumps(value).replace('"', "")
    # many readers of YAML take 1e-05 for a text
    return re.sub(r"^(\d+)e", r"\1.0e", text) if isinstance(value, float) else text


def _first_line(model: Section) -> str:
    return (type(model).__doc__ or "").strip().splitlines()[0]


def markdown_text() -> str:
    """Returns docs/settings.md: the same as tables, with bounds."""
    lines = [
        "# Settings",
        "",
        "Written by `python -m expportrait.settings` from `settings/sections.py`.",
    ]
    lines += ["Where a setting may come from, and what re-runs when it changes: [workflow.md](workflow.md).", ""]
    lines += _table(Config(), [name for name in Config.model_fields if name not in SECTIONS])
    for name in SECTIONS:
        model = Config.model_fields[name].default
        lines += ["", f"## {name}", "", _first_line(model)]
        if type(model).model_fields:
            lines += ["", *_table(model, [*type(model).model_fields])]
    return "\n".join(lines) + "\n"


def _table(model: Section, names: list[str]) -> list[str]:
    return ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |", *_rows(model, names)]


def _rows(model: Section, names: list[str], group: str = "") -> list[str]:
    values, schema, rows = model.model_dump(mode="json"), type(model).model_json_schema()["properties"], []
    for name in names:
        if below := model.groups().get(name):
            rows += _rows(getattr(model, name), [*below.model_fields], f"{name}.")
            continue
        default = "" if values[name] is None else f"`{json.dumps(values[name])}`".replace('"', "")
        meaning = schema[name].get("description", "")
        rows.append(f"| `{group}{name}` | {default} | {_allowed(schema[name])} | {meaning} |")
    return rows


def _allowed(schema: dict) -> str:
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{v}`" for v in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(filter(None, map(_allowed, schema["anyOf"]))) + ", or empty"
    kinds = {"integer": "whole number", "number": "number", "boolean": "true, false", "array": "list", "null": ""}
    kind = kinds.get(schema["type"], "path" if schema.get("format") == "path" else "text")
    kind = "data set: number" if schema["type"] == "object" else kind
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return ", ".join([kind, *bounds]) if kind else ""


def main() -> int:
    """Write config.yaml, its schema and docs/settings.md into the working directory; with --check, only compare."""
    stale = 0
    texts = {"config.yaml": yaml_text(), FILE: schema_text(), "docs/settings.md": markdown_text()}
    for file, text in ((Path(name), text) for name, text in texts.items()):
        if file.exists() and file.read_text("utf-8") == text:
            continue
        stale += 1
        if "--check" in sys.argv:
            print(f"{file} differs from src/expportrait/settings/sections.py: run `python -m expportrait.settings`")
        else:
            file.write_text(text, "utf-8")
            print(f"wrote {file}")
    return int("--check" in sys.argv and stale > 0)
