"""What the page shows, in Chromium: pages of maps, zoom, kernels, comparing, where a flattened entry came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.backends.pytorch.models import get_weights
from convscope.reference import flatten_source
from helpers.lab_browser import draw_one, opened, serve
from helpers.model_files import export
from helpers.networks import NetworkCase, random_preprocessing, trained_model

pytestmark = pytest.mark.slow

WIDE = NetworkCase("conv 150 3 pad same, relu, maxpool 2, conv 3 3, relu, flatten, dense 4, relu", (8, 8, 3), 3)

EVERY_KIND = (
    "conv 8 3 pad same, batchnorm, relu, residual(conv 8 3 pad same groups 2), minpool 2, avgpool 2 pad same, "
    "conv 6 3 pad same, gelu, maxpool 2, flatten, dense 20, tanh",
    "conv 5 2 stride 2, silu, conv 4 2, hardswish, globalavg",
    "conv 4 3, relu6, conv 4 2, leakyrelu, globalmax",
)


@pytest.fixture(scope="module")
def wide() -> bytes:
    return export(WIDE.network, get_weights(trained_model(WIDE)), random_preprocessing(WIDE), "abc")


@pytest.fixture(scope="module")
def page(browser: Any, wide: bytes) -> Iterator[Any]:
    with opened(browser, serve(wide)) as page:
        yield page


def weights_of(model: bytes) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(model).graph.initializer}


def layer(page: Any, name: str) -> Any:
    return page.locator("lab-layer", has=page.get_by_role("heading", name=name, exact=True))


def test_many_maps_are_shown_in_pages(page: Any) -> None:
    conv = layer(page, "conv1")
    assert "maps 0 to 63 of 150" in conv.inner_text()
    before = conv.locator("canvas").evaluate("c => c.toDataURL()")
    conv.get_by_role("button", name="Next maps").click()
    conv.get_by_role("button", name="Next maps").click()
    assert "maps 128 to 149 of 150" in conv.inner_text()
    assert conv.locator("canvas").evaluate("c => c.toDataURL()") != before
    conv.locator("canvas").click(position={"x": 2, "y": 2})
    page.locator("lab-arithmetic h2", has_text="conv1: map 128, row 0, column 0").wait_for()
    conv.locator("canvas").press("PageUp")
    assert "maps 64 to 127 of 150" in conv.inner_text()
    assert conv.locator(".reading").inner_text().startswith("map 127, row 0, column 0: ")
    page.keyboard.press("Escape")


def test_maps_zoom_up_to_eight_times(page: Any) -> None:
    canvas = layer(page, "relu1").locator("canvas")
    width = canvas.bounding_box()["width"]
    canvas.press("+")
    assert canvas.bounding_box()["width"] == pytest.approx(2 * width)
    for _ in range(2):
        layer(page, "relu1").get_by_role("button", name="Larger").click()
    canvas.press("+")
    assert canvas.bounding_box()["width"] == pytest.approx(8 * width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for _ in range(5):
        canvas.press("-")
    assert canvas.bounding_box()["width"] == pytest.approx(width)


def weights_shown(page: Any, name: str, chosen: int) -> Any:
    """The values of a layer's kernels for a map or unit, flat."""
    details = layer(page, name).locator("details")
    if not details.evaluate("d => d.open"):
        details.locator("summary").click()
    details.locator("input").fill(str(chosen))
    return np.array(details.locator("lab-maps").evaluate("m => [...m.values]"), np.float32)


def test_kernels_of_a_convolution_are_those_of_the_file(page: Any, wide: bytes) -> None:
    weight = weights_of(wide)["conv2.weight"]
    np.testing.assert_array_equal(weights_shown(page, "conv2", 2), weight[2].ravel())
    assert "maps 0 to 63 of 150" in layer(page, "conv2").locator("details").inner_text()


def test_weights_of_a_dense_layer_are_shown_as_the_maps_before_flatten(page: Any, wide: bytes) -> None:
    weight = weights_of(wide)["dense1.weight"]  # (4, 12): row, column, channel
    expected = weight[3].reshape(2, 2, 3).transpose(2, 0, 1)
    np.testing.assert_array_equal(weights_shown(page, "dense1", 3), expected.ravel())


def test_mark_stays_on_its_cell_when_the_arithmetic_narrows_the_layer(page: Any) -> None:
    page.set_viewport_size({"width": 1200, "height": 900})
    canvas = layer(page, "relu1").locator("canvas")
    wide = canvas.bounding_box()["width"]
    canvas.click(position={"x": 0.7 * wide, "y": 5})
    page.wait_for_selector("lab-arithmetic.open")
    page.wait_for_timeout(300)
    mark, box = layer(page, "relu1").locator(".mark").bounding_box(), canvas.bounding_box()
    assert box["width"] < 0.9 * wide
    center = mark["x"] + mark["width"] / 2 - box["x"]
    assert center == pytest.approx(0.7 * box["width"], abs=mark["width"])


def test_entry_of_flatten_marks_its_cell_and_the_reverse(page: Any) -> None:
    entry = 7
    flatten, maps = layer(page, "flatten1"), layer(page, "relu2")
    flatten.locator("canvas").focus()
    for key in ["ArrowRight"] * entry + ["Enter"]:
        page.keyboard.press(key)
    row, column, channel = flatten_source(entry, (2, 2, 3))
    page.locator("lab-arithmetic h2", has_text=f"flatten1: unit {entry}").wait_for()
    reading = maps.locator(".reading").inner_text()
    assert reading.startswith(f"map {channel}, row {row}, column {column}: ")
    assert reading.split(": ")[1] == flatten.locator(".reading").inner_text().split(": ")[1]
    maps.locator("canvas").press("PageDown")
    maps.locator("canvas").press("Enter")
    assert flatten.locator(".reading").inner_text().startswith(f"unit {entry + 1}: ")
    page.keyboard.press("Escape")


def test_kept_image_is_shown_next_to_the_current_one(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        verdict = page.locator(".verdict").inner_text()
        before = layer(page, "conv1").locator("canvas").evaluate("c => c.toDataURL()")
        page.get_by_role("button", name="Keep for comparing").click()
        draw_one(page)
        assert page.locator("lab-compare figcaption").inner_text() == f"kept: {verdict}"
        heads = page.locator("lab-answer thead th").all_inner_texts()
        assert heads == ["class", "now", "kept"]
        rows = {row[0]: row[2:] for row in page.locator("lab-answer tbody tr").evaluate_all(ROWS)}
        label, probability = verdict.split(" · ", 1)
        assert rows[label][1] == probability
        now, now_probability = page.locator(".verdict").inner_text().split(" · ", 1)
        assert rows[now][0] == now_probability
        count = page.locator("lab-layer").count()
        assert page.locator("lab-layer canvas").count() == 2 * count
        left, right = layer(page, "conv1").locator("canvas").all()
        assert left.bounding_box()["y"] == pytest.approx(right.bounding_box()["y"], abs=1)
        assert left.evaluate("c => c.toDataURL()") not in (before, right.evaluate("c => c.toDataURL()"))
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert left.bounding_box()["y"] + 10 < right.bounding_box()["y"]
        page.get_by_role("button", name="Stop comparing").click()
        assert page.locator("lab-layer canvas").count() == count


def test_kept_image_stays_and_open_arithmetic_follows_while_drawing(browser: Any, url: str) -> None:
    """Both while drawing, stroke after stroke."""
    values = "all => all.map(maps => [...maps.values])"
    with opened(browser, url) as page:
        maps = layer(page, "conv1").locator("lab-maps:not(details lab-maps)")
        (before,) = maps.evaluate_all(values)
        page.get_by_role("button", name="Keep for comparing").click()
        layer(page, "conv1").locator("canvas").first.click(position={"x": 60, "y": 60})
        page.wait_for_selector("lab-arithmetic.open")
        seen = set()
        for _ in range(3):
            draw_one(page)
            now, kept = maps.evaluate_all(values)
            assert kept == before != now
            cell = maps.first.evaluate("maps => maps.cell")
            assert cell == page.evaluate("document.querySelector('lab-arithmetic').choice.cell")
            shown = float(number(page.locator("lab-arithmetic .value").inner_text()))
            width, height = maps.first.evaluate("maps => [maps.wide, maps.tall]")
            assert shown == pytest.approx(now[(cell[0] * height + cell[1]) * width + cell[2]], rel=1e-4, abs=1e-5)
            seen.add(shown)
            page.locator("#samples button").nth(len(seen)).click()
            page.wait_for_timeout(300)
        drawn = maps.nth(1).evaluate("m => m.querySelector('canvas').toDataURL()")
        page.get_by_role("button", name="Stop comparing").click()
        page.get_by_role("button", name="Keep for comparing").click()
        assert maps.nth(1).evaluate("m => m.querySelector('canvas').toDataURL()") != drawn


def test_steps_to_the_network_keep_their_canvases_and_fit_the_image(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        draw_one(page)
        page.evaluate("window.first = document.querySelector('lab-seen canvas')")
        captions = page.locator("lab-seen figcaption").all_inner_texts()
        assert captions[0] == "gray 112x112"
        counts = set()
        for i in range(page.locator("#samples button").count()):
            page.locator("#samples button").nth(i).click()
            page.wait_for_timeout(300)
            canvases, shown = page.locator("lab-seen canvas"), page.locator("lab-seen figcaption").all_inner_texts()
            assert canvases.count() == len(shown) >= 1
            for canvas, caption in zip(canvases.all(), shown, strict=True):
                name, size = caption.rsplit(" ", 1)
                assert canvas.evaluate("c => `${c.width}x${c.height}`") == size
                assert canvas.get_attribute("aria-label") == f"{name}, {size.replace('x', ' by ')} pixels"
            counts.add(len(shown))
        draw_one(page)
        assert page.locator("lab-seen figcaption").all_inner_texts() == captions
        assert page.evaluate("window.first === document.querySelector('lab-seen canvas')")
        assert len(counts) > 1
        pixels = "{height: 1, width: 1, channels: 1, data: [0]}"
        page.evaluate(f"document.querySelector('lab-seen').answered({{steps: [], pixels: {pixels}, notes: []}})")
        assert page.evaluate("document.querySelector('lab-seen ul').hidden"), "no empty list for screen readers"


ROWS = "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"


@pytest.mark.parametrize(("architecture", "exponent"), [*zip(EVERY_KIND, (1, 2, 1), strict=True)])
def test_printed_terms_of_every_layer_add_up_to_the_printed_value(
    browser: Any, architecture: str, exponent: float
) -> None:
    case = NetworkCase(architecture, (13, 12, 3), 4)
    calibration = TemperatureScaling(temperature=3, exponent=exponent)
    model = export(case.network, get_weights(trained_model(case)), random_preprocessing(case), "abcd", calibration)
    with opened(browser, serve(model)) as page:
        draw_one(page)
        for one in page.locator("lab-layer").all():
            name = one.locator("h3").inner_text()
            for cell in range(3):
                one.locator("canvas").focus()
                for key in (*("PageDown", "ArrowRight", "ArrowDown")[:cell], "Enter"):
                    page.keyboard.press(key)
                place = one.locator(".reading").inner_text().split(": ")[0]
                page.locator("lab-arithmetic h2", has_text=f"{name}: {place}").wait_for()
                check_sum(page.locator("lab-arithmetic"))


def number(text: str) -> Decimal:
    return Decimal(text.replace("\u2212", "-"))


def check_sum(panel: Any) -> None:
    """That the printed terms, rounded to the decimals of the printed value, are the value."""
    rule = panel.locator("p").first.inner_text()
    value = number(panel.locator(".value").inner_text())
    terms, won = ([number(text) for text in panel.locator(name).all_inner_texts()] for name in (".term", ".won"))
    equation = panel.locator(".sum").last.inner_text()
    if "the largest value" in rule or "the smallest value" in rule:
        assert len(won) == 1
        assert value == won[0] == (max if "largest" in rule else min)(terms + won)
    elif operation := re.fullmatch(r"[^=]+ = (\S+) ([/x]) (\S+) = \S+", equation):
        first, second = number(operation[1]), number(operation[3])
        result = first / second if operation[2] == "/" else first * second
        assert float(result) == pytest.approx(float(value), rel=1e-5)
    elif "above 0" in rule:
        assert value == number(panel.locator("td:nth-child(2)").first.inner_text()) > 0
    elif "max(0, input)" in rule:
        assert value == max(0, number(panel.locator("td").last.inner_text()))
    elif "max(low, input)" in rule:
        x, low, high = map(number, panel.locator("td:nth-child(2)").all_inner_texts())
        assert value == min(max(low, x), high)
    elif not any(word in rule for word in ("another shape", "entry of a list")):
        count = int(equation.split(" / ")[1].split(" ")[0]) if " / " in equation else 1
        assert (Decimal(sum(terms)) / count).quantize(value) == value, (rule, terms, count, value)


def test_color_image_is_edited_a_channel_at_a_time_in_a_window(browser: Any) -> None:
    case = NetworkCase("conv 2 3, relu, globalavg", (40, 30, 3), 2)
    model = export(case.network, get_weights(trained_model(case)), random_preprocessing(case), "ab")
    with opened(browser, serve(model), width=390) as page:
        before = layer(page, "input").locator("lab-maps").evaluate("m => [...m.values]")
        page.locator("#edit").click()
        assert page.locator("lab-pixels td input").count() == 28 * 28
        page.get_by_label("First row").fill("99")
        page.get_by_label("First column").fill("1")
        page.get_by_label("Channel").select_option("Green")
        cell = page.get_by_label("row 12, column 1", exact=True)
        cell.fill("200")
        cell.press("ArrowUp")  # the change is taken when the focus leaves
        page.wait_for_timeout(300)
        assert page.evaluate("document.activeElement.ariaLabel") == "row 11, column 1"
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("document.activeElement.ariaLabel") == "row 11, column 0"
        after = layer(page, "input").locator("lab-maps").evaluate("m => [...m.values]")
        changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert changed == [(40 + 12) * 30 + 1]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
