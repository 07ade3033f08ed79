"""The lab's page in a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convscope.lab.server import More, serve_page


def serve(model: bytes, samples: More | None = None) -> str:
    """The address of the lab with a model, in a thread of this process."""
    started: list[str] = []
    ready = threading.Event()

    def show(address: str) -> None:
        started.append(address)
        ready.set()

    threading.Thread(target=serve_page, args=(0, Path("run/model.onnx"), model, show, samples), daemon=True).start()
    assert ready.wait(20)
    return started[0]


@contextmanager
def opened(browser: Any, url: str, width: int = 1200, scheme: str = "light") -> Iterator[Any]:
    """The page after its first answer; in the end there was no request to elsewhere and no message of the browser."""
    page = browser.new_page(**({"viewport": {"width": width, "height": 900}, "color_scheme": scheme} if width else {}))
    requests: list[str] = []
    trouble: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(url)
    page.wait_for_selector(".verdict", timeout=20_000)
    yield page
    page.close()
    assert [one for one in requests if not one.startswith((url, "data:", "blob:"))] == []
    assert trouble == []


def draw_one(page: Any) -> None:
    """A vertical stroke."""
    box = page.locator("lab-board canvas").bounding_box()
    page.locator("#clear").click()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.48, box["y"] + box["height"] * 0.8, steps=12)
    page.mouse.up()
    page.wait_for_timeout(400)
