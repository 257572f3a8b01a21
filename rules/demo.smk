rule demo:
    """Animate a public-domain portrait into a clip with known motion."""
    input:
        files=settings_files("demo"),
    output:
        video="data/demo/{clip}.mp4",
        truth="data/demo/{clip}.npz",
        key="data/demo/{clip}.mp4.key",
    log:
        "<logs>/demo/{clip}.log",
    wildcard_constraints:
        clip="|".join(map(re.escape, sorted(DEMO))) or "(?!)",
    priority: once_given("demo")
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        manifest=MANIFEST,
        settings=settings("demo"),
        version=stage_version("demo"),
    shell:
        "python -m expportrait demo"
        " --manifest {params.manifest:q}"
        " --clip {wildcards.clip}"
        " --out {output.video:q}"
        " --settings {params.settings:q}"
        " 2>&1 | logged {log:q}"
