"""HEIC files as phones write them: HEVC pictures as items, alone or as the tiles of a grid (ISO/IEC 23008-12)."""

import struct

import av
import numpy as np

# what an item is turned by counter-clockwise, in quarters, and which parts are then exchanged: 0 top and bottom, 1 left
# and right
PROPERTIES = {
    "as it is": (0, None), "90 degrees": (3, None), "180 degrees": (2, None), "270 degrees": (1, None),
    "hflip": (0, 1), "vflip": (0, 0), "transpose": (3, 1), "transverse": (1, 1),
}  # fmt: skip


def box(name, *parts, version=None):
    """A box; with a version and flags where it is a full one."""
    head = b"" if version is None else struct.pack(">I", version << 24)
    body = head + b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name.encode() + body


def hevc(picture, scratch):
    """The configuration (hvcC) and the data of one picture, taken from an mp4 file that FFmpeg writes."""
    with av.open(str(scratch), "w", format="mp4") as container:
        options = {"x265-params": "log-level=none:crf=10:keyint=1", "preset": "ultrafast"}
        stream = container.add_stream("libx265", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        stream.codec_context.codec_tag = "hvc1"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuv420p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = scratch.read_bytes()
    place = data.index(b"hvcC") - 4
    with av.open(str(scratch)) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.size)
    return data[place : place + int.from_bytes(data[place : place + 4])], bytes(packet)


def heif(path, pictures, rows=0, thumbnail=None, turn="as it is"):
    """Write pictures (H,W,3) u8 RGB: one as it is, or with ``rows`` the tiles of one. ``turn``: of PROPERTIES."""
    height, width = pictures[0].shape[:2]
    items = [("hvc1", picture.shape, *hevc(picture, path.with_suffix(".mp4"))) for picture in pictures]
    main, references = 1, b""
    if rows:
        columns = len(pictures) // rows
        size = rows * height, columns * width
        items.append(("grid", size, None, struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, size[1], size[0])))
        main = len(items)
        references += box("dimg", struct.pack(f">HH{main - 1}H", main, main - 1, *range(1, main)))
    if thumbnail is not None:
        items.append(("hvc1", thumbnail.shape, *hevc(thumbnail, path.with_suffix(".mp4"))))
        references += box("thmb", struct.pack(">HHH", len(items), 1, main))
    infos, properties, of_items = [], [], []
    for number, (kind, shape, configuration, _) in enumerate(items, 1):
        infos.append(box("infe", struct.pack(">HH", number, 0), kind.encode(), b"\0", version=2))
        own = [box("ispe", struct.pack(">II", shape[1], shape[0]), version=0)]
        own += [configuration] if configuration else []
        if number == main:
            quarters, parts = PROPERTIES[turn]
            own += [box("irot", bytes([quarters]))] if quarters else []
            own += [box("imir", bytes([parts]))] if parts is not None else []
        first = len(properties) + 1
        of_items.append(struct.pack(f">HB{len(own)}B", number, len(own), *range(first, first + len(own))))
        properties += own
    lengths = [len(data) for *_, data in items]

    def meta(start):
        places, at = b"", start
        for number, length in enumerate(lengths, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, length)
            at += length
        ipma = box("ipma", struct.pack(">I", len(items)), *of_items, version=0)
        return box(
            "meta", box("hdlr", b"\0\0\0\0pict", bytes(13), version=0), box("pitm", struct.pack(">H", main), version=0),
            box("iloc", b"\x44\0", struct.pack(">H", len(items)), places, version=0),
            box("iinf", struct.pack(">H", len(items)), *infos, version=0),
            box("iref", references, version=0) if references else b"",
            box("iprp", box("ipco", *properties), ipma), version=0,
        )  # fmt: skip

    head = box("ftyp", b"heic\0\0\0\0mif1heic")
    start = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(start) + box("mdat", *(data for *_, data in items)))
    return path
