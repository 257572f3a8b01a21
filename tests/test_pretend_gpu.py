"""The pretend GPU refuses what CUDA refuses, and nothing else."""

import copy
import io
from threading import Thread

import numpy as np
import pytest
import torch
from benchmarks.pretend_gpu import GPU, GpuTensor, pretend_gpu


@pytest.fixture(autouse=True)
def gpu():
    with pretend_gpu() as gpu:
        yield gpu


def there(*shape: int) -> torch.Tensor:
    return torch.arange(float(torch.Size(shape).numel()), device="cuda").view(shape)


REFUSED = {
    "a sum": lambda: there(4) + torch.ones(4),
    "a sum in place, the other way": lambda: torch.ones(4).add_(there(4)[0]),
    "a product": lambda: there(2, 2) @ torch.ones(2, 2),
    "a stack of numbers": lambda: torch.stack([there(1)[0], torch.ones(())]),
    "a choice": lambda: torch.where(torch.tensor([True, False]), there(2), 0.0),
    "gathered by an index of the CPU": lambda: there(3).index_select(0, torch.tensor([1])),
    "a tensor of the CPU by an index of the GPU": lambda: torch.ones(3)[torch.tensor([0, 1], device="cuda")],
    "values of the CPU put into places": lambda: there(3).index_put_((torch.tensor([0]),), torch.ones(1)),
    "numpy": lambda: there(3).numpy(),
    "an array": lambda: np.asarray(there(3)),
    "a generator of the CPU": lambda: torch.randn(3, generator=torch.Generator(), device="cuda"),
    "pinned memory of the GPU": lambda: there(3).pin_memory(),
    "inside a transform": lambda: torch.func.vmap(lambda x: x + torch.ones(2))(there(3, 2)),
    "in backward": lambda: (there(3).requires_grad_() * 2).backward(torch.ones(3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses(name):
    with pytest.raises((RuntimeError, TypeError), match=r"cuda:0|'cuda'"):
        REFUSED[name]()


ALLOWED = {
    "a number": lambda: there(3) * 2 + torch.tensor(1.0),
    "places by indices of the CPU": lambda: there(3)[torch.tensor([0, 2])],
    "places by an array": lambda: there(3)[np.array([True, False, True])],
    "a mask": lambda: there(4)[there(4) > 1],
    "like another": lambda: torch.zeros_like(there(3)),
    "new from another": lambda: there(3).new_tensor([1.0, 2.0]),
    "what torch makes on the way": lambda: torch.nn.functional.one_hot(there(3).long()),
    "derivatives": lambda: torch.func.vmap(torch.func.jacfwd(lambda x, y: y + x[:2]), (None, 0))(there(3), there(4, 2)),
    "a sparse matrix": lambda: torch.eye(3).to_sparse_csr().to("cuda") @ there(3, 2),
    "pinned memory": lambda: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
    "a copy from the CPU": lambda: there(3).copy_(torch.ones(3)),
    "by a type": lambda: torch.ones(3).to("cuda", torch.float64),
    "by another": lambda: torch.ones(3).to(there(1)),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_allows(name):
    assert isinstance(ALLOWED[name](), GpuTensor)


def test_what_comes_back_is_of_the_cpu():
    x = there(3)
    assert not any(isinstance(y, GpuTensor) for y in (x.cpu(), x.to("cpu"), torch.ones(3).copy_(x)))
    assert x.device == GPU and x.is_cuda and not x.is_cpu and x.tolist() == [0, 1, 2] and float(x[1]) == 1
    assert torch.tensor([x[0], x[1]]).device.type == "cpu" and torch.tensor(x).is_cuda


def test_gradients_pass_both_ways():
    x = torch.ones(3, requires_grad=True)
    (x.to("cuda") * there(3)).cpu().sum().backward()
    assert x.grad.tolist() == [0, 1, 2] and not isinstance(x.grad, GpuTensor)
    y = there(2, 3).requires_grad_()
    (y[:, [0, 2]].cumsum(1).max() * torch.tensor(2.0)).backward()
    assert y.grad.is_cuda and y.grad.tolist() == [[0, 0, 0], [2, 0, 2]]


def test_a_model_moves_with_its_optimizer():
    model = torch.nn.Linear(3, 2)
    optimizer, before = torch.optim.AdamW(model.parameters(), fused=True), [*model.parameters()]
    model.to("cuda")
    assert all(p is q and p.is_cuda for p, q in zip(before, model.parameters(), strict=True))
    with torch.autocast("cuda", torch.bfloat16):
        out = model(there(4, 3))
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    start = model.weight.tolist()
    optimizer.step()
    assert model.weight.tolist() != start
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    assert optimizer.state[model.weight]["exp_avg"].is_cuda
    with pytest.raises(RuntimeError, match="same device"):
        model(torch.ones(4, 3))
    assert copy.deepcopy(model).weight.is_cuda
    model.cpu()
    assert model(torch.ones(4, 3)).device.type == "cpu" and before[0] is model.weight


def test_threads_see_it_too():
    made = []
    thread = Thread(target=lambda: made.append(torch.ones(2, device="cuda")))
    thread.start()
    thread.join()
    assert made[0].is_cuda


COSTS = {
    "a sum": (lambda x: x + 1, 1, 0),
    "a view": (lambda x: x[1:].t().reshape(-1), 0, 0),
    "of the CPU": (lambda x: torch.ones(3) + 1, 0, 0),
    "a number": (lambda x: float(x.sum()), 2, 1),
    "a list": (lambda x: x.tolist(), 1, 1),
    "made there": (lambda x: torch.ones(3, device="cuda"), 1, 0),
    "a transfer there": (lambda x: torch.ones(3).to("cuda"), 1, 1),
    "a list there": (lambda x: x.new_tensor([1.0, 2.0]), 1, 1),
    "an index of the CPU": (lambda x: x[torch.tensor([0, 1])], 2, 1),
    "a transfer back": (lambda x: x.cpu(), 1, 1),
    "a mask": (lambda x: x[x > 0], 2, 1),
    "an index": (lambda x: x[torch.zeros(1, device="cuda").long()], 3, 0),
    "a factor": (lambda x: torch.linalg.cholesky(torch.eye(3, device="cuda")), 3, 1),
}


@pytest.mark.parametrize("name", COSTS)
def test_it_counts_launches_and_waits(gpu, name):
    do, launches, waits = COSTS[name]
    x = there(3)
    before = gpu.launches, gpu.waits
    do(x)
    assert (gpu.launches - before[0], gpu.waits - before[1]) == (launches, waits)


def test_afterwards_all_is_as_it_was():
    available, run = torch.cuda.is_available, Thread.run
    with pretend_gpu():
        assert torch.cuda.is_available is not available or Thread.run is not run
    assert torch.cuda.is_available is available and Thread.run is run
