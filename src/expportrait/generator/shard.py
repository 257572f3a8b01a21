"""How a generator is spread over processes: all that its blocks are wrapped in stands here; the model is as it was.

The order is torchtitan's: recompute a block's activations, compile the block, shard it (FSDP2). A process then holds
its part of every weight, gradient and moment, and a block's whole weights only while the block runs.
"""

from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from expportrait.engine.parts import as_part
from expportrait.errors import UserError
from expportrait.generator.model import PortraitTransformer
from expportrait.settings.config import Generator

# Bytes of weights, gradients and optimizer up to which each process holds all of them: copies need less talk.
COPIED = 16 << 30


def state_bytes(model: nn.Module) -> int:
    """What weights, their gradients and AdamW's two moments take, in bytes, of a model that may lie on ``meta``."""
    return sum(p.numel() * (16 if p.requires_grad else p.element_size()) for p in model.parameters())


def sharded(settings: Generator, model: nn.Module, processes: int) -> bool:
    """Whether the model is cut into parts, ``auto`` being by its size. Raises UserError where ``shard_over`` does not
    divide the processes."""
    if settings.shard_over and processes > 1 and processes % settings.shard_over:
        raise UserError(
            f"generator.shard_over is {settings.shard_over}, which does not divide the {processes} processes that train"
        )
    if processes == 1 or settings.sharding == "replicate":
        return False
    return settings.sharding == "shard" or state_bytes(model) > COPIED


def choose_checkpointing(model: PortraitTransformer, kind: str) -> None:
    """Trade memory for time: ``full`` keeps the blocks' inputs, ``selective`` also what attention gave."""

    def policy(_, op, *args, **kwargs) -> CheckpointPolicy:  # noqa: ANN001, ANN002, ANN003
        attention = "attention" in getattr(op, "_name", str(op)) or "flash" in str(op)
        return CheckpointPolicy.MUST_SAVE if attention else CheckpointPolicy.PREFER_RECOMPUTE

    def contexts() -> tuple:
        return create_selective_checkpoint_contexts(policy)

    options = {"use_reentrant": False} | ({"context_fn": contexts} if kind == "selective" else {})
    for block in model.transformer.blocks if kind != "none" else ():
        block.forward = _recomputed(block.forward, options)


def _recomputed(forward, options: dict):  # noqa: ANN001, ANN202
    def run(*args: Tensor) -> Tensor:
        return checkpoint(forward, *args, **options) if torch.is_grad_enabled() else forward(*args)

    return run


def choose_compile(model: PortraitTransformer, backend: str) -> None:
    """Compile each block by itself: they are alike, so that one compilation serves all."""
    for block in model.transformer.blocks if backend != "none" else ():
        block.forward = torch.compile(block.forward, backend=backend)


def spread(model: PortraitTransformer, settings: Generator, device: torch.device) -> None:
    """Shard ``model`` in place over all processes, each block by itself, then what is left of it.

    Only the first process needs to hold weights; those of the others may lie on ``meta``. With ``shard_over`` the parts
    of one model lie on so many processes, and the next so many hold a copy. In mixed precision, weights travel as
    bfloat16, and gradients too; what is trained stays float32.
    """
    first = dist.get_rank() == 0
    held = {name: value.detach() for name, value in _values(model)}
    kinds = [{name: value.dtype for name, value in held.items()}]
    dist.broadcast_object_list(kinds)
    model.to("meta")
    for name, value in _values(model):
        value.data = value.data.to(kinds[0][name])
    kind = torch.bfloat16 if settings.precision == "bf16" else None
    # inputs stay as they are: a noise level of 998.4 would become 1000
    policy = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=kind, cast_forward_inputs=False)
    mesh = _mesh(device.type, settings.shard_over)
    for part in (*model.transformer.blocks, model):
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    model.to_empty(device=device)
    with torch.no_grad():
        for name, value in _values(model):
            whole = held[name].to(device) if first else torch.empty(value.shape, dtype=value.dtype, device=device)
            dist.broadcast(whole.contiguous(), 0)
            value.copy_(as_part(whole, value))


def _mesh(device: str, over: int) -> DeviceMesh:
    count = dist.get_world_size()
    if over in (0, count):
        return init_device_mesh(device, (count,))
    return init_device_mesh(device, (count // over, over), mesh_dim_names=("copy", "part"))


def _values(model: nn.Module):  # noqa: ANN202
    return chain(model.named_parameters(), model.named_buffers())


def gather(model: PortraitTransformer, empty: PortraitTransformer, first: bool) -> PortraitTransformer | None:
    """The whole of a sharded model in ``empty``, the same model on ``meta``; it is brought together in the memory of
    the ``first`` process, the others get None. All of them have to call it."""
    whole = {}
    for name, value in model.named_parameters():
        full = value.detach().full_tensor()
        if first:
            whole[name] = full.cpu()
    if not first:
        return None
    empty.load_state_dict(whole, strict=False, assign=True)
    buffers = dict(model.named_buffers())
    for place, module in empty.named_modules():
        for name in module._buffers:
            module._buffers[name] = buffers[f"{place}.{name}"].cpu()
    return empty.eval()
