"""Stage ``geometry``: normals, depth, mask and confidence of head and shoulders of each frame (docs/geometry.md)."""

from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import torch

from expportrait.engine.stage import Clip
from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.geometry.registry import load_estimator
from expportrait.estimators.geometry.versions import VERSIONS
from expportrait.estimators.occlusion import Occlusion, hide, in_face
from expportrait.progress import say
from expportrait.store import StoreWriter, encode_normals, videocodec
from expportrait.store.frames import Frames
from expportrait.video.margins import Margins

AHEAD = 32  # frames that are searched for hands and things, and that wait to be packed


def load(settings: SimpleNamespace, device: str) -> SimpleNamespace:
    estimator = load_estimator(settings.geometry.estimator, settings.head, settings.geometry, device)
    s = settings.geometry
    for key, digest in estimator.files.items():
        named = f"geometry.{key}: {getattr(s, key)}" if hasattr(s, key) else f"geometry: {key} of mediapipe"
        say(f"{named}, sha256 {digest}, on {estimator.runs_on}")
    return SimpleNamespace(estimator=estimator, occlusion=Occlusion(s.hands_every) if s.occlusion else None)


def encode(maps: Geometry) -> dict[str, np.ndarray]:
    """Maps as they are stored: (B,H,W,3) int8, (B,H,W) float16, u8, u8."""
    return {
        "normals": encode_normals(maps.normals),
        "depth": torch.from_numpy(maps.depth).half().numpy(),  # four times as fast as numpy
        "mask": np.rint(255 * maps.mask).astype(np.uint8),
        "confidence": np.rint(255 * maps.confidence).astype(np.uint8),
    }


def process(clip: Clip, out: StoreWriter) -> None:
    """Threads: reading and preparing; the networks; finishing and ``encode``; hands and things; packing; this one."""
    frames, landmarks = Frames(clip.parents["crop"], "frames"), clip.parents["landmarks"]
    found = [landmarks[name] for name in ("points", "interpolated", "confidence")]
    estimator, occlusion, streams = clip.tools.estimator, clip.tools.occlusion, {}
    crop = clip.parents["crop"].attrs
    margins = Margins.of(crop, frames.shape[1])
    finding = occlusion.find(frames, found[0], found[2], ~found[1]) if occlusion else ()
    fronts = clip.ahead(finding, AHEAD)

    def encoded() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
        """Frame by frame, however many an estimator gives at once: what waits is counted in frames."""
        for maps in estimator.batches(frames, *found, margins):
            hidden = None
            if occlusion is not None:
                hidden = np.stack([next(fronts) for _ in range(len(maps))])
                hide(maps, hidden)
            if margins:
                for values in (maps.normals, maps.depth, maps.mask, maps.confidence):
                    margins.clear(values)
            blocks = encode(maps)
            for k in range(len(maps)):
                one = slice(k, k + 1)
                yield {name: block[one] for name, block in blocks.items()}, None if hidden is None else hidden[one]

    occluded = []
    # however this ends, what is made ahead ends with it
    with closing(fronts), closing(clip.computed(encoded(), AHEAD)) as made, clip.bar("estimate", len(frames)) as bar:
        for t, (blocks, hidden) in enumerate(made):
            if hidden is not None:
                occluded.append(in_face(hidden, found[0][t : t + 1]))
            for name, block in blocks.items():
                if name not in streams:
                    kind = block.shape[1:], block.dtype, PACKING[name]
                    streams[name] = out.stream(name, len(frames), *kind, **ATTRIBUTES[name])
                streams[name].append(block)
            bar.update(1)
    out.attrs(
        estimator=estimator.name,
        estimator_version=VERSIONS[estimator.name],
        depth_space=estimator.depth_space,
        fitted_face=estimator.fitted_face,
        padded=list(crop.get("padded") or (0, 0, 0, 0)),  # px: left, top, right, bottom, where all maps are 0
        statement=estimator.statement,
        files=estimator.files | (occlusion.files if occlusion else {}),
        occluded=float(np.concatenate(occluded).mean()) if occluded else None,
    )


ATTRIBUTES = {
    "normals": {"encoding": "int8, n * 127; camera space: x right, y up, z to the viewer"},
    "depth": {"unit": "relative: known up to a positive scale and a shift a frame"},
    "mask": {"unit": "255 = head and shoulders"},
    "confidence": {"unit": "255 = certain; an order of trust, not a probability"},
}
PACKING = {
    "normals": videocodec.VECTORS,
    "depth": videocodec.DEPTH,
    "mask": videocodec.TRUST,
    "confidence": videocodec.TRUST,
}
