"""Which stream of a file is its video, and what shape its pictures have, which may change in mid-file."""

import av

from expportrait.video.display import display_matrix

SAME_SHAPE = 0.01  # relative difference of two aspects up to which another size only scales the picture
_OTHER = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails  # covers, previews


def main_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The default one of the streams that can be decoded, else the largest; None where there is none.

    Of an image in tiles, where it would be one of the tiles, this is marked as dependent.
    """
    streams = [s for s in container.streams.video if s.codec_context is not None and not s.disposition & _OTHER]
    tiles = [s for s in streams if s.disposition & av.stream.Disposition.dependent]
    whole = [s for s in streams if s not in tiles]
    default = [s for s in whole if s.disposition & av.stream.Disposition.default]
    return max(default or tiles or whole, key=lambda s: s.codec_context.width * s.codec_context.height, default=None)


class Shape:
    """Size of a stream's pictures with square pixels; give it every frame, in order.

    A frame of the same aspect as the file's first one, or as the one before, is scaled to that one's size. ``first``:
    the shape after the file's first frame, where the frames do not begin with that one.
    """

    def __init__(self, stream: av.VideoStream, first: "Shape | None" = None) -> None:
        self.stored = first.stored if first else (0, 0)  # height and width, px, before the picture is turned upright
        self._first_stored, self._first_coded = (first.stored, first._first_coded) if first else (None, None)
        self._stream, self._coded, self._seen = stream, None, None

    def upright(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Height and width of the frame as it is shown, px."""
        pixel = self._pixel_aspect(frame)
        if self._seen != (frame.height, frame.width, pixel):
            self._seen = frame.height, frame.width, pixel
            own = frame.height, round(frame.width * pixel)
            self._first_stored = self._first_stored or own
            self.stored = next((size for size in (self._first_stored, self.stored) if _same_shape(size, own)), own)
        across = display_matrix(frame)[0]
        return self.stored[::-1] if abs(across[1]) > abs(across[0]) else self.stored

    def _pixel_aspect(self, frame: av.VideoFrame) -> float:
        """Width of a pixel by its height: the container's, times what the coded one has changed by since.

        The decoder knows a new one some frames early: it holds from the next keyframe on.
        """
        coded = float(self._stream.codec_context.sample_aspect_ratio or 1)
        if self._coded is None or frame.key_frame:
            self._coded = coded
        self._first_coded = self._first_coded or coded
        return float(self._stream.sample_aspect_ratio or 1) * (self._coded / self._first_coded)


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return min(a) > 0 and abs(a[0] * b[1] / (a[1] * b[0]) - 1) < SAME_SHAPE
