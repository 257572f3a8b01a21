rule evaluate:
    """Measure the videos and set them beside the paper's Table 1."""
    input:
        reenact=indexes("reenact"),
        appearance=indexes("appearance"),
        crop=indexes("crop") if PAIR_ROWS else [],
        files=settings_files("evaluate", "drive"),
    output:
        table="<results>/evaluate/table.json",
    log:
        "<logs>/evaluate.log",
    priority: once_given("evaluate", "drive")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=240,
    params:
        manifest=MANIFEST,
        results=RESULTS,
        pairs=PAIRS,
        settings=settings("evaluate", "drive"),
        version=stage_version("evaluate"),
        rows=digest(PAIR_ROWS),
    shell:
        "python -m expportrait evaluate"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --pairs {params.pairs:q}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
