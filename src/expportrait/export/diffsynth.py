"""Layout ``diffsynth``: films and the ``metadata.csv`` that DiffSynth-Studio trains Wan's control models on.

``video/SHARD/CLIP.mp4``, ``control_video/…``, ``reference_image/…``, and ``metadata.csv`` with the columns ``video``,
``prompt``, ``control_video``, ``reference_image``; further columns are ours, which its reader passes over. Other
splits than train: ``video_val/`` …, ``metadata_val.csv``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expportrait.export.layout import Layout, Made, as_csv, by_split, columns_of, of_files, write
from expportrait.export.videox_fun import table

if TYPE_CHECKING:
    from expportrait.export.layout import Sample

NAMES = {"frames": "video", "control": "control_video", "reference": "reference_image"}


class DiffSynth(Layout):
    name = "diffsynth"
    needs = ("frames", "reference", "control")
    parts = ("frames", "reference", "control", "appearance", "mask")
    about = (
        "DiffSynth-Studio, `UnifiedDataset` of `diffsynth/core/data/unified_dataset.py` at commit 030ebe6, and its "
        'example for Wan2.1-Fun-V1.1-1.3B-Control (`--data_file_keys "video,control_video,reference_image"`). Not '
        "tried with DiffSynth-Studio itself."
    )

    def file(self, sample: "Sample", name: str) -> str:
        part, split = name.partition(".")[0], sample.row.split
        folder = NAMES.get(part, part) + ("" if split == "train" else f"_{split}")
        return f"{folder}/{sample.place.partition('/')[2]}/{sample.clip}{name.removeprefix(part)}"

    def finish(self, out: Path, made: Sequence[Made]) -> dict[str, str]:
        tables = []
        for split, of in by_split(made).items():
            extra = columns_of(of)
            names = list(dict.fromkeys(name.partition(".")[0] for one in of for name in one.files))
            files = {name: NAMES.get(name, name) for name in names}
            columns = ["video", "prompt", *(column for column in files.values() if column != "video"), "clip", "person"]
            columns += [name for name in extra if name not in columns]
            lines = [
                {name: one.sample.row.extra.get(name, "") for name in extra}
                | {column: one.file(name) or "" for name, column in files.items()}
                | {"prompt": one.sample.text, "clip": one.sample.clip, "person": one.sample.row.person}
                for one in of
            ]
            tables.append(write(out, table(split, "csv"), as_csv(columns, lines)))
        return of_files(made) | dict.fromkeys(tables, "")
