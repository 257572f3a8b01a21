"""What all sections of the settings have in common: how their values are read, and which of them enter keys."""

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
    enters a clip's key (``Config.identity``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Settings whose default was changed, but not their meaning -> the default with which keys were first made.
    first_defaults: ClassVar[dict[str, Any]] = {}
    # Old name -> today's name, for settings that were renamed. Where one was renamed twice, its first name comes first.
    renamed: ClassVar[dict[str, str]] = {}

    def distinct(self, mode: Literal["python", "json"] = "python") -> dict[str, Any]:
        """Returns the settings as they enter keys: under their first names, and without those at their first default.
        So a value keeps its key for good."""
        changed = {name: getattr(self, name) for name in self.first_defaults}
        values = self.model_dump(mode=mode, exclude_defaults=True, exclude={*changed})
        values |= {name: value for name, value in changed.items() if value != self.first_defaults[name]}
        first = {now: old for old, now in reversed(self.renamed.items())}
        return {first.get(name, name): value for name, value in values.items()}

    @classmethod
    def today(cls, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Returns ``values`` under today's names, and which of them were given under old ones: old name -> today's.

        Raises ValueError where a setting is given twice, under names of different times.
        """
        old = {name: now for name, now in cls.renamed.items() if name in values}
        for name, now in old.items():
            rivals = [other for other in values if cls.renamed.get(other, other) == now]
            if len(rivals) > 1:
                raise ValueError(f"{name} is an old name of {now}, and {' and '.join(rivals)} are given: "
                                 f"keep {now} alone")  # fmt: skip
        return {old.get(name, name): value for name, value in values.items()}, old

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
