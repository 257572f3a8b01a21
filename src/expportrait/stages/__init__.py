"""The stages, one module each. A per-clip stage exports ``STAGE``; see ``expportrait.stage``."""

import re
from importlib.resources import files

PER_CLIP = ("crop", "landmarks", "geometry", "proxy", "control")
PER_PAIR = ("drive", "reenact")
STAGES = ("demo", *PER_CLIP, "report")


def version(stage: str) -> int:
    """The stage's version, read from its source: importing it would load torch at every start of Snakemake."""
    source = files("expportrait.stages").joinpath(f"{stage}.py").read_text("utf-8")
    found = re.search(r"\bversion=(\d+)", source)
    if found is None:
        raise ValueError(f"stages/{stage}.py does not say version=<number>")
    return int(found[1])
