"""The page in Chromium: draw, look, click, keyboard alone, foreign and damaged files, the single file from disk."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.deploy.predictor import Predictor
from convscope.images.read import encode_png
from convscope.lab.bundle import bundle_page
from convscope.lab.server import HOST
from helpers.lab_browser import draw_one, opened

pytestmark = pytest.mark.slow

HEADER = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + HEADER + struct.pack(">I", zlib.crc32(HEADER)) + b"\0" * 12


def verdict_of_python(page: Any, run: convscope.Run) -> str:
    """What Python answers to the pixels on the drawing board."""
    script = """() => {
      const canvas = document.querySelector('lab-board canvas');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return [...data].filter((_, i) => i % 4 === 0);
    }"""
    pixels = np.array(page.evaluate(script), np.uint8)
    side = round(len(pixels) ** 0.5)
    (answer,) = Predictor(run.model_file).predict(pixels.reshape(side, side))
    return f"{answer.label} · {100 * answer.probability:.1f} %"


def drawn_layers(page: Any) -> list[str]:
    """What each layer's canvas shows."""
    found: list[str] = page.evaluate("[...document.querySelectorAll('lab-layer canvas')].map(c => c.toDataURL())")
    return found


def test_drawing_changes_the_answer_and_every_layer(browser: Any, url: str, digits_run: convscope.Run) -> None:
    with opened(browser, url) as page:
        before = drawn_layers(page)
        draw_one(page)
        assert page.locator(".verdict").inner_text() == verdict_of_python(page, digits_run)
        after = drawn_layers(page)
        assert len(after) == len(before) > 5
        assert all(old != new for old, new in zip(before, after, strict=True))


def test_cell_of_every_layer_shows_its_arithmetic(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        layers = page.locator("lab-layer")
        for i in range(layers.count()):
            layers.nth(i).locator("canvas").click(position={"x": 5, "y": 5})
            name = layers.nth(i).locator("h3").inner_text()
            page.locator("lab-arithmetic h2", has_text=f"{name}: ").wait_for()
            assert "=" in page.locator("lab-arithmetic .sum").last.inner_text()
        page.keyboard.press("Escape")
        assert not page.locator("lab-arithmetic").is_visible()


def test_keyboard_alone_reaches_a_cell(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('lab-layer') !== null"):
                break
        for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        page.wait_for_selector("lab-arithmetic.open")
        assert page.locator("lab-arithmetic h2").inner_text() == "input: map 0, row 2, column 1"


def test_pixel_edited_as_a_number_changes_the_input(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        page.locator("#clear").click()
        page.wait_for_timeout(300)
        page.locator("#edit").click()
        cell = page.locator("lab-board input").nth(9)
        assert cell.get_attribute("aria-label") == "row 1, column 1"
        before = drawn_layers(page)[0]
        cell.fill("999")
        cell.press("Enter")
        page.wait_for_timeout(300)
        assert cell.input_value() == "255"
        assert drawn_layers(page)[0] != before


def files() -> dict[str, bytes]:
    """Images of several formats of the digit 3, larger than the network's input."""
    digit = convscope.load_data("digits").test.images
    labels = convscope.load_data("digits").test.labels
    pixels = np.repeat(np.repeat(digit[int(np.flatnonzero(labels == 3)[0])], 9, axis=0), 9, axis=1)
    found = {"png": encode_png(pixels)}
    options: dict[str, dict[str, Any]] = {"JPEG": {"quality": 90}, "WEBP": {"lossless": True}, "GIF": {}, "BMP": {}}
    for kind, chosen in options.items():
        stream = BytesIO()
        exif = Image.Exif()
        exif[274] = 6
        more = {"exif": exif} if kind == "JPEG" else {}
        Image.fromarray(pixels[..., 0]).save(stream, kind, **chosen, **more)
        found[kind.lower()] = stream.getvalue()
    return found


def test_image_files_get_the_probabilities_of_python(browser: Any, url: str, digits_run: convscope.Run) -> None:
    predictor = Predictor(digits_run.model_file)
    with opened(browser, url) as page:
        for kind, content in files().items():
            (expected,) = predictor.predict(content)
            page.set_input_files("#image-file", {"name": f"x.{kind}", "mimeType": "image/*", "buffer": content})
            page.wait_for_timeout(500)
            script = (
                "[...document.querySelectorAll('lab-answer tr')].map(r => [0, 2].map(i => r.children[i].textContent))"
            )
            shown = page.evaluate(script)
            for name, text in shown:
                assert abs(float(text.removesuffix(" %")) / 100 - expected.probabilities[name]) <= 0.00051, (kind, name)
            notes = page.locator("lab-seen li").all_inner_texts()
            known = "palette expanded"  # of which the browser's decoder knows nothing
            assert notes == [note for note in expected.notes if not note.startswith(known)], kind


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted_photo_is_answered_as_by_python(
    browser: Any, url: str, digits_run: convscope.Run, kind: str
) -> None:
    content = files()["jpeg"]
    (expected,) = Predictor(digits_run.model_file).predict(content)
    fire = """([kind, bytes]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(bytes)], "photo.jpg", { type: "image/jpeg" }));
      const options = { bubbles: true, cancelable: true, clipboardData: transfer, dataTransfer: transfer };
      const paste = () => [new ClipboardEvent(kind, options)];
      const drop = () => ["dragover", kind].map((one) => new DragEvent(one, options));
      for (const event of { paste, drop }[kind]()) document.body.dispatchEvent(event);
    }"""
    with opened(browser, url) as page:
        draw_one(page)
        before = drawn_layers(page)
        page.evaluate(fire, [kind, [*content]])
        page.wait_for_timeout(500)
        assert page.locator(".verdict").inner_text() == f"{expected.label} · {100 * expected.probability:.1f} %"
        assert drawn_layers(page)[0] != before[0]
        assert not page.evaluate("document.body.classList.contains('drop')")


@pytest.mark.parametrize(
    ("selector", "name", "content", "message"),
    [
        ("#image-file", "a.png", b"not an image", "not an image that this browser can read"),
        ("#image-file", "a.png", b"\x89PNG\r\n\x1a\n and nothing", "the file is truncated"),
        ("#image-file", "a.png", b"", "the file is empty"),
        (
            "#image-file",
            "a.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "not an image that this browser can read",
        ),
        ("#image-file", "a.png", BOMB, "60000x60000 are 3600 megapixels, expected at most 25"),
        ("#model-file", "a.onnx", b"not a model", "no ONNX file"),
        ("#model-file", "a.onnx", b"", "expected an ONNX file"),
    ],
)
def test_damaged_file_is_said_and_the_page_goes_on(
    browser: Any, url: str, digits_run: convscope.Run, selector: str, name: str, content: bytes, message: str
) -> None:
    with opened(browser, url) as page:
        page.set_input_files(selector, {"name": name, "mimeType": "application/octet-stream", "buffer": content})
        page.wait_for_selector("#message:not([hidden])")
        assert message in page.locator("#message").inner_text()
        draw_one(page)
        assert page.locator(".verdict").inner_text() == verdict_of_python(page, digits_run)
        assert not page.locator("#message").is_visible()


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_does_not_scroll_sideways(browser: Any, url: str, width: int, scheme: str) -> None:
    with opened(browser, url, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("lab-layer canvas").nth(1).click()
        page.wait_for_selector("lab-arithmetic.open")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_single_file_works_from_disk_without_a_network(browser: Any, tmp_path: Path, digits_run: convscope.Run) -> None:
    file = tmp_path / "lab.html"
    file.write_text(bundle_page(digits_run.model_file.read_bytes(), "digits"), "utf-8")
    context = browser.new_context(offline=True)
    with opened(context, file.as_uri(), width=0) as page:
        draw_one(page)
        assert page.locator(".verdict").inner_text() == verdict_of_python(page, digits_run)
        assert page.locator("#model").inner_text().startswith("digits: ")
    context.close()


def test_host_of_the_page_is_this_machine() -> None:
    assert HOST == "127.0.0.1"
