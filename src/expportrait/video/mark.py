"""The mark of a synthetic film: in its metadata stands, in words and as a term of the IPTC, that no camera took it.

The words are the tags ``comment`` and ``description``, which players and ``ffprobe`` show; the term stands in an XMP
packet, where the IPTC wants it (Iptc4xmpExt:DigitalSourceType) and ``exiftool`` shows it, and once more at the end of
the description, since a film that is repacked keeps its tags and loses its XMP. A tag of its own is not among them:
FFmpeg writes free names only in place of those that players show (``use_metadata_tags``).
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape

import av

from expportrait import __version__
from expportrait.files import url

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# made by a model that was trained on pictures taken by cameras
TRAINED = f"{IPTC}trainedAlgorithmicMedia"
# several elements, at least one of them synthetic: pictures from cameras stand beside it, around it, or were moved
COMPOSITE = f"{IPTC}compositeSynthetic"
_UUID = bytes.fromhex(
    "be7acfcb97a942e89c71999491e3afac"
)  # of the box that holds XMP in MP4 (XMP specification, part 3)
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
<xmp:CreatorTool>expportrait {version}</xmp:CreatorTool>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{words}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True)
class Mark:
    """What a film says of itself. ``words``: one sentence; ``source_type``: the URI of a term of the IPTC's vocabulary
    of digital source types."""

    words: str
    source_type: str

    @property
    def tags(self) -> dict[str, str]:
        """Metadata of an MP4 file, by FFmpeg's names."""
        return {"comment": self.words, "description": f"{self.words} Digital source type: {self.source_type}"}

    @property
    def box(self) -> bytes:
        """The same as XMP, in a box that may stand at the end of an MP4 file."""
        text = _XMP.format(source_type=escape(self.source_type), version=__version__, words=escape(self.words))
        packet = _UUID + text.encode()
        return struct.pack(">I4s", 8 + len(packet), b"uuid") + packet


def moved(target: str, driver: str, generated: bool, alone: bool = True) -> Mark:
    """The mark of a film of the portrait ``target``, moved by ``driver``. ``generated``: by a trained generator, else
    by the preview, which moves the portrait's own colours. ``alone``: nothing but the generator's pictures is seen, no
    pictures from cameras beside them or around them."""
    how = "by a trained generator" if generated else "by the preview, which moves the portrait's own colours"
    # names of files may hold what neither XML nor UTF-8 has a place for
    target, driver = ("".join(c if c.isprintable() else "?" for c in name) for name in (target, driver))
    words = f"Synthetic film made with expportrait {__version__}: the portrait {target}, moved by {driver}, {how}."
    return Mark(words, TRAINED if generated and alone else COMPOSITE)


def read_mark(path: Path) -> Mark | None:
    """The mark of an MP4 film, from its XMP or, where that was lost, its tags; None where it has none.

    Raises FFmpegError where it is not a video, OSError where it cannot be read.
    """
    with av.open(url(path)) as container:
        tags = container.metadata
    with path.open("rb") as file:
        text = _xmp(file)
    found = re.search(r"<Iptc4xmpExt:DigitalSourceType>(.*?)</", text) or re.search(
        r"Digital source type: (\S+)", tags.get("description", "")
    )
    return Mark(tags.get("comment", ""), found[1]) if found else None


def _xmp(file: BinaryIO) -> str:
    """The XMP packet of an MP4 file, empty where it has none."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        rest = size - 8
        if size == 1:
            rest = struct.unpack(">Q", file.read(8))[0] - 16
        if rest < 0:  # to the file's end
            break
        if kind == b"uuid" and rest >= 16:
            if file.read(16) == _UUID:
                return file.read(rest - 16).decode("utf-8", "replace")
            rest -= 16
        file.seek(rest, 1)
    return ""
