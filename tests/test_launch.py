"""How many processes a training is, and where: what its job says."""

import sys

import pytest

from expportrait.errors import UserError
from expportrait.launch import SAID, first_node, first_to_say, plan

WORDS = ["generator", "--processes", "16", "--results", "results"]
SLURM = {"SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "30001", "SLURM_JOB_NODELIST": "gpu[03-04]",
         "SLURM_JOB_CPUS_PER_NODE": "16(x2)"}  # fmt: skip


@pytest.mark.parametrize("environment", [{}, SLURM])
def test_one_gpu_or_none_is_this_process_as_is_one_of_several(environment):
    assert plan(0, WORDS, environment) == plan(1, WORDS, environment) == ("", [])
    assert plan(16, WORDS, environment | {"RANK": "3"}) == ("", [])


def test_several_gpus_of_one_node_are_as_many_processes():
    program, arguments = plan(4, WORDS, SLURM | {"SLURM_JOB_NUM_NODES": "1"})
    assert program == "torchrun" and arguments[-len(WORDS) - 2 :] == ["-m", "expportrait", *WORDS]
    assert {"--standalone", "--nnodes=1", "--nproc-per-node=4"} <= {*arguments}


def test_on_several_nodes_one_launcher_each_meets_the_others_on_the_first():
    program, arguments = plan(16, WORDS, SLURM)
    assert program == "srun" and {"--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=16"} <= {*arguments}
    assert arguments[-len(WORDS) - 3 :] == [sys.executable, "-m", "expportrait", *WORDS]
    assert "--gpus-per-node=8" not in arguments
    assert "--gpus-per-node=8" in plan(16, WORDS, SLURM | {"SLURM_GPUS_ON_NODE": "8"})[1]
    program, arguments = plan(16, WORDS, SLURM | {"EXPPORTRAIT_NODE": "1"})
    assert program == "torchrun"
    assert {"--nnodes=2", "--nproc-per-node=8", "--rdzv-endpoint=gpu03:30001", "--rdzv-id=30001"} <= {*arguments}


def test_gpus_that_nodes_cannot_share_evenly_are_refused():
    with pytest.raises(UserError, match="3 processes do not divide among the job's 2 nodes"):
        plan(3, WORDS, SLURM)


@pytest.mark.parametrize(
    ("names", "first"),
    [("gpu7", "gpu7"), ("gpu7,big1", "gpu7"), ("gpu[03-05,08],big1", "gpu03"), ("a-b[8,11]", "a-b8"), ("n[1]", "n1")],
)
def test_the_first_node_of_slurms_list(names, first):
    assert first_node(names) == first


def test_of_several_processes_one_says_it(tmp_path, monkeypatch):
    monkeypatch.delenv(SAID, raising=False)
    assert first_to_say("x") and first_to_say("x")
    monkeypatch.setenv(SAID, str(tmp_path))
    assert [first_to_say(text) for text in ("x", "x", "y")] == [True, False, True]
    monkeypatch.setenv(SAID, str(tmp_path / "gone"))
    assert first_to_say("x")
