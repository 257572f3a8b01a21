"""Tensors of which each process holds a part: agreeing on them, and checkpoints that any number of processes reads."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from expportrait.files import new_folder

T = TypeVar("T")
INDEX = ".metadata"  # the file that says what lies where in a checkpoint of parts; written last


def together() -> bool:
    """Whether this is one of several processes at one piece of work."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def of_first(value: T) -> T:
    """The first process's value; all have to ask."""
    values = [value]
    if together():
        dist.broadcast_object_list(values)
    return values[0]


def agreed(holds: bool) -> bool:
    """Whether it holds on all processes, which all have to ask."""
    answers = [holds]
    if together():
        answers = [holds] * dist.get_world_size()
        dist.all_gather_object(answers, holds)
    return all(answers)


def local(value: Tensor) -> Tensor:
    """What this process holds of it."""
    return value.to_local() if hasattr(value, "to_local") else value


def as_part(whole: Tensor, like: Tensor) -> Tensor:
    """Of a tensor that each process has whole, the part that it holds of one that lies as ``like`` does."""
    if not hasattr(like, "to_local"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(local(like).device), like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def shared_folder(place: Path, first: bool) -> Iterator[Path]:
    """``new_folder`` of the first process, for all of them."""
    if first:
        with new_folder(place) as made:
            yield of_first(made)
    else:
        yield of_first(Path())


def write_parts(
    folder: Path,
    weights: Mapping[str, nn.Parameter],
    kept: Mapping[str, Mapping[str, Tensor]],
    average: Mapping[str, Tensor],
) -> None:
    """Each process writes what it holds; returns when all have, and it has reached the disk. ``kept``: what the
    optimizer keeps of each weight; ``average``: of the weights, where there is one."""
    from torch.distributed.checkpoint import FileSystemWriter, save

    state = {f"weights/{name}": value.detach() for name, value in weights.items()}
    state |= {f"average/{name}": value for name, value in average.items()}
    for name, values in kept.items():
        state |= {f"{kind}/{name}": value for kind, value in values.items()}
    save(state, storage_writer=FileSystemWriter(folder))


def read_parts(
    folder: Path, weights: Mapping[str, nn.Parameter], average: bool, alone: bool
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Weights, moments and, where it is wanted, the ``average``, each as this process holds the weight, whatever the
    number of processes that wrote them. ``alone``: it reads by itself, holding all. Raises ValueError where the
    checkpoint is damaged."""
    from torch.distributed.checkpoint import FileSystemReader, load
    from torch.distributed.checkpoint.api import CheckpointException

    reader = FileSystemReader(folder)
    state: dict[str, Tensor] = {}
    try:
        kinds = {key.partition("/")[0] for key in reader.read_metadata().state_dict_metadata} - {"weights", "average"}
        whole = "weights", *["average"] * average
        for name, value in weights.items():
            state |= {f"{kind}/{name}": torch.empty_like(value.detach()) for kind in (*whole, *kinds - {"step"})}
            state |= {f"step/{name}": torch.zeros((), device=local(value).device)} if "step" in kinds else {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as is meant, where it is alone
            load(state, storage_reader=reader, no_dist=alone)
    except (Exception, CheckpointException) as error:
        raise ValueError(f"{folder} cannot be read") from error
    return (
        {name: state[f"weights/{name}"] for name in weights},
        {name: {kind: state[f"{kind}/{name}"] for kind in kinds} for name in weights},
        {name: state[f"average/{name}"] for name in weights} if average else {},
    )
