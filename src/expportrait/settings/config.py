"""All settings of a run: where it is, then one section a stage. They stand in ``sections``, and nowhere else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
)

from expportrait.errors import UserError
from expportrait.files import sha256_known
from expportrait.settings.known_files import comes_from
from expportrait.settings.section import Place, Section
from expportrait.settings.sections import (
    Appearance,
    Carry,
    Control,
    Crop,
    Demo,
    Drive,
    Evaluate,
    Generator,
    GeometrySettings,
    HeadSettings,
    Landmarks,
    Latents,
    Proxy,
    Reenact,
    Report,
    Split,
    Transfer,
)


def _digits(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value


class Config(Section):
    """Everything in config.yaml: where the run is, then one section a stage."""

    manifest: Place = Field(Path("data_manifest.csv"), description="table of the clips, one a row")
    results: Place = Field(Path("results"), description="folder that receives everything the pipeline makes")
    pairs: Place | None = Field(
        None,
        description="table target,driver (docs/drive.md); empty: each test clip by itself and by one of another person",
    )
    shards: dict[str, Annotated[int, Field(ge=1), BeforeValidator(_digits)]] = Field(
        {}, description="data set: number of its shards; where absent, about 128 clips a shard"
    )
    split: Split = Split()
    demo: Demo = Demo()
    head: HeadSettings = HeadSettings()
    crop: Crop = Crop()
    landmarks: Landmarks = Landmarks()
    geometry: GeometrySettings = GeometrySettings()
    proxy: Proxy = Proxy()
    control: Control = Control()
    latents: Latents = Latents()
    carry: Carry = Carry()
    transfer: Transfer = Transfer()
    drive: Drive = Drive()
    appearance: Appearance = Appearance()
    generator: Generator = Generator()
    reenact: Reenact = Reenact()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    def told(self, own: Mapping[str, Mapping[str, Any]]) -> "Config":
        """Returns these settings with those that a row has of its own, by section and checked, in their place."""
        changed = {name: getattr(self, name).model_copy(update=dict(values)) for name, values in own.items()}
        return self.model_copy(update=changed) if changed else self

    def check_together(self) -> None:
        """Raises UserError where settings that are right by themselves do not go together."""
        self.generator.rounds()
        if self.reenact.overlap >= self.latents.window:
            raise UserError(
                f"reenact.overlap is {self.reenact.overlap}, but a window of the generator has {self.latents.window} "
                "frames (latents.window): set it lower"
            )
        missing = sorted({*self.generator.maps} - {"normals", "coverage", "appearance", "seen", *self.control.maps})
        if missing:
            raise UserError(
                f"generator.maps asks for {', '.join(missing)}, which is not rendered: name it in control.maps too"
            )

    def canonical(self, *sections: str) -> str:
        """Returns JSON of these sections without the settings that are at their defaults. Equal texts mean equal
        settings, whichever version wrote them: a setting whose default was changed is therefore never left out."""
        dump = self.model_dump(mode="json", include={*sections} - {*SECTIONS}, exclude_defaults=True)
        dump |= {s: said for s in {*sections} & {*SECTIONS} if (said := getattr(self, s).said())}
        return json.dumps(dump, sort_keys=True, separators=(",", ":"))

    def identity(self, sections: tuple[str, ...], clip: str) -> dict[str, dict]:
        """Returns the sections as they enter the key of ``clip``: like ``canonical``, with the sha256 of each file in
        place of its path. Raises UserError where a file is not there."""
        return {
            s: {name: _hashed(value, clip, f"{s}.{name}") for name, value in getattr(self, s).distinct().items()}
            for s in sections
        }

    def require(self, *sections: str) -> None:
        """Raises UserError where a file or folder that these sections name is not there."""
        for where, path in self.paths(*sections).items():
            _require(path, where)

    def files(self, *sections: str) -> list[str]:
        """Returns the files that these sections name, as inputs of a rule. Files that are not there are left out."""
        return [str(path) for path in self.paths(*sections).values() if path.is_file()]

    def paths(self, *sections: str) -> dict[str, Path]:
        """Returns the files and folders that these sections name, by the setting that names them."""
        named = {f"{s}.{name}": value for s in sections for name, value in getattr(self, s)}
        return {where: value for where, value in named.items() if isinstance(value, Path)}


SECTIONS = tuple(Config.groups())


def _require(path: Path, where: str) -> None:
    if not path.exists():
        raise UserError(f"{where}: {path} does not exist{comes_from(where, path)}")


def _hashed(value: Any, clip: str, where: str) -> Any:
    """Returns what enters the key of ``clip`` for a value. A folder holds one file a clip, ``<clip>.*``, and only that
    clip's file enters."""
    if not isinstance(value, Path):
        return value
    _require(value, where)
    files = sorted(value.glob(f"{clip}.*")) if value.is_dir() else [value]
    return [sha256_known(file) for file in files]
