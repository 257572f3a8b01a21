"""Still images: those of a folder in their order, and one image as RGB, upright, without transparent parts."""

import errno
import re
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np

from expportrait.errors import ClipError
from expportrait.video.kinds import IMAGES

_NO_ACCESS = {
    errno.ENOENT: "does not exist",
    errno.EACCES: "may not be read by this user; change its permissions",
    errno.EPERM: "may not be read by this user; change its permissions",
    errno.EISDIR: "is a folder, though it is called like an image; rename or remove it",
    errno.ENOTDIR: "does not exist: what stands before its name is no folder",
    errno.ELOOP: "is a link that leads back to itself",
    errno.ENAMETOOLONG: "does not exist: its name is too long",
}


def raise_no_access(what: str, path: Path, error: OSError) -> NoReturn:
    """Raises a ClipError, to be tried again, that says why nobody can read ``path``; other errors as they are."""
    if error.errno not in _NO_ACCESS:
        raise error
    nowhere = error.errno == errno.ENOENT and path.is_symlink()
    why = "is a link that leads nowhere; bring its file back" if nowhere else _NO_ACCESS[error.errno]
    raise ClipError(f"{what} {path} {why}", retry=True) from None


def natural(path: Path) -> list[int | str]:
    """Key of an order in which frame 10 comes after frame 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name.lower())]


def sorted_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order. Raises ClipError where there are none."""
    files = sorted((f for f in folder.iterdir() if f.suffix.lower() in IMAGES and f.name[0] != "."), key=natural)
    if not files:
        raise ClipError(f"the folder {folder} has no images ({', '.join(sorted(IMAGES))})")
    return files


def read_image(file: Path) -> np.ndarray:
    """An image file as (H,W,3) u8 RGB, turned upright, with white where it is transparent.

    Raises ClipError where it is not an image, or cannot be read.
    """
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise_no_access("the image", file, error)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise ClipError(f"{file} is not an image that can be read ({data.size} bytes)")
    alpha = None if file.suffix.lower() in (".jpg", ".jpeg", ".bmp") else _alpha(data)
    if alpha is not None and alpha.shape[:2] == image.shape[:2]:
        image = np.rint(image * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return image


def _alpha(data: np.ndarray) -> np.ndarray | None:
    """Opacity (H,W,1) f32, 0..1, turned upright, of an image file's bytes; None where it has none."""
    plain, kinds, blobs = cv2.imdecodeWithMetadata(data, cv2.IMREAD_UNCHANGED)
    if plain is None or plain.ndim != 3 or plain.shape[2] != 4 or plain.dtype.kind != "u":
        return None
    alpha, most = np.ascontiguousarray(plain[..., 3]), np.iinfo(plain.dtype).max
    exif = [blob for kind, blob in zip(kinds, blobs, strict=True) if kind == cv2.IMAGE_METADATA_EXIF]
    if exif:
        # OpenCV turns colours, but not what it reads with alpha; as a grey image with the same EXIF it is turned alike
        _, grey = cv2.imencodeWithMetadata(".png", alpha, [cv2.IMAGE_METADATA_EXIF], exif)
        alpha = cv2.imdecode(grey, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return alpha[..., None].astype(np.float32) / most
