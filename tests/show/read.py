"""Readers of .glb and .ply, from their specifications, that check every rule they rely on."""

import json
import re
import struct
from pathlib import Path

import numpy as np

SCALARS = {5126: "<f4", 5125: "<u4", 5121: "u1"}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def read_glb(file: Path) -> tuple[dict, list[np.ndarray]]:
    """The document and its accessors' arrays (n,k). Asserts glTF 2.0's rules on chunks, buffers and accessors."""
    data = file.read_bytes()
    magic, version, total = struct.unpack_from("<4sII", data)
    assert magic == b"glTF" and version == 2 and total == len(data)
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and length % 4 == 0
    document = json.loads(data[20 : 20 + length])
    size, kind = struct.unpack_from("<I4s", data, 20 + length)
    assert kind == b"BIN\0" and size % 4 == 0 and 28 + length + size == total
    binary = data[28 + length :]
    (buffer,) = document["buffers"]
    assert "uri" not in buffer and buffer["byteLength"] <= size <= buffer["byteLength"] + 3
    end, arrays = 0, []
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] >= end
        end = view["byteOffset"] + view["byteLength"]
        assert end <= buffer["byteLength"]
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        width, kind = WIDTHS[accessor["type"]], np.dtype(SCALARS[accessor["componentType"]])
        assert accessor["count"] > 0 and accessor["count"] * width * kind.itemsize == view["byteLength"]
        if view.get("target") == 34962:
            assert width * kind.itemsize % 4 == 0
        array = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)
        if "min" in accessor:
            assert np.array_equal(np.float32(accessor["min"]), array.min(0))
            assert np.array_equal(np.float32(accessor["max"]), array.max(0))
        arrays.append(array)
    for primitive in (p for mesh in document["meshes"] for p in mesh["primitives"]):
        positions = document["accessors"][primitive["attributes"]["POSITION"]]
        assert "min" in positions and arrays[primitive["indices"]].max() < positions["count"]
        for attributes in (primitive["attributes"], *primitive.get("targets", ())):
            assert {document["accessors"][index]["count"] for index in attributes.values()} == {positions["count"]}
            assert "min" in document["accessors"][attributes["POSITION"]]
        normals = arrays[primitive["attributes"]["NORMAL"]]
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=5e-4)
    for animation in document.get("animations", ()):
        for sampler in animation["samplers"]:
            times, values = arrays[sampler["input"]], arrays[sampler["output"]]
            assert "min" in document["accessors"][sampler["input"]]
            assert times[0] >= 0 and (np.diff(times[:, 0]) > 0).all()
            targets = len(document["meshes"][0]["primitives"][0]["targets"])
            assert len(document["meshes"][0]["weights"]) == targets and len(values) == len(times) * targets
    return document, arrays


def read_ply(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices as a record array and faces (F,3)."""
    header, body = file.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = dict(re.findall(r"element (\w+) (\d+)", header.decode()))
    columns = re.findall(r"property (float|uchar) (\w+)", header.decode())
    kind = np.dtype([(name, {"float": "<f4", "uchar": "u1"}[word]) for word, name in columns])
    vertices = np.frombuffer(body, kind, int(counts["vertex"]))
    faces = np.frombuffer(body, [("n", "u1"), ("ids", "<i4", 3)], int(counts["face"]), vertices.nbytes)
    assert vertices.nbytes + faces.nbytes == len(body) and (faces["n"] == 3).all()
    return vertices, faces["ids"]
