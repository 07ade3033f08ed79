"""`convscope serve`: a model behind HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from convscope.cli.console import AsJson, print_message, print_result
from convscope.cli.options import AnyModel, expand_records
from convscope.deploy.server.options import TOKEN_VARIABLE, ServeOptions, make_access

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: convscope serve runs/mnist-small-1 --port 9000")
@expand_records
def serve(
    model: AnyModel,
    options: ServeOptions,
    token_file: Annotated[
        Path | None, typer.Option(help=f"The file with the token; by default ${TOKEN_VARIABLE}.", metavar="PATH")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name of this server; may be repeated.", metavar="NAME")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A web page that may use it; may be repeated.", metavar="ORIGIN")
    ] = None,
    with_lab: Annotated[bool, typer.Option("--lab/--no-lab", help="Show the network in the browser at /lab.")] = True,
    as_json: AsJson = False,
) -> None:
    """Answer HTTP requests with a model's predictions, on this machine or, with a token, for others."""
    from convscope.deploy.server.page import StaticPage
    from convscope.deploy.server.supervisor import ServerInfo, run_server
    from convscope.lab.bundle import PAGE
    from convscope.lab.server import HEADERS

    access = make_access(options, allow_host or [], allow_origin or [], token_file)

    def show(info: ServerInfo) -> None:
        if as_json:
            print_result(True, info, [])
            sys.stdout.flush()  # the program that started the server waits for this
        print_message(f"serving {info.model} ({info.classes} classes) on {info.url}; Ctrl-C stops")

    page = StaticPage(folder=PAGE, headers=HEADERS) if with_lab else None
    raise typer.Exit(run_server(model, options, access, show, print_message, page))
