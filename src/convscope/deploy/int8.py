"""An int8 model file from a float32 one: ranges are measured on images, then weights and activations are quantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import INPUT, PROBABILITIES, GoldenInput, ModelMetadata
from convscope.backends.onnx.quantize import Range, quantize
from convscope.backends.onnx.read import ModelFile
from convscope.backends.onnx.session import open_session, run_session
from convscope.images.read import read_image
from convscope.network.build import parse_network
from convscope.network.folding import fold_batch_norm

DECIMALS = 3  # of the golden answers of int8, which differ more between runtimes
MAX_BATCH, MAX_BATCH_BYTES = 64, 2**28  # images whose activations are in memory at once


def to_int8(file: ModelFile, images: NDArray[np.uint8]) -> bytes:
    """Quantize a model file. Needs the onnx package, of the training extra.

    The ranges are those that the layers' outputs have on the images, from the smallest to the largest value. The golden
    inputs get the answers of the int8 network.

    Args:
        file: In float32, as `read_model_file` returns it.
        images: uint8 (n, height, width, channels) of the network's input size, as in training; some hundred.

    Returns:
        The content of an int8 model file; equal arguments give equal bytes.
    """
    from convscope.backends.onnx.export import to_calibration_onnx, to_onnx

    metadata = file.metadata
    network = parse_network(metadata.architecture, metadata.input_shape, len(metadata.classes))
    weights = fold_batch_norm(network, file.constants)
    model = to_calibration_onnx(network, weights, metadata)
    batch_size = max(1, min(MAX_BATCH, MAX_BATCH_BYTES // network.activation_bytes))
    ranges = _ranges(model.content, model.outputs, images, batch_size)
    quantized = quantize(weights, model.inputs, ranges)
    metadata = metadata.model_copy(update={"precision": "int8", "test": None})
    golden = _answer_golden(to_onnx(network, quantized, metadata), metadata)
    return to_onnx(network, quantized, metadata.model_copy(update={"golden": golden}))


def _answer_golden(content: bytes, metadata: ModelMetadata) -> tuple[GoldenInput, ...]:
    """The golden inputs with the answers of an int8 model."""
    if not metadata.golden:
        return ()
    here = Path("the int8 network")
    images = np.stack([metadata.preprocessing.transform(read_image(one.file))[0] for one in metadata.golden])
    (found,) = run_session(open_session(content, here), here, (PROBABILITIES,), images)
    rows = found.astype(np.float64).clip(0, 1).round(DECIMALS).tolist()
    return tuple(
        one.model_copy(update={"probabilities": tuple(row)}) for one, row in zip(metadata.golden, rows, strict=True)
    )


def _ranges(content: bytes, outputs: dict[str, str], images: NDArray[np.uint8], batch_size: int) -> dict[str, Range]:
    """The smallest and the largest value of each output, by the name of its point."""
    session = open_session(content, Path("the network to quantize"))
    bounds = []
    for start in range(0, len(images), batch_size):
        values = session.run(list(outputs.values()), {INPUT: images[start : start + batch_size]})
        bounds.append([(value.min(), value.max()) for value in values])
    lows, highs = np.array(bounds)[..., 0].min(0), np.array(bounds)[..., 1].max(0)
    return {point: (float(low), float(high)) for point, low, high in zip(outputs, lows, highs, strict=True)}
