"""ExpPortrait-Pipeline: from the clips of a manifest to a trained portrait-video generator and the paper's Table 1."""


configfile: "config.yaml"


include: "rules/settings.smk"
include: "rules/common.smk"
include: "rules/demo.smk"
include: "rules/crop.smk"
include: "rules/landmarks.smk"
include: "rules/geometry.smk"
include: "rules/proxy.smk"
include: "rules/control.smk"
include: "rules/latents.smk"
include: "rules/carry.smk"
include: "rules/transfer.smk"
include: "rules/drive.smk"
include: "rules/appearance.smk"
include: "rules/generator.smk"
include: "rules/reenact.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report/index.html",
        rules.report.input,  # Snakemake makes a lost file again only where a target asks for it
