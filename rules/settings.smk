"""What all rules share: checked settings, and how a job begins."""

import os
import shlex
import sys
from functools import cache
from pathlib import Path

from expportrait.settings.commandline import check_command_line, check_paths
from expportrait.settings.config import SECTIONS
from expportrait.settings.files import overlay, read_config, read_yaml
from expportrait.settings.weights import check_given
from expportrait.errors import UserError


def checked(function, *args):
    """A user's mistake ends planning with one sentence."""
    try:
        return function(*args)
    except UserError as error:
        sys.exit(f"expportrait: {error}")


def layers():
    """The settings, later ones win: (where from, what is there)."""
    files = (*workflow.configfiles, *workflow.overwrite_configfiles)
    said = dict(workflow.config_settings.config)  # ``config`` itself has the files in it as well
    return [*((file, checked(read_yaml, Path(file))) for file in files), ("the command line", said)]


checked(check_command_line, sys.argv[1:])
OVERLAY = overlay(checked(read_config, *layers()).manifest)


if OVERLAY.exists():

    configfile: str(OVERLAY)


CONFIG = checked(read_config, *layers())
checked(check_paths, {"results": CONFIG.results} | CONFIG.paths(*SECTIONS))
checked(CONFIG.check_together)


# Jobs run this checkout, with the environment's Python whether it is activated or not.
os.environ.update(PATH=os.pathsep.join([os.path.dirname(sys.executable), os.getenv("PATH", "")]))
HERE = shlex.quote(str(Path(workflow.current_basedir).parent))
shell.prefix(f"set -euo pipefail; export PYTHONPATH={HERE}/src; . {HERE}/rules/logged.sh; ")


def settings(*sections):
    """The sections a stage reads as one canonical text: a change re-runs exactly the stages that read them."""
    return CONFIG.canonical(*sections)


def settings_files(*sections):
    """The files named in those sections, as far as they are there: Snakemake asks for the inputs of all rules, also of
    those that will not run (beyond --until, after --omit-from)."""
    return CONFIG.files(*sections)


def once_given(*sections):
    """The priority of a rule's jobs, which is that of all others. Snakemake asks for it once a plan is made, of jobs that
    will run and of no others, and before any runs: here ends a plan for which those sections lack a file."""

    @cache
    def missing():
        checked(check_given, CONFIG, sections)
        checked(CONFIG.require, *sections)

    def priority(wildcards):
        missing()
        return 0

    return priority


def memory(megabytes):
    """Of a job. A retry gets as much again, since memory is what most often kills one; it needs no more time, since it
    goes on where the job before it stopped."""
    return lambda wildcards, attempt: megabytes * attempt
