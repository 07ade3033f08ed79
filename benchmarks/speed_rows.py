"""The programs that are compared: what one types to train the article's network in each."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import peers
from speed_process import Row

OURS, OURS_AUTO = "convscope float32", "convscope auto"
CONVSCOPE = str(Path(sys.executable).with_name("convscope"))
ALLOCATORS = ("libtcmalloc_minimal.so.4", "libjemalloc.so.2")  # the faster one first
THREAD_SETTINGS = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "TF_NUM_", "LD_PRELOAD")


def clean(variables: dict[str, str], threads: int) -> dict[str, str]:
    """Without anything that sets threads; OMP_NUM_THREADS says `threads` where those are not all cores."""
    kept = {key: value for key, value in variables.items() if not key.startswith(THREAD_SETTINGS)}
    fewer = threads < len(os.sched_getaffinity(0))
    return kept | ({"OMP_NUM_THREADS": str(threads)} if fewer else {})


def ours(name: str, words: str, folder: Path, threads: int, precision: str = "") -> Row:
    """`convscope train KEYWORDS --json`, its run in a new folder below `folder` every time (by its default name)."""
    wanted = ["--precision", precision] if precision and knows_precision() else []
    command = ["env", "-C", str(folder), CONVSCOPE, "train", *words.split(), *wanted, "--json"]
    return Row(name, command, clean(dict(os.environ), threads))


def keras(name: str, words: str, threads: int) -> Row:
    """Keras 3 on TensorFlow."""
    return Row(
        name, peers.command("keras", "keras_article.py", *words.split()), clean(peers.variables("keras"), threads)
    )


def torch(name: str, words: str, threads: int, preload: str = "") -> Row:
    """PyTorch; `preload` is the path of an allocator."""
    settings = clean(peers.variables("torch"), threads) | ({"LD_PRELOAD": preload} if preload else {})
    return Row(name, peers.command("torch", "torch_article.py", *words.split()), settings)


def article(folder: Path, epochs: int, threads: int) -> list[Row]:
    """Ours, Keras and plain PyTorch, each told to use so many threads."""
    words = f"--epochs {epochs} --threads {threads}"
    line = f"mnist --model article --recipe article {words}"
    return [
        ours(OURS, line, folder, threads, "float32"),
        *([ours(OURS_AUTO, line, folder, threads, "auto")] if knows_precision() else []),
        keras("Keras + TensorFlow", words, threads),
        torch("PyTorch eager", words, threads),
    ]


def tuned(epochs: int, threads: int) -> list[Row]:
    """PyTorch by its performance guide: each further step a row, so that the best of them can be taken."""
    words = f"--epochs {epochs} --threads {threads} --channels-last --fused"
    libraries = {Path(path).name.split(".")[0].removeprefix("lib"): path for path in allocators()}
    name, path = next(iter(libraries.items()), ("no allocator", ""))
    return [
        torch("PyTorch channels_last, fused SGD", words, threads),
        *(torch(f"PyTorch the same, {each}", words, threads, library) for each, library in libraries.items()),
        torch(f"PyTorch the same, {name}, bf16 autocast", f"{words} --bf16", threads, path),
        torch(f"PyTorch the same, {name}, torch.compile", f"{words} --compile", threads, path),
    ]


@cache
def knows_precision() -> bool:
    """Whether this convscope has `train --precision`; before that everything is float32."""
    said = subprocess.run([CONVSCOPE, "train", "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return "--precision" in said


def allocators() -> list[str]:
    """Paths of the allocators of PyTorch's guide that are installed (Debian: libjemalloc2, libtcmalloc-minimal4)."""
    found = (sorted(Path("/usr/lib").glob(f"*/{name}")) for name in ALLOCATORS)
    return [str(paths[0]) for paths in found if paths]
