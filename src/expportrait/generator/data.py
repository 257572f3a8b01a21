"""Training samples: windows of latents with the control maps, reference and noise that go with them.

Every random choice is a function of (seed, its own tag, step, place in the batch), so that a run that goes on after a
kill sees what an unbroken one would see, and several processes together what one of them would see.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from expportrait.errors import UserError
from expportrait.generator.codec import resize
from expportrait.generator.encoders import Condition
from expportrait.head import Head
from expportrait.rng import random_generator
from expportrait.store import Store, StoreError

# Channels of each control map, in the order in which a model sees them.
MAPS = {"normals": 3, "coverage": 1, "depth": 1, "region": 3, "eyes": 1}
CARRIED = ("appearance", "seen")  # made of the portrait itself: they enter on the latent grid, beside the noise
REGIONS = ("eye", "teeth", "tongue")  # one channel each of the map "region": what the normals tell least about
UNITS = {"normals": 127, "coverage": 255, "depth": 1, "region": 1, "eyes": 255}  # of their integers
DEPTH_UNIT = 0.1  # m, about half a head
CACHE_BYTES = 2 << 30
Memory = Callable[[str, tuple[int, ...], DTypeLike], np.ndarray]  # a map's name, shape and type


def control_channels(maps: Sequence[str]) -> int:
    """Channels that the maps drawn from the head have together."""
    return sum(MAPS[name] for name in maps if name in MAPS)


def control_maps(store: Store, frames: slice, size: int, maps: Sequence[str], prefix: str = "") -> Tensor:
    """Control maps of some frames, (C, T, size, size) float32, from a store of the stages control or drive.

    Normals in -1..1, depth in units of ``DEPTH_UNIT`` nearer than the clip's median, the others in 0..1. ``prefix``
    stands before the arrays' names.
    """
    return as_channels(stored_maps(store, frames, size, maps, prefix))


def fresh(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Memory for the map ``name``."""
    return np.empty(shape, dtype)


def stored_maps(
    store: Store, frames: slice, size: int, maps: Sequence[str], prefix: str = "", memory: Memory = fresh
) -> dict[str, Tensor]:
    """Reads control maps as they are stored, name -> (T, size, size, channels); ``as_channels`` turns them into the
    model's input.

    Maps stored in that size stay integers, a quarter of the bytes; others, and depth, become float32. ``memory`` gives
    the arrays that they are read into."""
    out = {}
    for name in maps:
        if name in CARRIED:
            continue
        try:
            array = store.lazy(prefix + name)
        except StoreError:
            if prefix + name in store:
                raise
            raise UserError(
                f"{store.path} has no map {prefix + name!r}: add {name} to control.maps, or take it from generator.maps"
            ) from None
        first, stop, _ = frames.indices(len(array))
        shape = stop - first, size, size, MAPS[name]
        if array.shape[1:3] == (size, size) and name not in ("region", "depth"):
            values = memory(name, shape, array.dtype)
            array.into(values.reshape(len(values), *array.shape[1:]), first)
        else:
            made = _resized(store, name, array[first:stop], size)
            values = memory(name, shape, made.dtype)
            values[:] = made.reshape(shape)
        out[name] = torch.from_numpy(values)
    return out


def _resized(store: Store, name: str, values: np.ndarray, size: int) -> np.ndarray:
    if name == "region":
        values = (values[..., None] == [1 + Head.REGIONS.index(region) for region in REGIONS]).astype(np.uint8)
    elif name == "depth":
        covered, middle = values > 0, _median_depth(store.path, store.attrs["key"])
        values = np.where(covered, (middle - values.astype(np.float32)) / DEPTH_UNIT, 0).astype(np.float32)
    if values.shape[1:3] == (size, size):
        return values
    unit = np.float32(UNITS[name])
    return np.concatenate([resize(image[None] / unit, size) for image in values])


def as_channels(maps: Mapping[str, Tensor]) -> Tensor:
    """``stored_maps``, (..., T, size, size, channels) each, as (..., C, T, size, size) float32, computed where they
    lie."""
    *rest, frames, height, width, _ = (first := next(iter(maps.values()))).shape
    shape = *rest, control_channels([*maps]), frames, height, width
    out = torch.empty(shape, device=first.device)
    for (name, values), to in zip(maps.items(), out.split([MAPS[name] for name in maps], -4), strict=True):
        to.copy_(values.movedim(-1, -4))
        if not values.is_floating_point():
            to /= torch.tensor(float(UNITS[name]), device=to.device)  # by a number, a GPU would multiply by its inverse
    return out


def seen_on_grid(seen: np.ndarray, time: int) -> Tensor:
    """What the portrait showed, (T, h, w) u8 at the latents' size, as (time, t, h, w) float32 0..1: the frames of one
    latent side by side, the first frame repeated as the codec does."""
    values = torch.from_numpy(np.concatenate([seen[:1].repeat(time - 1, 0), seen])).float() / 255
    return values.reshape(-1, time, *values.shape[1:]).transpose(0, 1)


@lru_cache
def _median_depth(path: Path, key: str) -> float:
    depth = Store(path).lazy("depth")
    some = depth[:: max(1, depth.shape[0] // 8)].astype(np.float32)
    return float(np.median(some[some > 0])) if (some > 0).any() else 1.0


@dataclass
class Batch:
    """Samples of one training step, control maps as they are stored; ``clips`` and ``starts`` say where each comes
    from."""

    latents: Tensor  # (B, C, t, h, w)
    noise: Tensor  # (B, C, t, h, w)
    sigma: Tensor  # (B,) noise level 0..1
    control: dict[str, Tensor]  # (B, T, H, W, channels) each
    image: Tensor  # (B, 3, H, W)
    image_control: dict[str, Tensor]  # (B, 1, H, W, channels) each
    image_latent: Tensor  # (B, C, 1, h, w)
    carried: dict[str, Tensor]  # of CARRIED those that are used, as in Condition
    kept: Tensor  # (B, 2), 1 where control, where reference is given
    clips: list[str]
    starts: list[int]

    @property
    def given(self) -> Condition:
        """What the model is told, computed where the batch lies."""
        image_control = as_channels(self.image_control).squeeze(-3)
        drawn = as_channels(self.control), self.image, image_control, self.image_latent
        return Condition(*drawn, *self.kept.unbind(1), **self.carried)

    def to(self, device: str | torch.device) -> "Batch":
        """A copy there; of a pinned batch, the program goes on while it travels."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """A copy in memory that a GPU reads by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(**{name: _changed(value, change) for name, value in vars(self).items()})


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, dict):
        return {name: change(part) for name, part in value.items()}
    return change(value) if isinstance(value, Tensor) else value


@dataclass
class Sample:
    """One window and what the model is told of it, as a batch has it, without the first axis."""

    latents: Tensor
    control: dict[str, Tensor]
    image: Tensor
    image_control: dict[str, Tensor]
    image_latent: Tensor
    carried: dict[str, Tensor]


class Windows:
    """All windows of some clips, from their stores of the stages latents, control and, for ``CARRIED``, carry. Several
    threads may read them."""

    def __init__(
        self,
        latents: Mapping[str, Path],
        control: Mapping[str, Path],
        maps: Sequence[str],
        carry: Mapping[str, Path] | None = None,
    ):
        """``latents``, ``control``, ``carry``: clip -> store. Raises UserError where the stores do not belong
        together."""
        if not latents:
            raise UserError("there is no clip to train on: the manifest needs clips of the split train that went well")
        self.maps, self.carried = ([name for name in maps if name in known] for known in (MAPS, CARRIED))
        self._latents = {clip: Store(path) for clip, path in latents.items()}
        self._control = {clip: Store(control[clip]) for clip in latents}
        self._carry = {clip: Store(carry[clip]) for clip in latents} if self.carried else {}
        first = next(iter(self._latents.values())).attrs
        self.made_by: dict[str, Any] = {name: first[name] for name in ("codec", "size", "window")}
        for store in self._latents.values():
            if {name: store.attrs[name] for name in self.made_by} != self.made_by:
                raise UserError(
                    f"{store.path} was made with other settings than the other clips' latents: run latents again"
                )
        for clip, store in self._carry.items():
            wanted = self.made_by | {name: self._latents[clip].attrs[name] for name in ("starts", "references")}
            if {name: store.attrs[name] for name in wanted} != wanted:
                raise UserError(f"{store.path} was made of other windows than the clip's latents: run carry again")
        self.table = [(clip, i) for clip, store in self._latents.items() for i in range(len(store.attrs["starts"]))]
        # control maps are most of it; small sets are read once and kept
        total = sum(store.attrs["frames"] for store in self._latents.values())
        small = 4 * total * control_channels(maps) * self.made_by["size"] ** 2 <= CACHE_BYTES
        self._held: dict[tuple[str, str], Any] | None = {} if small else None
        self._reading = Lock()  # what is held is read once, whoever asks

    def __len__(self) -> int:
        return len(self.table)

    def control(self, clip: str, start: int, frames: int, memory: Memory = fresh) -> dict[str, Tensor]:
        """Control maps as ``stored_maps`` gives them, (frames, size, size, channels) each."""
        store, size = self._control[clip], self.made_by["size"]
        if self._held is None:
            return stored_maps(store, slice(start, start + frames), size, self.maps, memory=memory)
        out = {}
        whole = self._kept(clip, "control", lambda: stored_maps(store, slice(None), size, self.maps))
        for name, held in whole.items():
            values = held[start : start + frames].numpy()
            out[name] = torch.from_numpy(copy := memory(name, values.shape, values.dtype))
            copy[:] = values
        return out

    def latent(self, clip: str, name: str, index: int) -> Tensor:
        """Row ``index`` of an array of the clip's latents, float32."""
        return torch.from_numpy(self._row(self._latents[clip], clip, name, index)).float()

    def _row(self, store: Store, clip: str, name: str, index: int) -> np.ndarray:
        if self._held is None:
            array = store.lazy(name)
            array.into(row := np.empty((1, *array.shape[1:]), array.dtype), index)
            return row[0]
        return self._kept(clip, name, lambda: store[name])[index]

    def _kept(self, clip: str, name: str, read: Callable[[], Any]) -> Any:
        with self._reading:
            if (clip, name) not in self._held:
                self._held[clip, name] = read()
        return self._held[clip, name]

    def _carried(self, clip: str, row: int) -> dict[str, Tensor]:
        out = {}
        if "appearance" in self.carried:
            out["appearance"] = torch.from_numpy(self._row(self._carry[clip], clip, "appearance", row)).float()
        if "seen" in self.carried:
            out["seen"] = seen_on_grid(self._row(self._carry[clip], clip, "seen", row), self.made_by["codec"]["time"])
        return out

    def sample(self, index: int, reference: int, control: Memory = fresh, image_control: Memory = fresh) -> Sample:
        """Window ``index`` with one of the clip's references, with ``CARRIED`` one of those that were carried to the
        window: ``reference`` is taken modulo their number. ``control``, ``image_control``: where the maps are put."""
        clip, window = self.table[index]
        starts, references = (self._latents[clip].attrs[name] for name in ("starts", "references"))
        carried = {}
        if self.carried:
            portraits = self._carry[clip].attrs["portraits"][window]
            row = window * len(portraits) + reference % len(portraits)
            reference, carried = portraits[reference % len(portraits)], self._carried(clip, row)
        reference %= len(references)
        return Sample(
            self.latent(clip, "windows", window),
            self.control(clip, starts[window], self.made_by["window"], control),
            self.latent(clip, "reference_images", reference).permute(2, 0, 1) / 127.5 - 1,
            self.control(clip, references[reference], 1, image_control),
            self.latent(clip, "reference_latents", reference),
            carried,
        )

    def batch(self, indices: Sequence[int], sigma: Tensor, noises: Sequence[torch.Generator], references: Sequence[int],
              kept: Tensor) -> Batch:  # fmt: skip
        """Put samples together. ``kept``: (B, 2), 1 where control, where reference is given."""
        control, image_control = _Slots(len(indices)), _Slots(len(indices))
        samples = [self.sample(i, r, control.of(k), image_control.of(k))
                   for k, (i, r) in enumerate(zip(indices, references, strict=True))]  # fmt: skip
        latents, image, image_latent = (
            _stacked([getattr(sample, name) for sample in samples]) for name in ("latents", "image", "image_latent")
        )
        carried = {name: _stacked([sample.carried[name] for sample in samples]) for name in self.carried}
        noise = torch.stack([torch.randn(latents.shape[1:], generator=generator) for generator in noises])
        clips = [self.table[i][0] for i in indices]
        starts = [self._latents[clip].attrs["starts"][self.table[i][1]] for clip, i in zip(clips, indices, strict=True)]
        return Batch(
            latents, noise, sigma, control.maps(), image, image_control.maps(), image_latent, carried, kept, clips,
            starts,
        )  # fmt: skip


class _Slots:
    """Maps of a batch, put together where they are read to."""

    def __init__(self, count: int):
        self._count, self._held = count, {}

    def of(self, number: int) -> Memory:
        """For the maps of sample ``number``."""

        def memory(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
            if name not in self._held:
                self._held[name] = fresh(name, (self._count, *shape), dtype)
            return self._held[name][number]

        return memory

    def maps(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(values) for name, values in self._held.items()}


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0][None]


def shifted(u: Tensor, shift: float) -> Tensor:
    """Uniform 0..1 to noise levels with the weight moved to strong noise, where structure is decided."""
    return shift * u / (1 + (shift - 1) * u)


def training_batch(
    windows: Windows, seed: int, step: int, batch: int, places: Sequence[int] | None = None, *,
    shift: float, drop_reference: float, drop_control: float, drop_both: float,
) -> Batch:  # fmt: skip
    """The samples of ``step`` at some ``places``, 0..batch - 1, of its batch, at all where none are named; all windows
    come by once in an epoch, in another order each time."""
    n, indices, sigmas, noises, references, kept = len(windows), [], [], [], [], []
    for i in range(batch) if places is None else places:
        epoch, place = divmod(step * batch + i, n)
        indices.append(int(_order(seed, epoch, n)[place]))
        sigmas.append(torch.rand((), generator=random_generator(seed, "sigma", step, i)))
        noises.append(random_generator(seed, "noise", step, i))
        references.append(int(torch.randint(1 << 30, (), generator=random_generator(seed, "reference", step, i))))
        u = float(torch.rand((), generator=random_generator(seed, "drop", step, i)))
        both, reference = drop_both, drop_both + drop_reference
        kept.append([float(not (u < both or reference <= u < reference + drop_control)), float(u >= reference)])
    return windows.batch(indices, shifted(torch.stack(sigmas), shift), noises, references, torch.tensor(kept))


@lru_cache(4)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=random_generator(seed, "order", epoch))
