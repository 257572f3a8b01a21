"""Files of the interface that DAViD and Sapiens publish, whose content can be computed by hand.

Each is a 1x1 convolution of the input's colours plus fixed maps: names, shapes and types as the real ones, no weights.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

SIDE = 512
OPSET, IR = 17, 10
# rows: output channels; columns: B, G, R of 0..1, then a constant
NORMALS = [[0, 0, 2, -1], [0, 2, 0, -1], [2, 0, 0, -1]]  # a picture coloured by its normals: red x, green y, blue z
NEARNESS = [[2, 0, 0, -1]]  # of a ball so coloured: z of its normal, which grows towards the camera
FARNESS = [[-2, 0, 0, 1]]
FOREGROUND = [[10, 10, 10, 0]]  # anything not black; more than 1, which the reader has to cut
SAPIENS = {  # the same of R, G, B; of the body parts, all but the background score alike
    "normals": [[2, 0, 0, -1], [0, 2, 0, -1], [0, 0, 2, -1]],
    "depth": [[0, 0, -1, 1]],
    "mask": [[-40, -40, -40, 10], *[[40, 40, 40, -10 - i] for i in range(27)]],
}


def onnx_file(path: Path, *outputs: tuple[str, list], batch: int | str = "batch", side: int = SIDE, maps=None) -> Path:
    """``outputs``: (depth, normal or foreground; its rows). ``maps`` (C, side, side) by name is added to the rows."""
    nodes, constants, promised = [], [], []
    for name, rows in outputs:
        rows = np.asarray(rows, np.float32)
        constants.append(numpy_helper.from_array(rows[:, :3, None, None], f"{name}_weight"))
        constants.append(numpy_helper.from_array(rows[:, 3], f"{name}_bias"))
        last = f"{name}_0"
        nodes.append(helper.make_node("Conv", ["input", f"{name}_weight", f"{name}_bias"], [last]))
        if maps and name in maps:
            constants.append(numpy_helper.from_array(np.asarray(maps[name], np.float32)[None], f"{name}_map"))
            nodes.append(helper.make_node("Add", [last, f"{name}_map"], [f"{name}_1"]))
            last = f"{name}_1"
        shape = [batch, len(rows), side, side]
        if name == "depth":
            constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
            nodes.append(helper.make_node("Squeeze", [last, "axis"], [name]))
            shape = [batch, side, side]
        else:
            nodes.append(helper.make_node("Identity", [last], [name]))
        promised.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, side, side])
    graph = helper.make_graph(nodes, "stand-in", [taken], promised, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def mean_colour(path: Path, shape: tuple = ("N", 3, 112, 112), flat: bool = True, gain: float = 1.0) -> Path:
    """Of ArcFace's interface; the embedding is ``gain`` times the mean colour of the face."""
    nodes = [helper.make_node("GlobalAveragePool", ["data"], ["colour"])]
    nodes += [helper.make_node("Mul", ["colour", "gain"], ["mean"])]
    nodes += [helper.make_node("Flatten", ["mean"], ["fc1"])] if flat else []
    last, out = ("fc1", [shape[0], 3]) if flat else ("mean", [shape[0], 3, 1, 1])
    values = [helper.make_tensor_value_info(*v) for v in (("data", 1, shape), (last, 1, out))]
    constants = [numpy_helper.from_array(np.float32(gain), "gain")]
    graph = helper.make_graph(nodes, "stand-in", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.save(model, str(path))
    return path


def david(folder: Path, batch: int | str = "batch", depth=NEARNESS, normals=NORMALS, mask=FOREGROUND, maps=None):
    """The three single files by setting."""
    single = {"normals": ("normal", normals), "depth": ("depth", depth), "mask": ("foreground", mask)}
    return {key: onnx_file(folder / f"{key}-{batch}.onnx", out, batch=batch, maps=maps) for key, out in single.items()}


def david_multitask(
    path: Path, batch: int | str = "batch", depth=FARNESS, normals=NORMALS, mask=FOREGROUND, maps=None
) -> Path:
    return onnx_file(path, ("depth", depth), ("normal", normals), ("foreground", mask), batch=batch, maps=maps)


class Colours(torch.nn.Module):
    """Channels from the colours R, G, B of 0..255, given as Sapiens wants them, at half the size, as its heads do."""

    def __init__(self, rows):
        super().__init__()
        rows = torch.tensor(rows, dtype=torch.float32)
        self.register_buffer("weight", rows[:, :3, None, None])
        self.register_buffer("bias", rows[:, 3])
        self.register_buffer("mean", torch.tensor([123.5, 116.5, 103.5])[:, None, None])
        self.register_buffer("deviation", torch.tensor([58.5, 57.0, 57.5])[:, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        colours = (images * self.deviation + self.mean) / 255
        return torch.nn.functional.avg_pool2d(torch.nn.functional.conv2d(colours, self.weight, self.bias), 2)


def sapiens(folder: Path, **rows) -> dict[str, Path]:
    files = {}
    for key, content in (SAPIENS | rows).items():
        files[key] = folder / f"{key}_torchscript.pt2"
        torch.jit.trace(Colours(content), torch.zeros(1, 3, 1024, 768)).save(str(files[key]))
    return files


class Fixed(torch.nn.Module):
    """The same maps (C,h,w) for every picture."""

    def __init__(self, maps: np.ndarray):
        super().__init__()
        self.register_buffer("maps", torch.from_numpy(np.asarray(maps, np.float32))[None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps + 0 * images[:, :1, :1, :1]


def sapiens_fixed(folder: Path, normals: np.ndarray, depth: np.ndarray, mask: np.ndarray) -> dict[str, Path]:
    """(3,h,w), (1,h,w), and the share (h,w) of one of the 27 body parts against the background."""
    share = np.clip(mask, 1e-4, 1 - 1e-4)
    scores = np.full((28, *share.shape), -50.0)
    scores[0], scores[23] = 0, np.log(share / (1 - share))
    files = {}
    for key, maps in {"normals": normals, "depth": depth, "mask": scores}.items():
        files[key] = folder / f"{key}_fixed.pt2"
        torch.jit.trace(Fixed(maps), torch.zeros(1, 3, 1024, 768)).save(str(files[key]))
    return files


def ball(size: int, radius: float = 0.35, centre=(0.5, 0.5)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball coloured by its normals: frame (S,S,3) u8, normals (S,S,3) in camera space, inside (S,S) bool."""
    at = (np.arange(size) + 0.5) / size
    x, y = (at[None] - centre[0]) / radius, (centre[1] - at[:, None]) / radius
    inside = x**2 + y**2 < 1
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    normals = np.where(inside[..., None], np.stack(np.broadcast_arrays(x, y, z), -1), 0)
    frame = np.where(inside[..., None], np.rint((normals + 1) * 127.5), 0).astype(np.uint8)
    return frame, normals, inside


class Places(torch.nn.Module):
    """Heat maps as Sapiens' key point network gives them, of a picture whose red and green are x and y over its size:
    channel k peaks where the colour is that of place k. The corner cells lie on the corner pixels, as published."""

    def __init__(self, places: np.ndarray, spread: float = 0.03):
        super().__init__()
        self.register_buffer("places", torch.from_numpy(np.asarray(places, np.float32))[..., None, None])
        self.register_buffer("mean", torch.tensor([123.5, 116.5, 103.5])[:, None, None])
        self.register_buffer("deviation", torch.tensor([58.5, 57.0, 57.5])[:, None, None])
        self.spread = spread

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        colours = (images * self.deviation + self.mean) / 255
        small = torch.nn.functional.interpolate(colours, (256, 192), mode="bilinear", align_corners=True)
        away = (small[:, None, :2] - self.places) / self.spread
        return torch.exp(-0.5 * away.square().sum(2))


def sapiens_points(path: Path, places: np.ndarray, spread: float = 0.03) -> Path:
    """``places`` (K,2): x and y over the picture's size."""
    torch.jit.trace(Places(places, spread), torch.zeros(1, 3, 1024, 768)).save(str(path))
    return path
