"""`convscope filter`: the article's feature detector on any image, or on numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from convscope._records import Record
from convscope.cli.console import AsJson, print_result
from convscope.cli.options import expand_records

app = typer.Typer(rich_markup_mode=None)


class FilterOptions(Record):
    """What is computed, and where it goes."""

    kernel: str | None = Field(
        default=None, description="edge, blur, sharpen, emboss, sobel-x, sobel-y or rows of numbers."
    )
    pool: tuple[str, int] | None = Field(
        default=None, description="max, min or average.", json_schema_extra={"metavar": "KIND SIZE"}
    )
    stride: int | None = Field(default=None, ge=1, description="Step of the kernel in pixels; 1 by default.")
    cell: str | None = Field(
        default=None, description="Print this cell's arithmetic.", json_schema_extra={"metavar": "ROW,COLUMN"}
    )
    out: Path | None = Field(default=None, description="The image file to write; by default IMAGE-KERNEL.png.")
    max_megapixels: float = Field(default=25.0, ge=0.001, description="Reject larger images, in millions of pixels.")


@app.command(name="filter", epilog="Example: convscope filter photo.jpg --kernel edge --out edges.png")
@expand_records
def filter_image(
    image: Annotated[str, typer.Argument(help="An image file, or rows of numbers such as 11011/10101/11110.")],
    options: FilterOptions,
    as_json: AsJson = False,
) -> None:
    """Slide a kernel over an image or a matrix, or pool it: the article's feature detector."""
    from convscope.api.filter import detect
    from convscope.cli.format import filtered_lines

    found = detect(image, **dict(options))
    print_result(as_json, found.to_dict(), filtered_lines(found))
