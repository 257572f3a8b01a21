"""ExpPortrait-Pipeline: from the clips of a manifest to personalised heads, control maps and a report."""


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/demo.smk"
include: "rules/crop.smk"
include: "rules/landmarks.smk"
include: "rules/geometry.smk"
include: "rules/proxy.smk"
include: "rules/control.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report/index.html",
