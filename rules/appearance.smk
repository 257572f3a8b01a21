rule appearance:
    """Carry each portrait's colours along with its driven head."""
    input:
        drive="<results>/drive/{shard}.json",
        proxy=indexes_of("proxy", "target", "driver", "pose_from", "expression_from"),
        crop=indexes_of("crop", "target", "driver", "pose_from", "expression_from"),
        geometry=indexes_of("geometry", "target"),
        transfer=trained_offsets,
        files=settings_files("appearance", "drive", "head"),
    output:
        index="<results>/appearance/{shard}.json",
    log:
        "<logs>/appearance/{shard}.log",
    priority: once_given("appearance", "drive", "head")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(12000),
        runtime=480,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        pairs=PAIRS,
        settings=settings("appearance", "drive", "head"),
        version=stage_version("appearance"),
        rows=pairs_digest,
        shards=PAIR_COUNT,
    shell:
        "python -m expportrait appearance"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --pairs {params.pairs:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
