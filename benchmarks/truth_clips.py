"""Clips of known heads, rendered; kept in a folder where one is given."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.truth_hair import make_sheet
from benchmarks.truth_mixed import dynamic_of
from benchmarks.truth_motion import YAW, Motion, make_motion
from benchmarks.truth_person import Person, make_person, mean_static, neutral
from scipy.spatial.transform import Rotation

from expportrait.head import Head
from expportrait.render import Camera, render
from expportrait.store import encode_normals

SIZE = 512
# Read at once, so that a run during which the code changes keeps to the files of its own.
SOURCES = b"".join(
    Path(__file__).with_name(f"truth_{name}.py").read_bytes() for name in ("person", "hair", "motion", "mixed", "clips")
)


@dataclass
class Clip:
    """All of T frames; px of a 512 px picture, metres, camera space."""

    vertices: np.ndarray  # (T,n_d,3)
    visible: np.ndarray  # (T,n_d) bool
    landmarks: np.ndarray  # (T,478,3) px, z in px away from the viewer
    normals: np.ndarray  # (T,512,512,3) int8, as stores keep them
    depth: np.ndarray  # (T,512,512) float32 m
    mask: np.ndarray  # (T,512,512) bool
    gaze: np.ndarray  # (T,2,3) unit, of the left and right eye
    open_eyes: np.ndarray  # (T,) bool
    static: np.ndarray  # (n_d,3) m_s D_s in the clip's gauge
    dynamic: np.ndarray  # (T,n_d,3) m_d D_t, zero mean over the clip
    neutral: np.ndarray  # (n_d,3) template + B_S + m_s D_s
    focal: np.ndarray  # () px
    shape: np.ndarray  # (S,)
    expression: np.ndarray  # (T,E)
    pose: np.ndarray  # (T,10,3) axis-angle, rad
    place: np.ndarray  # (T,3) translation, m
    hair: np.ndarray  # (T,k,3) vertices of hair that hangs to the shoulders, camera space; none: k = 0
    hair_faces: np.ndarray  # (f,3), numbered from 0

    @property
    def camera(self) -> Camera:
        return Camera(float(self.focal), SIZE / 2, SIZE / 2, SIZE, SIZE)


def posed(head: Head, person: Person, motion: Motion, offset: torch.Tensor, focal: float, random: np.random.Generator):
    """Vertices (T,n_d,3), landmarks (T,478,3) m, the joints' transforms (T,10,3,4) and the translation (T,3) m."""
    turns = Rotation.from_rotvec(motion.pose.reshape(-1, 3)).as_matrix().reshape(*motion.pose.shape[:2], 3, 3)
    matrices = torch.from_numpy(turns.astype(np.float32))
    scale = random.uniform(1150, 1350)  # px a metre at the neck, as the crop stage frames a head
    centre = [random.uniform(-0.012, 0.012), -0.09 + random.uniform(-0.01, 0.01), -focal / scale]
    place = torch.from_numpy((np.array(centre) + motion.sway).astype(np.float32))
    shape, expression = torch.from_numpy(person.shape), torch.from_numpy(motion.expression(head))
    vertices = head.pose(head.dense, shape, expression, matrices, place, offset)
    corners = vertices[:, head.faces[head.landmark_faces]]  # the dense mesh begins with the coarse one
    landmarks = (head.landmark_barycentric[..., None] * corners).sum(-2)
    return vertices, landmarks, head.transforms(shape, expression, matrices, place), place


def make_clip(
    head: Head,
    person: int,
    clip: int,
    frames: int,
    yaw: tuple[float, float] = YAW,
    motion: Motion | None = None,
    long_hair: bool = False,
    kind: str = "pattern",
) -> Clip:
    """Render one clip of one person, whose farthest turn lies between ``yaw`` degrees, or who moves as ``motion``; with
    ``long_hair`` the same head with hair to the shoulders before it. ``kind``: of D_t, see truth_mixed."""
    someone, motion = make_person(head, person), motion or make_motion((person, clip), frames, yaw)
    random = np.random.default_rng([3, person, clip])
    moved = dynamic_of(head, (person, clip), motion, kind)
    mean = moved.mean(0)
    focal = SIZE * random.uniform(2.4, 3.7)
    camera = Camera(focal, SIZE / 2, SIZE / 2, SIZE, SIZE)
    offset = torch.from_numpy(someone.static + moved)
    vertices, landmarks, joints, place = posed(head, someone, motion, offset, focal, random)
    hair, hair_faces = torch.zeros(frames, 0, 3), np.zeros((0, 3), np.int64)
    if long_hair:
        sheet = make_sheet(head, someone, person)
        hair, hair_faces = sheet.posed(joints), sheet.faces
    shown, faces = with_hair(vertices, head.dense_faces, hair, hair_faces)
    normals, depth, mask, visible = [], [], [], []
    for t in range(frames):
        maps = render(shown[t : t + 1], faces, camera, cull=True)
        normals.append(encode_normals(maps.normals[0].numpy()))
        depth.append(maps.depth[0].numpy())
        mask.append(maps.coverage[0].numpy() > 0.5)
        visible.append(seen(shown[t], maps, camera, faces)[: vertices.shape[1]])
    near = (
        (landmarks[..., 2] - landmarks[..., 2].mean(1, keepdim=True))
        * -focal
        / -landmarks[..., 2].mean(1, keepdim=True)
    )
    points = torch.cat([camera.project(landmarks), near[..., None]], -1).numpy()
    return Clip(
        vertices.numpy(),
        np.stack(visible),
        points,
        np.stack(normals),
        np.stack(depth),
        np.stack(mask),
        joints[:, 4:6, :, 2].numpy(),
        motion.units["eyeBlinkLeft"] < 0.4,
        someone.static + mean,
        moved - mean,
        neutral(head, someone, mean),
        np.array(focal),
        someone.shape,
        motion.expression(head),
        motion.pose.astype(np.float32),
        place.numpy(),
        hair.numpy(),
        hair_faces,
    )


def with_hair(
    vertices: torch.Tensor, faces: torch.Tensor, hair: torch.Tensor, hair_faces: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Head (T,n,3), (f,3) and hair (T,k,3), (g,3) as one mesh, the head's vertices first."""
    return torch.cat([vertices, hair], 1), torch.cat([faces, torch.from_numpy(hair_faces) + vertices.shape[1]])


def seen(vertices: torch.Tensor, maps, camera: Camera, faces: torch.Tensor) -> np.ndarray:
    """(n,) bool: a vertex of a face that is drawn, inside the picture."""
    drawn = torch.zeros(len(vertices), dtype=torch.bool)
    drawn[faces[maps.face_id[0][maps.face_id[0] >= 0].unique()]] = True
    inside = ((camera.project(vertices) > 0) & (camera.project(vertices) < SIZE)).all(-1)
    return (drawn & inside).numpy()


def cached(make, folder: Path | None, *key) -> dict[str, np.ndarray]:
    """``make()`` from ``folder``, where it was made before by the same code with the same key."""
    if folder is None:
        return make()
    file = folder / f"{hashlib.sha256(SOURCES + repr(key).encode()).hexdigest()[:20]}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{np.random.default_rng().integers(10**9)}.npz")
        np.savez(part, **make())
        part.replace(file)
    with np.load(file) as data:
        return {name: data[name] for name in data.files}


def load_clip(
    head: Head,
    person: int,
    clip: int,
    frames: int,
    folder: Path | None = None,
    long_hair: bool = False,
    kind: str = "pattern",
) -> Clip:
    """The clip of ``make_clip``, from ``folder`` where it was made before."""
    key = ("clip", head.sha256, len(head.dense.template), head.n_shape, head.n_expression, person, clip, frames)
    make = lambda: vars(make_clip(head, person, clip, frames, long_hair=long_hair, kind=kind))  # noqa: E731
    return Clip(**cached(make, folder, *key, long_hair, kind))


def population_mean(head: Head, folder: Path | None = None, people: int = 96) -> np.ndarray:
    """(n_d,3) m: the generator's mean of template + B_S + m_s D_s. Shape coefficients and features have mean zero; hair
    and clothes do not, and are averaged over people who are in no clip."""

    def make() -> dict[str, np.ndarray]:
        return {"mean": head.dense.template.numpy() + mean_static(head, range(10**5, 10**5 + people))}

    return cached(make, folder, "mean", head.sha256, len(head.dense.template), people)["mean"]
