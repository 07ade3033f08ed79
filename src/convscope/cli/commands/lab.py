"""`convscope lab` and `learn`: a model's network in the browser, layer by layer, and the lessons."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli.console import AsJson, print_message, print_result

if TYPE_CHECKING:
    from convscope.api.lab import LabInfo

app = typer.Typer(rich_markup_mode=None)

Port = Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")]


@app.command(epilog="Example: convscope lab runs/mnist-small-1")
def lab(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN|MODEL]", help="A run folder or a model.onnx; without, open one there."),
    ] = None,
    port: Port = 0,
    open_browser: Open = True,
    as_json: AsJson = False,
) -> None:
    """Show a network in the browser: draw or drop an image, and see every layer and the arithmetic of any cell.

    The page runs the model file itself. Nothing leaves this machine.
    """
    from convscope.api.lab import open_lab

    open_lab(model, port, lambda info: _show(info, "the lab is", open_browser, as_json))


@app.command(epilog="Example: convscope learn --port 8080")
def learn(port: Port = 0, open_browser: Open = True, as_json: AsJson = False) -> None:
    """Open lessons in the browser: convolution, pooling, softmax and backpropagation, on examples that you change.

    They need no data and no training of yours. At the first use, a small network is trained on the built-in digits.
    """
    from convscope.api.lab import open_lessons
    from convscope.cli.progress import CliReporter

    with CliReporter() as reporter:
        open_lessons(port, lambda info: _show(info, "the lessons are", open_browser, as_json), reporter)


def _show(info: LabInfo, what: str, open_browser: bool, as_json: bool) -> None:
    if as_json:
        print_result(True, info, [])
        sys.stdout.flush()  # the program that started the page waits for this
    print_message(f"{what} at {info.url} (Ctrl-C stops)")
    if open_browser:
        webbrowser.open(info.url)
