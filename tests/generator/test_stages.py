import json
import re
from dataclasses import replace
from weakref import ref

import av
import cv2
import numpy as np
import pytest
from diffusers import WanTransformer3DModel

from expportrait.engine.heartbeat import read_heartbeat
from expportrait.engine.loop import run
from expportrait.engine.record import state
from expportrait.errors import UserError
from expportrait.generator.codec import LinearCodec, resize, to_tensor
from expportrait.manifest.clips import Row
from expportrait.stages import generator, latents, reenact, with_code
from expportrait.store import Store, StoreWriter
from expportrait.video.mark import moved, read_mark
from tests.video import talk

from . import make


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Latents, a generator of six steps, and one pair's video."""
    results = tmp_path_factory.mktemp("results")
    config = make.config(results)
    rows = make.latent_stores(results, config)
    generator.run(rows, config, "cpu")
    index = run(with_code("reenact"), [make.drive_store(results, "a", "b")], config)
    assert index["a__b"].status == "ok", index["a__b"].why
    return results


def test_latents_are_those_of_the_clips_windows(done):
    store = Store(done / "latents" / "a.zarr")
    assert store.attrs["starts"] == [0, 4, 7] and store.attrs["references"] == [0, 11]
    frames = resize(Store(done / "crop" / "a.zarr")["frames"], 32)
    codec = LinearCodec(16, 4, 4)
    for i, start in enumerate(store.attrs["starts"]):
        expected = codec.encode(to_tensor(frames[start : start + 5]))[0].numpy()
        np.testing.assert_allclose(store["windows"][i], expected, atol=1 / 128 + 1e-3)
    assert min(map(cv2.PSNR, store["reference_images"], frames[[0, 11]])) >= 45
    back = make.to_frames(codec.decode(codec.encode(to_tensor(frames[:1]))))
    assert np.abs(back.astype(int) - frames[0]).mean() < 12


def test_of_a_long_clip_one_window_is_held(tmp_path, monkeypatch):
    windows, array = [], StoreWriter.array

    def watched(data):
        for window in data:
            assert all(earlier() is None for earlier in windows[:-1])  # the last one is still the loop's
            windows.append(ref(window))
            yield window

    monkeypatch.setattr(StoreWriter, "array", lambda self, name, data, **more: array(
        self, name, watched(data) if self.path.parent.name == "latents" else data, **more))  # fmt: skip
    make.latent_stores(tmp_path, make.config(tmp_path))
    stores = [Store(tmp_path / "latents" / f"{clip}.zarr") for clip in "ab"]
    assert len(windows) == sum(len(store[name]) for store in stores for name in ("windows", "reference_latents"))


def test_short_clips_are_told_so(tmp_path):
    rows = make.clip_stores(tmp_path, frames=4)
    index = run(with_code("latents"), rows, make.config(tmp_path))
    assert {(outcome.status, outcome.why) for outcome in index.values()} == {
        ("failed", "the clip has 4 frames, fewer than a window (latents.window: 5)")
    }


def test_what_no_training_needs_is_skipped_and_not_failed(tmp_path, monkeypatch):
    def none_loaded(*_):
        raise AssertionError("a codec was loaded for nothing")

    monkeypatch.setattr(latents, "load_codec", none_loaded)
    short = [row._replace(split="test") for row in make.clip_stores(tmp_path, frames=4)]
    portrait = make.clip_stores(tmp_path / "portraits", frames=1)
    stage = replace(with_code("latents"), load=latents.load)
    for rows, results, why in (
        (short, tmp_path, r"4 frames, fewer than a window \(latents.window: 5\), and only the split train"),
        (portrait, tmp_path / "portraits", "single picture"),
    ):
        config = make.config(results)
        for _ in range(2):
            for clip, outcome in run(stage, rows, config).items():
                assert outcome.status == "skipped" and re.match(f"not needed: .*{why}", outcome.why), clip
                assert state(results / "latents", clip) == outcome
        # what earlier versions recorded of the very same
        record = results / "latents" / "a.failed.json"
        record.write_text(json.dumps({"status": "failed", "key": outcome.key, "why": "too short", "retry": False}))
        assert run(stage, rows[:1], config)["a"].status == "skipped"


def test_the_generator_is_saved_for_plain_diffusers_with_its_log(done):
    model = done / "generator" / "model"
    assert WanTransformer3DModel.from_pretrained(model / "transformer").config.in_channels == 16 + 32 + 32
    about = json.loads((model / "generator.json").read_text())
    assert about["codec"] == LinearCodec(16, 4, 4).describe() and about["window"] == 5 and about["size"] == 32
    assert set(about["control_sensitivity"]) == {"right", "wrong", "difference"}
    assert len((model / "loss.csv").read_text().splitlines()) == 1 + 6
    assert set(json.loads((done / "generator" / "index.json").read_text())["clips"]) == {"a", "b"}
    beat = read_heartbeat(done / "logs" / "generator.progress.json")
    assert (beat["done"], beat["total"], beat["computed"], beat["ended"]) == (6, 6, 6, True)


def test_nothing_is_trained_twice_and_settings_that_matter_train_anew(done, capsys):
    rows, model = [Row(clip, "test", clip, done / clip) for clip in "ab"], done / "generator" / "model"
    before = (model / "generator.json").stat().st_mtime_ns
    generator.run(rows, make.config(done), "cpu")
    generator.run(rows, make.config(done, generator={"keep": 7}), "cpu")
    assert (model / "generator.json").stat().st_mtime_ns == before
    assert "up to date" in capsys.readouterr().err


def test_another_seed_or_clip_list_makes_another_generator(done, tmp_path):
    rows = [Row(clip, "test", clip, done / clip) for clip in "ab"]
    keys = []
    for n, (chosen, changes) in enumerate([(rows, {}), (rows, {"seed": 1}), (rows[:1], {})]):
        results = tmp_path / str(n)
        results.mkdir()
        for stage in ("latents", "control"):
            (results / stage).symlink_to(done / stage)
        generator.run(chosen, make.config(results, generator={"steps": 1} | changes), "cpu")
        keys.append(json.loads((results / "generator" / "index.json").read_text())["key"])
    assert len(set(keys)) == 3


def test_only_clips_of_the_split_train_are_used(done):
    rows = [Row(clip, "test", clip, done / clip, split="test") for clip in "ab"]
    with pytest.raises(UserError, match="no clip of the split train"):
        generator.run(rows, make.config(done), "cpu")


def decode(path):
    with av.open(str(path)) as video:
        return np.array([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def test_a_pair_becomes_a_store_and_two_videos(done):
    store = Store(done / "reenact" / "a__b.zarr")
    made = store["frames"]
    assert made.shape == (12, 32, 32, 3) and store.attrs["target"] == "a" and store.attrs["driver"] == "b"
    video = decode(done / "reenact" / "a__b.mp4")
    assert video.shape == (12, 256, 256, 3)
    assert np.abs(video.reshape(12, 32, 8, 32, 8, 3).mean((2, 4)) - made).mean() < 6
    side = decode(done / "reenact" / "a__b.side.mp4")
    assert side.shape == (12, 256, 1024, 3)
    reference, driver, control, result = np.split(side.astype(int), 4, 2)
    crops = {clip: Store(done / "crop" / f"{clip}.zarr")["frames"] for clip in "ab"}
    for panel, expected in ((reference, crops["a"][[0] * 12]), (driver, crops["b"]), (result, resize(made, 64))):
        assert np.abs(panel.reshape(12, 64, 4, 64, 4, 3).mean((2, 4)) - expected).mean() < 12
    corner = control[:, :20, :20].mean((0, 1, 2))
    assert corner.min() > 240  # white where there is no head


def test_a_pair_is_remade_only_when_needed(done):
    config, row = make.config(done), make.drive_store(done, "a", "b")
    before = (done / "reenact" / "a__b.mp4").stat().st_mtime_ns
    assert run(with_code("reenact"), [row], config)["a__b"].status == "ok"
    assert (done / "reenact" / "a__b.mp4").stat().st_mtime_ns == before
    assert run(with_code("reenact"), [row], make.config(done, reenact={"seed": 5}))["a__b"].status == "ok"
    assert (done / "reenact" / "a__b.mp4").stat().st_mtime_ns > before


def test_videos_have_the_drivers_sound_and_are_marked(done, tmp_path):
    row = make.drive_store(done, "a", "b")._replace(place=talk.source(tmp_path / "b.mp4", talk.even(25, 20), 7))
    assert run(with_code("reenact"), [row], make.config(done, reenact={"seed": 9}))["a__b"].status == "ok"
    for ending, alone in ((".mp4", True), (".side.mp4", False)):
        video = done / "reenact" / f"a__b{ending}"
        assert talk.look(video).beep == pytest.approx(7 / 25, abs=0.01)
        assert read_mark(video) == moved("a", "b", generated=True, alone=alone)


def test_codec_and_model_that_do_not_match_are_refused(done):
    row = make.drive_store(done, "b", "a")
    with pytest.raises(UserError, match=r"trained on latents of .*'channels': 16.*'channels': 8"):
        run(with_code("reenact"), [row], make.config(done, latents={"channels": 8}))
    with pytest.raises(UserError, match=r"reenact.overlap is 5, but the generator's window is 5"):
        run(with_code("reenact"), [row], make.config(done, reenact={"overlap": 5}))


def test_a_pair_without_generator_is_skipped(tmp_path):
    make.clip_stores(tmp_path)
    outcome = run(with_code("reenact"), [make.drive_store(tmp_path, "a", "b")], make.config(tmp_path))["a__b"]
    assert outcome.status == "skipped" and "expportrait generator" in outcome.why


def test_of_a_long_pair_one_block_is_held(done, monkeypatch):
    """Store and videos grow block by block: of 20 minutes, all frames together would be 24 GB."""
    blocks = []

    def generate(model, codec, sampler, frames, *rest):
        for first in range(0, frames, 3):
            assert all(block() is None for block in blocks[:-1])  # the last one is still the loop's
            made = np.full((min(3, frames - first), 32, 32, 3), 20 * first, np.uint8)
            blocks.append(ref(made))
            yield made

    row, config = make.drive_store(done, "a", "b"), make.config(done, reenact={"seed": 6})
    monkeypatch.setattr(reenact, "generate", generate)
    assert run(with_code("reenact"), [row], config)["a__b"].why == ""
    frames = Store(done / "reenact" / "a__b.zarr")["frames"]
    assert len(blocks) > 2 and (frames == (20 * (np.arange(len(frames)) // 3 * 3))[:, None, None, None]).all()
    for name, size in (("a__b.mp4", (256, 256)), ("a__b.side.mp4", (256, 1024))):
        video = decode(done / "reenact" / name)
        assert video.shape == (len(frames), *size, 3)
        assert np.abs(video[:, :, -256:].mean((1, 2, 3)) - frames[:, 0, 0, 0]).max() < 3
