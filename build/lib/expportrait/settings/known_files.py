"""Files of pretrained networks that the pipeline can use and does not ship: what, from where, on which terms.

DAViD's addresses and sizes are those of its README (microsoft/DAViD at 20a3eb6); Sapiens' are put together from its
lite/docs (facebookresearch/sapiens at 3e829ac). None was fetched in a test, and licences are the publishers' to state.
"""

from dataclasses import dataclass
from pathlib import Path

DAVID = "https://facesyntheticspubwedata.z6.web.core.windows.net/iccv-2025/models/"
SAPIENS = "https://huggingface.co/facebook/sapiens/resolve/main/sapiens_lite_host/torchscript/"
MIT, CC_NC = "MIT", "CC BY-NC 4.0, non-commercial"


@dataclass(frozen=True)
class KnownFile:
    """One file that the pipeline can use. ``set`` is the name of the files that belong together, ``key`` the setting
    that names this one, ``also`` another setting that may name it, ``member`` its name inside a zip. ``megabytes`` and
    ``sha256``, of which the first digits are enough, are as published; None and empty where they were not."""

    set: str
    key: str
    url: str
    licence: str
    megabytes: float | None = None
    sha256: str = ""
    member: str = ""
    also: str = ""

    @property
    def name(self) -> str:
        """Returns the name that the file has on the disk."""
        return self.member or self.url.rsplit("/", 1)[1]


def _david(size: str, megabytes: float) -> list[KnownFile]:
    names = {"normals": "normal-model", "depth": "depth-model", "mask": "foreground-segmentation-model"}
    return [
        KnownFile(f"david-{size}", f"geometry.{key}", f"{DAVID}{name}-vit{size[0]}16_384.onnx", MIT, megabytes)
        for key, name in names.items()
    ]


def _sapiens(size: str, normals: int, depth: int, mask: str, points: int) -> list[KnownFile]:
    files = {
        "normals": f"normal/checkpoints/sapiens_{size}/sapiens_{size}_normal_render_people_epoch_{normals}",
        "depth": f"depth/checkpoints/sapiens_{size}/sapiens_{size}_render_people_epoch_{depth}",
        "mask": f"seg/checkpoints/sapiens_{size}/sapiens_{size}_goliath_best_goliath_mIoU_{mask}",
    }
    pose = f"{SAPIENS}pose/checkpoints/sapiens_{size}/sapiens_{size}_goliath_best_goliath_AP_{points}_torchscript.pt2"
    return [
        KnownFile(f"sapiens-{size}", f"geometry.{key}", f"{SAPIENS}{path}_torchscript.pt2", CC_NC)
        for key, path in files.items()
    ] + [KnownFile(f"sapiens-{size}-points", "landmarks.model", pose, CC_NC)]


KNOWN = [
    *_david("base", 428.42),
    *_david("large", 1314.13),
    KnownFile("david-multitask", "geometry.model", f"{DAVID}multi-task-model-vitl16_384.onnx", MIT, 1316.66),
    *_sapiens("0.3b", 66, 100, "7673_epoch_194", 573),
    *_sapiens("0.6b", 200, 70, "7777_epoch_178", 609),
    *_sapiens("1b", 115, 88, "7994_epoch_151", 639),
    KnownFile(
        "arcface",
        "evaluate.arcface",
        "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip",
        "non-commercial research",
        member="w600k_r50.onnx",
        also="landmarks.arcface",
    ),
    KnownFile(
        "lpips",
        "evaluate.lpips_backbone",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "BSD-3-Clause",
        sha256="7be5be79",
    ),
    KnownFile(
        "lpips",
        "evaluate.lpips_linear",
        "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/alex.pth",
        "BSD-2-Clause",
    ),
]
SETS = tuple(dict.fromkeys(file.set for file in KNOWN))


def source(key: str, family: str) -> str:
    """Returns half a sentence on where the file of a setting comes from. ``family``: how the name of its set begins."""
    file = next(file for file in KNOWN if key in (file.key, file.also) and file.set.startswith(family))
    return (
        f"{file.name} (licence: {file.licence}) from {file.url}, by hand or by `expportrait fetch-weights {file.set} "
        f"--yes`, and set {key} to it"
    )


def comes_from(key: str, path: Path) -> str:
    """Returns what a message about a missing ``path`` can add, which is where such a file comes from: the known file of
    that name, or else the first one for the setting ``key``. Empty where none is known."""
    files = [file for file in KNOWN if key in (file.key, file.also)]
    files = [file for file in files if file.name == path.name] or files
    return f"; take {source(key, files[0].set)}" if files else ""
