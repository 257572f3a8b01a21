"""How a decoded frame is meant to be shown: the turn and the mirroring that its display matrix asks for."""

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type

_UNKNOWN = sorted(set(range(64)) - {kind.value for kind in Type})  # side data that PyAV refuses to list


def shown(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """The picture (H,W,...) of a frame as a player shows it, or as (W,H,...) where it is turned by a quarter."""
    matrix = display_matrix(frame)
    across, down = matrix[0], matrix[1]  # where a pixel's way to the right, and down, points to: x and y
    if abs(across[1]) > abs(across[0]):
        image, across, down = image.swapaxes(0, 1), down, across
    image = image[:, ::-1] if across[0] < 0 else image
    return image[::-1] if down[1] < 0 else image


def display_matrix(frame: av.VideoFrame) -> np.ndarray:
    """The linear part (2,2) of the display matrix, in 1/65536: (x, y) is shown at (x, y) @ matrix."""
    try:  # not frame.side_data: the frame would keep that, which keeps the frame, and hundreds wait to be collected
        data = SideDataContainer(frame).get("DISPLAYMATRIX")
    except ValueError:
        data = SideDataContainer(_known_only(frame)).get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2)
    return np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].astype(np.float64)


def _known_only(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without side data of kinds that PyAV has no name for, such as EXIF: one such hides all the others."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    removers = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in _UNKNOWN]
    graph.link_nodes(source, *removers, graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()
