"""Writes config.schema.json from the settings' models: editors complete, explain and check settings with it."""

import json
from typing import Any

from expportrait.settings.config import Config, Section

FILE = "config.schema.json"


def schema_text() -> str:
    """Returns the JSON Schema (2020-12) of config.yaml and of all files that win over it: each setting with its
    meaning, its default and its bounds. It takes what ``read_config`` takes, except that numbers have to be written as
    numbers."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Settings of ExpPortrait-Pipeline"}
    return json.dumps(about | _section(Config), indent=1) + "\n"


def _section(model: type[Section]) -> dict[str, Any]:
    """Returns the schema of one section; settings that were renamed are also taken under their old names."""
    of, groups = model.model_json_schema()["properties"], model.groups()
    known = {name: _setting(found) for name, found in of.items() if name not in groups}
    # a section with nothing below it counts as one at its defaults
    known |= {name: _section(below) | {"type": ["object", "null"]} for name, below in groups.items()}
    single = model.singly({name: found["properties"] if name in groups else found for name, found in known.items()})
    old = {
        name: single[now] | {"deprecated": True, "description": f"now called {now}"}
        for name, now in model.renamed.items()
    }
    description = (model.__doc__ or "").strip()
    return {"type": "object", "description": description, "additionalProperties": False, "properties": known | old}


def _setting(found: dict[str, Any]) -> dict[str, Any]:
    """Returns one setting as pydantic describes it, without what only repeats its name, and with its path as a text."""
    left = {name: value for name, value in found.items() if name != "title" and (name, value) != ("format", "path")}
    return left | {"anyOf": [_setting(part) for part in found["anyOf"]]} if "anyOf" in found else left
