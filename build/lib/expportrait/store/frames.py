"""A clip's frames in a store, read a chunk at a time, so that a long clip is never in memory as a whole."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from expportrait.store import Store

KEPT = 256 << 20  # bytes of frames: 340 of 512 px, so that most clips are unpacked once however often they are read


class Frames:
    """A store's array (T,...), read like an ndarray along its first axis: by numbers, slices and lists of numbers.

    From several threads, if need be; the chunks used last are ``kept``, in bytes, two chunks at least. Raises
    StoreError where the store is damaged.
    """

    def __init__(self, store: Store, name: str, kept: int = KEPT):
        array = store.lazy(name)
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype
        self._array, self._chunk, self._lock = array, array.chunks[0], threading.Lock()
        self._most = max(2, kept // max(1, int(np.prod(array.chunks)) * array.dtype.itemsize))
        self._chunks: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._frame(t) for t in range(len(self)))

    def __getitem__(self, key: int | slice | list[int] | np.ndarray) -> np.ndarray:
        if isinstance(key, slice):
            key = range(*key.indices(len(self)))
        elif np.ndim(key) == 0:
            return self._frame(range(len(self))[int(key)])
        return np.stack([self._frame(int(t)) for t in key]) if len(key) else np.empty((0, *self.shape[1:]), self.dtype)

    def _frame(self, t: int) -> np.ndarray:
        number, place = divmod(t, self._chunk)
        with self._lock:  # two readers of the same chunk unpack it once
            if number not in self._chunks:
                self._chunks[number] = self._array[number * self._chunk : (number + 1) * self._chunk]
                while len(self._chunks) > self._most:
                    self._chunks.popitem(last=False)
            self._chunks.move_to_end(number)
            return self._chunks[number][place]


class Chosen:
    """Some of a clip's frames, resized: read where they are asked for, by slices or one after the other."""

    def __init__(self, frames: Frames, rows: Sequence[int], resize: Callable[[np.ndarray], np.ndarray]):
        """``resize``: of (t, H, W, 3), to the size of the others."""
        self._frames, self._rows, self._resize = frames, rows, resize
        self.shape = (len(rows), *resize(frames[rows[:1]]).shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[t : t + 1][0] for t in range(len(self)))

    def __getitem__(self, key: slice) -> np.ndarray:
        return self._resize(self._frames[self._rows[key]])
