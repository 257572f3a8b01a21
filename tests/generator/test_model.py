import pytest
import torch
from diffusers import WanTransformer3DModel

from expportrait.errors import UserError
from expportrait.generator.encoders import Condition
from expportrait.generator.files import add_lora, build, load_generator, save_generator
from expportrait.generator.model import PRESETS, ModelConfig, PortraitTransformer

TINY = ModelConfig("tiny", latent_channels=8, control_channels=4, time=4, space=4)


def config(**changes):
    return ModelConfig(**(vars(TINY) | changes))


def condition(batch=2, size=32, frames=9, c=TINY):
    random = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(batch, *shape, generator=random)

    grid = size // c.space
    latents = (frames - 1) // c.time + 1
    return Condition(
        normal(c.control_channels, frames, size, size), normal(3, size, size), normal(c.control_channels, size, size),
        normal(c.latent_channels, 1, grid, grid), torch.ones(batch), torch.ones(batch),
        normal(c.latent_channels, latents, grid, grid), normal(c.time, latents, grid, grid),
    )  # fmt: skip


CARRIED = {"appearance": True, "seen": True}


@pytest.fixture(scope="module")
def noised():
    return torch.randn(2, 8, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Stands for the published weights: the stock class, saved as diffusers does."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("base")
    WanTransformer3DModel(in_channels=8, out_channels=8, **PRESETS["tiny"]).save_pretrained(folder)
    return folder / "diffusion_pytorch_model.safetensors"


def trained(c=TINY):
    """A model whose new columns are no longer zero."""
    model = build(c, None).eval()
    with torch.no_grad():
        for parameter in (model.transformer.patch_embedding.weight, model.transformer.proj_out.weight):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    return model


@torch.no_grad()
@pytest.mark.parametrize("carried", [{}, CARRIED], ids=["drawn", "carried"])
def test_step_zero_is_bit_identical_to_the_pretrained_model(pretrained, noised, carried):
    model = build(config(reference="conv", **carried), pretrained).eval()
    stock = WanTransformer3DModel.from_pretrained(pretrained.parent).eval()
    sigma = torch.tensor([0.3, 0.99839])
    text = torch.zeros(2, 1, PRESETS["tiny"]["text_dim"])
    assert torch.equal(model(noised, sigma, condition()), stock(noised, sigma * 1000, text, return_dict=False)[0])


@torch.no_grad()
@pytest.mark.parametrize("reference", ["conv", "latent_frame", "both"])
@pytest.mark.parametrize("prediction", ["velocity", "x0"])
def test_all_kinds_of_reference_use_what_they_are_given(noised, reference, prediction):
    model, sigma = trained(config(reference=reference, prediction=prediction)), torch.tensor([0.5, 0.9])
    out = model(noised, sigma, condition())
    assert out.shape == noised.shape
    for name in ("control", "image_control"):
        given = condition()
        setattr(given, name, torch.randn_like(getattr(given, name)))
        assert not torch.equal(model(noised, sigma, given), out)
    given = condition()
    given.image, given.image_latent = torch.randn_like(given.image), torch.randn_like(given.image_latent)
    assert not torch.equal(model(noised, sigma, given), out)


@torch.no_grad()
@pytest.mark.parametrize("reference", ["conv", "latent_frame", "both"])
@pytest.mark.parametrize("prediction", ["velocity", "x0"])
@pytest.mark.parametrize("name", ["appearance", "seen"])
def test_the_carried_portrait_is_used_where_both_control_and_reference_are_kept(noised, reference, prediction, name):
    model = trained(config(reference=reference, prediction=prediction, **CARRIED))
    for kept in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):
        one, other = condition(), condition()
        for given in (one, other):
            given.control_kept, given.reference_kept = (torch.full((2,), value) for value in kept)
        setattr(other, name, torch.randn_like(getattr(other, name)))
        first, second = (model(noised, torch.tensor([0.5, 0.9]), given) for given in (one, other))
        assert torch.equal(first, second) == (kept != (1.0, 1.0))


@torch.no_grad()
def test_predicted_latents_go_out_from_the_carried_portrait_and_without_control_from_the_reference(noised):
    model, given, sigma = build(config(prediction="x0", **CARRIED), None).eval(), condition(), torch.tensor([0.4, 0.8])
    given.control_kept = torch.tensor([1.0, 0.0])
    made = noised - sigma.view(-1, 1, 1, 1, 1) * model(noised, sigma, given)
    torch.testing.assert_close(made[0], given.appearance[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(made[1], given.image_latent[1].expand_as(made[1]), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("carried", [{}, CARRIED], ids=["drawn", "carried"])
@pytest.mark.parametrize("reference", ["conv", "latent_frame", "both"])
def test_what_is_dropped_has_no_influence(noised, reference, carried):
    model, sigma = trained(config(reference=reference, prediction="x0", **carried)), torch.tensor([0.5, 0.9])
    one, other = condition(), condition()
    one.control_kept = other.control_kept = one.reference_kept = other.reference_kept = torch.tensor([1.0, 0.0])
    for name in ("control", "image", "image_control", "image_latent", "appearance", "seen"):
        setattr(other, name, torch.randn_like(getattr(other, name)))
    first, second = model(noised, sigma, one), model(noised, sigma, other)
    assert torch.equal(first[1], second[1]) and not torch.equal(first[0], second[0])


@torch.no_grad()
def test_the_velocity_of_predicted_latents_leads_back_to_them(noised):
    model, given, sigma = trained(config(prediction="x0", reference="conv")), condition(), torch.tensor([0.4, 0.8])
    velocity = model(noised, sigma, given)
    latents = noised - sigma.view(-1, 1, 1, 1, 1) * velocity
    untrained = build(config(prediction="x0", reference="conv"), None).eval()
    copied = noised - sigma.view(-1, 1, 1, 1, 1) * untrained(noised, sigma, given)
    torch.testing.assert_close(copied, given.image_latent.expand_as(noised), atol=1e-5, rtol=0)
    assert (latents - copied).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("rank", [0, 4])
def test_saved_models_reload_and_stock_diffusers_reads_the_transformer(tmp_path, pretrained, noised, rank):
    model = build(config(reference="both"), pretrained, lora_rank=rank).eval()
    for index, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    sigma, given = torch.tensor([0.3, 0.7]), condition()
    expected = model(noised, sigma, given)
    save_generator(tmp_path / "model", model, {"note": 1})
    again, about = load_generator(tmp_path / "model")
    assert about["note"] == 1
    tolerance = 1e-5 if rank else 0  # merging the updates rounds
    torch.testing.assert_close(again(noised, sigma, given), expected, atol=tolerance, rtol=0)
    stock = WanTransformer3DModel.from_pretrained(tmp_path / "model" / "transformer")
    assert stock.config.in_channels == 8 + 32 + 32
    for name, value in again.transformer.state_dict().items():
        assert torch.equal(value, stock.state_dict()[name])


def test_a_damaged_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="does not hold a generator"):
        load_generator(tmp_path)
    save_generator(tmp_path, build(TINY, None), {})
    (tmp_path / "encoders.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match="does not hold a generator"):
        load_generator(tmp_path)


def test_pretrained_weights_that_do_not_fit_are_refused(pretrained, tmp_path):
    with pytest.raises(UserError, match="in_channels is 8"):
        build(config(latent_channels=16), pretrained)
    with pytest.raises(UserError, match=r"num_attention_heads is 4, but preset 1\.3B"):
        build(config(preset="1.3B"), pretrained)
    with pytest.raises(UserError, match=r"no readable config.json"):
        build(TINY, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match="x0"):
        build(config(prediction="x0"), pretrained)


@pytest.mark.parametrize(("preset", "billions"), [("1.3B", 1.419), ("14B", 14.289)])
def test_the_large_presets_are_the_published_sizes(preset, billions):
    with torch.device("meta"):
        base = WanTransformer3DModel(in_channels=16, out_channels=16, **PRESETS[preset])
        assert sum(p.numel() for p in base.parameters()) / 1e9 == pytest.approx(billions, abs=1e-3)
        model = PortraitTransformer(base, ModelConfig(preset, 16, 4, 4, 8))
    assert model.transformer.config.in_channels == 80
    encoders = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("transformer."))
    assert encoders < 3e6


def test_lora_trains_updates_encoders_and_patch_embedding_only(pretrained):
    model = build(config(reference="both"), pretrained, lora_rank=4, dtype=torch.bfloat16)
    train = {name: p for name, p in model.named_parameters() if p.requires_grad}
    kinds = {
        "lora" if "lora" in name else name.split(".")[0 if not name.startswith("transformer") else 1] for name in train
    }
    assert kinds == {"lora", "patch_embedding", "pose_encoder", "reference_encoder"}
    assert {p.dtype for p in train.values()} == {torch.float32}
    assert model.transformer.blocks[0].attn1.to_q.base_layer.weight.dtype == torch.bfloat16


def test_lora_of_the_14b_has_the_expected_size():
    with torch.device("meta"):
        base = WanTransformer3DModel(in_channels=16, out_channels=16, **PRESETS["14B"])
        model = PortraitTransformer(base, ModelConfig("14B", 16, 4, 4, 8))
        add_lora(model, 64)
    lora = sum(p.numel() for name, p in model.named_parameters() if "lora" in name)
    assert lora / 1e6 == pytest.approx(306.7, abs=0.05)
    assert not model.transformer.blocks[0].attn1.to_q.base_layer.weight.requires_grad
