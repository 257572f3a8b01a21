"""What is seen while the generator trains changes nothing, takes little, and is what it says."""

import json
import shutil

import numpy as np
import pytest
import torch
from benchmarks.pretend_gpu import pretend_gpu
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from skimage.data import astronaut

from expportrait.engine.average import Average
from expportrait.engine.checkpoints import Checkpoints, trainable
from expportrait.engine.log import read_log
from expportrait.engine.looks import NOISE, read_looks, write_looks
from expportrait.errors import UserError
from expportrait.estimators.blendshapes import FaceLandmarker
from expportrait.estimators.sface import SFace
from expportrait.generator import flop
from expportrait.generator import look as look_module
from expportrait.generator.codec import LinearCodec, load_codec
from expportrait.generator.look import SHARE, Looks, Seen, losses
from expportrait.generator.lookfilm import FRAMES, LookFilm, film_windows
from expportrait.generator.train import flow_losses
from expportrait.manifest.clips import Row
from expportrait.metrics.pair import measure
from expportrait.metrics.shipped_lpips import ShippedLpips
from expportrait.metrics.tools import Tools
from expportrait.stages import generator as stage
from expportrait.video.mark import moved, read_mark

from . import make
from .several import together
from .test_several import folder, work
from .test_stages import decode
from .test_train import fresh, generator

OFTEN = {"steps": 6, "look_every": 2, "look_steps": 2}
FIGURES = ("loss", *NOISE, "right", "wrong", "psnr")


@pytest.fixture
def unhurried(monkeypatch):
    """Looks may take any time."""
    monkeypatch.setattr(look_module, "SHARE", 1e9)


def run_stage(results, held_out=True, device="cpu", **settings):
    rows = [Row(clip, "test", clip, results / clip, person=clip) for clip in make.CLIPS]
    rows[1] = rows[1]._replace(split="val" if held_out else "train")
    stage.run(rows, make.config(results, generator=OFTEN | settings), device)
    return results / "generator" / "model"


def figures(home):
    return {look["step"]: [look[name] for name in FIGURES] for look in read_looks(home / "looks.csv")}


def weights(model):
    files = "transformer/diffusion_pytorch_model.safetensors", "encoders.safetensors"
    return [(model / file).read_bytes() for file in files]


@pytest.fixture(scope="module")
def seen(prepared, tmp_path_factory):
    """A model that was looked at three times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look_module, "SHARE", 1e9)
        return run_stage(folder(prepared, tmp_path_factory.mktemp("seen") / "results"))


def test_a_look_changes_neither_losses_nor_weights(seen, prepared, tmp_path):
    unseen = run_stage(folder(prepared, tmp_path / "results"), look_every=0)
    assert weights(seen) == weights(unseen)
    logs = [[(row["step"], row["loss"], row["gradient"]) for row in read_log(home / "loss.csv")]
            for home in (seen, unseen)]  # fmt: skip
    assert logs[0] == logs[1] and len(logs[0]) == 6
    assert not [*unseen.glob("look*")]
    keys = [json.loads((home / "generator.json").read_text())["key"] for home in (seen, unseen)]
    assert keys[0] == keys[1]


def test_a_look_is_of_held_out_clips_and_of_the_averaged_weights(seen, prepared):
    looks = read_looks(seen / "looks.csv")
    assert [(look["step"], look["of"], look["clip"]) for look in looks] == [(n, "held-out", "b") for n in (2, 4, 6)]
    model = fresh()
    files = seen / "transformer" / "diffusion_pytorch_model.safetensors", seen / "encoders.safetensors"
    values = {f"transformer.{name}": value for name, value in load_file(files[0]).items()} | load_file(files[1])
    model.load_state_dict(values, strict=False)
    seen_windows = stage._windows(make.config(prepared), ["b"])
    again = losses(model, seen_windows, generator(**OFTEN))
    assert {name: looks[-1][name] for name in again} == pytest.approx(again, rel=1e-5)


def test_killed_it_has_each_look_once_and_goes_on_as_if_it_had_not_been(seen, prepared, tmp_path, unhurried):
    class Stop(Exception):
        pass

    def save(self, step, *rest, original=Checkpoints.save):
        if step == 6:
            raise Stop
        original(self, step, *rest)

    results = folder(prepared, tmp_path / "results")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Checkpoints, "save", save)
        run_stage(results)
    shutil.rmtree(work(results) / "checkpoints" / "step-4")  # so that it had looked at what it does again
    first = (work(results) / "look-4.mp4").stat().st_mtime_ns
    model = run_stage(results)
    assert [look["step"] for look in read_looks(model / "looks.csv")] == [2, 4, 6]
    assert (work(results) / "look-4.mp4").stat().st_mtime_ns == first
    assert figures(model) == figures(seen) and weights(model) == weights(seen)


def test_without_held_out_clips_it_says_what_it_looks_at(prepared, tmp_path, unhurried, capsys):
    model = run_stage(folder(prepared, tmp_path / "results"), held_out=False, steps=2)
    assert [look["of"] for look in read_looks(model / "looks.csv")] == ["training"]
    assert "looks show windows that it is trained on" in capsys.readouterr().err


def test_val_comes_before_test_and_new_people_before_known_ones(prepared):
    def row(clip, person, split):
        return Row(clip, "test", clip, prepared / clip, person=person, split=split)

    stores = {"b": "ann", "c": "bea", "d": "bea", "e": "cem", "f": "cem", "g": "dan"}
    rows = [row("a", "ann", "train"), row("b", "ann", "val"), row("c", "bea", "val"), row("d", "bea", "val"),
            row("e", "cem", "test"), row("f", "cem", "train"), row("g", "dan", "test")]  # fmt: skip
    chosen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_windows", lambda config, clips: chosen.extend(clips))
        patch.setattr(stage, "Store", lambda path: type("Store", (), {"attrs": {"starts": [0], "fps": 30}}))
        seen = stage._looked_at(rows, make.config(prepared), [*stores, "a"], ["a", "f"])
    assert chosen == ["c", "b", "g", "e"] and seen.fps == 30


def test_two_processes_see_what_one_sees(seen, prepared, tmp_path):
    copied, parts = (folder(prepared, tmp_path / name) for name in ("copied", "parts"))
    asked = {"micro": 1, "batch": 2, "share": 1e9, "held_out": "b", "drop_reference": 0, "drop_control": 0,
             "drop_both": 0} | OFTEN  # fmt: skip
    done = together(2, asked | {"results": copied}, asked | {"results": parts, "sharding": "shard"})
    assert [status for status, _ in done] == [0, 0], done
    for results in (copied, parts):
        found, expected = (figures(home) for home in (results / "generator" / "model", seen))
        assert [*found] == [*expected] == [2, 4, 6]
        for step in expected:
            assert found[step] == pytest.approx(expected[step], rel=1e-4), (results.name, step)


def test_on_a_gpu_it_sees_what_it_sees_on_the_cpu(seen, prepared, tmp_path, unhurried, monkeypatch):
    monkeypatch.setattr(flop, "measured", lambda device, kind: (1e11, 1024))
    with pretend_gpu():
        model = run_stage(folder(prepared, tmp_path / "results"), device="cuda", steps=4)
    found, expected = figures(model), figures(seen)
    assert [*found] == [2, 4]
    for step, values in found.items():
        assert values == pytest.approx(expected[step], rel=1e-3)


@given(st.lists(st.tuples(st.floats(0.01, 20), st.floats(0.001, 2)), min_size=1, max_size=60), st.integers(1, 8))
def test_looks_keep_to_their_share_of_the_time(steps, every):
    """Of any course of a training, but for the first look, whose cost can only be guessed."""
    settings, rows = generator(look_every=every, batch=4), []
    looks = Looks.__new__(Looks)
    looks.settings, looks.looks, looks._processes = settings, [], 1
    looks._passes, looks._next = (lambda: 1), every
    for n, (seconds, cost) in enumerate(steps, 1):
        rows.append({"step": n - 1, "seconds": seconds})
        if n >= looks._next:
            if wait := looks._wait(rows):
                looks._next = n + wait
                continue
            if spent := [look["seconds"] for look in looks.looks]:  # and the next one may cost what the last one did
                assert sum(spent) + spent[-1] <= SHARE * sum(row["seconds"] for row in rows) * (1 + 1e-9)
            looks.looks.append({"step": n, "seconds": cost})
            looks._next = looks._due(n)


def test_a_look_that_is_put_off_is_told_of_once_and_comes(prepared, tmp_path, monkeypatch, capsys):
    windows = stage._windows(make.config(prepared), ["b"])
    looks = Looks(generator(look_every=2), Seen(windows, "held-out", [0, 4, 7], 25), tmp_path, LinearCodec,
                  lambda look, home: None)  # fmt: skip
    monkeypatch.setattr(Looks, "_look", lambda looks, model, step: {"step": step})
    model, rows, at = fresh(), [], []
    for step in range(1, 520):
        rows.append({"step": step - 1, "seconds": 0.01})
        before = len(looks.looks)
        looks.after(model, None, step, rows)
        if len(looks.looks) > before:
            looks.looks[-1]["seconds"] = 0.05  # of its cost: a hundred steps' share
            at.append(step)
    assert 2 < at[0] < 200 and at[1:] == pytest.approx([200, 300, 400, 500], abs=2), at
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 6 and all("next look is put off by some" in line for line in told)


def test_the_loss_is_the_mean_over_the_noise_that_training_draws(prepared):
    settings, windows = generator(shift=3.0), stage._windows(make.config(prepared), ["b"])
    at = []

    def spied(model, batch, *rest):
        at.append(float(batch.sigma))
        return flow_losses(model, batch, *rest)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(look_module, "flow_losses", spied)
        found, again = (losses(fresh(), windows, settings) for _ in range(2))
    assert found == again
    assert at[:4] == pytest.approx([0.1364, 0.3889, 0.6429, 0.9], abs=1e-3)
    assert found["loss"] == pytest.approx(sum(w * found[name] for w, name in zip((0.1, 0.15, 0.25, 0.5), NOISE,
                                                                                 strict=True)))  # fmt: skip


def test_films_show_portrait_control_truth_and_result_and_are_marked(seen):
    (look, *_), film = read_looks(seen / "looks.csv"), seen / "look-2.mp4"
    assert look["film"] == film.name and look["panels"] == "portrait control truth generated" and look["fps"] == 25
    assert look["frames"] == 12 and decode(film).shape == (12, 32, 128, 3)
    assert read_mark(film) == moved("b", "b", generated=True, alone=False)
    assert (seen / "look-2.jpg").stat().st_size > 500


def test_the_films_panels_and_figures_are_what_they_are_called(windows, tmp_path):
    codec, index = load_codec(make.config(tmp_path).latents), windows.table.index(("b", 0))
    batch = windows.batch([index], torch.ones(1), [torch.Generator()], [0], torch.ones(1, 2))
    grey = torch.zeros_like(batch.latents)
    look = LookFilm(25, lambda: codec, tmp_path).write(7, [(batch, grey, 0), (batch, grey, 2)])
    assert look["frames"] == 5 + 3 and (look["width"], look["height"]) == (4 * 32, 32)
    truth = ((codec.decode(batch.latents)[0] + 1) * 127.5).round()
    error = ((truth - 128).abs() / 255).square().mean((0, 2, 3))
    expected = -10 * torch.log10(torch.cat([error, error[2:]])).mean()
    assert look["psnr"] == pytest.approx(float(expected), abs=1e-3) and "aed" not in look
    portrait, control, shown, made = np.split(decode(tmp_path / "look-7.mp4").astype(float), 4, 2)
    assert np.abs(shown[:5] - truth.permute(1, 2, 3, 0).numpy()).mean() < 12 and np.abs(made - 128).mean() < 4
    assert np.abs(portrait - portrait[:1]).mean() < 6 and control[:, :3, :3].min() > 230  # white where no head is
    assert np.abs(portrait[0] - (batch.image[0].permute(1, 2, 0).numpy() + 1) * 127.5).mean() < 12


def test_faces_are_measured_as_the_evaluation_does(tmp_path):
    face = np.stack([astronaut()[:256, 100:356]] * 2)
    film = LookFilm(25, LinearCodec, tmp_path)
    assert film._measured(face, face) == pytest.approx({"aed": 0, "csim": 1}, abs=1e-6)
    other = film._measured(np.roll(face, 3, 1), face)
    tools = Tools(FaceLandmarker(), None, ShippedLpips("cpu"), SFace())
    scores = measure(tools, np.roll(face, 3, 1), face, face[0], own=True)["generated"].fields()
    assert other == pytest.approx({name: scores[name] for name in ("psnr", "aed", "csim")}, abs=1e-5)
    assert 0.8 < other["csim"] <= 1 and 0 < other["aed"] < 0.05 and 10 < other["psnr"] < 40
    assert {*film._measured(np.zeros_like(face), face)} == {"psnr"}


@pytest.mark.parametrize("error", [MemoryError("CUDA out of memory"), UserError("there is no vae")])
def test_a_film_that_cannot_be_made_costs_only_the_film(prepared, tmp_path, unhurried, monkeypatch, capsys, error):
    def broken(settings):
        raise error

    monkeypatch.setattr(stage, "load_codec", broken)
    model = run_stage(folder(prepared, tmp_path / "results"), steps=2)
    (look,) = read_looks(model / "looks.csv")
    assert "film" not in look and look["loss"] > 0
    assert f"the look at step 2 has no film: {error}" in capsys.readouterr().err


def test_a_mistake_of_ours_in_a_film_is_not_hidden(prepared, tmp_path, unhurried, monkeypatch):
    monkeypatch.setattr(LookFilm, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_stage(folder(prepared, tmp_path / "results"), steps=2)


def test_another_codec_than_the_latents_makes_no_film(prepared, tmp_path, unhurried, monkeypatch, capsys):
    codec = load_codec(make.config(prepared, latents={"channels": 8}).latents)
    monkeypatch.setattr(stage, "load_codec", lambda settings: codec)
    run_stage(folder(prepared, tmp_path / "results"), steps=2)
    assert "has no film: the latents are of" in capsys.readouterr().err


@given(st.integers(1, 200), st.integers(5, 81), st.integers(1, 90))
def test_a_film_is_of_windows_without_gaps(count, length, stride):
    starts = [stride * k for k in range(count)]
    shown = []
    for index, cut in film_windows(starts, length):
        shown += range(starts[index] + cut, starts[index] + length)
    assert shown == [*range(len(shown))]
    most = starts[-1] + length if stride <= length else length
    assert min(FRAMES, most) <= len(shown) < FRAMES + length


def test_inside_the_weights_are_the_average_and_then_what_they_were():
    model = fresh()
    average = Average(trainable(model), 0.5)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 1e-3)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    kept = {name: value.clone() for name, value in average.values.items()}
    with pytest.raises(UserError), average.instead():
        assert all(torch.equal(value, kept[name]) for name, value in model.named_parameters())
        raise UserError("within")
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
    assert all(torch.equal(value, kept[name]) for name, value in average.values.items())


def test_looks_of_another_version_and_cut_lines_are_read(tmp_path):
    file = tmp_path / "looks.csv"
    old, new = {"step": 2, "of": "held-out", "clip": "b", "loss": 0.5}, {"step": 4, "of": "held-out", "clip": "b",
                                                                         "loss": 0.25, "aed": 0.125}  # fmt: skip
    write_looks(file, [old, new])
    assert read_looks(file) == [old, new]
    file.write_text(file.read_text() + "6,held-out")
    assert read_looks(file) == [old, new] and read_looks(tmp_path / "none.csv") == []
