"""`convscope filter`: the article's examples, and images."""

from __future__ import annotations

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
