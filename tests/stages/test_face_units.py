"""The stages that fit heads draw the expression to what the package's network reads off the landmarks."""

import numpy as np
import pytest

from benchmarks import made_people
from expportrait.engine.loop import run
from expportrait.estimators.blendshapes import units_of_points
from expportrait.head import Head
from expportrait.manifest.pairs import read_pairs
from expportrait.stages import job
from expportrait.store import Store, StoreWriter

ROWS = made_people.rows({"ann-1": ("ann", "test")})
FRAMES, LOST, REFERENCE = 4, 1, 2
# The landmark fit alone, with nothing but the term to move the expression.
STEPS = {"rigid_steps": 20, "landmark_steps": 150, "coarse_passes": 0, "static_passes": 0, "dynamic_passes": 0,
         "final_passes": 0, "offsets": "none", "coarse_size": 48, "fine_size": 48}  # fmt: skip
WEIGHTS = {"expression": 0.0, "activation": 0.0, "temporal_expression": 0.0}


@pytest.fixture(scope="module")
def head() -> Head:
    return Head.load(subdivisions=0)


@pytest.fixture(scope="module")
def made(head, tmp_path_factory):
    """Stores of a person, one frame without a face."""
    results = tmp_path_factory.mktemp("results")
    made_people.proxy_store(results, head, "ann-1", FRAMES)
    made_people.frame_stores(results, head, "ann-1")
    made_people.painted_store(results, head, "ann-1")
    landmarks = Store(results / "landmarks" / "ann-1.zarr")
    confidence = np.arange(FRAMES) != LOST
    with StoreWriter(results / "landmarks" / "ann-1.zarr", {"key": "landmarks ann-1"}) as out:
        out.array("points", landmarks["points"])
        out.array("confidence", confidence.astype(np.float32))
    return results


def activations(head: Head, results, stage: str, weight: float) -> np.ndarray:
    """(T, units) of the heads that the stage has fitted."""
    weights = WEIGHTS | {"blendshapes": weight}
    sections = {"proxy": STEPS | {"weights": weights}, "drive": {"reference": REFERENCE}}
    config = made_people.config(results, **sections)
    one = job(stage.partition("/")[0], config)[0]
    members = one.members(ROWS, read_pairs(None, ROWS))
    index = run(one, members, config)
    assert one.name == stage and [outcome.status for outcome in index.values()] == ["ok"], index
    expression = Store(results / stage / f"{members[0].clip}.zarr")["expression"]
    return expression @ head.activation_matrix.numpy()


@pytest.mark.parametrize(("stage", "frames"), [("proxy", slice(None)), ("drive/targets", [REFERENCE])])
def test_heads_show_what_the_network_sees_where_it_sees_a_face(made, head, stage, frames):
    points, seen = Store(made / "landmarks" / "ann-1.zarr")["points"], np.arange(FRAMES) != LOST
    told = units_of_points(head.unit_names, points, seen, made_people.SIZE)[frames]
    known = seen[frames]
    found, free = (activations(head, made, stage, weight) for weight in (1e3, 0.0))
    np.testing.assert_allclose(found[known], told[known], atol=0.05)
    assert np.abs(free[known] - told[known]).max() > 0.2
    assert np.isfinite(found).all()
