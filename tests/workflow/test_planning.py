import inspect
from types import SimpleNamespace

import pytest
from snakemake import common, jobs, rules
from snakemake.settings.enums import Quietness

from expportrait.planning import lighten


@pytest.fixture
def described(monkeypatch):
    """Snakemake as it is installed, lightened; the jobs that it describes."""
    made = []
    monkeypatch.setattr(common, "get_function_params", common.get_function_params)
    monkeypatch.setattr(rules, "get_function_params", rules.get_function_params)
    assert callable(jobs.Job.log_info)
    monkeypatch.setattr(jobs.Job, "log_info", lambda job, **options: made.append(options))
    lighten()
    lighten()
    return made


@pytest.mark.parametrize(
    "dryrun, quiet, shown",
    [(True, {Quietness.HOST, Quietness.RULES}, False), (True, {Quietness.HOST}, True), (True, None, True),
     (False, {Quietness.HOST, Quietness.RULES}, True)],
)  # fmt: skip
def test_only_jobs_that_a_plan_does_not_show_are_not_described(described, dryrun, quiet, shown):
    workflow = SimpleNamespace(dryrun=dryrun, output_settings=SimpleNamespace(quiet=quiet))
    jobs.Job.log_info(SimpleNamespace(dag=SimpleNamespace(workflow=workflow)), indent=True)
    assert described == [{"indent": True}] * shown


def test_a_functions_parameters_are_looked_up_once(described, monkeypatch):
    asked = []
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda function: asked.append(function) or signature(function))

    def rows(wildcards, input):
        return wildcards, input

    for _ in range(3):
        assert common.get_input_function_aux_params(rows, {"input": 1, "threads": 2}) == {"input": 1}
        assert [*rules.get_function_params(rows)] == ["wildcards", "input"]
    assert asked == [rows]
