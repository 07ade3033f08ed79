"""`convscope export` and `verify`: the model file for use elsewhere, and whether all runtimes agree on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.api.export_options import ExportOptions
from convscope.cli.console import AsJson, print_message, print_result
from convscope.cli.options import AnyModel, expand_records
from convscope.errors import GateError

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: convscope export runs/mnist-small-1 --best --out digits.onnx")
@expand_records
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder written by 'convscope train'.")],
    options: ExportOptions,
    as_json: AsJson = False,
) -> None:
    """Write a run's model file, verified: in float32 as trained, or quantized to 8 bits.

    int8 is calibrated on training images and compared with float32 on validation images: at most 0.5 % of the answers
    may change, and the accuracy must not be lower beyond chance.
    """
    from convscope.api.export import export_model
    from convscope.cli.format_export import export_lines
    from convscope.cli.progress import CliReporter
    from convscope.runs.folder import open_run

    opened = open_run(run)
    if opened.warning:
        print_message(opened.warning)
    with CliReporter() as reporter:
        exported = export_model(opened, reporter=reporter, **options.model_dump())
    print_result(as_json, exported, export_lines(exported))


@app.command(epilog="Example: convscope verify runs/mnist-small-1 --images photos")
def verify(
    model: AnyModel,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compare on these images, too; with all subfolders.")
    ] = None,
    int8: Annotated[Path | None, typer.Option(metavar="FILE", help="The int8 model file of the same network.")] = None,
    http: Annotated[bool, typer.Option(help="Start 'convscope serve' and compare its answers.")] = True,
    as_json: AsJson = False,
) -> None:
    """Compare the answers of PyTorch, ONNX Runtime, the server and the lab's page; exit code 5 if they differ.

    All get the same image files. Every model file contains a few images with the trained network's answers.
    """
    from convscope.api.verify import verify_model
    from convscope.cli.format_export import verification_lines

    found = verify_model(model, images, int8, http)
    print_result(as_json, found, verification_lines(found))
    for reason in found.unreadable:
        print_message(f"convscope: {reason}")
    if not found.passed:
        raise typer.Exit(GateError.exit_code)
