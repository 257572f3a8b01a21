"""Long videos cut into the clips of a manifest (docs/split.md), before any rule of clips: snakemake -s rules/split.smk

It is a workflow of its own, since the other one plans by the manifest that this one makes.
"""


configfile: "config.yaml"


include: "settings.smk"


from expportrait.importers.split.sources import listed, of_shard, shard_count, told
from expportrait.importers.table import left_out

if CONFIG.split.sources is None:
    sys.exit("expportrait: split.sources is empty: name the table of your videos, as in "
             "--config manifest=my.csv 'split={sources: sources.csv}'")  # fmt: skip
MANIFEST, RECORDS, SOURCES = CONFIG.manifest, CONFIG.results / "split", CONFIG.split.sources
if MANIFEST.exists() and not left_out(MANIFEST).exists():
    sys.exit(f"expportrait: the manifest {MANIFEST} was not made by an importer, and would be replaced: name another "
             "one, as in --config manifest=my.csv")  # fmt: skip
VIDEOS = checked(listed, SOURCES)
COUNT = shard_count(VIDEOS, CONFIG.split.shards)


wildcard_constraints:
    shard=r"\d+",


rule all:
    default_target: True
    input:
        MANIFEST,


rule split:
    """Look at the videos of a shard."""
    output:
        index=f"{RECORDS}/shards/{{shard}}.json",
    log:
        f"{CONFIG.results}/logs/split/{{shard}}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=memory(4000),
        runtime=960,
    params:
        sources=SOURCES,
        manifest=MANIFEST,
        records=RECORDS,
        settings=settings("split", "crop", "landmarks"),
        rows=lambda wildcards: told(of_shard(VIDEOS, int(wildcards.shard), COUNT)),
        shards=COUNT,
    shell:
        "python -m expportrait import split"
        " --sources {params.sources:q}"
        " --out {params.manifest:q}"
        " --records {params.records:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --jobs {threads}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"


rule manifest:
    """Put what was found in all videos into one manifest."""
    input:
        indexes=expand(f"{RECORDS}/shards/{{shard}}.json", shard=range(COUNT)),
        table=SOURCES,
    # The table of what was left out, beside it, is no output: where no clip is left, it stays to tell why.
    output:
        manifest=MANIFEST,
    log:
        f"{CONFIG.results}/logs/split.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=120,
    params:
        records=RECORDS,
        settings=settings("split", "crop", "landmarks"),
    shell:
        "python -m expportrait import split"
        " --sources {input.table:q}"
        " --out {output.manifest:q}"
        " --records {params.records:q}"
        " --jobs {threads}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
