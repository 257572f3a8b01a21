"""The shipped networks' files, and how they are made from the packages that carry them."""

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from skimage.data import astronaut

from expportrait.errors import UserError
from expportrait.files import sha256
from expportrait.networks import FOLDER, NETWORKS, about, make, network_file
from expportrait.video.write import write_mp4

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_file_is_the_one_that_is_named(name):
    file = network_file(name)
    assert sha256(file) == NETWORKS[name].sha256 == about(name)["weights"][name]
    package, version = NETWORKS[name].origin.split(",")[0].split()
    notice = (FOLDER / "NOTICE").read_text()
    assert file.name in notice and f"{package} {version}" in notice
    assert make.SOURCES[name].package == f"{package}=={version}"
    assert make.SOURCES[name].member.endswith(NETWORKS[name].origin.split(", ")[1])


def test_together_they_stay_small():
    assert sum(network_file(name).stat().st_size for name in NETWORKS) < 25e6


def test_a_file_that_is_missing_or_another_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"sface.onnx is missing: install"):
        network_file("sface", tmp_path)
    shutil.copy(network_file("yunet"), tmp_path)
    assert network_file("yunet", tmp_path) == tmp_path / "yunet.onnx"
    (tmp_path / "sface.onnx").write_bytes(b"another")
    with pytest.raises(UserError, match=r"sface.onnx is not the file that expportrait carries \(sha256 "):
        network_file("sface", tmp_path)


class Command:
    def __reduce__(self):
        return os.system, ("true",)


def test_a_pickle_of_more_than_arrays_is_not_read():
    assert make.read_arrays(pickle.dumps({"a": {"b": np.arange(3)}}, 4))["a"]["b"].tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"names (posix|nt)\.system, which no file of arrays needs"):
        make.read_arrays(pickle.dumps({"a": Command()}))


def test_lpips_arrays_get_torchs_names_and_order():
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=(3, 2, 4, 5)).astype(np.float32) for _ in range(10)]
    tree = {"AlexNet_0": {f"Conv_{i}": {"kernel": kernels[i], "bias": np.full(5, i, np.float32)} for i in range(5)}}
    tree |= {f"NetLinLayer_{i}": {"Conv_0": {"kernel": kernels[5 + i]}} for i in range(5)}
    arrays = np.load(io.BytesIO(make.lpips_alex(pickle.dumps(tree, 4))), allow_pickle=False)
    assert len(arrays) == 15 and arrays["features.8.bias"].tolist() == [3] * 5
    weight = arrays["features.10.weight"]
    assert weight.shape == (5, 4, 3, 2) and weight[1, 2, 0, 1] == kernels[4][0, 1, 2, 1]
    assert arrays["lin2.model.1.weight"][4, 3, 2, 1] == kernels[7][2, 1, 3, 4]


def test_a_network_that_asks_for_its_weights_takes_any_number_of_pictures_instead():
    weight = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    values = {"data": [1, 3, 2, 2], "weight": [4, 3, 2, 2], "old": [4], "fc1": [1, 4, 1, 1]}
    infos = {name: helper.make_tensor_value_info(name, 1, shape) for name, shape in values.items()}
    nodes = [helper.make_node("Conv", ["data", "weight"], ["x"]), helper.make_node("Identity", ["x"], ["fc1"])]
    graph = helper.make_graph(
        nodes, "net", [infos["data"], infos["weight"], infos["old"]], [infos["fc1"]],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
        value_info=[helper.make_tensor_value_info("x", 1, values["fc1"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    cleaned = make.sface(model.SerializeToString())
    kept = onnx.load_from_string(cleaned).graph
    assert [value.name for value in kept.input] == ["data"] and len(kept.initializer) == 1 and not kept.value_info
    session = onnxruntime.InferenceSession(cleaned)
    pictures = np.random.default_rng(1).normal(size=(3, 3, 2, 2)).astype(np.float32)
    found = session.run(None, {"data": pictures})[0]
    np.testing.assert_allclose(found[..., 0, 0], np.einsum("nchw,kchw->nk", pictures, weight), rtol=1e-5)


def test_archives_are_told_by_their_hash(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("package/file", b"content")
    source = make.Source("package==1", sha256(tmp_path / "other.whl"), "package/file")
    assert make.member(make.archive(source, tmp_path), source.member) == b"content"
    with pytest.raises(UserError, match=r"other.whl has no package/none"):
        make.member(tmp_path / "other.whl", "package/none")
    with pytest.raises(UserError, match=r"has no archive of package==1 with the sha256 00"):
        make.archive(make.Source("package==1", 64 * "0", "package/file"), tmp_path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this project."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "tree" / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(folder / "tree")], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.long
def test_a_wheel_carries_them_and_they_run_from_it(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        assert "expportrait/networks/NOTICE" in archive.namelist()
        archive.extractall(tmp_path / "installed")
    code = (
        "import numpy as np; from expportrait import networks\n"
        "from expportrait.metrics.shipped_lpips import ShippedLpips\n"
        "for name in networks.NETWORKS: print(networks.network_file(name))\n"
        "print(ShippedLpips()(np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 99, np.uint8))[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
                          cwd=tmp_path, check=True, capture_output=True, text=True)  # fmt: skip
    *files, distance = done.stdout.split()
    assert len(files) == len(NETWORKS) and all(Path(f).is_relative_to(tmp_path / "installed") for f in files)
    assert float(distance) > 0.01


CUT = """\
import os, sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        sys.stderr.write(f"the network was asked for: {event} {args}\\n")
        os._exit(9)

sys.addaudithook(refuse)
"""


@pytest.mark.long
def test_two_films_are_measured_from_a_wheel_in_an_environment_of_its_own_without_a_network(wheel, tmp_path):
    """The lines of docs/evaluate.md. Of what runs the tests, the environment sees the packages that the wheel needs."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-I", "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(wheel)], check=True)
    picture = astronaut()[:256, 96:352]
    true = np.stack([np.roll(picture, 2 * t, 1) for t in range(8)])
    write_mp4(tmp_path / "true.mp4", true, 25, crf=10)
    write_mp4(tmp_path / "made.mp4", [cv2.GaussianBlur(frame, (0, 0), 2) for frame in true], 25, crf=10)
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluate.md").read_text("utf-8"), re.DOTALL)
    lines = f"{CUT}{lines}\nimport expportrait\nprint(expportrait.__file__)\n"
    cut = ["unshare", "--map-root-user", "--net"]  # a network of its own, with nothing in it
    alone = shutil.which("unshare") and not subprocess.run([*cut, "true"], capture_output=True).returncode
    done = subprocess.run(
        [*(cut if alone else ()), python, "-c", lines], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": sysconfig.get_path("purelib"),
             "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *rows, place = done.stdout.splitlines()
    assert Path(place).is_relative_to(tmp_path / "env")
    found = {row.split(": ", 1)[0]: json.loads(row.split(": ", 1)[1]) for row in rows}
    made, floor = found["generated"], found["noise floor"]
    assert 0.2 < made["lpips"] < 0.8 and 0.5 < made["csim"] < floor["csim"] < 1
    assert 0 < floor["aed"] < made["aed"] < 0.2 and floor["lpips"] < made["lpips"] / 2
