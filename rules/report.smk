rule report:
    """Put the whole run on one HTML page."""
    input:
        indexes(),
    output:
        page="<results>/report/index.html",
    log:
        "<logs>/report.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("shards", *SECTIONS),
        version=stage_version("report"),
        rows=digest(ROWS, columns=True),
    shell:
        "python -m expportrait report"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --settings {params.settings:q}"
        " 2>&1 | tee {log:q}"
