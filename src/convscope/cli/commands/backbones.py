"""`convscope backbones` and `backbones add`: networks that know something already."""

from __future__ import annotations

from typing import Annotated

import typer

from convscope.cli.console import AsJson, print_result

app = typer.Typer(
    name="backbones",
    help="List pretrained networks, or add one from a file or by download.",
    epilog="Example: convscope backbones",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def backbones(context: typer.Context, as_json: AsJson = False) -> None:
    """List the pretrained networks that a training can start from, and whether they are on this machine."""
    from convscope.cli.format_models import backbone_lines
    from convscope.pretrained.catalog import list_backbones

    if context.invoked_subcommand is None:
        found = list_backbones()
        print_result(as_json, found, backbone_lines(found))


@app.command("add", epilog="Example: convscope backbones add resnet18-f37072fd.pth --as resnet18")
def add(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The published file, a state dict, a file, model.onnx or run of convscope; "
            "with --download, the name of a backbone.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Its name; by default the published one.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The backbone whose layers a state dict of another training has."),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download the published file and check it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a pretrained network in your folder of backbones. A .pth file is read in a process of its own."""
    from convscope.cli.progress import CliReporter
    from convscope.pretrained.add import add_backbone

    with CliReporter() as reporter:
        added = add_backbone(source, name, network, download, reporter)
    print_result(as_json, added, [f"added {added.name}: {added.path}"])
