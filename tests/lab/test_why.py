"""Class maps, occlusion maps and channels that are switched off, in the page and in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convscope.backends.onnx.read import read_model_file
from convscope.backends.pytorch.models import as_batch, get_weights
from convscope.deploy.int8 import to_int8
from convscope.evaluation.heat_maps import class_map, occlusion_maps
from convscope.images.read import encode_png
from convscope.training.loop import predict_logits
from helpers.lab_browser import opened as browser_page
from helpers.lab_page import NodePage, decode, encode
from helpers.model_files import export
from helpers.networks import NetworkCase, random_images, random_preprocessing, trained_model

SHAPE = (24, 21, 3)
LINES = {
    "conv 6 3 pad same, relu, globalavg": "class activation map",
    "residual(conv 6 3 pad same, relu), globalavg, dropout 0.5": "class activation map",
    "conv 6 3, gelu, maxpool 2 pad same, globalmax": "contributions",
    "conv 6 3, relu, minpool 2, flatten": "contributions",
    "flatten": "contributions",
    "conv 6 3, relu, avgpool 2, flatten, dense 8, batchnorm, relu": "HiResCAM",
    "conv 6 3, relu, globalavg, dense 5, tanh": "HiResCAM",
    "conv 6 3, relu, avgpool 5, minpool 3 stride 2, flatten": "HiResCAM",
    "conv 6 3, relu, avgpool 5, maxpool 3 stride 2, relu, globalavg": "HiResCAM",
}


def opened(node: NodePage, line: str) -> tuple[NetworkCase, NDArray[np.uint8]]:
    """A network that the page has opened, and the image that it has classified."""
    case = NetworkCase(line, SHAPE, 4)
    content = export(case.network, get_weights(trained_model(case)), random_preprocessing(case), list("abcd"))
    image = random_images(case, 1)[0]
    node.ask("open", model=encode(content))
    node.ask("classify", file=encode(encode_png(image)))
    return case, image


def heats(found: dict[str, Any]) -> list[NDArray[Any]]:
    return [decode(heat).reshape(heat["height"], heat["width"]) for heat in found["heats"]]


@pytest.mark.parametrize("line", LINES)
def test_class_maps_of_the_page_are_those_of_python(node: NodePage, line: str) -> None:
    case, image = opened(node, line)
    found = node.ask("classMaps", targets=[2, 0])
    assert found["kind"] == LINES[line]
    model, pixels = trained_model(case), random_preprocessing(case).normalize(image[None])[0]
    for target, heat in zip([2, 0], heats(found), strict=True):
        expected = class_map(model, case.network, pixels, target)
        assert (found["kind"], found["layer"]) == (expected.kind, expected.layer)
        assert np.ptp(expected.heat) > 0
        np.testing.assert_allclose(heat, expected.heat, rtol=0, atol=1e-4 * abs(expected.heat).max())


@pytest.mark.parametrize("line", list(LINES)[:4])
def test_occlusion_of_the_page_is_that_of_python(node: NodePage, line: str) -> None:
    case, image = opened(node, line)
    found = node.ask("occlude", targets=[1, 3])
    model, preprocessing = trained_model(case), random_preprocessing(case)
    patches, drops = occlusion_maps(lambda x: predict_logits(model, x, preprocessing), image, preprocessing)
    assert found["patches"] == {"size": patches.size, "rows": [*patches.rows], "columns": [*patches.columns]}
    limit = 1e-4 * abs(drops).max()
    np.testing.assert_allclose(np.transpose(found["drops"]), drops[[1, 3]].reshape(2, -1), rtol=0, atol=limit)
    for target, heat in zip([1, 3], heats(found), strict=True):
        np.testing.assert_allclose(heat, patches.spread(drops[target], *SHAPE[:2]), rtol=0, atol=limit)


def test_int8_file_has_class_and_occlusion_maps_close_to_those_of_float32(node: NodePage, tmp_path: Path) -> None:
    case = NetworkCase("conv 6 3, relu, minpool 2, flatten", SHAPE, 4)
    content = export(case.network, get_weights(trained_model(case)), random_preprocessing(case), list("abcd"))
    images = random_images(case, 20)
    (tmp_path / "model.onnx").write_bytes(content)
    found: list[list[NDArray[Any]]] = []
    for model in (content, to_int8(read_model_file(tmp_path / "model.onnx"), images)):
        node.ask("open", model=encode(model))
        node.ask("classify", file=encode(encode_png(images[0])))
        maps = node.ask("classMaps", targets=[2])
        assert maps["kind"] == "contributions"
        found.append([*heats(maps), *heats(node.ask("occlude", targets=[2]))])
    for exact, rounded in zip(*found, strict=True):
        assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.98


def zero_channel(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
    """A forward hook that switches channel 3 off."""
    changed = output.clone()
    changed[:, 3] = 0
    return changed


@pytest.mark.parametrize("layer", ["relu1", "maxpool1", "dense1"])
def test_switched_channel_changes_the_answer_as_in_torch(node: NodePage, layer: str) -> None:
    case, image = opened(node, "conv 6 3, relu, maxpool 2, conv 4 3, flatten, dense 8, relu")
    model = trained_model(case)
    inputs = as_batch(random_preprocessing(case).normalize(image[None]))
    with torch.no_grad():
        before = model(inputs).softmax(1).numpy()[0]
        hook = model.get_submodule(layer).register_forward_hook(zero_channel)
        after = model(inputs).softmax(1).numpy()[0]
        hook.remove()
    assert abs(after - before).max() > 1e-4
    channel = {"value": layer, "channel": 3}
    found = node.ask("switchChannel", channel=channel)
    assert found["off"] == [channel]
    np.testing.assert_allclose(found["probabilities"], after, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["before"], before, rtol=0, atol=1e-5)
    values = decode(found["values"]).reshape(8 if layer == "dense1" else 6, -1)
    assert not values[3].any()
    back = node.ask("switchChannel", channel=channel)
    assert (back["off"], back.get("before")) == ([], None)
    np.testing.assert_allclose(back["probabilities"], before, rtol=0, atol=1e-5)


def test_class_map_has_no_part_of_a_switched_unit(node: NodePage) -> None:
    case, image = opened(node, "conv 6 3, relu, flatten, dense 8, leakyrelu")
    model, pixels = trained_model(case), random_preprocessing(case).normalize(image[None])[0]
    targets = range(4)
    before = [class_map(model, case.network, pixels, target).heat for target in targets]
    hook = model.get_submodule("dense1").register_forward_hook(zero_channel)
    after = [class_map(model, case.network, pixels, target).heat for target in targets]
    hook.remove()
    assert abs(np.array(after) - before).max() > 1e-3
    node.ask("switchChannel", channel={"value": "dense1", "channel": 3})
    for heat, expected in zip(heats(node.ask("classMaps", targets=[*targets])), after, strict=True):
        np.testing.assert_allclose(heat, expected, rtol=0, atol=1e-5)


def wait_for_maps(page: Any) -> None:
    """Until the occlusion maps are drawn; on a busy machine, where the network seems slow, they wait for a click."""
    page.wait_for_selector("lab-why canvas[data-done], lab-why button")
    button = page.locator("lab-why button")
    if button.count():
        button.click()
    page.wait_for_selector("lab-why canvas[data-done]")


@pytest.mark.slow
def test_page_shows_the_maps_and_the_change_by_a_switched_channel(browser: Any, url: str) -> None:
    with browser_page(browser, url) as page:
        wait_for_maps(page)
        label, top = page.locator("lab-why h3").first.inner_text(), page.locator(".verdict").inner_text()
        assert label == f"For {top.split()[0]}"
        names = page.evaluate("[...document.querySelectorAll('lab-why canvas')].map(c => c.getAttribute('aria-label'))")
        assert len(names) == 4
        assert names[1] == f"Occlusion map of {top.split()[0]}"
        page.locator("lab-layer canvas").nth(2).focus()
        page.keyboard.press("Enter")
        button = page.locator("lab-arithmetic .switch")
        assert button.inner_text().endswith("off")
        button.focus()
        page.keyboard.press("Space")
        page.locator("lab-channels li").first.wait_for()
        assert page.evaluate("document.activeElement.textContent").endswith("on")
        assert page.locator("lab-channels li").count() == 3
        page.locator("lab-arithmetic", has_text="It is switched off").wait_for()
        page.locator("lab-channels button").press("Enter")
        page.wait_for_selector("lab-channels li", state="detached")
        assert page.locator(".verdict").inner_text() == top


@pytest.mark.slow
@pytest.mark.parametrize(("slow", "waits"), [(1, False), (1000, True)])
def test_occlusion_maps_wait_for_a_click_only_if_the_network_stays_slow(
    browser: Any, url: str, slow: int, waits: bool
) -> None:
    """A place at a time, the first ones half a second late."""
    patched = f"""() => {{
      const {{ postMessage }} = Worker.prototype;
      window.slow = {slow};
      Worker.prototype.postMessage = function (message, ...rest) {{
        if (message.action === "occlude") {{
          message.milliseconds = 0;
          if (slow-- > 0) return setTimeout(() => postMessage.call(this, message, ...rest), 500);
        }}
        return postMessage.call(this, message, ...rest);
      }};
    }}"""
    with browser_page(browser, url) as page:
        wait_for_maps(page)
        page.evaluate(patched)
        page.locator("#samples button").nth(1).click()
        page.wait_for_selector("lab-why canvas[data-done]", state="detached")
        page.wait_for_selector("lab-why canvas[data-done], lab-why button")
        button = page.locator("lab-why button")
        assert button.count() == waits
        page.evaluate("slow = 0")
        if waits:
            button.click()
        page.wait_for_selector("lab-why canvas[data-done]")
        assert button.count() == 0


@pytest.mark.slow
def test_occlusion_map_of_an_image_that_is_gone_is_not_finished(browser: Any, url: str) -> None:
    """A place at a time; another image is opened at the fifth one."""
    patched = """() => {
      const { postMessage } = Worker.prototype;
      window.places = [];
      Worker.prototype.postMessage = function (message, ...rest) {
        if (message.action === "occlude") {
          message.milliseconds = 0;
          places.push(message.from);
          if (places.length === 5) document.querySelectorAll("#samples button")[1].click();
        }
        return postMessage.call(this, message, ...rest);
      };
    }"""
    with browser_page(browser, url) as page:
        wait_for_maps(page)
        page.evaluate(patched)
        page.locator("#samples button").nth(0).click()
        for _ in range(200):
            page.wait_for_timeout(50)
            if page.evaluate("places").count(0) == 2 and page.evaluate("places")[-1] == 48:
                break
        page.wait_for_timeout(300)  # for requests of the first image, if there still were any
        places = page.evaluate("places")
        again = places.index(0, 1)
        assert places[again:] == list(range(49))
        assert places[:again] == list(range(again))
        assert again < 30
