"""AED and APD from coefficient files of the user's own tracker, one a video: SMIRK's names, or Deep3DFaceRecon's.

``<folder>/<target>__<driver>`` of the results and ``<folder>/<clip>`` of targets and drivers, ``.npz`` or ``.mat``,
a row a frame of the video: NaN where the tracker saw no face. The files' hashes go into the record.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.io import loadmat

from expportrait.errors import ClipError
from expportrait.files import sha256
from expportrait.metrics.motion import Motion


@dataclass(frozen=True)
class Layout:
    """A tracker's array names: ``expression`` (T, E); ``rotation`` (T, 3), axis-angle or angles in rad; ``jaw`` (T, 3)
    axis-angle, or None where it has no jaw."""

    expression: str
    rotation: str
    jaw: str | None
    axis_angle: bool


LAYOUTS = {
    "smirk": Layout("expression_params", "pose_params", "jaw_params", axis_angle=True),
    "deep3d": Layout("exp", "angle", None, axis_angle=False),
}


@dataclass
class Track:
    """One video's motion and the file it is from."""

    motion: Motion
    sha256: str

    def rows(self, rows: list[int] | np.ndarray) -> Motion:
        """The motion of these frames."""
        return Motion(*(values[rows] for values in vars(self.motion).values()))


def file_of(folder: Path, name: str) -> Path:
    """The video's file. Raises ClipError where there is none."""
    for suffix in (".npz", ".mat"):
        if (file := folder / f"{name}{suffix}").is_file():
            return file
    raise ClipError(f"evaluate.tracks: {folder} has neither {name}.npz nor {name}.mat", retry=True)


def read_track(folder: Path, name: str, tracker: str, frames: int) -> Track:
    """The coefficients of the video ``name`` of at least ``frames`` frames. Raises ClipError for what is not there."""
    file, layout = file_of(folder, name), LAYOUTS[tracker]
    try:
        with np.load(file) if file.suffix == ".npz" else _mat(file) as data:
            wanted = [key for key in (layout.expression, layout.rotation, layout.jaw) if key]
            missing = [key for key in wanted if key not in data]
            values = {key: np.asarray(data[key], float) for key in wanted if key in data}
    except Exception as error:  # of numpy, zip and scipy
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ClipError(f"evaluate.tracks: {file} cannot be read: {why}") from None
    if missing:
        raise ClipError(f"evaluate.tracks: {file} has no {', '.join(missing)}, which {tracker} gives")
    for key, array in values.items():
        width = None if key == layout.expression else 3
        if array.ndim != 2 or len(array) < frames or width not in (None, array.shape[1]):
            raise ClipError(
                f"evaluate.tracks: {file}: {key} has shape {array.shape}, not ({frames} or more, {width or 'any'})"
            )
    rotation = values[layout.rotation][:frames]
    angles = np.stack([_angles(r) for r in rotation]) if layout.axis_angle else rotation
    jaw = np.linalg.norm(values[layout.jaw][:frames], axis=1) if layout.jaw else np.full(frames, np.nan)
    return Track(Motion(values[layout.expression][:frames], angles, jaw), sha256(file))


class _mat(dict):
    """A MATLAB file as np.load gives its own."""

    def __init__(self, file: Path):
        super().__init__(loadmat(file))

    def __enter__(self) -> "_mat":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _angles(axis_angle: np.ndarray) -> np.ndarray:
    """(3,) -> pitch, yaw, roll of R = Rz(roll) Ry(yaw) Rx(pitch), as ``motion.euler``."""
    if not np.isfinite(axis_angle).all():
        return np.full(3, np.nan)
    r = cv2.Rodrigues(axis_angle)[0]
    return np.array([np.arctan2(r[2, 1], r[2, 2]), np.arcsin(-r[2, 0].clip(-1, 1)), np.arctan2(r[1, 0], r[0, 0])])


def backends(tracker: str, result: Track, driver: Track) -> dict[str, dict]:
    """How aed, apd and jaw are measured, for the record."""
    layout = LAYOUTS[tracker]
    common = {
        "backend": f"coefficient files of {tracker}, given by the user",
        "files": {"result": result.sha256, "driver": driver.sha256},
        "norm": "L1",
    }
    size, frames = result.motion.expression.shape[1], "over the frames that both files have"
    out = {
        "aed": common | {"components": f"{size} coefficients {layout.expression}", "unit": "coefficient",
                         "reduction": f"mean over the coefficients, then {frames}"},
        "apd": common | {"components": f"pitch, yaw, roll of {layout.rotation}", "unit": "rad",
                         "reduction": f"mean over the three angles, then {frames}"},
        "jaw": common | {"components": f"size of the turn {layout.jaw}", "unit": "rad", "reduction": f"mean {frames}"},
    }  # fmt: skip
    return out if layout.jaw else {name: about for name, about in out.items() if name != "jaw"}
