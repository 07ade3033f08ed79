"""`convscope lab`: a model's network in the browser, layer by layer."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from convscope.cli.console import AsJson, print_message, print_result

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: convscope lab runs/mnist-small-1")
def lab(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN|MODEL]", help="A run folder or a model.onnx; without, open one there."),
    ] = None,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)] = 0,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show a network in the browser: draw or drop an image, and see every layer and the arithmetic of any cell.

    The page runs the model file itself. Nothing leaves this machine.
    """
    from convscope.api.lab import LabInfo, open_lab

    def show(info: LabInfo) -> None:
        if as_json:
            print_result(True, info, [])
            sys.stdout.flush()  # the program that started the lab waits for this
        print_message(f"the lab is at {info.url}; Ctrl-C stops")
        if open_browser:
            webbrowser.open(info.url)

    open_lab(model, port, show)
