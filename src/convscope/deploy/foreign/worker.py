"""The process that runs a foreign model: its memory is limited, and it can write no files.

The process that started it keeps the time. The first message is the number of threads, a space, the record in JSON, a
line break and the ONNX file; the others are uint8 images (n, height, width, channels). Answers are `OK` and float32
outputs, or `FAILED` and the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._text import reason_of
from convscope._workers import limit_resources, serve
from convscope.backends.onnx.session import open_session
from convscope.deploy.foreign.record import ForeignModel
from convscope.errors import ModelFileError

OK, FAILED = b"\0", b"\1"
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class ForeignNetwork:
    """A loaded model.

    Args:
        record: How to run it.
        content: The ONNX file.
        threads: How many compute; 0 for one per core.

    Raises:
        ValueError: The model does not fit the record; the message says how.
        ModelFileError: onnxruntime cannot load it.
    """

    def __init__(self, record: ForeignModel, content: bytes, threads: int) -> None:
        self.record = record
        self.normalize = record.metadata.preprocessing.normalize
        self.session = open_session(content, Path("the model"), threads or None)
        inputs = {port.name: port for port in self.session.get_inputs()}
        self.input = inputs[_only(inputs, record.input, "input")]
        self.output = _only([port.name for port in self.session.get_outputs()], record.output, "output")
        self._check_input()
        self.fixed_batch = self.input.shape[0] if isinstance(self.input.shape[0], int) else None

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The output, float32 (n, classes), for uint8 images (n, height, width, channels)."""
        step = self.fixed_batch or len(images)
        parts = [self._run(images[start : start + step], step) for start in range(0, len(images), step)]
        return np.concatenate(parts)[: len(images)]

    def _run(self, images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
        """The output for `size` images; missing ones are filled up with the last."""
        missing = np.repeat(images[-1:], size - len(images), axis=0)
        ordered = np.concatenate([images, missing])[..., :: -1 if self.record.color_order == "BGR" else 1]
        values = self._in_layout(self.normalize(ordered))
        (found,) = self.session.run([self.output], {self.input.name: values.astype(DTYPES[self.input.type])})
        if (
            not isinstance(found, np.ndarray)
            or found.dtype.kind != "f"
            or found.size != size * len(self.record.classes)
        ):
            shape = getattr(found, "shape", "no array")
            raise ValueError(
                f"its output {self.output!r} is {getattr(found, 'dtype', type(found).__name__)} {shape}, expected "
                f"float ({size}, {len(self.record.classes)}): one number per class"
            )
        return np.asarray(found.reshape(size, -1), np.float32)

    def _in_layout(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values.transpose(0, 3, 1, 2) if self.record.layout == "NCHW" else values

    def _check_input(self) -> None:
        record = self.record
        sides = {"C": record.channels, "H": record.height, "W": record.width}
        expected = [sides[axis] for axis in record.layout[1:]]
        shape, kind = self.input.shape, self.input.type
        fits = len(shape) == 4 and all(
            not isinstance(s, int) or s == e for s, e in zip(shape[1:], expected, strict=True)
        )
        if kind not in DTYPES or not fits:
            raise ValueError(
                f"its input is {kind} {shape}, but the record says {record.layout} ['n', {str(expected)[1:]}"
            )


class _Handler:
    """Answers the messages; the first one brings the model."""

    def __init__(self) -> None:
        self.network: ForeignNetwork | None = None

    def __call__(self, message: bytes) -> bytes:
        try:
            return OK + self._answer(message)
        except ModelFileError as error:
            return FAILED + f"onnxruntime cannot load it ({reason_of(_cause(error))})".encode()
        except (ValueError, MemoryError) as error:
            return FAILED + (str(error) or "not enough memory").encode()
        except Exception as error:  # onnxruntime's exceptions share no public base class
            return FAILED + f"onnxruntime cannot run it ({reason_of(error)})".encode()

    def _answer(self, message: bytes) -> bytes:
        if self.network is None:
            head, _, content = message.partition(b"\n")
            threads, _, text = head.partition(b" ")
            record = ForeignModel.model_validate_json(text)
            limit_resources(record.max_memory_gb)
            self.network = ForeignNetwork(record, content, int(threads))
            return b""
        record = self.network.record
        images = np.frombuffer(message, np.uint8).reshape(-1, record.height, record.width, record.channels)
        return self.network.run(images).tobytes()


def _cause(error: BaseException) -> Exception:
    cause = error.__cause__
    return cause if isinstance(cause, Exception) else Exception(str(error))


def _only(names: Any, wanted: str | None, kind: str) -> str:
    """The name that is wanted, or the only one."""
    found = list(names)
    if wanted is None and len(found) == 1:
        return str(found[0])
    if wanted is None or wanted not in found:
        asked = "the record names none" if wanted is None else f"the record names {wanted!r}"
        raise ValueError(f"its {kind}s are {', '.join(found[:10])}, and {asked}: name one as {kind!r}")
    return wanted


if __name__ == "__main__":
    serve(_Handler())
