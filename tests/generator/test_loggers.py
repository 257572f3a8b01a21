"""What TensorBoard and Weights & Biases are told, by stand-ins that keep it, and the real ones where they are here."""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from expportrait.engine.log import read_log
from expportrait.engine.looks import read_looks
from expportrait.errors import UserError
from expportrait.generator import look as look_module
from expportrait.generator.loggers import NoLogger, make_logger

from .test_look import run_stage
from .test_several import folder

ROW = {"step": 3, "loss": 0.5, "seconds": 2.0, "waiting": 0.1, "other": 0.5}


class Writer:
    """As torch's SummaryWriter."""

    def __init__(self, log_dir, purge_step=None):
        self.folder, self.purge, self.scalars, self.images, self.closed = log_dir, purge_step, {}, {}, False

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def add_image(self, name, picture, step, dataformats):
        assert dataformats == "HWC" and picture.dtype == np.uint8
        self.images[name, step] = picture

    def flush(self): ...

    def close(self):
        self.closed = True


@pytest.fixture
def tensorboard(monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    made = []
    module.SummaryWriter = lambda *args, **options: made.append(Writer(*args, **options)) or made[-1]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return made


class Run:
    def __init__(self, **options):
        self.options, self.told, self.finished = options, [], False

    def log(self, values, step):
        self.told.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    module, runs = ModuleType("wandb"), []
    module.init = lambda **options: runs.append(Run(**options)) or runs[-1]
    module.Video = lambda path, format: ("film", path, format)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module, runs


def test_tensorboard_has_the_columns_of_log_and_looks(tensorboard, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(look_module, "SHARE", 1e9)
    model = run_stage(folder(prepared, tmp_path / "results"), log="tensorboard")
    (writer,) = tensorboard
    for row in read_log(model / "loss.csv"):
        for name in ("loss", "gradient", "floor", "tokens", "tflops", "memory", "other"):
            assert writer.scalars[f"train/{name}", row["step"]] == row[name]
        assert writer.scalars["train/waiting_share", row["step"]] == row["waiting"] / row["seconds"]
    for look in read_looks(model / "looks.csv"):
        for name in ("loss", "loss_0_25", "right", "wrong", "psnr"):
            assert writer.scalars[f"look/{name}", look["step"]] == look[name]
        assert writer.images["look/film", look["step"]].shape == (32, 128, 3)
    assert writer.closed and writer.purge == 0


def test_a_training_that_goes_on_replaces_what_came_after(tensorboard, tmp_path):
    logger = make_logger("tensorboard", tmp_path, "key", {})
    logger.step(ROW)
    assert tensorboard[0].purge == 3 and tensorboard[0].folder == str(tmp_path / "tensorboard")


def test_wandb_is_told_the_same_under_the_trainings_key(wandb, tmp_path):
    logger = make_logger("wandb", tmp_path / "work", "abc123", {"steps": 6})
    logger.step(ROW)
    look = {"step": 4, "of": "held-out", "clip": "b", "loss": 0.25, "film": "look-4.mp4", "panels": "truth"}
    logger.look(look, tmp_path)
    logger.close()
    (run,) = wandb[1]
    assert run.options["id"] == "generator-abc123" and run.options["config"] == {"steps": 6}
    assert run.options["resume"] == "allow" and run.finished
    assert run.told == [
        (3, {"train/loss": 0.5, "train/seconds": 2.0, "train/waiting": 0.1, "train/other": 0.5,
             "train/waiting_share": 0.05, "train/other_share": 0.25}),
        (4, {"look/loss": 0.25, "look/film": ("film", str(tmp_path / "look-4.mp4"), "mp4")}),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_package_that_is_missing_is_named_before_anything_is_trained(prepared, tmp_path, monkeypatch, kind):
    for name in ("torch.utils.tensorboard", "tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    results = folder(prepared, tmp_path / "results")
    with pytest.raises(UserError, match=f"generator.log: {kind} needs the package {kind}: run pip install {kind}"):
        run_stage(results, log=kind)
    assert not [*results.glob("generator/work-*/checkpoints/*")]


def test_wandb_that_does_not_start_ends_in_one_sentence(wandb, tmp_path):
    def init(**options):
        raise RuntimeError("no API key\nconfigured")

    wandb[0].init = init
    with pytest.raises(UserError, match=r"wandb does not start \(no API key configured\); run wandb login"):
        make_logger("wandb", tmp_path, "key", {})


def test_by_default_nobody_is_told(tmp_path):
    assert isinstance(make_logger("none", tmp_path, "key", {}), NoLogger) and not [*tmp_path.iterdir()]


@pytest.mark.skipif(not find_spec("tensorboard"), reason="tensorboard is not installed")
def test_the_real_tensorboard_takes_it(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = make_logger("tensorboard", tmp_path, "key", {})
    logger.step(ROW)
    logger.look({"step": 4, "of": "held-out", "clip": "b", "loss": 0.25}, tmp_path)
    logger.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in found.Scalars("train/loss")] == [0.5]
    assert [(event.step, event.value) for event in found.Scalars("look/loss")] == [(4, 0.25)]
