rule report:
    """Put the whole run on one HTML page."""
    input:
        clips=indexes(*made(PER_CLIP, CONFIG)),
        pairs=indexes(*PER_PAIR),
        transfer="<results>/transfer/index.json",
        generator="<results>/generator/index.json",
        evaluate="<results>/evaluate/table.json",
    output:
        page="<results>/report/index.html",
    log:
        "<logs>/report.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=120,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        pairs=PAIRS,
        settings=settings("shards", *SECTIONS),
        version=stage_version("report"),
        rows=digest(ROWS, "dataset", "person", "split", "extra"),
        pair_rows=digest(PAIR_ROWS),
    shell:
        "python -m expportrait report"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --pairs {params.pairs:q}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
