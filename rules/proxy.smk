rule proxy:
    """Fit the personalised head of each clip (paper, section 3.1)."""
    input:
        crop="<results>/crop/{shard}.json",
        landmarks="<results>/landmarks/{shard}.json",
        geometry="<results>/geometry/{shard}.json",
        files=settings_files("proxy", "head"),
    output:
        index="<results>/proxy/{shard}.json",
    log:
        "<logs>/proxy/{shard}.log",
    priority: once_given("proxy", "head")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(12000),
        runtime=960,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("proxy", "head"),
        version=stage_version("proxy"),
        rows=rows_digest,
        shards=shard_count,
    shell:
        "python -m expportrait proxy"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
