"""A foreign model seen from this process: it has the outputs of a model file, computed in another process."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from convscope._workers import Worker
from convscope.backends.onnx.metadata import INPUT, LOGITS, PROBABILITIES, ModelMetadata
from convscope.deploy.foreign.record import read_foreign
from convscope.deploy.foreign.scan import check_standard
from convscope.errors import ModelFileError
from convscope.evaluation.calibration import softmax

WORKER = "convscope.deploy.foreign.worker"
FAILED = 1  # first byte of an answer
SUM_TOLERANCE = 0.01  # of probabilities
LOGITS_TOLERANCE = 1e-5  # around a sum of 1, which no logits have by chance
SMALLEST = 1e-30  # probability, before its logarithm is taken


class ForeignSession:
    """Runs a foreign model in a process with limits on memory and time.

    Args:
        path: The JSON file that describes it; see `ForeignModel`.
        threads: How many compute; by default one per core.

    Attributes:
        sha256: Of the record and the model together.

    Raises:
        ModelFileError: The record or the model cannot be used.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self.record, content = read_foreign(path)
        try:
            check_standard(content)
        except ValueError as error:
            raise self._refusal(str(error)) from error
        self._lock = Lock()
        self._worker = Worker(WORKER)
        record = self.record.model_dump_json().encode()
        self.sha256 = hashlib.sha256(record + content).hexdigest()
        self._request(b"%d %s\n" % (threads or 0, record) + content, "load")

    @property
    def metadata(self) -> ModelMetadata:
        """Classes and preprocessing."""
        return self.record.metadata

    def run(self, outputs: list[str], inputs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Logits and probabilities, like a session of onnxruntime.

        Raises:
            ModelFileError: The model took too much time or memory, or its output is not what the record says.
        """
        images = np.ascontiguousarray(inputs[INPUT])
        raw = np.frombuffer(self._request(images.tobytes(), "classify"), np.float32).reshape(len(images), -1)
        if not np.isfinite(raw).all():
            raise self._refusal("its output is not finite")
        found = {LOGITS: raw, PROBABILITIES: softmax(raw).astype(np.float32)}
        if self.record.output_kind == "logits" and raw.min() >= 0 and np.abs(raw.sum(1) - 1).max() < LOGITS_TOLERANCE:
            raise self._refusal('its outputs are probabilities already: write "output_kind": "probabilities"')
        if self.record.output_kind == "probabilities":
            if raw.min() < -SUM_TOLERANCE or np.abs(raw.sum(1) - 1).max() > SUM_TOLERANCE:
                raise self._refusal('its outputs are not probabilities: write "output_kind": "logits"')
            found = {LOGITS: np.log(raw.clip(SMALLEST)), PROBABILITIES: raw.clip(0, 1)}
        if missing := [name for name in outputs if name not in found]:
            raise self._refusal(f"it has no output {missing[0]!r}, which only models trained by convscope have")
        return [found[name] for name in outputs]

    def _request(self, message: bytes, purpose: str) -> bytes:
        """The worker's answer. Raises ModelFileError if it fails, takes too long, or ends."""
        with self._lock:
            try:
                answer = self._worker.request_within(message, self.record.timeout)
            except OSError as error:
                raise self._refusal(f"its process {error}, when it was to {purpose}") from error
        if answer[0] == FAILED:
            raise self._refusal(answer[1:].decode(errors="replace"))
        return answer[1:]

    def _refusal(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: the model {self.record.model} cannot be used: {reason}")

    def close(self) -> None:
        """End the process."""
        self._worker.kill()

    def __del__(self) -> None:
        if hasattr(self, "_worker"):
            self.close()
