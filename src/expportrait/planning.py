"""Snakemake's plans of thousands of jobs, faster: what it works out again for each job, and what nobody sees.

None of it changes what is planned or printed. What another version of Snakemake lacks is left alone.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from snakemake import common, jobs, rules
from snakemake.scheduling.job_scheduler import JobScheduler
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
    free = getattr(JobScheduler, "_free_resources", None)
    if free and not hasattr(free, "__wrapped__"):
        JobScheduler._free_resources = _where_taken(free)
    environment = getattr(jobs.Job, "conda_env_spec", None)
    if isinstance(environment, property) and not hasattr(environment.fget, "__wrapped__"):
        jobs.Job.conda_env_spec = property(_without_params(environment.fget))


def _where_shown(describe: Callable[..., None]) -> Callable[..., None]:
    """A dry run describes each job, command and all, before the description is dropped: a fifth of a plan."""

    @wraps(describe)
    def described(job: Any, *args: Any, **kwargs: Any) -> None:
        workflow = job.dag.workflow
        if not (workflow.dryrun and Quietness.RULES in (workflow.output_settings.quiet or ())):
            describe(job, *args, **kwargs)

    return described


def _where_taken(free: Callable[..., None]) -> Callable[..., None]:
    """A dry run takes no resources, and yet gives those of each job back, worked out for that alone: a tenth of a plan.
    One job a rule stays, so that it still finds expressions in a profile that are wrong."""
    seen = set()

    @wraps(free)
    def freed(scheduler: Any, job: Any) -> None:
        if scheduler.dryrun and job.rule in seen:
            return
        seen.add(job.rule)
        free(scheduler, job)

    return freed


def _without_params(environment: Callable[..., Any]) -> Callable[..., Any]:
    """The conda environment of a rule is worked out once, but the parameters of each job for it before that, whoever
    asks for them later: a twentieth of a plan."""

    @wraps(environment)
    def known(job: Any) -> Any:
        expanded = getattr(job.rule, "_expanded_conda_env", None)  # as Snakemake keeps it where it has no wildcards
        return expanded if hasattr(expanded, "apply_wildcards") else environment(job)

    return known
