"""The controls of driving on known heads: what each takes from the motion, and what it does elsewhere.

    python benchmarks/drive_truth.py [--frames 50] [--file SMPLX_NEUTRAL.npz] [--picture docs/images/controls.jpg]

A person of truth_person.py is driven by another one, who makes faces, talks, blinks and turns (truth_motion.py),
absolutely, by copied offsets; then under one control after the other. Of each: how much the face moves within its head
(torso, neck and head turned back), and by area how much its skin does of its own (jaw and eyes turned back too); how
much jaw, eyes and head turn, and how much the neck's place moves. All from the first frame on, root mean square over
frames and vertices, in percent of what driving without controls does. Two heads: the open one, and a file in SMPL-X's
layout, by default one of the real file's sizes as the tests make it, whose coefficients have no names, and whose pose
moves the skin as well. Last, whether gains of 1 give the same bytes. --picture: one frame under some controls instead.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.truth_film import paint, shade, shine
from benchmarks.truth_motion import FPS, make_motion
from benchmarks.truth_person import activations, make_person
from tests.head.real_sizes import user_arrays

from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import FittedHead
from expportrait.head import Head
from expportrait.head.areas import areas
from expportrait.head.layout import read_model
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from expportrait.head.smplx import smplx_arrays
from expportrait.render import Camera, render
from expportrait.settings.config import HeadSettings
from expportrait.settings.sections import Drive
from expportrait.show import panels
from expportrait.stages.control import render_maps
from expportrait.transfer.drive import facing_of, steered
from expportrait.transfer.motion import FACE, TURNS, Part, motion
from expportrait.transfer.timing import smoothed

SIZE, TARGET, DRIVER = 128, 0, 5
AREAS = ("mouth", "lids", "brows")
COLUMNS = (*AREAS, "face", "jaw", "gaze", "head", "place")
ONES = {name: 1.0 for name in Drive.model_fields if name.startswith("gain_")}
CONTROLS = (
    {"hold": ["expression"]}, {"hold": ["pose"]}, {"gain_expression": 0.5}, {"gain_mouth": 0}, {"gain_eyes": 0},
    {"gain_lids": 0}, {"gain_brows": 0}, {"gain_brows": 2}, {"gain_jaw": 0}, {"gain_gaze": 0}, {"gain_pose": 0.5},
    {"gain_pose": 2}, {"smooth": 0.2}, {"gaze": "camera"}, {"expression": "relative"},
)  # fmt: skip


def known(head: Head, person: int, frames: int, units: Head) -> FittedHead:
    """A clip of a made person. ``units``: the open head, whose coefficients the first ones of the other file are."""
    made, moves = make_person(head, person), make_motion((person, 0), frames)
    expression = torch.zeros(frames, head.n_expression)
    expression[:, : units.n_expression] = torch.from_numpy(moves.expression(units))[:, : head.n_expression]
    dynamic = torch.from_numpy(made.dynamic(activations(moves.units, moves.jaw)))
    rows = torch.nonzero(head.dynamic_mask)[:, 0]
    place = torch.from_numpy(np.array([0.01, -0.09, -1.4]) + moves.sway).float()
    return FittedHead(head, torch.from_numpy(made.shape), expression, torch.from_numpy(moves.pose).float(), place,
                      torch.from_numpy(made.static), dynamic[:, rows], rows,
                      Camera(2.8 * SIZE, SIZE / 2, SIZE / 2, SIZE, SIZE))  # fmt: skip


def steer(target: FittedHead, driver: FittedHead, **controls) -> FittedHead:
    s, moves = Drive(**controls), replace(motion(driver), dynamic=driver.dynamic)
    if s.smooth:
        moves = smoothed(moves, torch.arange(driver.frames, dtype=torch.float64) / FPS, s.smooth)
    return steered(target, 0, Part(moves, 0, s.expression == "relative"), Part(moves, 0, False), s)


def moved(made: FittedHead, masks: dict[str, Tensor]) -> dict[str, float]:
    """Root mean square changes since the first frame: m, rad."""
    still = replace(made, pose=made.pose.clone(), translation=torch.zeros_like(made.translation))
    still.pose[:, TURNS] = 0
    rest = replace(still, pose=torch.zeros_like(made.pose))
    found = {}
    for name, mask in masks.items():
        shift = (still if name == "face" else rest).vertices()
        shift = (shift - shift[:1]).square().sum(-1)
        found[name] = float((mask * shift).sum() / mask.sum() / len(shift)) ** 0.5
    turns = axis_angle_to_matrix(made.pose[:, FACE])
    turned = matrix_to_axis_angle(turns[:1].transpose(-1, -2) @ turns).square().sum(-1).mean(0).sqrt()
    faces = facing_of(made)
    away = matrix_to_axis_angle(faces[:1].transpose(-1, -2) @ faces).square().sum(-1).mean().sqrt()
    place = (made.translation - made.translation[:1]).square().sum(-1).mean().sqrt()
    return found | {"jaw": float(turned[0]), "gaze": float(turned[1]), "head": float(away), "place": float(place)}


def measured(head: Head, frames: int, units: Head) -> tuple[list[dict[str, float]], dict[str, float], bool]:
    """Shares of what plain driving does, a control each; what that is; and whether gains of 1 give its bytes."""
    target, driver = (known(head, person, frames, units) for person in (TARGET, DRIVER))
    masks = {name: mask for name, mask in areas(head).items() if name in AREAS} | {"face": head.facial}
    free = steer(target, driver)
    whole = moved(free, masks)
    rows = [moved(steer(target, driver, **controls), masks) for controls in CONTROLS]
    parts = ("expression", "pose", "translation")
    short = replace(driver, **{name: getattr(driver, name)[:8] for name in (*parts, "dynamic")})
    first, second = (steer(target, short, **controls) for controls in ({}, ONES))
    pairs = zip(render_maps(first, ["depth"]), render_maps(second, ["depth"]), strict=True)
    same = all((one[name] == two[name]).all() for one, two in pairs for name in one)
    same &= all(torch.equal(getattr(first, name), getattr(second, name)) for name in parts)
    return [{name: row[name] / whole[name] for name in COLUMNS} for row in rows], whole, bool(same)


SHOWN = {
    "no control": {}, "hold: pose": {"hold": ["pose"]}, "hold: expression": {"hold": ["expression"]},
    "gain_pose: 0.5": {"gain_pose": 0.5}, "gaze: camera": {"gaze": "camera"}, "gain_mouth: 0": {"gain_mouth": 0},
    "gain_jaw: 0": {"gain_jaw": 0}, "gain_lids: 0": {"gain_lids": 0}, "gain_brows: 2": {"gain_brows": 2},
    "gain_expression: 1.5": {"gain_expression": 1.5},
}  # fmt: skip
FACES = {  # units, jaw's and eyes' turns and the head's yaw, degrees: of the portrait, and of the driver's second frame
    TARGET: ({"mouthFrown": 0.5, "browInnerUp": 0.3}, 0, 0, -8),
    DRIVER: ({"mouthSmile": 0.9, "browOuterUp": 0.9, "browInnerUp": 0.6, "eyeBlink": 0.25}, 9, 24, 22),
}


def painted(made: FittedHead, person: int, size: int) -> np.ndarray:
    """The last frame, (size, size, 3) u8, in a made person's colours."""
    head = made.head
    colours = torch.from_numpy(np.concatenate([paint(head, person), shine(head)[:, None]], 1).astype(np.float32))
    camera = Camera(4.4 * size, 0.48 * size, 0.62 * size, size, size)
    maps = render(made.vertices()[-1:], head.dense_faces, camera, {"paint": colours}, cull=True)
    albedo, gloss = np.split(maps.attributes["paint"][0].numpy(), [3], axis=-1)
    lit = shade(maps.normals[0].numpy(), albedo, gloss, np.array([0.4, 0.5, 0.77]), 0.8, 0.5).clip(0, 1) ** (1 / 2.2)
    return np.rint(255 * np.where(maps.coverage[0].numpy()[..., None] > 0.5, lit, 0.93)).astype(np.uint8)


def picture(file: Path, head: Head, size: int = 256) -> None:
    """The portrait and the driver, and the portrait driven under each of SHOWN."""
    people = {}
    for person, (units, jaw, eyes, yaw) in FACES.items():
        one = known(head, person, 2, head)
        one.expression = torch.stack([torch.zeros(head.n_expression), head.expression_of(units)])
        one.pose = torch.zeros(2, *one.pose.shape[1:])
        one.pose[1, FACE[0], 0], one.pose[1, FACE[1:], 1] = np.radians(jaw), np.radians(eyes)
        one.pose[1, TURNS[1:], 1] = np.radians(yaw) / 2
        one.dynamic, one.translation = torch.zeros_like(one.dynamic), one.translation[:1].repeat(2, 1)
        people[person] = one
    target, driver = people[TARGET], people[DRIVER]
    target = replace(target, expression=target.expression[1:], pose=target.pose[1:])
    shown = [panels.labelled(panels.resize(painted(one, person, 4 * size), size), name)
             for one, person, name in ((target, TARGET, "portrait"), (driver, DRIVER, "driver"))]  # fmt: skip
    for name, controls in SHOWN.items():
        image = painted(steer(target, driver, **controls), TARGET, 4 * size)
        shown.append(panels.labelled(panels.resize(image, size), name))
    panels.save(np.vstack([np.hstack(shown[first : first + 6]) for first in range(0, len(shown), 6)]), file)


def like_smplx(folder: Path) -> Path:
    file = folder / "SMPLX_NEUTRAL.npz"
    np.savez(file, **user_arrays(smplx_arrays(read_model(None, 300, 100))))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--file", type=Path, help="an SMPL-X file; its first directions have to be the open head's")
    parser.add_argument("--picture", type=Path, help="where to write it")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.picture:
        picture(chosen.picture, load_head(HeadSettings()))
        return
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        os.environ.setdefault("EXPPORTRAIT_CACHE", folder)
        file = chosen.file or like_smplx(Path(folder))
        units = load_head(HeadSettings())
        found = [measured(head, chosen.frames, units) for head in (units, load_head(HeadSettings(file=file)))]
    print(f"| control | {' | '.join(COLUMNS)} |\n| {' | '.join(['---'] * (1 + len(COLUMNS)))} |")
    units_of = dict.fromkeys((*AREAS, "face", "place"), 1000.0)
    for number, controls in enumerate(({}, *CONTROLS)):
        cells = []
        for name in COLUMNS:
            if not controls:
                unit = "mm" if name in units_of else "°"
                values = [whole[name] * units_of.get(name, 180 / np.pi) for _, whole, _ in found]
                cells.append(f"{values[0]:.1f}, {values[1]:.1f} {unit}")
            else:
                cells.append(", ".join(f"{100 * rows[number - 1][name]:.1f}" for rows, _, _ in found))
        told = " ".join(f"{name}: {value[0] if isinstance(value, list) else value}" for name, value in controls.items())
        print(f"| {f'`{told}`' if told else 'none'} | {' | '.join(cells)} |")
    print(f"\ngains of 1, the same bytes: {', '.join('yes' if same else 'NO' for _, _, same in found)}")


if __name__ == "__main__":
    main()
