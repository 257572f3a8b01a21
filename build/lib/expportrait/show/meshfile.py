"""Mesh files that other programs open: binary glTF 2.0 (.glb) and binary PLY."""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.files import replace_file
from expportrait.render import Camera
from expportrait.render.camera import FAR, NEAR

FLOAT, UINT, UBYTE = 5126, 5125, 5121  # glTF's names of number types
VERTICES, INDICES = 34962, 34963  # and of what a buffer view is for
JSON_CHUNK, BIN_CHUNK = 0x4E4F534A, 0x004E4942


@dataclass(frozen=True)
class Mesh:
    """vertices (n,3) m, y up, faces (F,3) counter-clockwise from outside, unit normals (n,3), colours (n,3) u8 sRGB."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colours: np.ndarray


def write_ply(file: Path, mesh: Mesh) -> None:
    """Binary little-endian PLY with normals and colours, m."""
    columns = [(name, "<f4", "float") for name in ("x", "y", "z", "nx", "ny", "nz")]
    columns += [(name, "u1", "uchar") for name in ("red", "green", "blue")]
    rows = np.empty(len(mesh.vertices), [(name, kind) for name, kind, _ in columns])
    values = np.concatenate([mesh.vertices, mesh.normals, mesh.colours], axis=1)
    for (name, _, _), column in zip(columns, values.T, strict=True):
        rows[name] = column
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", "comment metres, y up, facing +z"]
    header += [f"element vertex {len(rows)}", *(f"property {word} {name}" for name, _, word in columns)]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    replace_file(file, "\n".join(header).encode() + rows.tobytes() + faces.tobytes())


def write_glb(
    file: Path,
    mesh: Mesh,
    moves: Sequence[Mesh] = (),
    times: Sequence[float] = (),
    camera: Camera | None = None,
    name: str = "head",
) -> None:
    """Binary glTF 2.0. ``moves`` are further keyframes of the same mesh, each a morph target, and ``times`` (s) those
    of all keyframes, the first being ``mesh`` itself: an animation of the targets' weights that goes linearly from one
    keyframe to the next. ``camera``: the clip's, at the origin, for meshes in camera space."""
    parts = _Buffer()
    attributes = {
        "POSITION": parts.add(mesh.vertices.astype("<f4"), VERTICES, bounds=True),
        "NORMAL": parts.add(_unit(mesh.normals), VERTICES),
        "COLOR_0": parts.add(_linear(mesh.colours), VERTICES, normalized=True),
    }
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": parts.add(mesh.faces.astype("<u4").reshape(-1), INDICES),
        "material": 0,
    }
    shape: dict[str, Any] = {"name": name, "primitives": [primitive]}
    nodes: list[dict[str, Any]] = [{"name": name, "mesh": 0}]
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "expportrait"},
        "scene": 0,
        "meshes": [shape],
        "materials": [{"name": "clay", "doubleSided": True, "pbrMetallicRoughness": {"metallicFactor": 0}}],
    }
    if moves:
        if len(times) != 1 + len(moves):
            raise ValueError(f"{len(times)} times for {1 + len(moves)} keyframes")
        primitive["targets"] = [
            {
                "POSITION": parts.add((move.vertices - mesh.vertices).astype("<f4"), VERTICES, bounds=True),
                "NORMAL": parts.add(_unit(move.normals) - _unit(mesh.normals), VERTICES),
            }
            for move in moves
        ]
        shape["weights"] = [0.0] * len(moves)
        shape["extras"] = {"targetNames": [f"keyframe {k}" for k in range(1, len(times))]}  # Blender reads them
        weights = np.eye(len(times), dtype="<f4")[:, 1:]  # a row a keyframe: its own target and no other
        sampler = {
            "input": parts.add(np.asarray(times, "<f4"), None, bounds=True),
            "output": parts.add(weights.reshape(-1), None),
            "interpolation": "LINEAR",
        }
        channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        document["animations"] = [{"name": name, "samplers": [sampler], "channels": [channel]}]
    if camera is not None:
        fov = 2 * math.atan(camera.height / 2 / float(camera.focal))
        lens = {"yfov": fov, "aspectRatio": camera.width / camera.height, "znear": NEAR, "zfar": FAR}
        document["cameras"] = [{"name": "clip", "type": "perspective", "perspective": lens}]
        nodes.append({"name": "camera", "camera": 0})
    document |= {"nodes": nodes, "scenes": [{"nodes": list(range(len(nodes)))}]}
    document |= {"accessors": parts.accessors, "bufferViews": parts.views, "buffers": [{"byteLength": parts.length}]}
    text = _padded(json.dumps(document, separators=(",", ":")).encode(), b" ")
    binary = b"".join(parts.bytes)
    total = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<III", 0x46546C67, 2, total)
    body = struct.pack("<II", len(text), JSON_CHUNK) + text + struct.pack("<II", len(binary), BIN_CHUNK) + binary
    replace_file(file, head + body)


class _Buffer:
    """glTF's one buffer, and the views and accessors into it, one of each an array."""

    def __init__(self) -> None:
        self.bytes: list[bytes] = []
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.length = 0

    def add(self, array: np.ndarray, target: int | None, bounds: bool = False, normalized: bool = False) -> int:
        """Index of the accessor of a scalar (n,) or vector (n,k) array."""
        data = array.tobytes()
        view = {"buffer": 0, "byteOffset": self.length, "byteLength": len(data)}
        self.views.append(view | ({} if target is None else {"target": target}))
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": {"f4": FLOAT, "u4": UINT, "u1": UBYTE}[array.dtype.str[1:]],
            "count": len(array),
            "type": "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}",
        }
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        if normalized:
            accessor["normalized"] = True
        self.accessors.append(accessor)
        padded = _padded(data, b"\0")  # so that every view starts at a multiple of 4
        self.bytes.append(padded)
        self.length += len(padded)
        return len(self.accessors) - 1


def _padded(data: bytes, by: bytes) -> bytes:
    return data + by * (-len(data) % 4)


def _unit(normals: np.ndarray) -> np.ndarray:
    """Unit length, as glTF asks; a vertex without a normal looks ahead."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-6, normals / np.maximum(length, 1e-6), [0, 0, 1]).astype("<f4")


def _linear(colours: np.ndarray) -> np.ndarray:
    """sRGB (n,3) u8 -> linear (n,4) u8, opaque: glTF's vertex colours are linear, and four bytes keep them aligned."""
    x = colours / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return np.pad(np.rint(255 * linear).astype("u1"), ((0, 0), (0, 1)), constant_values=255)
