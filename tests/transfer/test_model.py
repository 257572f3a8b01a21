from dataclasses import replace

import pytest
import torch

from benchmarks import made_people as make
from expportrait.errors import UserError
from expportrait.transfer.data import Batch, FittedClips
from expportrait.transfer.model import Transfer, TransferConfig, face_rows, motion_of, vertex_features
from expportrait.transfer.train import losses, mean_free


@pytest.fixture
def model():
    torch.manual_seed(1)
    model = Transfer(TransferConfig(expression=5, features=9, encoder_width=16, code=8, vertex_width=16, scale=2e-4))
    torch.nn.init.normal_(model.vertex[-1].weight)
    torch.nn.init.normal_(model.vertex[-1].bias)
    return model


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_zero_expression_gives_exactly_zero_offsets(model, frames):
    neutral = motion_of(torch.zeros(frames, 5), torch.zeros(frames, 3))
    assert not model(neutral[None], torch.randn(1, 30, 9)).any()


def test_expression_and_jaw_each_move_vertices(model):
    still, features = torch.zeros(4, 3), torch.randn(1, 30, 9)
    assert model(motion_of(torch.ones(4, 5), still)[None], features).abs().max() > 1e-6
    assert model(motion_of(torch.zeros(4, 5), still + 0.2)[None], features).abs().max() > 1e-6


def test_a_frame_knows_its_neighbours_and_not_the_whole_clip(model):
    motion = torch.zeros(1, 60, 11)
    motion[:, 30] = 1
    seen = model(motion, torch.randn(1, 3, 9))[0].abs().amax((1, 2)) > 0
    assert seen[[29, 31]].all()
    assert not seen[[10, 50]].any()


def test_saved_model_comes_back_equal(model, tmp_path):
    model.save_pretrained(tmp_path)
    motion, features = torch.randn(1, 6, 11), torch.randn(1, 7, 9)
    again = Transfer.from_pretrained(tmp_path)
    assert again.config == model.config
    assert torch.equal(again(motion, features), model(motion, features))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_broken_folder_is_one_sentence(model, tmp_path, name):
    model.save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(UserError, match="does not hold a transfer module"):
        Transfer.from_pretrained(tmp_path)


def test_loss_does_not_see_a_clips_mean_offset(model):
    motion, frames, features = torch.randn(2, 10, 11), torch.randint(9, (2, 6)), torch.randn(2, 20, 9)
    batch = Batch(motion, frames, features, 1e-3 * torch.randn(2, 6, 20, 3), torch.ones(20, 1))
    moved = Batch(**vars(batch) | {"target": batch.target + 1e-3 * torch.randn(2, 1, 20, 3)})
    other = Batch(**vars(batch) | {"target": batch.target * torch.linspace(0, 2, 6)[:, None, None]})
    settings = make.config("").transfer
    total, same, different = (losses(model, b, settings)["total"].item() for b in (batch, moved, other))
    assert same == pytest.approx(total, rel=1e-4)
    assert different != pytest.approx(total, rel=1e-2)


def test_features_ignore_where_the_head_stands(head):
    neutral = head.dense.template
    features = vertex_features(head, neutral, face_rows(head))
    higher = vertex_features(head, neutral + torch.tensor([0, 0.1, 0]), face_rows(head))
    assert torch.allclose(higher, features, atol=1e-4)
    assert (vertex_features(head, 1.05 * neutral, face_rows(head)) - features).abs().max() > 0.01


def test_samples_are_the_stored_offsets(head, fitted):
    clips = FittedClips({name: fitted / "proxy" / f"{name}.zarr" for name in make.PEOPLE}, head)
    settings = make.config(fitted, transfer={"window": 10 * make.FRAMES, "vertices": 10**6, "clips": 4}).transfer
    batch = clips.batch(3, settings)
    assert batch.target.shape == (4, settings.frames, len(clips.rows), 3)
    for i in range(4):
        motion = batch.motion[i, : make.FRAMES]
        name = next(n for n in clips.names if torch.equal(clips.clips[n].motion, motion))
        stored = clips.offsets(name)[batch.frames[i]].sum((1, 2))  # summed: the vertices come in another order
        assert torch.allclose(batch.target[i].sum((1, 2)), stored, atol=1e-5)


def test_mean_free():
    assert mean_free(torch.randn(2, 5, 4, 3)).mean(1).abs().max() < 1e-6


def test_proxies_of_another_head_are_refused(head, fitted):
    with pytest.raises(UserError, match="fitted with another head file"):
        FittedClips({"ann-1": fitted / "proxy" / "ann-1.zarr"}, replace(head, sha256="0" * 64))
