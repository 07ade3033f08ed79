"""`convscope evaluate` and `explain`: what a trained model does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli.console import AsJson, Force, opened_run, print_result

app = typer.Typer(rich_markup_mode=None)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder written by 'convscope train'.")]
MaxMegapixels = Annotated[float, typer.Option(min=0.001, help="Reject larger images, in millions of pixels.")]


@app.command(epilog="Example: convscope evaluate runs/mnist-small-1")
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="A data set; by default the one the run was trained on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained model on the test split of a data set: accuracy with its 95 % interval, loss, per class."""
    from convscope.api.evaluate import evaluate_run
    from convscope.cli.format_evaluation import evaluation_lines
    from convscope.cli.progress import CliReporter

    with CliReporter() as reporter:
        evaluation = evaluate_run(opened_run(run), data, reporter)
    print_result(as_json, evaluation, evaluation_lines(evaluation))


@app.command(epilog="Example: convscope explain runs/mnist-small-1 seven.png --cell conv1,3,4,0 --cell classifier,7")
def explain(
    run: RunFolder,
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="The image to follow through the network; - for standard input.")
    ],
    cell: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER,ROW,COLUMN,CHANNEL", help="Print the arithmetic of this cell; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for the figures; by default RUN/explain/IMAGE.")] = None,
    max_megapixels: MaxMegapixels = 25.0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Show what every layer computes for an image, and the arithmetic of any one cell."""
    from convscope.api.explain import explain_image
    from convscope.cli.format_evaluation import explanation_lines

    explained = explain_image(opened_run(run), image, cell or (), out, max_megapixels=max_megapixels, force=force)
    print_result(as_json, explained, explanation_lines(explained))
