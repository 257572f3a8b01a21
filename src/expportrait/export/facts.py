"""What the stores of a clip say of it: sizes, figures, and what made it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.engine.record import write_json
from expportrait.export.layout import HOME
from expportrait.settings.files import made_with
from expportrait.store import Store
from expportrait.video.rates import unrounded

# of the stores' attributes: stage, name, and what it is
ATTRIBUTES = {
    "face": ("crop", "size of the face in the source, px"),
    "face_coverage": ("crop", "share of the frames with a face"),
    "sharpness": ("crop", "sharpness"),
    "brightness": ("crop", "brightness, 0 to 255"),
    "found": ("landmarks", "share of the frames with landmarks"),
    "mean_confidence": ("landmarks", "mean confidence of the landmarks"),
    "occluded": ("geometry", "share of the frames with a part of the face hidden"),
}
MEANS = {  # of the fit's figures of each frame
    "landmark_error": "landmark error, inter-ocular distances",
    "normal_error": "normal error, degrees",
    "overlap": "overlap with the mask",
}
FIGURES = {name: about for name, (_, about) in ATTRIBUTES.items()} | MEANS
COPIED = {"crop": ("source_size", "box", "scale", "rotated", "padded"), "proxy": ("focal",)}


def read(stores: Mapping[str, Store], out: Path) -> dict[str, Any]:
    """JSON values. The settings, which most clips share, go into a file of the export's own, by their hash."""
    crop = stores["crop"]
    count, height, width = crop.lazy("frames").shape[:3]
    fps = unrounded(float(crop.attrs.get("fps") or 25))  # older stores have 24.999999999999996
    facts: dict[str, Any] = {"frames": count, "fps": fps, "width": width, "height": height, "figures": _figures(stores)}
    facts["crop"] = {name: stores[stage].attrs[name] for stage, names in COPIED.items() if stage in stores
                     for name in names if name in stores[stage].attrs}  # fmt: skip
    if "latents" in stores:
        attrs = stores["latents"].attrs
        facts["latents"] = {name: attrs[name] for name in ("size", "window", "starts") if name in attrs}
        facts["latents"]["codec"] = attrs.get("codec", {}).get("codec", "")
    facts["stages"] = {stage: store.attrs["version"] for stage, store in stores.items() if "version" in store.attrs}
    facts["software"] = {name: version for store in stores.values() for name, version in _software(store)}
    facts["networks"] = _networks(stores)
    facts["settings"] = _settings(stores, out)
    return facts


def _figures(stores: Mapping[str, Store]) -> dict[str, float]:
    found = {
        name: float(stores[stage].attrs[name])
        for name, (stage, _) in ATTRIBUTES.items()
        if stage in stores and isinstance(stores[stage].attrs.get(name), (int, float))
    }
    proxy = stores.get("proxy")
    for name in MEANS if proxy else ():
        values = proxy[name].astype(np.float64) if name in proxy else np.empty(0)
        if np.isfinite(values).any():
            found[name] = round(float(np.nanmean(values)), 6)
    return found


def _software(store: Store) -> list[tuple[str, str]]:
    return sorted(store.attrs.get("software", {}).items())


def _networks(stores: Mapping[str, Store]) -> dict[str, str]:
    """What a network or a model is called, and its sha256."""
    found = {
        f"{stage}: {name}": str(sum_)
        for stage, store in stores.items()
        for name, sum_ in (store.attrs.get("files") or {}).items()
    }
    codec = stores["latents"].attrs.get("codec", {}) if "latents" in stores else {}
    found |= {f"latents: {name}": str(value) for name, value in codec.items() if "sha256" in name}
    if "proxy" in stores and "head_sha256" in stores["proxy"].attrs:
        found["proxy: head model"] = stores["proxy"].attrs["head_sha256"]
    return found


def _settings(stores: Mapping[str, Store], out: Path) -> str:
    given = {stage: made_with(store.attrs.get("settings", {})) for stage, store in stores.items()}
    digest = hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()[:16]
    file = out / HOME / "settings" / f"{digest}.json"
    if not file.exists():
        write_json(file, given)
    return digest
