"""Every setting of the pipeline: one model a stage, in pipeline order. The only place with defaults.

``config.yaml`` and ``docs/settings.md`` are written from these models (``python -m expportrait.config``).
"""

import hashlib
import json
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from expportrait.errors import UserError


def _is_text(annotation: Any) -> bool:
    return annotation in (str, Path) or isinstance(annotation, str) or any(map(_is_text, get_args(annotation)))


class Section(BaseModel):
    """A ``Path`` names a file or folder; it enters a clip's key by content (``Config.identity``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Any) -> Any:
        """Values given on a command line arrive as text, and YAML takes 1e-4 for text: read numbers from it."""
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            if not isinstance(value, str) or field is None:
                continue
            if type(None) in get_args(field.annotation) and value in ("", "null", "None"):
                values = values | {name: None}
            elif not _is_text(field.annotation):
                with suppress(ValidationError):
                    values = values | {name: TypeAdapter(field.annotation).validate_strings(value)}
        return values


class Demo(Section):
    """Short clips animated from two public-domain portraits, with known motion."""

    frames: int = Field(50, ge=49, description="frames a clip, at 25 a second")
    size: int = Field(512, ge=128, description="height and width of the clips, px")
    yaw: float = Field(15.0, ge=0, le=20, description="largest head turn, degrees; past 20 the warp shows")


class HeadSettings(Section):
    """The parametric head shared by demo, geometry, proxy and control."""

    file: Path | None = Field(None, description="SMPL-X file (SMPLX_NEUTRAL.npz); empty: the open head that is shipped")
    subdivisions: int = Field(1, ge=0, le=2, description="midpoint subdivisions from the coarse to the dense mesh")
    shape_components: int = Field(100, ge=1, le=300, description="shape coefficients used, at most what the file has")
    expression_components: int = Field(100, ge=1, le=100, description="expression coefficients used, at most what the file has")


class Crop(Section):
    """One fixed square box a clip around the face, in its longest shot with a usable face."""

    size: int = Field(512, ge=128, description="height and width of the cropped frames, px")
    scale: float = Field(2.2, gt=1, description="side of the box over the larger side of the face, hairline to chin")
    lift: float = Field(0.06, ge=-0.5, le=0.5, description="centre of the box above the face's, over the box's side")
    min_scale: float = Field(1.5, gt=1, description="the box shrinks down to this to fit the image, before it is padded")
    min_face: float = Field(72, ge=0, description="smallest face, hairline to chin, px of the source")
    min_frames: int = Field(10, ge=1, description="shortest clip, frames; a source of one frame is a portrait and passes")
    min_coverage: float = Field(0.7, ge=0, le=1, description="share of the frames looked at that must show the face")
    detect_every: int = Field(5, ge=1, description="look for faces in every so many frames")
    cut: float = Field(4.0, ge=0, le=255, description="least mean change of colour at a cut, of 255; 255: no cuts")
    folder_fps: float = Field(25.0, gt=0, description="frames a second of folders of images")


class Landmarks(Section):
    """478 face landmarks a frame."""

    max_gap: int = Field(10, ge=0, description="longest run of frames without a face that is interpolated")
    min_found: float = Field(0.7, ge=0, le=1, description="share of the frames that must show the face")


class GeometrySettings(Section):
    """Normals, depth and mask of head and shoulders."""

    estimator: Literal["embedded"] = Field("embedded", description="which estimator; embedded needs no weights")
    grid: int = Field(96, ge=32, le=512, description="embedded: cells a side on which normals and depth are solved")


class Proxy(Section):
    """The personalised head of a clip: five fit stages, from landmarks to both offset fields (paper, section 3.1)."""

    init: Literal["fit", "file"] = Field("fit", description="coarse start: fit to landmarks, or read pre-tracked SMPL-X")
    init_dir: Path | None = Field(None, description="init: file reads <init_dir>/<clip>.npz (docs/proxy.md)")
    focal: float = Field(3.0, gt=0.5, description="focal length at the start, over the image size")

    rigid_steps: int = Field(100, ge=1, description="(a) steps on pose and place, all frames at once")
    landmark_steps: int = Field(200, ge=1, description="(b) steps on shape, expression, all joints and focal length too")
    coarse_passes: float = Field(10, ge=0, description="(c) passes over the frames on the coarse surface")
    static_passes: float = Field(10, ge=0, description="(d) passes with the static offsets free")
    dynamic_passes: float = Field(8, ge=0, description="(e) passes with both offset fields and the coarse head free")
    final_passes: float = Field(4, ge=0, description="(e) passes with the offset fields alone")
    min_steps: int = Field(60, ge=1, description="least steps of a stage, for short clips and single images")
    batch: int = Field(4, ge=1, description="frames a step of stages (c) to (e)")
    coarse_size: int = Field(128, ge=32, description="image size of stages (c) and (d), px")
    fine_size: int = Field(256, ge=32, description="image size of stage (e), px")
    patience: int = Field(4, ge=1, description="stop a stage early after so many passes without improvement ...")
    tolerance: float = Field(0.002, ge=0, description="... by this fraction of the loss")

    static_on_face: float = Field(1.0, ge=0, le=1, description="m_s on the face for clips; hair, neck, clothes have 1")
    static_on_face_single: float = Field(0.1, ge=0, le=1, description="m_s on the face where one image is all there is")
    max_growth: float = Field(0.06, ge=0, description="farthest that hair and clothes start from the bare head, m")

    w_landmark: float = Field(4.0, ge=0, description="eq. (5), per inter-ocular distance")
    w_landmark_coarse: float = Field(5.0, ge=0, description="the same in stage (c)")
    iris_weight: float = Field(2.0, ge=0, description="weight of the ten iris points among the landmarks")
    lid_weight: float = Field(3.0, ge=0, description="weight of the eyelids' points")
    lip_weight: float = Field(2.0, ge=0, description="weight of the lips' points")
    w_normal: float = Field(1.0, ge=0, description="eq. (6), 1 - cosine, plus half the L1 distance")
    w_depth: float = Field(5.0, ge=0, description="eq. (6), depth after scale and shift, per m")
    w_depth_coarse: float = Field(20.0, ge=0, description="the same in stage (c)")
    w_silhouette: float = Field(2.0, ge=0, description="L_sil, coverage against the mask")
    w_shape: float = Field(0.002, ge=0, description="mean squared shape coefficient")
    w_expression: float = Field(0.002, ge=0, description="eq. (7), mean squared expression coefficient")
    w_focal: float = Field(0.05, ge=0, description="squared log ratio of the focal length to its start")
    w_neck: float = Field(0.02, ge=0, description="neck and head, per rad^2")
    w_torso: float = Field(0.02, ge=0, description="the root's turn away from facing the camera, per rad^2")
    w_torso_motion: float = Field(0.1, ge=0, description="the root's turn away from its mean over the clip, per rad^2")
    w_jaw: float = Field(0.01, ge=0, description="jaw, per rad^2")
    w_eyes: float = Field(0.02, ge=0, description="each eye, and the two eyes' difference, per rad^2")
    w_shoulders: float = Field(0.02, ge=0, description="collars and shoulders, per rad^2")
    w_static_magnitude: float = Field(1e-4, ge=0, description="L_mag, lambda_s, per mm^2")
    w_dynamic_magnitude: float = Field(2e-3, ge=0, description="L_mag, lambda_d, per mm^2")
    w_static_laplacian: float = Field(0.02, ge=0, description="L_lap of D_s, per mm^2")
    w_dynamic_laplacian: float = Field(0.02, ge=0, description="L_lap of D_t, per mm^2")
    w_temporal_offset: float = Field(0.01, ge=0, description="L_tmp of D_t, per mm^2")
    w_temporal_expression: float = Field(0.02, ge=0, description="L_tmp of the expression coefficients")
    w_temporal_pose: float = Field(1.0, ge=0, description="L_tmp of the rotations")
    w_temporal_place: float = Field(20.0, ge=0, description="L_tmp of the neck's place (image sizes) and log depth")


class Control(Section):
    """Control maps rendered from the proxy."""

    maps: list[Literal["depth", "region", "eyes"]] = Field([], description="maps rendered beside the normals")


class Report(Section):
    """One HTML page on the whole run."""

    max_clips: int = Field(48, ge=0, description="clips shown with pictures; counts and reasons cover all")
    first: Literal["spread", "failed"] = Field(
        "spread", description="which clips are shown: some of every shard, or those that failed first"
    )
    max_rows: int = Field(2000, ge=1, description="rows of the table of reasons; failures.csv has all")
    frames: int = Field(8, ge=1, le=24, description="frames in a clip's strip")
    size: int = Field(384, ge=64, le=1024, description="height and width of the pictures, px")
    video_seconds: float = Field(10.0, gt=0, description="length of the control video, from the clip's start")


def _digits(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value


class Config(Section):
    """Everything in config.yaml: where the run is, then one section a stage."""

    manifest: Path = Field(Path("data_manifest.csv"), description="table of the clips, one a row")
    results: Path = Field(Path("results"), description="folder that receives everything the pipeline makes")
    shards: dict[str, Annotated[int, Field(ge=1), BeforeValidator(_digits)]] = Field(
        {}, description="data set: number of its shards; where absent, about 64 clips a shard"
    )
    demo: Demo = Demo()
    head: HeadSettings = HeadSettings()
    crop: Crop = Crop()
    landmarks: Landmarks = Landmarks()
    geometry: GeometrySettings = GeometrySettings()
    proxy: Proxy = Proxy()
    control: Control = Control()
    report: Report = Report()

    def canonical(self, *sections: str) -> str:
        """JSON of these sections, settings at their defaults left out: equal text means equal settings."""
        dump = self.model_dump(mode="json", include=set(sections), exclude_defaults=True)
        return json.dumps({s: dump.get(s, {}) for s in sections}, sort_keys=True, separators=(",", ":"))

    def identity(self, sections: tuple[str, ...], clip: str) -> dict[str, dict]:
        """The sections as they enter the key of ``clip``: like ``canonical``, but files by their sha256."""
        return {
            s: {
                name: _hashed(value, clip, f"{s}.{name}")
                for name, value in getattr(self, s).model_dump(exclude_defaults=True).items()
            }
            for s in sections
        }

    def files(self, *sections: str) -> list[str]:
        """The files that these sections name, as inputs of a rule. Raises UserError where one is missing."""
        named = {f"{s}.{name}": value for s in sections for name, value in getattr(self, s)}
        paths = {where: value for where, value in named.items() if isinstance(value, Path)}
        for where, path in paths.items():
            _require(path, where)
        return [str(path) for path in paths.values() if path.is_file()]


SECTIONS = tuple(name for name, field in Config.model_fields.items() if isinstance(field.default, Section))


def _require(path: Path, where: str) -> None:
    if not path.exists():
        raise UserError(f"{where}: {path} does not exist")


def _hashed(value: Any, clip: str, where: str) -> Any:
    """Folders hold one file a clip, ``<clip>.*``; only that clip's enters."""
    if not isinstance(value, Path):
        return value
    _require(value, where)
    files = sorted(value.glob(f"{clip}.*")) if value.is_dir() else [value]
    return [_sha256(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


@lru_cache
def _sha256(path: Path, size: int, mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def yaml_text() -> str:
    """config.yaml: every setting with its default and what it means."""
    lines = [
        "# Every setting with its default, written by `python -m expportrait.config`; bounds: docs/settings.md.",
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
    values = model.model_dump(mode="json")
    fields = type(model).model_fields
    return [
        f"{name}: {'' if values[name] is None else json.dumps(values[name])}".rstrip().replace('"', "")
        + f"  # {fields[name].description}"
        for name in names or fields
    ]


def _first_line(model: Section) -> str:
    return (type(model).__doc__ or "").strip().splitlines()[0]


def markdown_text() -> str:
    """docs/settings.md: the same as tables, with bounds."""
    lines = ["# Settings", "", "Written by `python -m expportrait.config` from `src/expportrait/config.py`."]
    lines += ["Where a setting may come from, and what re-runs when it changes: [workflow.md](workflow.md).", ""]
    lines += _table(Config(), [name for name in Config.model_fields if name not in SECTIONS])
    for name in SECTIONS:
        model = Config.model_fields[name].default
        lines += ["", f"## {name}", "", _first_line(model)]
        if type(model).model_fields:
            lines += ["", *_table(model, [*type(model).model_fields])]
    return "\n".join(lines) + "\n"


def _table(model: Section, names: list[str]) -> list[str]:
    values, schema = model.model_dump(mode="json"), type(model).model_json_schema()["properties"]
    rows = ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for name in names:
        default = "" if values[name] is None else f"`{json.dumps(values[name])}`".replace('"', "")
        rows.append(f"| `{name}` | {default} | {_allowed(schema[name])} | {schema[name].get('description', '')} |")
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
    """Write config.yaml and docs/settings.md into the working directory; with --check, only compare."""
    stale = 0
    for file, text in {Path("config.yaml"): yaml_text(), Path("docs/settings.md"): markdown_text()}.items():
        if file.exists() and file.read_text("utf-8") == text:
            continue
        stale += 1
        if "--check" in sys.argv:
            print(f"{file} differs from src/expportrait/config.py: run `python -m expportrait.config`")
        else:
            file.write_text(text, "utf-8")
            print(f"wrote {file}")
    return int("--check" in sys.argv and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
