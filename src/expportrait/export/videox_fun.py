"""Layout ``videox-fun``: target films, control films, and the ``metadata.json`` of VideoX-Fun's control training.

``train/SHARD/CLIP.mp4``, ``control/SHARD/CLIP.mp4``, further parts in folders of their own, and ``metadata.json``, a
list of entries with ``file_path``, ``control_file_path``, ``text``, ``type``, ``width``, ``height``; further fields are
ours, which its reader passes over. Of other splits than train: ``val/``, ``control_val/``, ``metadata_val.json``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expportrait.export.layout import Layout, Made, as_json, by_split, columns_of, of_files, write

if TYPE_CHECKING:
    from expportrait.export.layout import Sample


class VideoXFun(Layout):
    name = "videox-fun"
    needs = ("frames", "control")
    parts = ("frames", "reference", "control", "appearance", "mask")
    about = (
        "VideoX-Fun, `ImageVideoControlDataset` of `videox_fun/data/dataset_image_video.py` at commit fda54ed, and the "
        "format of `metadata_control.json` in its training documents. Not tried with VideoX-Fun itself."
    )

    def file(self, sample: "Sample", name: str) -> str:
        part, split = name.partition(".")[0], sample.row.split
        shard = sample.place.partition("/")[2]
        folder = split if part == "frames" else part if split == "train" else f"{part}_{split}"
        return f"{folder}/{shard}/{sample.clip}{name.removeprefix(part)}"

    def finish(self, out: Path, made: Sequence[Made]) -> dict[str, str]:
        tables = []
        for split, of in by_split(made).items():
            extra, file = columns_of(of), table(split, "json")
            entries = [
                {name: one.sample.row.extra.get(name, "") for name in extra}
                | {"file_path": one.file("frames"), "control_file_path": one.file("control")}
                | {"text": one.sample.text, "type": "image" if one.facts["frames"] == 1 else "video"}
                | {"width": one.facts["width"], "height": one.facts["height"], "fps": one.facts["fps"]}
                | {"clip": one.sample.clip, "person": one.sample.row.person}
                | {f"{name.partition('.')[0]}_path": where["file"] for name, where in one.files.items()
                   if name.partition(".")[0] not in ("frames", "control")}
                for one in of
            ]  # fmt: skip
            tables.append(write(out, file, as_json(entries)))
        return of_files(made) | dict.fromkeys(tables, "")


def table(split: str, ending: str) -> str:
    """``metadata`` of the split train, ``metadata_val`` of another."""
    return f"metadata.{ending}" if split == "train" else f"metadata_{split}.{ending}"
