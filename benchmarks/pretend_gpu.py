"""A pretend GPU: mistakes with devices are found where torch has no CUDA.

Inside ``pretend_gpu()`` tensors made on "cuda", or moved there, are ``GpuTensor``: on the CPU in truth, and kept apart
from the others. What CUDA refuses is refused: operations on tensors of both devices, but for 0-dimensional ones on the
CPU and for indices; ``numpy()``; a generator of the CPU for numbers on the GPU. What a GPU does to values, and what
nobody asks torch for (streams), is not pretended; memory in use is none.
"""

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
FROM_HERE = {"copy_", "_copy_from"}  # operations that move values between devices
INDEXED = {"index", "_unsafe_index", "index_put", "index_put_", "_unsafe_index_put", "_index_put_impl_"}
# Operations beside the elementwise ones that take a number as a 0-dimensional tensor of the CPU.
NUMBERS = {"fill_", "fill", "masked_fill", "masked_fill_", "index_fill", "index_fill_"}

DEVICE = {Tensor.device: GPU, Tensor.is_cuda: True, Tensor.is_cpu: False}


class GpuTensor(torch.Tensor):
    """A tensor on the pretended GPU, around one that is on the CPU, ``held``. Autograd sees the outer one only."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "GpuTensor":
        # Sparse tensors have no strides: the outer one says that it is dense, and nothing asks.
        strides = (
            {} if held.layout != torch.strided else {"strides": held.stride(), "storage_offset": held.storage_offset()}
        )
        out = torch.Tensor._make_wrapper_subclass(cls, held.size(), dtype=held.dtype, device="cpu", **strides)
        out.held = held
        return out

    @property
    def device(self) -> torch.device:
        return GPU

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def layout(self) -> torch.layout:
        return self.held.layout

    def get_device(self) -> int:
        return 0

    def numpy(self, *args: object, **more: object) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def tolist(self) -> list:
        PretendGpu.count(1, 1)
        return self.held.tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def __repr__(self, **more: object) -> str:
        return f"{self.held!r} on {GPU}"

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.held.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict) -> "GpuTensor":
        copy = GpuTensor(self.held.detach().clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        return memo.setdefault(id(self), copy)

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        refuse_mixed(operation, args, tensors)
        PretendGpu.count(*cost(operation, args, kwargs))
        known = {id(x.held if isinstance(x, GpuTensor) else x): x for x in tensors}
        with torch._C.DisableTorchFunction():
            made = operation(*tree_map(on_cpu, args), **tree_map(on_cpu, kwargs))
        return tree_map(
            lambda x: known.get(id(x)) if id(x) in known else GpuTensor(x) if isinstance(x, Tensor) else x, made
        )


# Operations without a kernel, and those whose result, its size, or its success the CPU has to know.
FREE = {"detach", "alias", "_unsafe_view", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty",
        "new_empty_strided", "resize_"}  # fmt: skip
WAITED_FOR = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim",
    "unique_consecutive", "_linalg_check_errors", "_linalg_svd", "_linalg_eigh",
}  # fmt: skip


@functools.cache
def is_view(operation: torch._ops.OpOverload) -> bool:
    return any(x.alias_info is not None and not x.alias_info.is_write for x in operation._schema.arguments)


def cost(operation: torch._ops.OpOverload, args: tuple, kwargs: dict) -> tuple[int, int]:
    """How many launches and waits."""
    name = operation.overloadpacket.__name__
    if name in FREE or is_view(operation):
        return 0, 0
    indices = [x for x in args[1] if x is not None] if name in INDEXED else []
    masks = any(x.dtype in (torch.bool, torch.uint8) for x in indices)
    sent = sum(not isinstance(x, GpuTensor) for x in indices)
    unknown = name == "repeat_interleave" and kwargs.get("output_size") is None
    return 1 + sent, sent + int(masks or unknown or name in WAITED_FOR)


def on_cpu(value: object) -> object:
    if isinstance(value, GpuTensor):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) else value


class Mixed(RuntimeError):
    """Tensors of both devices in one operation."""


def refuse_mixed(operation: torch._ops.OpOverload, args: tuple, tensors: list[Tensor]) -> None:
    """Raises ``Mixed`` where CUDA would, see the module's text."""
    here = [x for x in tensors if not isinstance(x, GpuTensor)]
    name = operation.overloadpacket.__name__
    if not here or name in FROM_HERE:
        return
    if name in INDEXED and isinstance(args[0], GpuTensor):
        here = [x for x in args[2:3] if isinstance(x, Tensor) and not isinstance(x, GpuTensor) and x.dim()]
    elif (torch.Tag.pointwise in operation.tags or name in NUMBERS or name.startswith("_foreach")) and not (
        operation._schema.is_mutable and not isinstance(args[0], GpuTensor)
    ):
        here = [x for x in here if x.dim()]
    if here:
        raise Mixed(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"{operation}, on the CPU: {[tuple(x.shape) for x in here]}"
        )


class _ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return GpuTensor(x.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return gradient.held


class _FromGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.held.detach().clone()

    @staticmethod
    def backward(ctx, gradient):
        return GpuTensor(gradient)


def unwrapped(x: object) -> object:
    """Without what ``torch.func`` wraps around a tensor inside a transform."""
    while isinstance(x, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def on_gpu(x: object) -> bool:
    return isinstance(unwrapped(x), GpuTensor)


def to_gpu(x: Tensor, waits: bool = True) -> Tensor:
    """``waits``: the program does, as for a transfer from memory that is not pinned."""
    if on_gpu(x):
        return x
    PretendGpu.count(1, int(waits))
    return _ToGpu.apply(x) if x.requires_grad else GpuTensor(unwrapped(x.clone()))


def from_gpu(x: Tensor) -> Tensor:
    if not on_gpu(x):
        return x
    PretendGpu.count(1, 1)
    return _FromGpu.apply(x)


def is_gpu(device: object) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class PretendGpu(TorchFunctionMode):
    """Takes what asks for "cuda" to the pretended one. It holds for one thread.

    Of all threads: ``launches``, operations that were no views, each of which launches a kernel or more, transfers
    among them; ``waits``, those whose result the program had to know on the CPU: for it all launches before are waited
    for.
    """

    launches = waits = 0

    @classmethod
    def count(cls, launches: int, waits: int) -> None:
        PretendGpu.launches += launches
        PretendGpu.waits += waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if name == "__get__" and function.__self__ in DEVICE:
            return DEVICE[function.__self__] if on_gpu(args[0]) else function(*args, **kwargs)
        if name in ("to", "cuda", "cpu"):
            return moved(function, name, args[0], args[1:], kwargs)
        if name == "pin_memory":
            if isinstance(args[0], GpuTensor):
                raise RuntimeError("cannot pin 'cuda' memory: only dense CPU tensors can be pinned")
            pinned = args[0].clone()
            pinned.pinned = True
            return pinned
        if name in ("tensor", "as_tensor", "asarray", "new_tensor"):
            return from_data(function, name, args, kwargs)
        if isinstance(generator := kwargs.get("generator"), torch.Generator) and (
            is_gpu(kwargs.get("device")) or (args and isinstance(args[0], GpuTensor))
        ):
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found '{generator.device.type}'")
        if "device" in kwargs:
            there, wanted = is_gpu(kwargs["device"]), kwargs.pop("requires_grad", False)
            made = function(*args, **kwargs | ({"device": "cpu"} if there else {}))
            made = made if kwargs["device"] is None else to_gpu(made, False) if there else from_gpu(made)
            return made.requires_grad_() if wanted else made
        if name == "backward" and on_gpu(args[0]):
            if any(isinstance(x, Tensor) and not on_gpu(x) for x in (*args, *kwargs.values())):
                raise Mixed("invalid gradient: expected device cuda:0 but got cpu")
            with Inside():  # a graph cannot be gone through again
                return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except Mixed:
            if not all(on_gpu(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)):
                raise
            with Inside():  # none of it is the caller's: torch made a tensor on the way
                return function(*args, **kwargs)


class Inside(TorchDispatchMode):
    """Inside one operation on the GPU, what torch makes anew on the way is on the GPU."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation is torch.ops.aten._efficientzerotensor.default:  # which has no memory to be wrapped
            return GpuTensor(torch.zeros(*args, dtype=kwargs.get("dtype")))
        made, of_tensors = operation(*args, **kwargs), any(isinstance(x, Tensor) for x in tree_leaves(args))
        return made if of_tensors else tree_map(lambda x: GpuTensor(x) if type(x) is Tensor else x, made)


def moved(function, name: str, x: Tensor, args: tuple, kwargs: dict) -> Tensor:
    """``Tensor.to``, ``cuda``, ``cpu``."""
    device, dtype = {"cuda": GPU, "cpu": "cpu"}.get(name, kwargs.get("device")), kwargs.get("dtype")
    for value in (*args, *(value for key, value in kwargs.items() if key == "other")):
        if isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, str | torch.device):
            device = value
    memory = {key: kwargs[key] for key in ("memory_format", "copy") if key in kwargs}
    if dtype is not None or memory:
        x = Tensor.to(x, dtype=dtype or x.dtype, **memory)
    waits = not (kwargs.get("non_blocking") and getattr(x, "pinned", False))
    return x if device is None else to_gpu(x, waits) if is_gpu(device) else from_gpu(x)


def from_data(function, name: str, args: tuple, kwargs: dict) -> Tensor:
    """``torch.tensor``, ``as_tensor``, ``asarray``, ``Tensor.new_tensor``: on the device of their data where none is
    asked for; ``new_tensor`` on its tensor's."""
    of, data = args[0], args[0] if name != "new_tensor" else args[1]
    device = kwargs.pop("device", None)
    device = of.device if device is None and isinstance(of, Tensor) else device
    if isinstance(data, GpuTensor):
        made = data.detach().clone() if name in ("tensor", "new_tensor") else data
        made = made.to(kwargs["dtype"]) if kwargs.get("dtype") else made
    elif name == "new_tensor":
        made = torch.tensor(data, **({"dtype": of.dtype} | kwargs))
    else:  # a list may hold numbers on the GPU
        made = function(tree_map(lambda x: x.tolist() if isinstance(x, GpuTensor) else x, data), *args[1:], **kwargs)
    return to_gpu(made) if is_gpu(device) else from_gpu(made) if device is not None else made


class Event:
    """When it was recorded, as one of CUDA would say."""

    def __init__(self, enable_timing: bool = False):
        self.recorded: float | None = None

    def record(self) -> None:
        self.recorded = time.perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        return 1000 * (end.recorded - self.recorded)


def _autocast(init):
    @functools.wraps(init)
    def pretended(self, device_type: str, *args: object, **more: object) -> None:
        init(self, "cpu" if device_type == "cuda" else device_type, *args, **more)

    return pretended


def _in_threads(run):
    @functools.wraps(run)
    def pretended(thread: threading.Thread) -> None:
        with PretendGpu():
            run(thread)

    return pretended


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """In this block and in the threads started there, "cuda" is the pretended GPU, and torch says that there is one."""
    told = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_name": "pretended",
        "is_bf16_supported": True, "get_rng_state": torch.get_rng_state(), "set_rng_state": None, "set_device": None,
        "synchronize": None, "empty_cache": None, "max_memory_allocated": 0, "reset_peak_memory_stats": None,
    }  # fmt: skip
    reset_accelerate()
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter stays the optimizer's own when it moves
    with ExitStack() as held:
        for name, value in told.items():
            held.enter_context(patch.object(torch.cuda, name, lambda *args, value=value, **more: value))
        held.enter_context(patch.object(torch.cuda, "Event", Event))
        held.enter_context(patch.object(torch.autocast, "__init__", _autocast(torch.autocast.__init__)))
        held.enter_context(patch.object(threading.Thread, "run", _in_threads(threading.Thread.run)))
        held.enter_context(patch("torch.utils.checkpoint._infer_device_type", lambda *args: "cpu"))
        held.callback(torch.__future__.set_swap_module_params_on_conversion, swapped)
        held.callback(reset_accelerate)
        yield held.enter_context(PretendGpu())


def reset_accelerate() -> None:
    """accelerate finds its device once a process."""
    AcceleratorState._reset_state()
    PartialState._reset_state()
