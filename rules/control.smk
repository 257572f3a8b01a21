rule control:
    """Render the fitted heads as control maps, registered to the frames."""
    input:
        proxy="<results>/proxy/{shard}.json",
        files=settings_files("control", "head"),
    output:
        index="<results>/control/{shard}.json",
    log:
        "<logs>/control/{shard}.log",
    priority: once_given("control", "head")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=240,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("control", "head"),
        version=stage_version("control"),
        rows=rows_digest,
        shards=shard_count,
    shell:
        "python -m expportrait control"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
