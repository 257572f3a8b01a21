rule geometry:
    """Estimate normals, depth and mask of head and shoulders."""
    input:
        crop="<results>/crop/{shard}.json",
        landmarks="<results>/landmarks/{shard}.json",
        files=settings_files("geometry", "head"),
    output:
        index="<results>/geometry/{shard}.json",
    log:
        "<logs>/geometry/{shard}.log",
    priority: once_given("geometry", "head")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=480,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("geometry", "head"),
        version=stage_version("geometry"),
        rows=rows_digest,
        shards=shard_count,
    shell:
        "python -m expportrait geometry"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
