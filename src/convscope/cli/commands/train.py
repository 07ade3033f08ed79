"""`convscope train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope._extras import require_package
from convscope.cli.commands.data import ImageOptions
from convscope.cli.console import AsJson, print_message, print_result
from convscope.cli.options import expand_records

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: convscope train mnist --model small --recipe default")
@expand_records
def train(
    context: typer.Context,
    images: ImageOptions,
    data: Annotated[
        str | None, typer.Argument(help="A name (digits, mnist, fashion-mnist, cifar10) or a path.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A preset or an architecture line, see 'convscope models'; the recipe's by default."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="default; fast: least time; best: accuracy; article: exactly the article's training. Without it, "
            "default, or what there is time for in --budget."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The folder to write; by default the next free one in runs/.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The (highest) learning rate.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bf16, or auto: bf16 where the processor has it and loses nothing by it."),
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Stop when the validation accuracy is surely so high, such as 0.97."),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better validation accuracy.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Take so much time, from now to the end: 60s, 2min, 1h."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, threads and versions: the same weights.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; by default chosen by size.")] = None,
    checkpoint_every: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time between two checkpoints of the training.")
    ] = 60.0,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with a training that was stopped or killed, as it was begun."),
    ] = None,
    more_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="With --resume and a finished training: so many epochs from its last weights, anew."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a classifier, evaluate it on the test split, and write its run folder and report."""
    require_package("torch", "train")
    from convscope.report.render_pool import helpers

    with helpers(threads) as draw:  # before anything slow is imported, so that they are ready when it is
        from convscope.cli import progress
        from convscope.cli import train_options as planning
        from convscope.runs.folder import check_free

        if run is not None:
            check_free(run)
        wishes = {
            "epochs": epochs,
            "batch": batch_size,
            "learning_rate": learning_rate,
            "precision": precision,
            "target": target_accuracy,
            "patience": patience,
        }
        goes_on = resume is not None and not more_epochs
        if resume is None:
            planning.needs_resume(more_epochs)
            options = images.load_options()
            plan = planning.new_plan(data, options, model, recipe, wishes, seed, threads, budget)
        else:
            plan = planning.plan_again(context, resume, more_epochs)
        from convscope.api import train as experiment
        from convscope.cli.format import issue_lines, plan_lines, run_lines

        for line in (*issue_lines(plan.dataset.issues), *plan_lines(plan.config)):
            print_message(line)
        config = plan.config
        with progress.training(config.epochs, config.recipe.measured_on, config.budget is not None) as watch:
            done = experiment.run_plan(
                plan, resume if goes_on else run, watch.batch, draw, watch_epoch=watch.epoch,
                checkpoint_every=checkpoint_every, resumed=goes_on, reporter=progress.StderrReporter(),
            )  # fmt: skip
    if done.manifest.signal:
        print_message(f"stopped by signal {done.manifest.signal} after {len(done.history)} of {config.epochs} epochs; "
            f"what was learned is saved in {done.path}; go on with convscope train --resume {done.path}")  # fmt: skip
        raise typer.Exit(128 + done.manifest.signal)
    print_result(as_json, done.to_dict(), run_lines(done))
    if done.missed_target:
        raise typer.Exit(5)
