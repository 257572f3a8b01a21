rule landmarks:
    """Find 478 face landmarks a frame."""
    input:
        crop="<results>/crop/{shard}.json",
        files=settings_files("landmarks"),
    output:
        index="<results>/landmarks/{shard}.json",
    log:
        "<logs>/landmarks/{shard}.log",
    priority: once_given("landmarks")
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=120,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("landmarks"),
        version=stage_version("landmarks"),
        rows=rows_digest,
        shards=shard_count,
    shell:
        "python -m expportrait landmarks"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
