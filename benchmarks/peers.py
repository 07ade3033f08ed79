"""Virtual environments of the programs that convscope is compared with (peers), separate from convscope's own.

`requirements-NAME.txt` pins every package of peer NAME. Its environment is $CONVSCOPE_PEERS/NAME if that exists, else
benchmarks/.peers/NAME, which is created if it is missing or its pins have changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = Path("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment(name: str) -> Path:
    """Return the Python of peer `name`; the first call creates its environment, which takes minutes and a network."""
    given = os.environ.get("CONVSCOPE_PEERS")
    if given and Path(given, name, PYTHON).exists():
        return Path(given, name, PYTHON)
    folder, pins = HERE / ".peers" / name, HERE / f"requirements-{name}.txt"
    stamp = folder / "installed.txt"  # written last: an interrupted installation starts over
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        print(f"creating the environment of {name} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / PYTHON, "-m", "pip", "install", "--quiet", "-r", pins], check=True)
        stamp.write_text(pins.read_text())
    return folder / PYTHON


def command(name: str, script: str, *arguments: str | Path) -> list[str]:
    """Return the command that runs benchmarks/`script` in the environment of peer `name`."""
    return [str(environment(name)), str(HERE / script), *map(str, arguments)]


def variables(name: str) -> dict[str, str]:
    """Return the environment variables of peer `name`: ours, without other package paths and without GPUs."""
    settings = {
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(environment(name).parent.parent / "keras-home"),  # not the user's keras.json
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | settings


def run(name: str, script: str, *arguments: str | Path) -> str:
    """Run benchmarks/`script` on the CPU in the environment of peer `name`, and return its standard output."""
    words = command(name, script, *arguments)
    return subprocess.run(words, env=variables(name), stdout=subprocess.PIPE, text=True, check=True).stdout
