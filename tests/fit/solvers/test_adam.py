import torch

from expportrait.fit.solvers.adam import ClipAdam, Slot


def test_full_batches_match_torch_adam() -> None:
    target = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.zeros(5, 3), torch.zeros(5, 3, requires_grad=True)
    adam = ClipAdam({"x": Slot(ours, 0.1, True)})
    reference = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-12)
    for _ in range(25):
        adam.zero_grad()
        (ours - target).square().sum().backward()
        adam.step(None)
        reference.zero_grad()
        (theirs - target).square().sum().backward()
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_frames_outside_the_batch_keep_still() -> None:
    value, shared = torch.ones(4, 2), torch.ones(2)
    adam = ClipAdam({"x": Slot(value, 0.1, True), "y": Slot(shared, 0.1, False)})
    batches = [torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([1])]
    for frames in batches:
        adam.zero_grad()
        (value[frames] * shared).square().sum().backward()
        before = value.detach().clone()
        adam.step(frames)
        outside = [t for t in range(4) if t not in frames.tolist()]
        assert torch.equal(value.detach()[outside], before[outside])
        assert (value.detach()[frames] != before[frames]).all()
    assert torch.equal(value.detach()[3], torch.ones(2))


def test_shared_moment_keeps_the_gradient_direction() -> None:
    value = torch.zeros(6, 3)
    gradient = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    adam = ClipAdam({"x": Slot(value, 0.01, False, shared_moment=True)})
    value.grad = gradient.clone()
    adam.step(None)
    cosine = torch.nn.functional.cosine_similarity(value.detach().flatten(), -gradient.flatten(), dim=0)
    assert cosine > 0.9999
