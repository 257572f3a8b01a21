"""What all sections of the settings have in common: how their values are read, and which of them enter keys."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    model_validator,
)


def _is_text(annotation: Any) -> bool:
    """Whether a value of this type may be any text, so that text is not to be read as a number."""
    return annotation in (str, Path) or isinstance(annotation, str) or any(map(_is_text, get_args(annotation)))


def _place(value: Any) -> Any:
    """Returns a path as a user wrote it, with ``~`` expanded. Raises ValueError for numbers, which YAML and Snakemake
    make of names such as 2024_06_01."""
    if value is None:
        raise ValueError("a path is expected")
    if isinstance(value, (bool, int, float)):
        raise ValueError("a path is expected; where its name reads like a number, write ./ before it")
    if isinstance(value, str) and value.startswith("~"):
        try:
            return str(Path(value).expanduser())
        except RuntimeError:
            raise ValueError("there is no such user; write ./ before the name of a folder that begins with ~") from None
    return value


Place = Annotated[Path, BeforeValidator(_place)]


class Section(BaseModel):
    """One section of the settings. A setting of the type ``Path`` names a file or folder, and the content of that
    enters a clip's key (``Config.identity``). A setting that is a section in turn is a group: of those in it, what
    follows calls each ``group.name``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Settings whose default was changed, but not their meaning -> the default with which keys were first made.
    first_defaults: ClassVar[dict[str, Any]] = {}
    # Old name -> today's name, for settings that were renamed. Where one was renamed twice, its first name comes first.
    renamed: ClassVar[dict[str, str]] = {}

    @classmethod
    def groups(cls) -> dict[str, type["Section"]]:
        """Returns the groups by name."""
        fields = cls.model_fields.items()
        return {name: type(field.default) for name, field in fields if isinstance(field.default, Section)}

    @classmethod
    def singly(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns ``values``, by setting, with each setting of a group as ``group.name``."""
        of_groups = {name: values[name] for name in cls.groups() if isinstance(values.get(name), dict)}
        below = {f"{group}.{name}": value for group, of in of_groups.items() for name, value in of.items()}
        return {name: value for name, value in values.items() if name not in of_groups} | below

    @classmethod
    def firstly(cls) -> dict[str, Any]:
        """Returns each setting, singly, at its first default."""
        values = {name: field.default for name, field in cls.model_fields.items()} | cls.first_defaults
        return cls.singly(values | {name: model.firstly() for name, model in cls.groups().items()})

    def said(self) -> dict[str, Any]:
        """Returns the settings, as JSON has them, that are not at their defaults, and those whose default was ever
        changed."""
        values = self.model_dump(mode="json", exclude_defaults=True, exclude={*self.groups()})
        values |= {name: getattr(self, name) for name in self.first_defaults}
        return values | {name: below for name in self.groups() if (below := getattr(self, name).said())}

    def distinct(self, mode: Literal["python", "json"] = "python") -> dict[str, Any]:
        """Returns the settings as they enter keys: under their first names, and without those at their first default.
        So a value keeps its key for good."""
        changed = {name: getattr(self, name) for name in self.first_defaults}
        values = self.model_dump(mode=mode, exclude_defaults=True, exclude={*changed, *self.groups()})
        values = self.singly(values | {name: getattr(self, name).distinct(mode) for name in self.groups()})
        values |= {name: value for name, value in changed.items() if value != self.first_defaults[name]}
        first = {now: old for old, now in reversed(self.renamed.items())}
        return {first.get(name, name): value for name, value in values.items()}

    @classmethod
    def today(cls, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Returns ``values`` under today's names, and which of them were given under old ones: old name -> today's.

        Raises ValueError where a setting is given twice, under names of different times.
        """
        values = values | {name: {} for name in cls.groups() if name in values and values[name] is None}
        old = {name: now for name, now in cls.renamed.items() if name in values}
        given = cls.singly(values)
        for name, now in old.items():
            rivals = [other for other in given if cls.renamed.get(other, other) == now]
            if len(rivals) > 1:
                raise ValueError(f"{name} is an old name of {now}, and {' and '.join(rivals)} are given: "
                                 f"keep {now} alone")  # fmt: skip
        found = {name: value for name, value in values.items() if name not in old}
        for name, now in old.items():
            group, _, below = now.rpartition(".")
            if isinstance(found.get(group, {}), dict):
                found |= {group: found.get(group, {}) | {below: values[name]}} if group else {now: values[name]}
            else:  # what it is instead is told, and this is no setting either
                found[name] = values[name]
        return found, old

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Any) -> Any:
        """Settings may have old names. Values given on a command line arrive as text, and YAML takes 1e-4 for text:
        numbers are read from it."""
        if not isinstance(values, dict):
            return values
        values, _ = cls.today(values)
        for name, value in values.items():
            field = cls.model_fields.get(name)
            if not isinstance(value, str) or field is None:
                continue
            if type(None) in get_args(field.annotation) and value in ("", "null", "None"):
                values = values | {name: None}
            elif not _is_text(field.annotation):
                with suppress(ValidationError):
                    values = values | {name: TypeAdapter(field.annotation).validate_strings(value)}
        return values
