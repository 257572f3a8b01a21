rule latents:
    """Encode windows of each clip through the video codec, for the generator."""
    input:
        crop="<results>/crop/{shard}.json",
        files=settings_files("latents"),
    output:
        index="<results>/latents/{shard}.json",
    log:
        "<logs>/latents/{shard}.log",
    priority: once_given("latents")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=480,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("latents"),
        version=stage_version("latents"),
        rows=rows_digest,
        shards=shard_count,
    shell:
        "python -m expportrait latents"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --shard {wildcards.shard}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
