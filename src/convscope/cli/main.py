"""The command line: argv -> one call. Results go to stdout, messages to stderr; exit codes stand in `errors`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.errors import ArchitectureError, ConvscopeError, DataError

if TYPE_CHECKING:
    from convscope.runs.folder import Run

app = typer.Typer(
    help="Train, see, trust and ship convolutional image classifiers, on the CPU you already have.",
    epilog="Start with: convscope train",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at a data set before training on it.", no_args_is_help=True)
app.add_typer(data_app, name="data")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that 'convscope train' wrote.")]
Megapixels = Annotated[float, typer.Option(min=0.001, help="Refuse larger pictures, in millions of pixels.")]
Size = Annotated[int | None, typer.Option(min=8, max=512, help="Side of the network's input, in pixels.")]
Channels = Annotated[int | None, typer.Option(help="1 gray, 3 color or 4 with transparency.")]
Crop = Annotated[bool, typer.Option("--crop", help="Cut off what does not fit a square, instead of padding.")]
GroupBy = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help="Files of a class whose names match alike stay in one split; see the README."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; as many as the work is worth by default.")]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Threads that wait spin for some 20 microseconds and then sleep: spinning on makes a busy machine many times
    # slower, sleeping at once halves the speed of a quiet one (dev/LOG.md). libgomp reads this when torch loads it.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # here, and not at the end of the process, where a failure could not be told
    except BrokenPipeError:  # whoever was reading has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except typer.TyperException as error:
        message = error.format_message()  # the whole help text where a command is missing
        say(message if message.startswith("Usage:") else f"convscope: {message.rstrip('.')}; --help says what there is")
        code = error.exit_code
    except ConvscopeError as error:
        say(f"convscope: {error}")
        if isinstance(error, ArchitectureError):
            say(error.pointer)
        code = error.exit_code
    except OSError as error:
        say(f"convscope: {error}")
        code = 1
    sys.exit(code)


def say(message: str) -> None:
    """A message for people, on stderr."""
    sys.stderr.write(f"{message}\n")


def opened(path: Path) -> Run:
    """The run in a folder; says so where it was interrupted."""
    from convscope.runs.folder import open_run

    run = open_run(path)
    if run.warning:
        say(run.warning)
    return run


def show(as_json: bool, values: dict[str, Any], lines: list[Any]) -> None:
    """The result on stdout: one JSON object, or lines and tables."""
    if as_json:
        import json

        sys.stdout.write(json.dumps(values, indent=2) + "\n")
        return
    from convscope.cli.format import out

    console = out()
    for line in lines:
        console.print(line, markup=False, soft_wrap=isinstance(line, str))


@app.command(epilog="Example: convscope train mnist --model small --recipe default")
def train(
    context: typer.Context,
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
    batch: Annotated[int | None, typer.Option(min=1, help="Images per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The (highest) learning rate.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bf16, or auto: bf16 where the processor has it and loses nothing by it."),
    ] = None,
    target: Annotated[
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
    size: Size = None,
    channels: Channels = None,
    crop: Crop = False,
    group_by: GroupBy = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, threads and versions: the same weights.")] = 0,
    threads: Threads = None,
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
    from convscope.report.render_pool import helpers

    with helpers(threads) as draw:  # before anything slow is imported, so that they are ready when it is
        from convscope.cli import progress
        from convscope.cli import train_options as planning
        from convscope.runs.folder import check_free

        if run is not None:
            check_free(run)
        wishes = {
            "epochs": epochs,
            "batch": batch,
            "learning_rate": learning_rate,
            "precision": precision,
            "target": target,
            "patience": patience,
        }
        goes_on = resume is not None and not more_epochs
        if resume is None:
            planning.needs_resume(more_epochs)
            reading = planning.reading_of(size, channels, crop, group_by)
            plan = planning.new_plan(data, reading, model, recipe, wishes, seed, threads, budget, say)
        else:
            plan = planning.plan_again(context, resume, more_epochs, say)
        from convscope.api import train as experiment
        from convscope.cli.format import issue_lines, plan_lines, run_lines

        for line in (*issue_lines(plan.dataset.issues), *plan_lines(plan.config)):
            say(line)
        config = plan.config
        with progress.training(config.epochs, config.recipe.measured_on, config.budget is not None) as watch:
            done = experiment.run_plan(
                plan, resume if goes_on else run, watch.batch, draw, watch_epoch=watch.epoch,
                checkpoint_every=checkpoint_every, resumed=goes_on, say=say,
            )  # fmt: skip
    if done.manifest.signal:
        say(f"stopped by signal {done.manifest.signal} after {len(done.history)} of {config.epochs} epochs; "
            f"what was learned is saved in {done.path}; go on with convscope train --resume {done.path}")  # fmt: skip
        raise typer.Exit(128 + done.manifest.signal)
    show(as_json, done.to_dict(), run_lines(done))
    if done.missed_target:
        raise typer.Exit(5)


@app.command(epilog="Example: convscope evaluate runs/mnist-small-1")
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="A data set; by default the one of the training.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained model on the test split of a data set, with its uncertainty."""
    from convscope.api import train as experiment
    from convscope.cli import progress
    from convscope.cli.format import evaluation_lines

    with progress.loading() as downloading:
        evaluation = experiment.evaluate_run(opened(run), data, say, downloading)
    show(as_json, evaluation.model_dump(mode="json"), evaluation_lines(evaluation))


@app.command(epilog="Example: convscope predict runs/mnist-small-1 seven.png photo.jpg")
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or a model.onnx.")],
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG, BMP, GIF, TIFF, WebP or PGM.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to print.")] = 3,
    max_megapixels: Megapixels = 25.0,
    as_json: AsJson = False,
) -> None:
    """Classify pictures of any size; says what was done to each before the network saw it."""
    from convscope.cli.format import prediction_lines
    from convscope.deploy.predictor import Predictor

    predictor, found, failed = Predictor(opened(run).model_file if run.is_dir() else run), [], 0
    for picture in pictures:
        try:
            found += predictor.predict(picture, max_megapixels=max_megapixels)
        except ConvscopeError as error:
            say(f"convscope: {error}")
            failed = error.exit_code
    values = [{"image": p.name, "label": p.label, "notes": p.notes, "probabilities": p.probabilities} for p in found]
    if found:
        show(as_json, {"predictions": values}, [line for p in found for line in prediction_lines(p, top)])
    raise typer.Exit(failed)


@app.command(epilog="Example: convscope explain runs/mnist-small-1 seven.png --cell conv1,3,4,0 --cell classifier,7")
def explain(
    run: RunFolder,
    picture: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to follow through the network.")],
    cell: Annotated[
        list[str] | None, typer.Option(metavar="LAYER,ROW,COLUMN,CHANNEL", help="Print this cell's arithmetic.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for the pictures; by default RUN/explain/IMAGE.")] = None,
    max_megapixels: Megapixels = 25.0,
    as_json: AsJson = False,
) -> None:
    """Show what every layer makes of a picture, and the arithmetic of any one cell."""
    from convscope.api.inspect import explain_picture
    from convscope.cli.format import explanation_lines

    explained = explain_picture(opened(run), picture, cell or (), out, max_megapixels=max_megapixels)
    show(as_json, explained.to_dict(), explanation_lines(explained))


@app.command(epilog='Example: convscope models "conv 16 3, relu, maxpool 2, flatten" --data mnist')
def models(
    line: Annotated[str | None, typer.Argument(help="A preset or an architecture line.")] = None,
    data: Annotated[str | None, typer.Option(help="Take image size, classes and number of images from here.")] = None,
    recipe: Annotated[str, typer.Option(help="Whose epochs and batch to expect.")] = "default",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """List the presets, or show what a network costs: per layer, per image, per epoch, and in time on this machine."""
    from convscope.cli.format import cost_lines, preset_lines
    from convscope.network.presets import preset_table

    if line is None:
        known = preset_table()
        show(as_json, {"presets": known}, preset_lines(known))
        return
    from convscope.training.estimate import cost_of

    cost = cost_of(line, data, recipe, threads)
    show(as_json, cost.to_dict(), cost_lines(cost))


@app.command(epilog="Example: convscope bench --threads 2")
def bench(
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; as many as cores by default.")] = None,
    seconds: Annotated[int, typer.Option(min=1, max=3600, help="About how long; longer is more certain.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: training beside plain PyTorch, and how close the kernels come to the processor's limits."""
    from convscope.api.benchmark import measure
    from convscope.cli.format import bench_lines

    if sys.stderr.isatty():
        say(f"measuring for about {seconds + 5} seconds")
    measured = measure(threads, seconds)
    show(as_json, measured.to_dict(), bench_lines(measured))


@app.command(name="filter", epilog="Example: convscope filter photo.jpg --kernel edge --out edges.png")
def filter_(
    image: Annotated[str, typer.Argument(help="A picture, or rows of numbers such as 11011/10101/11110.")],
    kernel: Annotated[
        str | None, typer.Option(help="edge, blur, sharpen, emboss, sobel-x, sobel-y or rows of numbers.")
    ] = None,
    pool: Annotated[tuple[str, int] | None, typer.Option(metavar="KIND SIZE", help="max, min or average.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Step of the kernel in pixels; 1 by default.")] = None,
    cell: Annotated[str | None, typer.Option(metavar="ROW,COLUMN", help="Print this cell's arithmetic.")] = None,
    out: Annotated[Path | None, typer.Option(help="The picture to write; by default IMAGE-KERNEL.png.")] = None,
    max_megapixels: Megapixels = 25.0,
    as_json: AsJson = False,
) -> None:
    """Slide a kernel over any picture, or pool it: the article's feature detector."""
    from convscope.api.filter import detect
    from convscope.cli.format import filtered_lines

    found = detect(image, kernel, pool, stride, cell, out, max_megapixels)
    show(as_json, found.to_dict(), filtered_lines(found))


@data_app.command("check", epilog="Example: convscope data check photos/")
def data_check(
    path: Annotated[
        Path,
        typer.Argument(help="A folder with a folder of pictures per class, or a .csv or .jsonl of files and labels."),
    ],
    size: Size = None,
    channels: Channels = None,
    crop: Crop = False,
    group_by: GroupBy = None,
    as_json: AsJson = False,
) -> None:
    """Look for what would spoil a training: unreadable, repeated, misfiled and odd pictures. Changes nothing."""
    from convscope.cli import progress
    from convscope.cli import train_options as planning
    from convscope.cli.format import check_lines
    from convscope.data.audit.report import check_pictures

    with progress.loading() as loading:
        checked = check_pictures(path, planning.reading_of(size, channels, crop, group_by), loading, say)
    show(as_json, checked.to_dict(), check_lines(checked))
    if checked.problem:
        raise DataError(checked.problem)


@data_app.command("show", epilog="Example: convscope data show digits --image 3")
def data_show(
    name: Annotated[str, typer.Argument(help="A name (digits, mnist, fashion-mnist, cifar10) or a path.")],
    image: Annotated[int, typer.Option(min=0, help="The training image whose numbers are printed.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder for first-nine.png and image-N.png.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Print counts, shapes and pixel statistics, the numbers behind one image, and draw the first nine."""
    from convscope.api.inspect import show_dataset
    from convscope.cli import progress
    from convscope.cli.format import dataset_lines

    with progress.loading() as downloading:
        shown = show_dataset(name, image, out, downloading)
    show(as_json, shown, dataset_lines(shown))


if __name__ == "__main__":
    main()
