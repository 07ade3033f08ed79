"""Images of a run's data set: what the server answers, and what it does if they are not at hand."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import convscope
from convscope.deploy.predictor import Predictor
from convscope.errors import DataError, UsageError
from convscope.evaluation.trace import trace
from convscope.images.read import encode_png, read_image
from convscope.lab import samples
from convscope.lab.samples import RunImages, stratified
from helpers.images import animals, write_images
from helpers.lab_browser import opened, serve
from helpers.lab_page import NodePage, encode


def answer(images: RunImages, path: str) -> bytes:
    found = images.answer(path)
    assert found is not None
    return found.content


def test_stratified_takes_as_many_of_each_class_as_there_are() -> None:
    labels = np.repeat([2, 0, 1], [50, 3, 40])
    chosen = stratified(labels, 20)
    assert np.bincount(labels[chosen]).tolist() == [3, 9, 8] or np.bincount(labels[chosen]).tolist() == [3, 8, 9]
    assert (np.diff(labels[chosen]) >= 0).all()
    assert len(set(chosen.tolist())) == 20
    np.testing.assert_array_equal(chosen, stratified(labels, 20))
    assert sorted(stratified(labels, 1000).tolist()) == list(range(93))


def test_samples_are_test_images_with_their_classes(digits_run: convscope.Run) -> None:
    found = json.loads(answer(RunImages(digits_run), "/samples.json"))
    assert found["note"] == ""
    assert len(found["samples"]) == 100
    test = convscope.load_data("digits").test
    assert np.bincount([one["label"] for one in found["samples"]]).tolist() == [10] * 10
    for one in found["samples"][::9]:
        index = int(one["name"].removeprefix("test image "))
        assert one["label"] == test.labels[index]
        np.testing.assert_array_equal(read_image(base64.b64decode(one["file"])).pixels, test.image(index))


def test_training_images_come_with_their_features(digits_run: convscope.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_TRAINING_IMAGES", 30)
    images = RunImages(digits_run)
    about = json.loads(answer(images, "/training.json"))
    assert np.bincount(about["labels"]).tolist() == [3] * 10
    features = np.frombuffer(answer(images, "/training.f16"), "<f2").reshape(30, about["features"])
    pixels = np.stack([read_image(answer(images, f"/training/{i}.png")).pixels for i in range(30)])
    expected = Predictor(digits_run.model_file).features(pixels)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)
    for path in ("/training/30.png", "/training/-1.png", "/training/x.png", "/training/1.png.png", "/other"):
        assert images.answer(path) is None


def run_on(data: str, **more: Any) -> Any:
    dataset = SimpleNamespace(path=data, load_options=None, fingerprint="", **more)
    return SimpleNamespace(config=SimpleNamespace(dataset=dataset))


def test_images_that_are_not_decoded_are_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = RunImages(run_on(str(write_images(tmp_path / "pets", animals(12)))))
    found = json.loads(answer(images, "/samples.json"))
    assert found["samples"] == []
    assert found["note"].startswith("no images of the data set: they are no longer in the cache")
    assert images.answer("/training.json") is None


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ("", "no images of the data set: the network was trained on data in memory"),
        ("digits", "no images of the data set: digits has changed since the training"),
        ("/gone/pets", "no images of the data set: no such file or folder: /gone/pets"),
    ],
)
def test_data_set_that_is_not_at_hand_is_a_note(data: str, note: str) -> None:
    found = json.loads(answer(RunImages(run_on(data)), "/samples.json"))
    assert (found["samples"], found["note"][: len(note)]) == ([], note)


def test_decoded_images_of_a_folder_are_samples_with_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_images(tmp_path / "pets", animals(12))
    dataset = convscope.load_data(folder)
    run = run_on(str(folder))
    run.config.dataset.fingerprint = dataset.fingerprint
    found = json.loads(answer(RunImages(run, max_samples=4), "/samples.json"))
    assert [one["label"] for one in found["samples"]] == [0, 0, 1, 1]
    for one in found["samples"]:
        assert one["name"].split("/")[0] == ("cat", "dog")[one["label"]]
        rows = [i for i, file in enumerate(dataset.files) if file == one["name"]]
        assert base64.b64decode(one["file"]) == encode_png(dataset.train.store[rows[0]])


def test_page_finds_the_strongest_and_the_nearest_images(node: NodePage, digits_run: convscope.Run) -> None:
    test = convscope.load_data("digits").test
    images, query = test.images[:40], test.image(77)
    node.ask("open", model=encode(digits_run.model_file.read_bytes()))
    node.ask("classify", file=encode(encode_png(query)))
    model, preprocessing = digits_run.model(), digits_run.config.preprocessing
    layer = next(one.name for one in digits_run.network.layers if one.name.startswith("relu"))
    outputs = [trace(model, digits_run.network, one)[layer].output for one in preprocessing.normalize(images)]
    maps = np.stack(outputs)[..., 2]  # (n, height, width) of channel 2
    predictor = Predictor(digits_run.model_file)
    features, wanted = predictor.features(images).astype(np.float64), predictor.features(query[None])[0]
    distances = 1 - features @ wanted / np.linalg.norm(features, axis=1) / np.linalg.norm(wanted)
    half = encode(features.astype("<f2").tobytes())
    files = [encode(encode_png(image)) for image in images]
    for stored in ({}, {"features": half, "width": features.shape[1]}):
        found = node.ask("survey", files=files, channel={"value": layer, "channel": 2}, count=6, **stored)
        assert [one["index"] for one in found["strongest"]] == np.argsort(-maps.max((1, 2)), kind="stable")[:6].tolist()
        for one in found["strongest"]:
            assert one["score"] == pytest.approx(maps[one["index"]].max(), rel=1e-4)
            assert maps[one["index"]].ravel()[one["at"]] == pytest.approx(one["score"], rel=1e-4)
        assert [one["index"] for one in found["nearest"]] == np.argsort(distances)[:6].tolist()
        assert [one["score"] for one in found["nearest"]] == pytest.approx(sorted(distances)[:6], abs=2e-3)


@pytest.fixture(scope="module")
def samples_url(digits_run: convscope.Run) -> str:
    return serve(digits_run.model_file.read_bytes(), RunImages(digits_run).answer)


@pytest.mark.slow
def test_page_offers_samples_and_finds_similar_training_images(
    browser: Any, samples_url: str, digits_run: convscope.Run
) -> None:
    offered = RunImages(digits_run).samples["samples"]
    with opened(browser, samples_url) as page:
        page.wait_for_selector("lab-samples[data-done]")
        page.locator("lab-samples .sample").first.focus()
        for _ in range(31):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.locator("lab-samples", has_text=f"{offered[31]['name']}: its class is 3").wait_for()
        (answer,) = Predictor(digits_run.model_file).predict_logits(
            read_image(base64.b64decode(offered[31]["file"])).pixels[None]
        )
        is_right = int(answer.argmax()) == 3
        assert page.locator(".verdict").inner_text().startswith(f"{answer.argmax()} ")
        assert f"the answer is {'right' if is_right else 'wrong'}." in page.locator("lab-samples").inner_text()
        page.locator("lab-layer canvas").nth(2).click(position={"x": 5, "y": 5})
        page.locator("lab-samples h3", has_text="of 100 test images").wait_for()
        assert page.locator("lab-samples .point").count() == 6
        page.get_by_text("Nearest training images").click()
        page.locator("lab-samples h3", has_text="Nearest of 1,438 training images").wait_for()
        assert page.locator("lab-samples ul").last.locator("img").count() == 6


@pytest.mark.slow
def test_single_file_with_samples_works_from_disk(browser: Any, tmp_path: Path, digits_run: convscope.Run) -> None:
    out = tmp_path / "lab.html"
    convscope.export_model(digits_run, to="web", samples=20, out=out)
    context = browser.new_context(offline=True)
    with opened(context, out.as_uri(), width=0) as page:
        page.wait_for_selector("lab-samples[data-done]")
        assert page.locator("lab-samples .sample").count() == 20
        page.locator("lab-samples .sample").nth(4).click()
        page.get_by_text("Nearest of these images").click()
        page.locator("lab-samples h3", has_text="Nearest of 20 test images").wait_for()
        assert page.locator("lab-samples ul").last.locator("li").first.inner_text().endswith(" 0.000")  # itself
    context.close()


def test_export_of_samples_that_are_not_at_hand_is_an_error(digits_run: convscope.Run, tmp_path: Path) -> None:
    dataset = digits_run.config.dataset.model_copy(update={"fingerprint": "of before"})
    config = digits_run.config.model_copy(update={"dataset": dataset})
    changed = convscope.Run(digits_run.path, config, digits_run.manifest)
    with pytest.raises(
        DataError, match=r"^--samples: no images of the data set: digits has changed since the training$"
    ):
        convscope.export_model(changed, to="web", samples=20, out=tmp_path / "lab.html")
    assert not (tmp_path / "lab.html").exists()
    with pytest.raises(UsageError, match="--samples needs --to web"):
        convscope.export_model(digits_run, samples=20, out=tmp_path / "model.onnx")
