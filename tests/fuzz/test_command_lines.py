"""Any command line ends with one of the documented exit codes, and with lines that a terminal can show."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import convscope
from convscope._text import escape_controls
from convscope.cli.main import COMMANDS, main
from convscope.errors import ArchitectureError
from convscope.network.presets import PRESETS
from fuzz.inputs import inputs
from fuzz.mutations import damaged
from fuzz.outcome import captured, limits, refused_or_accepted, strict_json

pytestmark = pytest.mark.slow

LINES = [
    *(line.encode() for line in PRESETS.values()),
    b"conv 8 3 pad same, leakyrelu 0.1, avgpool 2 pad 1, dropout 0.5",
]
WORDS = [
    b"conv",
    b"dense",
    b"maxpool",
    b"residual(",
    b")",
    b"9" * 30,
    b"-1",
    b"1e9",
    "ｃｏｎｖ".encode(),
    b"pad same",
    b",",
]


@inputs(200)
@given(damaged(LINES, WORDS))
def test_parse_network_damaged_line_is_parsed_or_rejected(line: bytes) -> None:
    text = line.decode(errors="replace")
    with refused_or_accepted():
        try:
            convscope.parse_network(text, (28, 28, 1), 10)
        except ArchitectureError as error:
            assert 0 <= error.start <= error.end <= max(len(text), 1)
            raise


OPTIONS = [
    "--json",
    "--help",
    "--out",
    "--max-megapixels",
    "--image-size",
    "--group-by",
    "--fit",
    "--channels",
    "--top",
    "--threads",
    "--seed",
    "--stride",
    "--pool",
    "--recipe",
    "--precision",
    "--patience",
    "--kernel",
    "--image",
    "--epochs",
    "--model",
    "--data",
    "--cell",
    "--budget",
    "--batch-size",
    "--learning-rate",
    "--target-accuracy",
    "--run",
    "--nothing",
    "-h",
    "--version",
]
VALUES = [
    *[
        "0",
        "-1",
        "1",
        "3",
        "1e308",
        "nan",
        "inf",
        "9" * 400,
        "",
        " ",
        "\x1b[31m",
        "a\nb",
        "\u202e",
        "\udcff",
        "é",
        "７",
    ],
    *[
        "7x7",
        "conv1",
        "conv1,1,1,1",
        "classifier,0",
        "edge",
        "1,2,3",
        "max",
        "(",
        "(?P<a",
        ".*",
        "60s",
        "1h",
        "float32",
        "fast",
    ],
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, digits_run: convscope.Run) -> Iterator[list[str]]:
    """What a command line can name: images, a run, tables, folders, and what does not exist."""
    folder = tmp_path_factory.mktemp("places")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "image.png")
    (folder / "empty").mkdir()
    (folder / "empty.png").touch()
    (folder / "odd\x1b[2J\nname.png").write_bytes(b"no image")
    (folder / "table.csv").write_text("file,label\nimage.png,cat\nmissing.png,dog\n")
    yield [
        *map(str, sorted(folder.iterdir())),
        str(digits_run.path),
        str(digits_run.model_file),
        "digits",
        "none",
        "-",
        "/dev/null",
    ]


@inputs(100)
@given(st.data())
def test_main_any_command_line_ends_with_a_documented_code(places: list[str], data: st.DataObject) -> None:
    command = data.draw(st.sampled_from([*COMMANDS, "data show", "data check", "nothing"]))
    words = st.sampled_from(places) | st.sampled_from(OPTIONS) | st.sampled_from(VALUES) | st.text(max_size=5)
    arguments = [*command.split(), *data.draw(st.lists(words, max_size=5))]
    if command in ("train", "bench", "crossval", "search"):  # neither trains nor measures: this is about words
        arguments = [argument for argument in arguments if argument != "digits"] + ["--epochs", "none"]
    if command in ("lab", "learn", "serve"):  # neither serves until it is stopped
        arguments += ["--port", "none"]
    if any("\0" in argument for argument in arguments):
        return  # no process can be started with such an argument
    code, out, err = answer(arguments)
    assert code in {0, 2, 3, 4}, err
    assert "Traceback" not in err
    for line in (out + err).splitlines():
        assert escape_controls(line) == line, repr(line)
    if code == 0 and "--json" in arguments and "--help" not in arguments and "--version" not in arguments:
        strict_json(out)


def answer(arguments: list[str]) -> tuple[int, str, str]:
    """Run the command line in this process, with its output captured."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, captured() as printed, limits():
        patch.setattr(sys, "argv", ["convscope", *arguments])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
        printed.seek(0)
        noise = printed.read()
    assert noise == b""
    assert Path.cwd().is_dir()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()
