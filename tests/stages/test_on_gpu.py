"""Each stage gives on a GPU, a pretended one or a real one, what it gives on the CPU; a transfer that is forgotten is
found."""

import inspect
import json
import shutil
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.geometry_scenes import make_scene
from benchmarks.made_heads import make_truth
from benchmarks.pretend_gpu import from_gpu, pretend_gpu, to_gpu
from safetensors.torch import load_file

from benchmarks import made_people, stand_in_networks
from expportrait.engine.heartbeat import Heartbeat
from expportrait.engine.loop import run as run_stage
from expportrait.estimators.geometry.embedded import estimator
from expportrait.estimators.geometry.sapiens import SapiensEstimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.landmarks.sapiens_points import KEYPOINTS, SapiensLandmarks
from expportrait.fit.proxy import fit_proxy
from expportrait.head import Head
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import read_pairs
from expportrait.settings.config import Config, HeadSettings, Proxy
from expportrait.stages import generator, job, transfer, with_code
from expportrait.store import Store, StoreWriter

from ..generator.make import SETTINGS

torch.set_num_threads(1)
PEOPLE = {"ann-1": ("ann", "test"), "bob-1": ("bob", "train")}
ROWS = made_people.rows(PEOPLE)
PAIRS = read_pairs(None, ROWS)  # ann by herself, ann by bob
FRAMES = 5
STEPS = {"rigid_steps": 3, "landmark_steps": 3, "coarse_passes": 1, "static_passes": 1, "dynamic_passes": 1,
         "final_passes": 0.5, "min_steps": 1, "coarse_size": 48, "fine_size": 64, "batch": 2}  # fmt: skip
SECTIONS = {
    "control": {"maps": ["depth", "region", "eyes"]},
    "transfer": {"steps": 4, "save_every": 2, "clips": 1, "vertices": 64, "window": 4, "frames": 4},
    "drive": {"reference": 1},
    "generator": {"steps": 4, "save_every": 2, "reference": "both", "precision": "bf16", "checkpointing": "selective",
                  "prediction": "velocity", "drop_control": 0.5, "maps": ["normals", "coverage", "appearance", "seen"]},
    "reenact": {"control_scale": 2.0, "reference_scale": 1.5, "detail": 1.0},
    "evaluate": {"stride": 4},
    "latents": {"size": 64, "references": 1},
    "proxy": STEPS,
}  # fmt: skip


def config(results: Path, **sections: dict) -> Config:
    base = {name: SETTINGS.get(name, {}) | SECTIONS.get(name, {}) for name in SETTINGS | SECTIONS}
    return made_people.config(results, **base | {name: base.get(name, {}) | of for name, of in sections.items()})


def run(name: str, results: Path, device: str, clips: int = 2, **sections: dict) -> None:
    """One stage of the pipeline, which has to succeed, of the first clips and all pairs."""
    settings = config(results, **sections)
    if name in ("transfer", "generator"):
        {"transfer": transfer, "generator": generator}[name].run(ROWS, settings, device)
        return
    for stage in job(name, settings):
        index = run_stage(stage, stage.members(ROWS[:clips], PAIRS), settings, device)
        missing = [outcome.why for outcome in index.values() if outcome.status != "ok"]
        assert all(why.startswith("not needed") for why in missing) and len(missing) < len(index), missing


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """All stages on the CPU, of two made-up people whose frames show their heads in plain colours."""
    results, head = tmp_path_factory.mktemp("cpu"), Head.load(subdivisions=0)
    for clip in PEOPLE:
        made_people.proxy_store(results, head, clip, frames=FRAMES)
        made_people.frame_stores(results, head, clip)
        made_people.painted_store(results, head, clip)
    for name in STAGES:
        run(name, results, "cpu")
    return results


STAGES = ["control", "latents", "carry", "transfer", "drive", "appearance", "generator", "reenact"]
STAGES += ["evaluate"] if find_spec("mediapipe") else []  # a borrowed machine may lack it


@pytest.fixture
def without(results, tmp_path) -> Callable[..., Path]:
    """The same folder without what one stage made."""

    def copied(name: str, folder: str = "gpu") -> Path:
        shutil.copytree(results, tmp_path / folder, ignore=lambda at, _: {name} if at == str(results) else set())
        return tmp_path / folder

    return copied


REAL = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(params=["pretended", pytest.param("real", marks=REAL)])
def gpu(request) -> Callable[[], AbstractContextManager]:
    """Blocks in which there is a GPU, and in which it is used."""

    @contextmanager
    def used() -> Iterator[None]:
        if request.param == "real":
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            yield
            assert torch.cuda.max_memory_allocated() > held
            return
        with pretend_gpu() as gpu:
            before = gpu.launches
            yield
            assert gpu.launches - before > 20, "hardly anything is done on cuda:0"

    return used


@pytest.fixture
def on_gpu(gpu) -> Callable[..., None]:
    """Runs a stage there."""

    def on_gpu(name: str, results: Path, clips: int = 2, **sections: dict) -> None:
        with gpu():
            run(name, results, "cuda", clips, **sections)

    return on_gpu


@pytest.fixture
def same(request, record_property) -> Callable[..., None]:
    """Compares all arrays of the stores in two folders, and all tensors of their safetensors: in the mean they differ
    by little. A real GPU rounds otherwise, and Adam's first steps are as long for small gradients as for large ones."""
    name = request.node.name

    def compare(one: Path, other: Path, within: float = 1e-3) -> None:
        if "real" in name:
            within = 0.1 if "train" in name or "generator" in name else 10 * within
        record_property("difference", compared(one, other, within))

    return compare


def compared(one: Path, other: Path, within: float) -> float:
    """The largest difference, as a part of the values; raises AssertionError where it is more than ``within``."""
    stores = [path.relative_to(one) for path in sorted(one.rglob("*.zarr"))]
    weights = [path.relative_to(one) for path in sorted(one.rglob("model/**/*.safetensors"))]
    assert stores or weights
    pairs = [(Store(one / path), Store(other / path)) for path in stores]
    pairs = [(a[name], b[name]) for a, b in pairs for name in a.names()]
    for path in weights:
        a, b = load_file(one / path), load_file(other / path)
        pairs += [(a[name].numpy(), b[name].numpy()) for name in a]
    most = 0.0
    for a, b in pairs:
        assert a.shape == b.shape
        a, b = (np.nan_to_num(np.asarray(x, np.float64)) for x in (a, b))
        most = max(most, float(np.abs(a - b).mean() / max(np.abs(a).mean(), 1e-6)))
    assert most <= within
    return most


@pytest.mark.parametrize("name", STAGES[:8])
def test_a_stage_gives_what_it_gives_on_the_cpu(results, without, on_gpu, same, name):
    made = without(name)
    on_gpu(name, made)
    same(results / name, made / name)


@pytest.mark.skipif("evaluate" not in STAGES, reason="mediapipe is not installed")
def test_evaluate_gives_what_it_gives_on_the_cpu(results, without, on_gpu):
    made = without("evaluate")
    on_gpu("evaluate", made)
    tables = (json.loads((of / "evaluate" / "table.json").read_text())["rows"] for of in (results, made))
    numbers = [
        [(name, value) for row in rows for name, value in row.items() if isinstance(value, float)] for rows in tables
    ]
    assert len(numbers[0]) > 12
    assert [name for name, _ in numbers[0]] == [name for name, _ in numbers[1]]
    assert [value for _, value in numbers[1]] == pytest.approx([value for _, value in numbers[0]], rel=1e-3)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["transfer", "generator"])
def test_a_training_that_was_killed_goes_on_there(results, without, on_gpu, same, monkeypatch, name):
    def trained(self, done: int, *rest, told=Heartbeat.trained) -> None:
        told(self, done, *rest)
        if done == 3:
            raise Killed

    made = without(name)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Heartbeat, "trained", trained)
        on_gpu(name, made)
    on_gpu(name, made)
    same(results / name, made / name)


def test_low_rank_updates_are_trained_there(without, on_gpu, same):
    made = {device: without("generator", device) for device in ("cpu", "gpu")}
    more = {"generator": {"steps": 2, "lora_rank": 2, "checkpointing": "full", "reference": "latent_frame"}}
    run("generator", made["cpu"], "cpu", **more)
    on_gpu("generator", made["gpu"], **more)
    same(*(of / "generator" for of in made.values()))


def test_driving_obeys_its_controls_there(without, on_gpu, same):
    made = {device: without("drive", device) for device in ("cpu", "gpu")}
    controls = {"expression": "relative", "gaze": "camera", "smooth": 0.1, "gain_mouth": 0.5, "gain_pose": 0.5}
    run("drive", made["cpu"], "cpu", drive=controls)
    on_gpu("drive", made["gpu"], drive=controls)
    same(*(of / "drive" for of in made.values()))


def test_proxy_fits_the_head_that_it_fits_on_the_cpu(without, on_gpu, same):
    made = {device: without("proxy", device) for device in ("cpu", "gpu")}
    run("proxy", made["cpu"], "cpu", clips=1)
    on_gpu("proxy", made["gpu"], clips=1)
    same(*(of / "proxy" for of in made.values()), within=0.01)


def fit(device: str, frames: int = 3, yaw: float = 0.15, hair: str = "", lost: int | None = None, **settings):
    """A clip of a rendered head, fitted; in the frame ``lost`` the landmarks are guesses: those of the first one."""
    truth = make_truth(load_head(SMALL), frames, 64, yaw=yaw, long_hair=hair)
    points, sure = truth.points.clone(), torch.ones(frames, truth.points.shape[1])
    if lost is not None:
        points[lost, :, :2], sure[lost] = points[0, :, :2], 0.3
    truth.targets.disparity = settings.pop("disparity", False)
    return fit_proxy(load_head(SMALL).to(device), truth.targets, points, sure, Proxy(**STEPS | settings))


SMALL = HeadSettings(shape_components=20, expression_components=20)
LONG = [pytest.mark.long]
FITS = {
    "a portrait": pytest.param({"frames": 1}, marks=LONG),
    "hanging hair": pytest.param({"hair": "both"}, marks=LONG),
    "a far turn": pytest.param(
        {"frames": 5, "yaw": 0.7, "lost": 1, "max_aside": 1.0, "rigid_steps": 20, "landmark_steps": 20}, marks=LONG
    ),
    "disparity": pytest.param({"disparity": True}, marks=LONG),
    "one field": pytest.param({"offsets": "dynamic"}, marks=LONG),
    "none": pytest.param({"offsets": "none"}, marks=LONG),
    "tangled": pytest.param({"disentangle": False}, marks=LONG),
}


@pytest.mark.parametrize("settings", FITS.values(), ids=FITS)
def test_fits_of_all_kinds_run_there(gpu, request, settings):
    own, within = fit("cpu", **settings), 1e-4 if "pretended" in request.node.name else 1e-3  # m
    with gpu():
        found = fit("cuda", **settings)
        assert found.static.is_cuda and float((found.static.cpu() - own.static).norm(dim=-1).mean()) < within
        assert found.landmarks_aside.tolist() == own.landmarks_aside.tolist()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Stores of crop and landmarks of one rendered frame."""
    pytest.importorskip("mediapipe")
    results, scene = tmp_path_factory.mktemp("scene"), make_scene(load_head(), 1, 256, dressed=False)
    points, found, certainty = LandmarkDetector().detect(scene.frame[None])
    assert found.all()
    with StoreWriter(results / "crop" / "a.zarr", {"key": "crop a"}) as out:
        out.array("frames", scene.frame[None])
    with StoreWriter(results / "landmarks" / "a.zarr", {"key": "landmarks a"}) as out:
        out.array("points", points)
        out.array("interpolated", np.zeros(1, bool))
        out.array("confidence", certainty)
    return results


def estimated(results: Path, to: Path, device: str) -> Path:
    """The stage geometry by the embedded estimator."""
    shutil.copytree(results, to)
    settings = Config(results=to, geometry={"estimator": "embedded", "occlusion": False})
    index = run_stage(with_code("geometry"), [Row("a", "d", "a", Path("a"))], settings, device)
    assert index["a"].status == "ok", index["a"].why
    return to / "geometry"


@pytest.fixture
def quick(monkeypatch):
    """Of the embedded estimator's own fit, a few steps."""
    monkeypatch.setattr(estimator, "Proxy", partial(Proxy, rigid_steps=20, landmark_steps=10))


def test_geometry_gives_what_it_gives_on_the_cpu(scene, quick, gpu, same, tmp_path):
    own = estimated(scene, tmp_path / "cpu", "cpu")
    with gpu():
        same(own, estimated(scene, tmp_path / "gpu", "cuda"), within=0.01)


def on_the_cpu(file: Path, key: str, device: str):
    """A network that runs on the CPU: TorchScript knows no pretended tensors."""
    network = torch.jit.load(str(file)).eval()
    return lambda images: to_gpu(network(from_gpu(images)))


def test_what_follows_sapiens_networks_runs_there(gpu, request, tmp_path, monkeypatch):
    frame = stand_in_networks.ball(64)[0]
    files = stand_in_networks.sapiens(tmp_path)
    places = stand_in_networks.sapiens_points(tmp_path / "points.pt2", np.full((KEYPOINTS, 2), 0.5))
    whole = np.array([0.0, 0, 64, 64])
    own, points = SapiensEstimator(files), SapiensLandmarks(places)
    inputs = own.inputs([frame])
    expected = *own.raw(inputs), *points.keypoints([frame], [whole])
    for module in ("geometry.sapiens", "landmarks.sapiens_points"):
        if "pretended" in request.node.name:
            monkeypatch.setattr(import_module(f"expportrait.estimators.{module}"), "load_network", on_the_cpu)
    with gpu():
        found = (
            *SapiensEstimator(files, "cuda").raw(inputs),
            *SapiensLandmarks(places, "cuda").keypoints([frame], [whole]),
        )
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


# A transfer of each stage: the function that has it, its text, and what is left without it.
FORGOTTEN = {
    "geometry": (
        "estimators.geometry.embedded.estimator",
        "EmbeddedEstimator.head_maps",
        "x.cpu().numpy()",
        "x.numpy()",
    ),
    "proxy": ("fit.problem", "Problem.of", "points.to(device)", "points"),
    "control": ("stages.control", "load", ".to(device)", ""),
    "latents": ("stages.latents", "process", "pixels.to(clip.device)", "pixels"),
    "carry": (
        "stages.carry",
        "process",
        "to_tensor(resize(pictures, s.size)).to(clip.device)",
        "to_tensor(resize(pictures, s.size))",
    ),
    "transfer": ("transfer.train", "train", "batch.to(device)", "batch"),
    "drive": ("stages.drive", "_moves", "model.to(clip.device)", "model"),
    "appearance": ("appearance.portrait", "portrait", "torch.from_numpy(one).to(device)", "torch.from_numpy(one)"),
    "generator": ("generator.train", "train", "batch.to(accelerator.device)", "batch"),
    "reenact": ("stages.reenact", "trained", "model.to(device)", "model"),
    "evaluate": ("metrics.perceptual", "OwnLpips._features", ".to(self._device)", ""),
}


def forget(patch: pytest.MonkeyPatch, module: str, name: str, text: str, left: str) -> None:
    """Replace ``text`` in the code of a function, for all who hold it."""
    owner = vars(import_module(f"expportrait.{module}"))
    for part in name.split(".")[:-1]:
        owner = vars(owner[part])
    function = inspect.unwrap(getattr(owner[name.split(".")[-1]], "__func__", owner[name.split(".")[-1]]))
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(text) == 1
    made = {}
    exec(source.replace(text, left), {**function.__globals__, "lru_cache": lambda size: lambda f: f}, made)
    made = made[function.__name__]
    patch.setattr(function, "__code__", inspect.unwrap(getattr(made, "__func__", made)).__code__)


@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_transfer_that_is_forgotten_is_found(without, scene, quick, tmp_path, monkeypatch, name):
    forget(monkeypatch, *FORGOTTEN[name])
    if name == "geometry":
        with pytest.raises(AssertionError, match="cuda:0"), pretend_gpu():
            estimated(scene, tmp_path / "gpu", "cuda")
    else:
        with pytest.raises((AssertionError, RuntimeError, TypeError), match="cuda:0"), pretend_gpu() as gpu:
            before = gpu.launches
            run(name, without(name), "cuda", drive={"target_proxy": "clip"})
            assert gpu.launches - before > 20, "hardly anything is done on cuda:0"
