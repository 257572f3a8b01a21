rule crop:
    """Cut one square box a clip around the face."""
    input:
        made=made_sources,
        files=settings_files("crop"),
    output:
        index="<results>/crop/{shard}.json",
    log:
        "<logs>/crop/{shard}.log",
    priority: once_given("crop")
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=120,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("crop"),
        version=stage_version("crop"),
        rows=rows_digest,
        shards=shard_count,
    shell:
        "python -m expportrait crop"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
