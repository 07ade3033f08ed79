"""The command line: `main()` runs one command, prints errors as one line each and sets the exit code.

A command's module is imported when the command runs, so that `convscope --help` stays fast. Results go to stdout,
messages to stderr; `errors` lists the exit codes.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from convscope._extras import needs_extra
from convscope.cli.console import print_lines, print_message
from convscope.cli.interrupts import INTERRUPTED, remember_interrupts
from convscope.cli.streams import reliable_streams
from convscope.errors import ArchitectureError, ConvscopeError, UsageError

# The module in `commands` and the line in `convscope --help` of each command.
COMMANDS = {
    "train": ("train", "Train a classifier, evaluate it and write its run folder and report."),
    "crossval": ("tuning", "Train once per fold without its images, and measure the accuracy on these."),
    "search": ("tuning", "Look for better training options than the defaults; train and test the best once."),
    "evaluate": ("evaluate", "Measure a trained model on a test split."),
    "predict": ("predict", "Classify images, folders and archives."),
    "explain": ("evaluate", "Show every layer's output for an image, and the arithmetic of any cell."),
    "export": ("export", "Write a trained model as one file: float32 or int8, verified."),
    "verify": ("export", "Compare the answers of all runtimes to the same images."),
    "serve": ("serve", "Answer HTTP requests with a model's predictions."),
    "lab": ("lab", "See a network think in the browser: every layer, and the arithmetic of any cell."),
    "learn": ("lab", "Learn how convolutional networks work: lessons in the browser."),
    "backbones": ("backbones", "List pretrained networks, or add one from a file or by download."),
    "models": ("models", "List the presets, or show what a network costs."),
    "bench": ("models", "Measure how fast this machine trains, compared with plain PyTorch."),
    "filter": ("filter", "Slide a kernel over an image, or pool it."),
    "data": ("data", "Inspect a data set before training on it."),
}
RENAMED = {  # old name: new name; both are accepted
    "--batch": "--batch-size",
    "--checkpoint-every": "--checkpoint-interval",
    "--size": "--image-size",
    "--target": "--target-accuracy",
    "--top": "--top-k",
}
OUT_OF_MEMORY = "can't allocate memory"  # in torch's message
ADVICE = "choose a smaller --batch-size, --image-size or network, or free some memory"
ADVICE_OF = {"predict": "choose a smaller --batch-size or --max-megapixels, fewer --threads, or free some memory"}


class LazyGroup(TyperGroup):
    """Lists the commands of `COMMANDS` and imports the module of the one that runs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The name, the command with its options, and the arguments that follow the name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load_command(str(name)), rest


def load_command(name: str) -> Any:
    """Import a command, or group of commands, from its module."""
    module, _ = COMMANDS[name]
    group = typer.main.get_group(import_module(f"convscope.cli.commands.{module}").app)
    return group.commands.get(name, group)


app = typer.Typer(
    cls=LazyGroup,
    epilog="Start with: convscope train",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _not_loaded() -> None:
    """Stands for a command in `convscope --help`; `LazyGroup` replaces it before it is called."""
    raise AssertionError("LazyGroup loads the command")


for _name, (_, _help) in COMMANDS.items():
    app.command(_name, short_help=_help)(_not_loaded)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"convscope {version('convscope')}\n")
        raise typer.Exit


@app.callback()
def _convscope(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, inspect, verify and deploy convolutional image classifiers on the CPU you already have."""


def main() -> None:
    """Run the command that `sys.argv` names and exit with its code."""
    # Waiting OpenMP threads spin for about 20 microseconds, then sleep: longer spinning makes a busy machine many times
    # slower, sleeping at once halves the speed of an idle one (dev/LOG.md). libgomp reads this when torch loads it.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for some in every package takes 15 ms
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters about an image is in our own messages
    with reliable_streams() as output:
        try:
            code = _run(current_options(sys.argv[1:]))
        except KeyboardInterrupt:  # at the very end, when nothing catches it anymore
            code = INTERRUPTED
        output.flush()
        if output.failure:
            code = _report_output(output.failure, code)
    sys.exit(code)


def _run(words: Sequence[str]) -> int:
    """Run a command, print errors, and return its exit code."""
    command = next((word for word in words if not word.startswith("-")), "convscope")
    with remember_interrupts() as interrupt:
        try:
            _check_current_folder()
            with needs_extra(feature=command):
                code = int(app(words, prog_name="convscope", standalone_mode=False) or 0)
            return INTERRUPTED if interrupt.came else code
        except typer.TyperException as error:
            message = error.format_message()  # the whole help text if no command was given
            if message.startswith("Usage:"):
                print_lines(message)
            else:
                print_message(f"convscope: {message.rstrip('.')}; see --help")
            return error.exit_code
        except ConvscopeError as error:
            print_message(f"convscope: {error}")
            if isinstance(error, ArchitectureError):
                print_lines(error.pointer)
            return error.exit_code
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and OUT_OF_MEMORY not in str(error):
                raise
            print_message(f"convscope: not enough memory: {ADVICE_OF.get(command, ADVICE)}")
            return 1
        except OSError as error:
            print_message(f"convscope: {error.filename}: {error.strerror}" if error.filename else f"convscope: {error}")
            return 1
        except BaseException:
            if not interrupt.came:
                raise
            return INTERRUPTED


def _check_current_folder() -> None:
    """Raise UsageError if the current folder was deleted: torch, for one, cannot be loaded there."""
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError("the current folder does not exist anymore: change to another one") from error


def _report_output(failure: OSError | ValueError, code: int) -> int:
    """Say why the result could not be printed, unless the reader of a pipe has closed it; the exit code."""
    if isinstance(failure, ValueError):  # the command was started without standard output
        print_message(f"convscope: {failure}")
        return code
    if not isinstance(failure, BrokenPipeError):
        print_message(f"convscope: cannot write to standard output: {failure.strerror}")
    return code or 1


def current_options(words: Sequence[str]) -> list[str]:
    """Command-line words with options of older versions replaced by their new names.

    >>> current_options(["train", "--batch", "64", "--size=32", "--", "--batch"])
    ['train', '--batch-size', '64', '--image-size=32', '--', '--batch']
    """
    end = words.index("--") if "--" in words else len(words)
    options = [re.sub(r"^--[a-z-]+(?==|$)", lambda flag: RENAMED.get(flag[0], flag[0]), word) for word in words[:end]]
    return [*options, *words[end:]]


if __name__ == "__main__":
    main()
