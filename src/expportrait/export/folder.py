"""Layout ``folder``: a folder a clip, and a table a split that says what is there.

``train/hdtf-0003/CLIP/frames.mp4`` and its other parts, ``train/hdtf-0003/CLIP/clip.json``, and ``train/metadata.csv``:
one line a clip, ``file_name`` for its frames as hubs' video folders have it, ``PART_file`` for each other part.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expportrait.export.layout import Layout, Made, as_csv, as_json, by_split, columns_of, of_files, papers, write

if TYPE_CHECKING:
    from expportrait.export.layout import Sample

FIGURES = ("frames", "fps", "width", "height")


class Folder(Layout):
    name = "folder"
    about = (
        "The project's own. The tables have the column `file_name` of Hugging Face's video folders (documentation of "
        'datasets 4, "VideoFolder"); not tried with its reader.'
    )

    def file(self, sample: "Sample", name: str) -> str:
        return f"{sample.place}/{sample.clip}/{name}"

    def finish(self, out: Path, made: Sequence[Made]) -> dict[str, str]:
        more = [write(out, self.file(one.sample, "clip.json"), as_json(papers(one))) for one in made]
        for split, of in by_split(made).items():
            names = list(dict.fromkeys(name.partition(".")[0] for one in of for name in one.files))
            names.remove("frames")
            parts = {name: f"{name}_file" for name in names}
            extra = columns_of(of)
            columns = ["file_name", "clip", "person", "text", *FIGURES, *parts.values()]
            columns += [name for name in extra if name not in columns]
            lines = [
                {name: one.sample.row.extra.get(name, "") for name in extra}
                | {"clip": one.sample.clip, "person": one.sample.row.person, "text": one.sample.text}
                | {name: one.facts[name] for name in FIGURES}
                | {"file_name": _under(split, one.file("frames"))}
                | {column: _under(split, one.file(name)) for name, column in parts.items()}
                for one in of
            ]
            more.append(write(out, f"{split}/metadata.csv", as_csv(columns, lines)))
        return of_files(made) | dict.fromkeys(more, "")


def _under(split: str, file: str | None) -> str:
    return (file or "").removeprefix(f"{split}/")
