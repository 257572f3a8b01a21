"""What the rules of clips and pairs share: the manifest cut into shards, and where things are."""

import gc
import os
import re
import sys
from pathlib import Path

from expportrait.manifest.clips import digest, mixed_splits, read_manifest, shard_counts, shards
from expportrait.engine.names import check_names
from expportrait.manifest.pairs import pair_count, pair_shards, portraits, read_pairs
from expportrait.settings.config import SECTIONS
from expportrait.stages import PER_CLIP, PER_PAIR, PIPELINE, STAGES, made

# A plan is hundreds of thousands of small objects that stay: looking through them again and again costs a sixth of it.
gc.set_threshold(200_000)


ROWS = checked(read_manifest, CONFIG.manifest)
SHARDS = shards(ROWS, CONFIG.shards)
SHARD_OF = {row.clip: shard for shard, rows in SHARDS.items() for row in rows}
PAIR_ROWS = checked(read_pairs, CONFIG.pairs, ROWS)
PAIR_SHARDS = pair_shards(PAIR_ROWS, CONFIG.shards)
PAIR_COUNT = pair_count(PAIR_ROWS, CONFIG.shards)
checked(
    check_names,
    CONFIG.results,
    [row.clip for row in (*ROWS, *PAIR_ROWS, *portraits(ROWS, PAIR_ROWS))],
    [*SHARDS, *PAIR_SHARDS],
    [ending for stage in PIPELINE.values() for ending in stage.endings],
)
# Snakemake does not track paths among params: results stay valid when the manifest moves.
MANIFEST, RESULTS, PAIRS = CONFIG.manifest, CONFIG.results, CONFIG.pairs or Path()
DIGESTS = {shard: digest(rows) for shard, rows in SHARDS.items()}
PAIR_DIGESTS = {shard: digest(rows) for shard, rows in PAIR_SHARDS.items()}
COUNTS = shard_counts(ROWS, CONFIG.shards)
DEMO = {row.clip for row in ROWS if row.dataset == "demo" and row.path == Path(f"data/demo/{row.clip}.mp4")}
gc.freeze()  # the rows as well


pathvars:
    results=str(CONFIG.results),
    logs=f"{CONFIG.results}/logs",


wildcard_constraints:
    shard=r"[^/]+-\d+",


def rows_digest(wildcards):
    """Changes with the shard's clips, and with nothing else in the manifest."""
    return DIGESTS[wildcards.shard]


def shard_count(wildcards):
    """The number of shards of the shard's data set."""
    return COUNTS[wildcards.shard.rpartition("-")[0]]


def made_sources(wildcards):
    """The shard's sources that the workflow makes itself; others are never inputs, so they may be anywhere."""
    videos = [str(row.path) for row in SHARDS[wildcards.shard] if row.clip in DEMO]
    return [*videos, *(f"{video}.key" for video in videos)]


def pairs_digest(wildcards):
    """Changes with the pairs of the shard."""
    return PAIR_DIGESTS[wildcards.shard]


def indexes(*stages):
    """The indexes of all shards of these stages."""
    return [
        f"{CONFIG.results}/{stage}/{shard}.json"
        for stage in stages
        for shard in (PAIR_SHARDS if PIPELINE[stage].kind == "pair" else SHARDS)
    ]


def indexes_of(stage, *members):
    """The indexes of the shards that hold the targets, drivers or other clips of a shard's pairs."""

    def inputs(wildcards):
        clips = {row.extra[of] for row in PAIR_SHARDS[wildcards.shard] for of in members if of in row.extra}
        return [f"{CONFIG.results}/{stage}/{shard}.json" for shard in sorted({SHARD_OF[clip] for clip in clips})]

    return inputs


def trained_offsets(wildcards):
    """The transfer's index, where its module makes the offsets of one of the shard's pairs."""
    pairs = [CONFIG.told(row.settings) for row in PAIR_SHARDS[wildcards.shard]]
    return [f"{CONFIG.results}/transfer/index.json"] * any(pair.drive.offsets == "transfer" for pair in pairs)


def stage_version(stage):
    """Bumped in the list of stages when equal settings give another result; and of what the settings choose."""
    later = PIPELINE[stage].later(CONFIG)
    return " ".join([f"{stage} {PIPELINE[stage].version}", *(f"{name} {number}" for name, number in later.items())])


def unwritable():
    """Folders of results that cannot be written, which Snakemake would tell at length."""
    folders = [CONFIG.results, *(CONFIG.results / stage for stage in (*STAGES, "logs"))]
    return [str(folder) for folder in folders if folder.exists() and not os.access(folder, os.W_OK)]


onstart:
    for folder in unwritable():
        sys.exit(
            f"expportrait: {folder} cannot be written: is its file system read-only, or is it somebody else's?"
        )
    from expportrait.engine.heartbeat import running  # a plan needs none of it

    if warning := running(CONFIG.results):
        logger.warning(warning)
    for person in mixed_splits(ROWS):
        logger.warning(f"{CONFIG.manifest}: {person} stands in two splits; test scores say little about new people")
