"""The compared programs: the commands that train the article's network in each."""

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
    """Return the variables without those that set threads; OMP_NUM_THREADS is set if `threads` is not all cores."""
    kept = {key: value for key, value in variables.items() if not key.startswith(THREAD_SETTINGS)}
    fewer = threads < len(os.sched_getaffinity(0))
    return kept | ({"OMP_NUM_THREADS": str(threads)} if fewer else {})


def ours(name: str, arguments: str, folder: Path, threads: int, precision: str = "") -> Row:
    """Return the row of `convscope train ARGUMENTS --json`, which writes its run into `folder`.

    Args:
        name: of the row.
        arguments: separated by spaces.
        folder: working directory, in which every run gets a new folder.
        threads: see `clean`.
        precision: "" stands for the default.
    """
    options = ["--precision", precision] if precision and knows_precision() else []
    command = ["env", "-C", str(folder), CONVSCOPE, "train", *arguments.split(), *options, "--json"]
    return Row(name, command, clean(dict(os.environ), threads))


def keras(name: str, arguments: str, threads: int) -> Row:
    """Return the row of Keras 3 on TensorFlow."""
    return Row(
        name, peers.command("keras", "keras_article.py", *arguments.split()), clean(peers.variables("keras"), threads)
    )


def torch(name: str, arguments: str, threads: int, preload: str = "") -> Row:
    """Return the row of PyTorch; `preload` is the path of an allocator, or ""."""
    settings = clean(peers.variables("torch"), threads) | ({"LD_PRELOAD": preload} if preload else {})
    return Row(name, peers.command("torch", "torch_article.py", *arguments.split()), settings)


def article(folder: Path, epochs: int, threads: int) -> list[Row]:
    """Return the rows of convscope, Keras and plain PyTorch on that number of threads."""
    peer = f"--epochs {epochs} --threads {threads}"
    own = f"mnist --model article --recipe article {peer}"
    return [
        ours(OURS, own, folder, threads, "float32"),
        *([ours(OURS_AUTO, own, folder, threads, "auto")] if knows_precision() else []),
        keras("Keras + TensorFlow", peer, threads),
        torch("PyTorch eager", peer, threads),
    ]


def tuned(epochs: int, threads: int) -> list[Row]:
    """Return the rows of PyTorch tuned by its performance guide, one row per step."""
    arguments = f"--epochs {epochs} --threads {threads} --channels-last --fused"
    libraries = {Path(path).name.split(".")[0].removeprefix("lib"): path for path in allocators()}
    name, path = next(iter(libraries.items()), ("no allocator", ""))
    return [
        torch("PyTorch channels_last, fused SGD", arguments, threads),
        *(torch(f"PyTorch the same, {each}", arguments, threads, library) for each, library in libraries.items()),
        torch(f"PyTorch the same, {name}, bf16 autocast", f"{arguments} --bf16", threads, path),
        torch(f"PyTorch the same, {name}, torch.compile", f"{arguments} --compile", threads, path),
    ]


@cache
def knows_precision() -> bool:
    """Return whether this version of convscope has `train --precision`; earlier ones only know float32."""
    text = subprocess.run([CONVSCOPE, "train", "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return "--precision" in text


def allocators() -> list[str]:
    """Return the paths of the installed allocators of PyTorch's guide (Debian: libjemalloc2, libtcmalloc-minimal4)."""
    found = (sorted(Path("/usr/lib").glob(f"*/{name}")) for name in ALLOCATORS)
    return [str(paths[0]) for paths in found if paths]
