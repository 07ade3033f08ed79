"""The process that reads a .pth file, which is a pickle: torch builds nothing but tensors, and the process has limits.

The only message is the content of the file; the answer is `OK` and a safetensors file, or `FAILED` and the reason. The
process that started it keeps the time.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from convscope._text import reason_of
from convscope._workers import limit_resources, serve

OK, FAILED = b"\0", b"\1"
MAX_MEMORY_GB = 4.0


def tensors_of(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a state dict; floats as float32.

    Raises:
        ValueError: The file is damaged, or holds anything but a mapping from names to tensors.
    """
    import torch

    try:
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise ValueError("it is damaged, or holds more than plain tensors") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError("it holds more than a state dict: names and plain tensors")
    return {
        str(name): np.array((value.float() if value.is_floating_point() else value).numpy(), order="C")
        for name, value in state.items()
    }


def answer(message: bytes) -> bytes:
    """Answer the message."""
    try:
        limit_resources(MAX_MEMORY_GB)
        return OK + save(tensors_of(message))
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        return FAILED + reason_of(error).encode()


if __name__ == "__main__":
    serve(answer)
