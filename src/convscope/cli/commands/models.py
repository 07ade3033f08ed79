"""`convscope models` and `bench`: what networks cost, and how fast this machine is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from convscope.cli.console import AsJson, print_message, print_result

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog='Example: convscope models "conv 16 3, relu, maxpool 2, flatten" --data mnist')
def models(
    architecture: Annotated[str | None, typer.Argument(help="A preset or an architecture line.")] = None,
    data: Annotated[
        str | None, typer.Option(help="The data set that sets image size, classes and number of images.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="The recipe that sets epochs and batch size.")] = "default",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads; by default chosen by measurement.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List presets and published networks, or show what one costs per layer, image and epoch, and in time here."""
    from convscope.cli.format_models import cost_lines, preset_lines
    from convscope.network.cost import preset_costs

    if architecture is None:
        presets = preset_costs()
        print_result(as_json, presets, preset_lines(presets))
        return
    from convscope.api.models import model_cost
    from convscope.cli.progress import CliReporter

    with CliReporter() as reporter:
        cost = model_cost(architecture, data, recipe, threads, reporter)
    print_result(as_json, cost, cost_lines(cost))


@app.command(epilog="Example: convscope bench --threads 2")
def bench(
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; by default one per core.")] = None,
    seconds: Annotated[int, typer.Option(min=1, max=3600, help="Approximate duration; longer is more precise.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine trains, compared with plain PyTorch and with the limits of its processor."""
    from convscope.api.benchmark import run_benchmark
    from convscope.cli.format_models import bench_lines

    if sys.stderr.isatty():
        print_message(f"measuring for about {seconds + 5} seconds")
    measured = run_benchmark(threads, seconds)
    print_result(as_json, measured, bench_lines(measured))
