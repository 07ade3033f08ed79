"""`convscope data check` and `data show`: a data set before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field

from convscope._records import Record
from convscope.cli.console import AsJson, Force, print_result
from convscope.cli.options import expand_records
from convscope.errors import DataError
from convscope.images.fit import DEFAULT_FIT, Fit

if TYPE_CHECKING:
    from convscope.data.options import LoadOptions

app = typer.Typer(
    name="data", help="Inspect a data set before training on it.", no_args_is_help=True, rich_markup_mode=None
)


class ImageOptions(Record):
    """How image files become the network's input."""

    image_size: int | None = Field(default=None, ge=8, le=512, description="Side of the network's input, in pixels.")
    channels: Literal[1, 3, 4] | None = Field(default=None, description="1 for gray, 3 for color, 4 with transparency.")
    fit: Fit | None = Field(
        default=None,
        description="How images of another aspect ratio fit in: letterbox pads, crop cuts, stretch does neither; by "
        "default letterbox.",
    )
    group_by: str | None = Field(
        default=None,
        description="Keep files of a class in one split if the pattern matches the same text in their names.",
        json_schema_extra={"metavar": "REGEX"},
    )
    class_level: Literal[1, 2] | None = Field(
        default=None,
        description="1 if the top folders are the classes, 2 if those inside them are; by default found out.",
    )

    max_megapixels: float | None = Field(
        default=None, gt=0, description="Leave out larger images, in millions of pixels; by default over 50."
    )

    def load_options(self) -> LoadOptions:
        """The same for `load_data`."""
        from convscope.data.options import MAX_MEGAPIXELS, LoadOptions

        return LoadOptions(
            image_size=self.image_size,
            channels=self.channels,
            fit=self.fit or DEFAULT_FIT,
            group_by=self.group_by,
            class_level=self.class_level,
            max_megapixels=self.max_megapixels or MAX_MEGAPIXELS,
        )


@app.command("check", epilog="Example: convscope data check photos/")
@expand_records
def check(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A folder with one folder of images per class, a .zip or .tar of it, a .csv or .jsonl, or a .parquet.",
        ),
    ],
    options: ImageOptions,
    as_json: AsJson = False,
) -> None:
    """Find what would spoil training: unreadable, duplicate, mislabeled and odd images. Changes nothing."""
    from convscope.cli.format_data import audit_lines
    from convscope.cli.progress import CliReporter
    from convscope.data.audit.report import audit_images

    with CliReporter() as reporter:
        report = audit_images(path, options.load_options(), reporter)
    print_result(as_json, report, audit_lines(report))
    if report.problem:
        raise DataError(report.problem)


@app.command("show", epilog="Example: convscope data show digits --image 3")
def show(
    name: Annotated[str, typer.Argument(help="A name (digits, mnist, fashion-mnist, cifar10) or a path.")],
    image: Annotated[int, typer.Option(min=0, help="Index of the training image whose pixels are printed.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder for NAME-first-nine.png and NAME-image-N.png.")] = Path(),
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Print counts, shapes, pixel statistics and the pixels of one image, and draw the first nine images."""
    from convscope.api.inspect import show_dataset
    from convscope.cli.format_data import dataset_lines
    from convscope.cli.progress import CliReporter

    with CliReporter() as reporter:
        shown = show_dataset(name, image, out, reporter, force=force)
    print_result(as_json, shown, dataset_lines(shown))
