"""The stages, one module each, named as the rule, the command and the section of the settings.

Stages of clips and of pairs export ``STAGE`` for the loop of ``engine.stage``; the others make one thing of the
whole run, by their own ``run``.
"""

import re
from importlib.resources import files

PER_CLIP = ("crop", "landmarks", "geometry", "proxy", "control", "latents")
PER_PAIR = ("drive", "reenact")
TRAINED = ("transfer", "generator")  # one model of all clips
STAGES = ("demo", *PER_CLIP, "transfer", "drive", "generator", "reenact", "evaluate", "report")


def version(stage: str) -> int:
    """The stage's version, read from its source: importing it would load torch at every start of Snakemake."""
    source = files("expportrait.stages").joinpath(f"{stage}.py").read_text("utf-8")
    found = re.search(r"\bversion=(\d+)", source)
    if found is None:
        raise ValueError(f"stages/{stage}.py does not say version=<number>")
    return int(found[1])
