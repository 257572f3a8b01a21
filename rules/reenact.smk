rule reenact:
    """Generate each pair's video."""
    input:
        drive="<results>/drive/{shard}.json",
        crop=indexes_of("crop", "target", "driver"),
        appearance="<results>/appearance/{shard}.json" if CONFIG.generator.by_portrait else [],
        generator="<results>/generator/index.json",
        files=settings_files("latents", "reenact", "generator"),
    output:
        index="<results>/reenact/{shard}.json",
    log:
        "<logs>/reenact/{shard}.log",
    priority: once_given("latents", "reenact", "generator")
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
        settings=settings("latents", "reenact", "generator"),
        version=stage_version("reenact"),
        rows=pairs_digest,
        shards=PAIR_COUNT,
    shell:
        "python -m expportrait reenact"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --pairs {params.pairs:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
