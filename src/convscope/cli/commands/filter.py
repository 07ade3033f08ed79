"""`convscope filter`: the article's feature detector on any image, or on numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from convscope.api.filter import FilterOptions
from convscope.api.filter import filter_image as run_filter
from convscope.cli.console import AsJson, print_result
from convscope.cli.options import expand_records

app = typer.Typer(rich_markup_mode=None)


@app.command(name="filter", epilog="Example: convscope filter photo.jpg --kernel edge --out edges.png")
@expand_records
def filter_image(
    image: Annotated[
        str, typer.Argument(help="An image file, - for standard input, or rows such as 11011/10101/11110.")
    ],
    options: FilterOptions,
    as_json: AsJson = False,
) -> None:
    """Slide a kernel over an image or a matrix, or pool it: the article's feature detector."""
    from convscope.cli.format_data import filter_lines

    found = run_filter(image, options)
    print_result(as_json, found, filter_lines(found))
