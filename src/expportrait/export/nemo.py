"""Layout ``nemo``: latents as NeMo Automodel's diffusion recipes keep them after their preprocessing.

``train/256x256/CLIP-w000.meta``, a ``torch.save`` of a dictionary a window, and ``train/metadata.json``, which names
``metadata_shard_*.json``, lists of entries with ``cache_file`` and ``bucket_resolution``. Its reader resolves
``cache_file`` against the working folder and wants it inside the cache: paths are absolute, and an export that was
moved is exported again into its new place, which only writes the tables.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expportrait.export.layout import Layout, Made, as_json, by_place, of_files, write

if TYPE_CHECKING:
    from expportrait.export.layout import Sample
    from expportrait.export.parts import Making

TEXT_WIDTH = 4096  # of Wan's text encoder


class NeMo(Layout):
    name = "nemo"
    needs = ("latents",)
    parts = ("latents",)
    papers_inside = True
    choice = False
    about = (
        "NeMo Automodel, `TextToVideoDataset` and `BaseMultiresolutionDataset` of "
        "`nemo_automodel/components/datasets/diffusion/` at commits 0a7ff70 and ef8f44f, and `get_cache_data` of "
        "`tools/diffusion/processors/wan.py` at 7a79d3d. Not tried with NeMo itself. Its text-to-video recipe reads no "
        "control maps: the layout `webdataset` has them. Text embeddings are one row of zeros, Wan's null text."
    )

    def file(self, sample: "Sample", name: str) -> str:
        side = name.split(".")[-2]
        window = name.split(".")[-3]
        return f"{sample.row.split}/{side}x{side}/{sample.clip}-{window}.meta"

    def make(self, sample: "Sample", making: "Making") -> list[str]:
        import torch

        store = making.stores["latents"]
        attrs, latents, names = store.attrs, store.lazy("windows"), []
        side, wan = attrs["size"], attrs["codec"]["codec"] == "wan"
        for number, start in enumerate(attrs["starts"]):
            data: dict[str, Any] = {
                "video_latents": torch.from_numpy(latents[number : number + 1]),
                "text_embeddings": torch.zeros(1, 1, TEXT_WIDTH, dtype=torch.bfloat16),
                "first_frame": None,
                "original_resolution": (side, side),
                "bucket_resolution": (side, side),
                "bucket_id": f"{side}x{side}",
                "aspect_ratio": 1.0,
                "num_frames": attrs["window"],
                "prompt": sample.text,
                "video_path": sample.row.source,
                "deterministic_latents": True,
                "model_version": "wan2.1" if wan else attrs["codec"]["codec"],
                "processing_mode": "video",
                "model_type": "wan" if wan else attrs["codec"]["codec"],
                "metadata": {"clip": sample.clip, "person": sample.row.person, "start": start, **sample.row.extra},
            }
            bytes_ = io.BytesIO()  # a file's own name would go into it
            torch.save(data, bytes_)
            names.append(f"latents.w{number:03d}.{side}.meta")
            (making.folder / names[-1]).write_bytes(bytes_.getvalue())
        return names

    def finish(self, out: Path, made: Sequence[Made]) -> dict[str, str]:
        tables, shards = [], {}
        for place, of in by_place(made).items():
            split, _, shard = place.partition("/")
            name = f"metadata_shard_{shard}.json"
            entries = [_entry(out, one, where) for one in of for where in one.files.values()]
            tables.append(write(out, f"{split}/{name}", as_json(entries)))
            shards.setdefault(split, []).append((name, len(entries)))
        for split, of in shards.items():
            about = {"shards": [name for name, _ in of], "total_items": sum(count for _, count in of)}
            tables.append(write(out, f"{split}/metadata.json", as_json(about)))
        return of_files(made) | dict.fromkeys(tables, "")

    def remarks(self, made: Sequence[Made]) -> list[str]:
        others = sorted({one.facts["latents"]["codec"] for one in made} - {"wan"})
        if not others:
            return []
        told = f"The latents are of the codec {', '.join(others)}, which no published model knows"
        return [f"{told}; `latents.codec: wan` makes Wan's."]


def _entry(out: Path, made: Made, where: Mapping[str, Any]) -> dict[str, Any]:
    side, wan = made.facts["latents"]["size"], made.facts["latents"]["codec"] == "wan"
    return {
        "cache_file": str((out / where["file"]).resolve()),
        "video_path": made.sample.row.source,
        "bucket_resolution": [side, side],
        "original_resolution": [side, side],
        "bucket_id": f"{side}x{side}",
        "aspect_ratio": 1.0,
        "pixels": side * side,
        "num_frames": made.facts["latents"]["window"],
        "prompt": made.sample.text,
        "model_type": "wan" if wan else made.facts["latents"]["codec"],
        "clip": made.sample.clip,
    }
