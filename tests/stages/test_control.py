import numpy as np
import pytest
import torch

from expportrait.engine.loop import run
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.result import ProxyFit
from expportrait.fit.store import save_proxy
from expportrait.manifest.clips import Row
from expportrait.render import render
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store, StoreWriter, decode_normals


@pytest.fixture(scope="module")
def fitted():
    head = load_head()
    p = HeadParameters.neutral(head, 5, 96, 3 * 96)
    pose = torch.zeros(5, 10, 3)
    pose[:, 2, 1] = torch.linspace(-0.4, 0.4, 5)
    p.set_pose(pose, torch.tensor([[0.0, -0.13, -1.4]]).expand(5, 3))
    n = len(head.dense.template)
    face = torch.nonzero(head.dynamic_mask > 1e-3).squeeze(-1)
    errors = {name: torch.zeros(5) for name in ("landmark", "normal_deg", "overlap")}
    return head, ProxyFit(p, torch.zeros(n, 3), torch.zeros(5, len(face), 3), face, [("final", {"total": 0.1})], errors)


def test_maps_are_the_render_of_the_stored_head(fitted, tmp_path) -> None:
    head, fit = fitted
    with StoreWriter(tmp_path / "proxy/a.zarr", {"key": "k"}) as out:
        save_proxy(out, fit, head)
    config = Config(results=tmp_path, control={"maps": ["depth", "region", "eyes"]})
    row = Row(clip="a", dataset="d", source="a.mp4", place=tmp_path / "a.mp4")
    outcome = run(with_code("control"), [row], config)["a"]
    assert outcome.status == "ok", outcome.why
    store = Store(tmp_path / "control/a.zarr")
    p = fit.parameters
    vertices = head.pose(head.dense, p.shape, p.expression, p.matrices(), p.translation())
    maps = render(vertices, head.dense_faces, p.camera(), cull=True)
    stored = decode_normals(store["normals"])
    covered = maps.coverage.numpy() > 0.5
    assert (store["coverage"] == 255 * covered).mean() > 0.999
    cosine = (stored * maps.normals.numpy()).sum(-1)[covered]
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 0.5
    assert np.abs(store["depth"].astype(np.float32) - maps.depth.numpy())[covered].mean() < 1e-3
    eye = 1 + head.REGIONS.index("eye")
    assert ((store["region"] == eye) == (store["eyes"] == 255)).all() and (store["eyes"] == 255).any()
    assert store["normals"].shape == (5, 96, 96, 3)


def test_a_changed_head_is_told_apart(fitted, tmp_path) -> None:
    head, fit = fitted
    with StoreWriter(tmp_path / "proxy/a.zarr", {"key": "k"}) as out:
        save_proxy(out, fit, head)
        out.attrs(head_sha256="0" * 64)
    row = Row(clip="a", dataset="d", source="a.mp4", place=tmp_path / "a.mp4")
    outcome = run(with_code("control"), [row], Config(results=tmp_path))["a"]
    assert outcome.status == "failed" and "head file" in outcome.why
