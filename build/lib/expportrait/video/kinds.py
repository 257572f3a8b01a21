"""What a file is, a video or an image: by its suffix where that says it, else by what is found in it."""

import errno
from pathlib import Path

from expportrait.errors import MachineFault
from expportrait.files import url
from expportrait.machine import ERRNO

IMAGES = {".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}  # read with OpenCV
STILLS = {".avif", ".heic", ".heif"}  # mostly of a single picture; read with FFmpeg, which knows their sequences, too
VIDEOS = {
    ".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
}  # fmt: skip
TEXTS = {"adf", "bin", "idf", "tty", "xbin"}  # FFmpeg's formats that draw text as pictures; any text passes for them


def is_image(path: Path) -> bool:
    """Whether a source is read as one image, with OpenCV. A file of an unknown suffix is opened."""
    return kind(path) == "image" and path.suffix.lower() not in STILLS


def kind(path: Path) -> str:
    """``video`` or ``image``; empty for what is neither, such as text, sound with a cover, or a pipe.

    A file is a video where FFmpeg finds a stream of pictures in it, other than a cover, that it can decode.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGES | STILLS:
        return "image"
    if suffix in VIDEOS:
        return "video"
    return _looked_into(path) if path.is_file() else ""  # to open a pipe would wait for somebody who writes


def _looked_into(path: Path) -> str:
    import av
    import cv2

    try:
        if cv2.haveImageReader(str(path)):
            return "image"
        with av.open(url(path), metadata_errors="ignore") as container:
            cover = av.stream.Disposition.attached_pic
            pictures = any(s.codec_context and not s.disposition & cover for s in container.streams.video)
            return "video" if pictures and container.format.name not in TEXTS else ""
    except (av.error.FFmpegError, OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if number in ERRNO and number != errno.EIO:  # FFmpeg's word for some damaged files, too
            raise MachineFault(f"{path} cannot be opened, which is not the file's fault: {error.strerror}") from error
        return ""
