rule drive:
    """Render each target's head with its driver's expression and motion (paper, section 3.2)."""
    input:
        proxy=indexes_of("proxy", "target", "driver", "pose_from", "expression_from"),
        crop=indexes_of("crop", "driver", "pose_from", "expression_from"),
        landmarks=indexes_of("landmarks", "target"),
        geometry=indexes_of("geometry", "target"),
        transfer=trained_offsets,
        files=settings_files("drive", "control", "proxy", "head"),
    output:
        index="<results>/drive/{shard}.json",
    log:
        "<logs>/drive/{shard}.log",
    priority: once_given("drive", "control", "proxy", "head")
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
        settings=settings("drive", "control", "proxy", "head"),
        version=stage_version("drive"),
        rows=pairs_digest,
        shards=PAIR_COUNT,
    shell:
        "python -m expportrait drive"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --pairs {params.pairs:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
