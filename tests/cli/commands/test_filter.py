"""`convscope filter`: the article's examples, and images."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from helpers.command import Command


def test_filter_numbers_gives_the_articles_example(command: Command) -> None:
    answer = command("filter", "11011/10101/11110/00110/11000", "--kernel", "101/010/110", "--cell", "0,0")
    assert answer == (
        0,
        "3 5 3\n3 2 5\n4 4 2\n[0,0] = 1*1 + 1*0 + 0*1 + 1*0 + 0*1 + 1*0 + 1*1 + 1*1 + 1*0 = 3\n",
        "",
    )


@pytest.mark.parametrize(("kind", "rows"), [("max", "5 6\n4 5\n"), ("min", "2 1\n1 2\n"), ("average", "3 4\n3 4\n")])
def test_filter_pool_gives_the_articles_examples(command: Command, kind: str, rows: str) -> None:
    assert command("filter", "3541/2256/4425/1354", "--pool", kind, "2") == (0, rows, "")


def test_filter_image_writes_an_image(command: Command, workspace: Path) -> None:
    answer = command("filter", "big.png", "--kernel", "edge")
    assert answer.code == 0
    assert answer.out.startswith("big-edge.png: 24x32 -> 22x30, shown as absolute values")
    assert (workspace / "big-edge.png").read_bytes().startswith(b"\x89PNG")


def test_filter_existing_file_is_kept_without_force(command: Command, workspace: Path) -> None:
    own = workspace / "big-edge.png"
    own.write_bytes(b"my own")
    answer = command("filter", "big.png", "--kernel", "edge")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "convscope: big-edge.png exists and has another content: choose another place with --out, or add --force\n"
    )
    assert command("filter", "seven.png", "--kernel", "edge", "--out", "big-edge.png").code == 2
    assert own.read_bytes() == b"my own"
    assert command("filter", "big.png", "--kernel", "edge", "--force").code == 0
    written = own.read_bytes()
    assert written.startswith(b"\x89PNG")
    assert command("filter", "big.png", "--kernel", "edge").code == 0  # writes the same again
    assert own.read_bytes() == written


def test_filter_link_without_a_target_is_kept(command: Command, workspace: Path) -> None:
    (workspace / "big-edge.png").symlink_to("later.png")
    assert command("filter", "big.png", "--kernel", "edge").code == 2
    assert (workspace / "big-edge.png").is_symlink()


def test_filter_standard_input_is_an_image(command: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((workspace / "big.png").read_bytes())))
    assert command("filter", "-", "--kernel", "edge").out.startswith("stdin-edge.png: 24x32 -> 22x30")
