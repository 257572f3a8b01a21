"""Snakemake's plans of thousands of jobs, faster: what it works out again for each job, and what nobody sees.

Neither changes what is planned or printed. Where another version of Snakemake lacks one of the two, that is left alone.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from snakemake import common, jobs, rules
from snakemake.settings.enums import Quietness


def lighten() -> None:
    """Called by the Snakefile, once for each time that it is read."""
    parameters = getattr(common, "get_function_params", None)
    if parameters and not hasattr(parameters, "cache_info"):
        # of each function in a rule, looked up some fifteen times a job: a tenth of a plan
        common.get_function_params = rules.get_function_params = cache(parameters)
    describe = getattr(jobs.Job, "log_info", None)
    if describe and not hasattr(describe, "__wrapped__"):
        jobs.Job.log_info = _where_shown(describe)


def _where_shown(describe: Callable[..., None]) -> Callable[..., None]:
    """A dry run describes each job, command and all, before the description is dropped: a fifth of a plan."""

    @wraps(describe)
    def described(job: Any, *args: Any, **kwargs: Any) -> None:
        workflow = job.dag.workflow
        if not (workflow.dryrun and Quietness.RULES in (workflow.output_settings.quiet or ())):
            describe(job, *args, **kwargs)

    return described
