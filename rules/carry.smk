rule carry:
    """Make each training window from a reference portrait, through the video codec."""
    input:
        crop="<results>/crop/{shard}.json",
        geometry="<results>/geometry/{shard}.json",
        proxy="<results>/proxy/{shard}.json",
        files=settings_files("carry", "latents", "appearance", "head"),
    output:
        index="<results>/carry/{shard}.json",
    log:
        "<logs>/carry/{shard}.log",
    priority: once_given("carry", "latents", "appearance", "head")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=480,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("carry", "latents", "appearance", "head"),
        version=stage_version("carry"),
        rows=rows_digest,
        shards=shard_count,
    shell:
        "python -m expportrait carry"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
