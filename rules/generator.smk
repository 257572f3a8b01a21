rule generator:
    """Train the video generator (paper, section 3.3)."""
    input:
        latents=indexes("latents"),
        control=indexes("control"),
        carry=indexes("carry") if CONFIG.generator.by_portrait else [],
        files=settings_files("latents", "generator"),
    output:
        index="<results>/generator/index.json",
    log:
        "<logs>/generator.log",
    priority: once_given("latents", "generator")
    conda:
        "../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(64000),
        runtime=2880,
        gpu=0,  # one process on each
    params:
        manifest=MANIFEST,
        results=RESULTS,
        settings=settings("latents", "generator"),
        version=stage_version("generator"),
        rows=digest(ROWS, "split"),
    shell:
        "python -m expportrait generator"
        " --processes {resources.gpu}"
        " --manifest {params.manifest:q}"
        " --results {params.results:q}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
