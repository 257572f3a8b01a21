import json

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from diffusers import AutoencoderKLWan
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.errors import UserError
from expportrait.generator.codec import (
    LinearCodec,
    WanCodec,
    check_grid,
    load_codec,
    reference_frames,
    to_tensor,
    window_starts,
)
from expportrait.settings.config import Latents
from expportrait.settings.files import read_config
from expportrait.store.videocodec import FRAMES

from . import make


@pytest.fixture(scope="module")
def panning():
    """A portrait that slides by, (9, 64, 64, 3) u8."""
    picture = cv2.resize(skimage.data.astronaut(), (128, 128), interpolation=cv2.INTER_AREA)
    return np.stack([picture[:64, 20 + t : 84 + t] for t in range(9)])


@given(st.integers(1, 400), st.integers(1, 40))
def test_references_are_spread_over_the_clip(frames, wanted):
    chosen = reference_frames(frames, wanted)
    assert chosen[0] == 0 and chosen == sorted(set(chosen)) and chosen[-1] < frames
    assert len(chosen) == min(wanted, frames)
    gaps = np.diff([*chosen, frames])
    assert gaps.max() <= 2 * frames / len(chosen) + FRAMES


def test_what_a_training_reads_begins_with_a_chunk_at_the_shipped_settings():
    """Or each sample unpacks frames that it does not need."""
    s = Latents()
    *starts, last = window_starts(250, s.window, s.stride)
    assert last == 250 - s.window
    assert all(first % FRAMES == 0 for first in [*starts, *reference_frames(250, s.references)])


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-9))


@pytest.mark.parametrize(("space", "channels", "expected"), [(4, 192, 60), (4, 32, 26), (8, 768, 60), (8, 96, 25)])
def test_linear_codec_gives_the_frames_back(panning, space, channels, expected):
    codec = LinearCodec(channels, 4, space)
    latents = codec.encode(to_tensor(panning))
    assert latents.shape == (1, channels, 3, 64 // space, 64 // space)
    back = make.to_frames(codec.decode(latents))
    assert back.shape == panning.shape
    assert psnr(back, panning) > expected


def test_linear_latents_have_about_unit_variance_where_they_are_strong(panning):
    strongest = LinearCodec(32, 4, 4).encode(to_tensor(panning))[0, 0]
    assert 0.5 < strongest.std() < 2


def test_a_latent_sees_its_own_frames_only(panning):
    codec = LinearCodec(32, 4, 4)
    changed = panning.copy()
    changed[5:] = 0
    before, after = codec.encode(to_tensor(panning)), codec.encode(to_tensor(changed))
    assert torch.equal(before[:, :, :2], after[:, :, :2]) and not torch.equal(before[:, :, 2], after[:, :, 2])
    assert torch.equal(codec.encode(to_tensor(panning[:1])), before[:, :, :1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(1, 80), st.integers(1, 80))
def test_grids_that_do_not_fit_are_refused_in_one_sentence(frames, height, width):
    fits = frames % 4 == 1 and height % 16 == 0 and width % 16 == 0
    try:
        check_grid(frames, height, width, 4, 8)
    except UserError as error:
        assert not fits and "\n" not in str(error) and ("4k+1" in str(error) or "multiples of 16" in str(error))
    else:
        assert fits


def test_wrong_windows_and_sizes_are_refused_before_any_work():
    for wrong, why in (
        ({"window": 10}, "4k.1 frames, such as 9 or 13"),
        ({"size": 72}, "multiples of 16 px, such as 64"),
    ):
        with pytest.raises(UserError, match=why):
            read_config(("config.yaml", {"latents": {"codec": "linear"} | wrong}))
    read_config(("config.yaml", {"latents": {"codec": "linear", "space": 4, "size": 72}}))
    with pytest.raises(UserError, match=r"latents.channels is 200.*4x4x4.*1 to 192"):
        load_codec(Latents(codec="linear", channels=200, space=4))
    with pytest.raises(UserError, match=r"latents.vae is empty"):
        load_codec(Latents())


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """Wan's VAE class with few random weights, saved as diffusers does."""
    torch.manual_seed(0)
    model = AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.0, 2.0, 0.7],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("vae")
    model.save_pretrained(folder)
    return folder / "diffusion_pytorch_model.safetensors"


def test_wan_codec_is_the_stock_vae_normalised(vae):
    codec = WanCodec(vae)
    assert (codec.channels, codec.time, codec.space) == (4, 4, 8)
    stock = AutoencoderKLWan.from_pretrained(vae.parent)
    frames = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        raw = stock.encode(frames).latent_dist.mode()
        decoded = stock.decode(raw).sample
    latents = codec.encode(frames)
    mean, std = (torch.tensor(stock.config[name]).view(1, 4, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    torch.testing.assert_close(latents, (raw - mean) / std)
    torch.testing.assert_close(codec.decode(latents), decoded)
    assert codec.decode(latents).shape == frames.shape


def test_wan_codec_refuses_what_the_vae_would_cut_off(vae):
    codec = WanCodec(vae)
    with pytest.raises(UserError, match="8 frames"):
        codec.encode(torch.zeros(1, 3, 8, 32, 32))
    with pytest.raises(UserError, match="40x32 px"):
        codec.encode(torch.zeros(1, 3, 5, 40, 32))


def test_wan_codec_names_what_is_wrong_with_its_files(vae, tmp_path):
    with pytest.raises(UserError, match="does not hold Wan's VAE"):
        WanCodec(tmp_path / "diffusion_pytorch_model.safetensors")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    config = json.loads((vae.parent / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps(config | {"latents_mean": [0.0] * 16}))
    (wrong / vae.name).write_bytes(vae.read_bytes())
    with pytest.raises(UserError, match="another z_dim"):
        WanCodec(wrong / vae.name)


def test_codecs_tell_themselves_apart(vae, tmp_path):
    assert LinearCodec(32).describe() != LinearCodec(16).describe()
    other = AutoencoderKLWan.from_pretrained(vae.parent)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save_pretrained(tmp_path)
    assert WanCodec(vae).describe() != WanCodec(tmp_path / vae.name).describe()
