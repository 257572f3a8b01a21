"""A user's network in an ONNX file, run through onnxruntime on the GPU or the CPU."""

from pathlib import Path

import numpy as np
import torch

from expportrait.errors import UserError
from expportrait.files import sha256

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxNetwork:
    """One image tensor (N, 3, ``side``, ``side``) float32 in, float tensors out.

    ``provider``: what it really runs on. ``fixed``: the file's batch size, None where any will do.
    """

    def __init__(self, file: Path, key: str, side: int, device: str = "cpu", whose: str = "one"):
        """``key``: the setting that named the file, and ``whose`` interface is wanted, for messages.

        Raises UserError where it is no such network.
        """
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{key}: {file} needs onnxruntime: `pip install onnxruntime`") from None
        if not file.is_file():
            raise UserError(f"{key}: {file} is no file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        wanted = [CUDA, CPU] if device.startswith("cuda") else [CPU]
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        except Exception as error:  # its own kinds, one for every way a file can be wrong
            text = str(error).strip() or "?"
            raise UserError(f"{key}: {file} is not an ONNX network: {text.splitlines()[0]}") from None
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not _fits(shape, (None, 3, side, side)):
            found = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs)
            raise UserError(f"{key}: {file} takes {found}, not {whose} tensor(float) of (N, 3, {side}, {side})")
        self.file, self.key, self.side = file, key, side
        self.input = inputs[0].name
        self.provider = self._session.get_providers()[0]
        self.sha256 = sha256(file)
        self.fixed = shape[0] if isinstance(shape[0], int) else None

    @property
    def outputs(self) -> list[list]:
        """Shapes that the file promises; names or None where an axis is free."""
        return [output.shape for output in self._session.get_outputs()]

    def expect(self, *shapes: tuple[int | None, ...], what: str) -> None:
        """Raises UserError where the file promises other outputs; None: any size."""
        if len(self.outputs) != len(shapes) or not all(map(_fits, self.outputs, shapes)):
            wanted = ", ".join(str(tuple("N" if n is None else n for n in shape)) for shape in shapes)
            found = ", ".join(map(str, self.outputs))
            raise UserError(f"{self.key}: {self.file} gives {found}, not {wanted}, so it is not {what}")

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """(N, 3, side, side) float32 -> its outputs, N rows each; as many calls as the file's batch size asks for."""
        step = self.fixed or len(images)
        parts = [self._run(images[first : first + step], step) for first in range(0, len(images), step)]
        return [
            (rows[0] if len(rows) == 1 else np.concatenate(rows))[: len(images)] for rows in zip(*parts, strict=True)
        ]

    def _run(self, images: np.ndarray, step: int) -> list[np.ndarray]:
        missing = step - len(images)
        if missing:  # a fixed batch is filled up by repeating the last image
            images = np.concatenate([images, np.repeat(images[-1:], missing, 0)])
        return self._session.run(None, {self.input: np.ascontiguousarray(images, np.float32)})


def _fits(shape: list, wanted: tuple[int | None, ...]) -> bool:
    """Whether a file's shape, with names for free axes, can be the wanted one."""
    known = [n if isinstance(n, int) else None for n in shape]
    return len(known) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(known, wanted, strict=True)
    )
