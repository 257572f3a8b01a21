"""The proxy's store: what docs/artifacts.md promises those who read it without this project's code."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from expportrait.fit.parameters import HeadParameters
from expportrait.fit.result import ProxyFit
from expportrait.fit.store import load_proxy, save_proxy
from expportrait.head import Head
from expportrait.show.head_commands import bust
from expportrait.store import Store, StoreWriter

PAGE = Path(__file__).parents[2] / "docs" / "artifacts.md"


def snippets() -> list[str]:
    section = PAGE.read_text("utf-8").split("## A head in ten lines of numpy")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def write_fit(file: Path, head: Head) -> Store:
    """A proxy store of three frames with every joint turned and offsets of both kinds."""
    g = torch.Generator().manual_seed(0)
    p = HeadParameters.neutral(head, 3, 128, 400.0)
    p.shape, p.expression = torch.randn(head.n_shape, generator=g), torch.randn(3, head.n_expression, generator=g)
    turns = 0.4 * torch.randn(3, 10, 3, generator=g)
    turns[0, 4] = 0  # a joint at rest has no axis
    p.set_pose(turns, torch.tensor([0.1, -0.2, -1.5]) + 0.1 * torch.randn(3, 3, generator=g))
    n, face = len(head.dense.template), torch.nonzero(head.dynamic_mask > 1e-3).squeeze(-1)
    static = 0.01 * torch.randn(n, 3, generator=g)
    dynamic = 0.01 * torch.randn(3, len(face), 3, generator=g)
    errors = {name: torch.zeros(3) for name in ("landmark", "normal_deg", "overlap")}
    with StoreWriter(file, {"key": "k"}) as out:
        save_proxy(out, ProxyFit(p, static, dynamic, face, [("final", {"total": 0.1})], errors), head)
    return Store(file)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The results that the page's snippets speak of, in the working directory."""
    monkeypatch.chdir(tmp_path)
    head = Head.load()
    store = write_fit(tmp_path / "results/proxy/Radio11_0.zarr", head)
    return head, load_proxy(store, head)


def test_the_page_poses_a_head_with_numpy_alone(run, monkeypatch):
    head, fitted = run
    bust()
    said: dict = {}
    first, pixels, steered, with_torch = snippets()
    for frame in range(3):
        code = first.replace('np.load("bust.npz"), 0', f'np.load("bust.npz"), {frame}')
        assert code != first or frame == 0
        exec(code + pixels, said)
        truth = fitted.vertices(slice(frame, frame + 1))[0]
        np.testing.assert_allclose(said["posed"], truth.numpy(), atol=2e-5)
        np.testing.assert_allclose(said["pixels"], fitted.camera.project(truth).numpy(), atol=0.05)
        expression, whole = said["fit"]["expression"][:], said["points"].copy()
        pair = {"start": 0.5 * expression[frame], "weight": np.ones(len(whole)), "expression": expression}
        rest = whole - said["head"]["expression_basis"] @ expression[frame]
        there = {**said, "pair": pair, "t": frame, "points": rest}
        exec(steered, there)
        np.testing.assert_allclose(there["points"], whole, atol=1e-7)
    assert said["fit"].attrs["head_sha256"] == said["head"]["sha256"]
    assert (said["head"]["faces"] == head.dense_faces.numpy()).all()
    assert not re.search(r"^(import|from) (?!numpy|scipy|zarr)", first, re.MULTILINE)
    assert len([line for line in first.splitlines() if line and not re.match("import|from", line)]) == 10

    exec(with_torch, said)
    torch.testing.assert_close(said["vertices"], fitted.vertices())
    torch.testing.assert_close(said["neutral"], fitted.neutral())
