"""Reads settings: config.yaml, then the overlay beside the manifest, then what the command line says."""

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from expportrait.errors import UserError
from expportrait.progress import say
from expportrait.settings.config import Config, Section


def read_yaml(file: Path) -> dict:
    """Returns the mapping in a YAML (or JSON) file; an empty file is an empty mapping. Raises UserError where the file
    cannot be read or holds something else."""
    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise UserError(f"{file}, line {line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{file}: a list of `section: settings` is expected, see config.yaml")
    return values


def overlay(manifest: Path) -> Path:
    """Returns the file of the settings that belong to one manifest: data_manifest.csv -> data_manifest.yaml."""
    return manifest.with_suffix(".yaml")


def merge(base: dict, over: dict) -> dict:
    """Returns ``base`` with the values of ``over`` in place of its own, section by section."""
    shared = base.keys() & over.keys()
    both = {k: merge(base[k], over[k]) for k in shared if isinstance(base[k], dict) and isinstance(over[k], dict)}
    return base | over | both


def read_config(*layers: tuple[str, dict]) -> Config:
    """Returns the settings of all layers, checked. ``layers``: (name of the file, its settings), later ones win.
    Settings that were renamed may have their old names, which one sentence on stderr says. Raises UserError, which
    names the file and the setting, for what does not fit."""
    values: dict = {}
    layers = tuple((name, _today(name, layer)) for name, layer in layers)
    for _, layer in layers:
        values = merge(values, layer)
    try:
        return Config.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        raise UserError(_explain(error, layers)) from None


def _today(file: str, layer: dict) -> dict:
    """Returns the layer with all settings under today's names. Raises UserError where one is given under two names."""
    for section, model in ({"": Config} | Config.groups()).items():
        values, dot = (layer.get(section), f"{section}.") if section else (layer, "")
        if not isinstance(values, dict):
            continue
        try:
            values, old = model.today(values)
        except ValueError as error:
            raise UserError(f"{file}: {section and f'in {section}, '}{error}") from None
        layer = layer | {section: values} if section else values
        for name, now in [*old.items()][:1]:
            more = len(old) - 1
            _say_once(f"{file}: the setting {dot}{name} is called {dot}{now} now"
                      + f", and so on for {more} more (docs/settings.md)" * bool(more))  # fmt: skip
    return layer


def made_with(settings: dict[str, dict]) -> dict[str, dict]:
    """Returns the sections that a store was made with, as its attributes have them, under today's names. Settings that
    are newer than the store have the values that change nothing, which are their first defaults; those of a group
    stand singly, as ``group.name``."""
    models = Config.groups()
    return {
        name: models[name].firstly() | models[name].singly(models[name].today(values)[0])
        for name, values in settings.items()
        if name in models
    }


@cache
def _say_once(sentence: str) -> None:
    """Say a sentence once in a run, which reads its settings several times."""
    say(sentence)


def _explain(error: dict, layers: tuple[tuple[str, dict], ...]) -> str:
    """Returns one sentence that says which file, which setting, what is wrong, and what was probably meant."""

    def value(layer: Any) -> list:
        """Returns what the layer says of the setting, or of its section: an empty list, or one value."""
        for key in error["loc"]:
            if not isinstance(layer, dict):
                break
            if key not in layer:
                return []
            layer = layer[key]
        return [layer]

    final = next((found for _, layer in reversed(layers) if (found := value(layer))), None)
    said = next((name for name, layer in layers if value(layer) == final), "settings")
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        model: type[Section] = Config
        for key in error["loc"][:-1]:
            model = model.groups()[key]
        known = {name: name for name in model.model_fields} | model.renamed
        close = [known[name] for name in difflib.get_close_matches(str(error["loc"][-1]), known, n=1)]
        hint = f"; did you mean {'.'.join([*map(str, error['loc'][:-1]), *close])}?" if close else ""
        return f"{said}: there is no setting {where}{hint} (all settings: docs/settings.md)"
    wrong = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "value_error":
        wrong = str(error["ctx"]["error"])
    if error["type"].startswith("model"):
        wrong = "a section is expected, with its settings indented below it"
    return f"{said}: {where} is {error['input']!r}: {wrong}"
