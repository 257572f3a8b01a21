"""A generator on disk: stock diffusers weights, the encoders' weights, and one JSON file that says what they are.

transformer/         plain ``WanTransformer3DModel.from_pretrained`` reads it
encoders.safetensors
generator.json       model, codec, window, size, control maps, key, and figures of the training
"""

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from expportrait.errors import UserError
from expportrait.files import sha256
from expportrait.generator.model import LORA_LAYERS, PRESETS, ModelConfig, PortraitTransformer


def build(
    config: ModelConfig, base: Path | None, seed: int = 0, lora_rank: int = 0, dtype: torch.dtype = torch.float32,
    empty: bool = False,
) -> PortraitTransformer:  # fmt: skip
    """A generator that has not been trained: on the weights beside the file ``base``, or on random ones.

    ``lora_rank`` > 0 freezes the transformer but for low-rank updates and the patch embedding; ``dtype`` is what the
    frozen weights are held in. ``empty``: on the device meta, without weights or memory.
    """
    if base is not None and config.prediction == "x0":
        raise UserError(
            "generator.prediction: x0 is for training without generator.base; pretrained weights give velocities"
        )
    with torch.random.fork_rng(), torch.device("meta") if empty else nullcontext():
        torch.manual_seed(seed)
        if base is None or empty:
            c = config.latent_channels
            transformer = WanTransformer3DModel(in_channels=c, out_channels=c, **PRESETS[config.preset])
            if base is not None and lora_rank:
                for value in transformer.parameters():
                    value.data = value.data.to(dtype)
            if config.prediction == "x0":
                # training starts at a copy of the reference
                torch.nn.init.zeros_(transformer.proj_out.weight)
                torch.nn.init.zeros_(transformer.proj_out.bias)
        else:
            transformer = read_base(base, config, dtype if lora_rank else torch.float32)
        model = PortraitTransformer(transformer, config)
        if base is None and config.appearance:
            # columns of zeros are for pretrained weights; and the noise, in as many channels, would drown what is given
            columns = torch.nn.init.normal_(model.transformer.patch_embedding.weight, std=0.02)
            columns.data[:, : config.latent_channels] *= 0.1
        if lora_rank:
            add_lora(model, lora_rank)
    return model


def read_base(base: Path, config: ModelConfig, dtype: torch.dtype) -> WanTransformer3DModel:
    """The pretrained transformer in the folder of ``base``. Raises UserError where it is not one that fits."""
    try:
        settings = json.loads((base.parent / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"generator.base: {base.parent} has no readable config.json beside {base.name} ({error})"
        ) from None
    if settings.get("_class_name") != "WanTransformer3DModel" or settings.get("image_dim") is not None:
        raise UserError(f"generator.base: {base.parent} is not a text-to-video WanTransformer3DModel")
    expected = PRESETS[config.preset] | {"in_channels": config.latent_channels, "out_channels": config.latent_channels}
    for name, value in expected.items():
        if settings.get(name, value) != value:
            raise UserError(
                f"generator.base: {name} is {settings[name]}, but preset {config.preset} and the codec need {value}"
            )
    return WanTransformer3DModel.from_pretrained(base.parent, torch_dtype=dtype)


def add_lora(model: PortraitTransformer, rank: int) -> None:
    """Freeze the transformer; train low-rank updates of its matrices, the whole patch embedding and the encoders."""
    from peft import LoraConfig

    model.transformer.requires_grad_(False)
    model.transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LORA_LAYERS)))
    model.transformer.patch_embedding.to(torch.float32).requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def encoder_weights(model: PortraitTransformer) -> dict[str, Tensor]:
    return {
        name: value.contiguous() for name, value in model.state_dict().items() if not name.startswith("transformer.")
    }


def save_generator(folder: Path, model: PortraitTransformer, about: dict[str, Any]) -> None:
    """Write the model into ``folder``, low-rank updates merged into the weights. ``about`` goes to generator.json."""
    folder.mkdir(parents=True, exist_ok=True)
    transformer = model.transformer
    if getattr(transformer, "peft_config", None):
        transformer.fuse_lora()
        transformer.unload_lora()
    transformer.save_pretrained(folder / "transformer")
    save_file(encoder_weights(model), folder / "encoders.safetensors")
    (folder / "generator.json").write_text(
        json.dumps({"model": asdict(model.config)} | about, indent=1) + "\n", "utf-8"
    )


def load_generator(folder: Path) -> tuple[PortraitTransformer, dict[str, Any]]:
    """The model and its generator.json. Raises UserError where the folder does not hold a whole generator."""
    try:
        about = json.loads((folder / "generator.json").read_text("utf-8"))
        transformer = WanTransformer3DModel.from_pretrained(folder / "transformer")
        model = PortraitTransformer(transformer, ModelConfig(**about["model"]))
        model.load_state_dict(load_file(folder / "encoders.safetensors"), strict=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} does not hold a generator ({error}); run its stage `generator` again") from None
    return model.eval(), about


def weight_files(base: Path | None) -> list[str]:
    """sha256 of everything that ``base`` stands for: its config.json and, for an index, the files it lists."""
    if base is None:
        return []
    names = {base.name, "config.json"}
    if base.suffix == ".json":
        try:
            names |= set(json.loads(base.read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"generator.base: {base} is not an index of safetensors files ({error})") from None
    try:
        return [sha256(base.parent / name) for name in sorted(names)]
    except UserError as error:
        raise UserError(f"generator.base: {error}") from None
