"""Does the lab's page answer as ONNX Runtime does, in Node and in Chromium?

    bench_lab_parity.py [--digits 1000] [--photos 500] [--epochs 1] [--into RESULTS.md]

Trains on MNIST (recipe article) and on the photos of flowers128. The page decodes and classifies MNIST's test images as
PNGs, and photos of flowers and traffic signs as they are (JPEG), as PNGs with and without transparency, with a palette
and with 16 bits, and turned by EXIF; Python does the same with Pillow and ONNX Runtime. Node has no decoder of JPEG and
gets only PNGs. Exit code 5: a pixel of a PNG differs, a probability by over 1e-4, or a label.
"""

from __future__ import annotations

import argparse
import base64
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from bench_parity import unpack, write_digits
from convscope import Predictor
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import read_image
from convscope.lab.server import serve_page
from peers import HERE
from speed_report import put, table, today
from speed_rows import CONVSCOPE

sys.path.insert(0, str(HERE.parent / "tests"))

from helpers.lab_page import NodePage, decode, encode

MAX_DIFFERENCE = 1e-4
FILES_AT_ONCE = 20
IN_PAGE = """async ([model, files]) => {
  const { openModel } = await import("/network/session.js");
  const { decodeImage } = await import("/images/decode.js");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const text = (array) => btoa(Array.from(array, (byte) => String.fromCharCode(byte)).join(""));
  globalThis.session ??= await openModel(bytes(model));
  const answers = [];
  for (const file of files) {
    const { pixels, probabilities } = globalThis.session.classify(await decodeImage(bytes(file)));
    answers.push({ pixels: text(pixels.data), probabilities });
  }
  return answers;
}"""


class Answer(NamedTuple):
    """What the network saw, flat uint8, and its probabilities."""

    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]


class Row(NamedTuple):
    """How far answers of the page are from Python's."""

    files: str
    runtime: str
    images: int
    pixel: int
    probability: float
    flips: int
    exact: bool


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=1000)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    data = Path(os.environ["CONVSCOPE_DATA"])
    archive = str(data / "flowers128" / "flowers.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digits = [path.read_bytes() for path in write_digits(folder / "digits", options.digits)]
        signs = str(data / "gtsrb-subset" / "gtsrb.tar")
        count = options.photos
        photos = [*unpack(archive, folder / "f", count * 3 // 5), *unpack(signs, folder / "s", count - count * 3 // 5)]
        rows = measure(train(folder / "a", "mnist", "article", options.epochs), {"MNIST test images, PNG": digits})
        kinds = variants([path.read_bytes() for path in photos])
        rows += measure(train(folder / "b", archive, "default", options.epochs), kinds)
    return 0 if report(options.into, rows) else 5


def train(folder: Path, data: str, recipe: str, epochs: int) -> Path:
    """A trained run."""
    command = [CONVSCOPE, "train", data, "--recipe", recipe, "--epochs", str(epochs), "--run", str(folder)]
    command += [] if data == "mnist" else ["--image-size", "64"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "model.onnx"


def variants(photos: Sequence[bytes]) -> dict[str, list[bytes]]:
    """Each photo in one of six forms, in turn."""
    makers: dict[str, Callable[[bytes], bytes]] = {
        "photos, JPEG": lambda file: file,
        "photos, JPEG turned by EXIF": lambda file: saved(file, "RGB", "JPEG", quality=92, exif=turned()),
        "photos, PNG": lambda file: saved(file, "RGB", "PNG"),
        "photos, PNG with transparency": with_alpha,
        "photos, PNG with a palette": lambda file: saved(file, "P", "PNG"),
        "photos, PNG of 16 bits": deep,
    }
    forms = list(makers.items())
    found: dict[str, list[bytes]] = {name: [] for name in makers}
    for i, photo in enumerate(photos):
        name, make = forms[i % len(forms)]
        found[name].append(make(photo))
    return found


def saved(file: bytes, mode: str, kind: str, **options: Any) -> bytes:
    """A photo in another form."""
    stream = BytesIO()
    Image.open(BytesIO(file)).convert("RGB").convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def turned() -> Image.Exif:
    """An orientation."""
    exif = Image.Exif()
    exif[274] = 6
    return exif


def with_alpha(file: bytes) -> bytes:
    """A photo whose transparency rises from left to right."""
    image = Image.open(BytesIO(file)).convert("RGB")
    alpha = np.linspace(0, 255, image.width).astype(np.uint8)[None].repeat(image.height, axis=0)
    image.putalpha(Image.fromarray(alpha))
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def deep(file: bytes) -> bytes:
    """A photo in gray with 16 bits."""
    gray = np.asarray(Image.open(BytesIO(file)).convert("L")).astype(np.uint16) * 257
    stream = BytesIO()
    Image.fromarray(gray).save(stream, "PNG")
    return stream.getvalue()


def measure(model: Path, groups: dict[str, list[bytes]]) -> list[Row]:
    """Compare the page with Python on groups of files."""
    predictor = Predictor(model)
    rows = []
    with NodePage() as node, chromium(model) as page:
        node.ask("open", model=encode(model.read_bytes()))
        for name, files in groups.items():
            expected = python_answers(predictor, files)
            is_png = "PNG" in name
            if is_png:
                rows.append(compare(name, "Node", expected, node_answers(node, files), is_png))
            rows.append(compare(name, "Chromium", expected, page_answers(page, model, files), is_png))
            print(rows[-1], file=sys.stderr)
    return rows


def python_answers(predictor: Predictor, files: Sequence[bytes]) -> list[Answer]:
    """Pillow and ONNX Runtime."""
    record: Preprocessing = predictor.preprocessing
    pixels = np.stack([record.transform(read_image(file))[0] for file in files])
    rows = predictor.predict_proba(pixels).astype(np.float64)
    return [Answer(image.ravel(), row) for image, row in zip(pixels, rows, strict=True)]


def node_answers(node: NodePage, files: Sequence[bytes]) -> list[Answer]:
    """The page's code in Node."""
    found = (node.ask("classify", file=encode(file)) for file in files)
    return [Answer(decode(one["pixels"]), np.array(one["probabilities"])) for one in found]


def page_answers(page: Page, model: Path, files: Sequence[bytes]) -> list[Answer]:
    """The page in Chromium."""
    content, found = encode(model.read_bytes()), []
    for first, last in pairwise([*range(0, len(files), FILES_AT_ONCE), len(files)]):
        answers = page.evaluate(IN_PAGE, [content, [encode(file) for file in files[first:last]]])
        for one in answers:
            pixels = np.frombuffer(base64.b64decode(one["pixels"]), np.uint8)
            found.append(Answer(pixels, np.array(one["probabilities"])))
    return found


@contextmanager
def chromium(model: Path) -> Iterator[Page]:
    """The page of a model."""
    started: list[str] = []
    ready = threading.Event()

    def show(url: str) -> None:
        started.append(url)
        ready.set()

    threading.Thread(target=serve_page, args=(0, model, model.read_bytes(), show), daemon=True).start()
    ready.wait(30)
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page()
        page.goto(started[0])
        page.wait_for_selector(".verdict")
        yield page
        browser.close()


def compare(name: str, runtime: str, expected: Sequence[Answer], found: Sequence[Answer], exact: bool) -> Row:
    """The largest differences."""
    pixel = max(int(np.abs(a.pixels.astype(int) - b.pixels).max()) for a, b in zip(expected, found, strict=True))
    probability = max(
        float(np.abs(a.probabilities - b.probabilities).max()) for a, b in zip(expected, found, strict=True)
    )
    flips = sum(int(a.probabilities.argmax() != b.probabilities.argmax()) for a, b in zip(expected, found, strict=True))
    return Row(name, runtime, len(expected), pixel, probability, flips, exact)


def report(file: Path, rows: Sequence[Row]) -> bool:
    """Write the table into the file and to stdout; whether everything is within its bounds."""
    cells = [(row.files, row.runtime, row.images, row.pixel, f"{row.probability:.1e}", row.flips) for row in rows]
    heads = ("files", "the page in", "images", "pixel", "probability", "label flips")
    text = (
        f"## The lab's page\n\n`bench_lab_parity.py`, {today()}, {len(os.sched_getaffinity(0))} cores. The largest "
        "differences between the page and Python (Pillow and ONNX Runtime): of a pixel of the network's input, of 255, "
        f"and of a probability.\n\n{table(heads, cells)}"
    )
    print(text)
    put(file, "lab-parity", text)
    return all(
        row.flips == 0 and row.probability <= MAX_DIFFERENCE and row.pixel <= (0 if row.exact else 255) for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
