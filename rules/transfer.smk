rule transfer:
    """Train the expression transfer on all fitted heads (paper, section 3.2)."""
    input:
        proxy=indexes("proxy"),
        files=settings_files("transfer", "head"),
    output:
        index="<results>/transfer/index.json",
    log:
        "<logs>/transfer.log",
    priority: once_given("transfer", "head")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(16000),
        runtime=720,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("transfer", "head"),
        version=stage_version("transfer"),
        rows=digest(ROWS, "split", "person"),
    shell:
        "python -m expportrait transfer"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
