"""The Predictor: the answers of torch without torch, and one line for every unusable file and image."""

from __future__ import annotations

import copy
import json
import pickle
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

import convscope
from convscope import Run
from convscope.backends.onnx.metadata import ModelMetadata
from convscope.backends.onnx.prune import without_ood_score
from convscope.backends.pytorch.models import as_batch, get_weights
from convscope.deploy.prediction import Prediction
from convscope.deploy.predictor import Predictor
from convscope.deploy.prepare import BATCH_SIZE
from convscope.deploy.sources.items import EncodedImage
from convscope.errors import DataError, ModelFileError, UsageError
from convscope.images.read import encode_png, read_image
from helpers.model_files import export, with_metadata
from helpers.networks import PRESET_CASES, NetworkCase, random_images, random_preprocessing, trained_model

LINE = NetworkCase("conv 4 3 pad same, relu, maxpool 2, flatten", (6, 8, 3), 5)
NAMES = ["ape", "bee", "cat", "dog", "eel"]


def write_model(path: Path, case: NetworkCase = LINE, classes: list[str] = NAMES, seed: int = 0) -> Path:
    path.write_bytes(
        export(case.network, get_weights(trained_model(case, seed)), random_preprocessing(case, seed), classes)
    )
    return path


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(write_model(tmp_path / "model.onnx"))


def expected_probabilities(case: NetworkCase, images: NDArray[np.uint8], seed: int = 0) -> NDArray[np.float32]:
    with torch.inference_mode():
        found: NDArray[np.float32] = (
            trained_model(case, seed)(as_batch(random_preprocessing(case, seed).normalize(images))).softmax(1).numpy()
        )
    return found


@pytest.mark.parametrize("name", PRESET_CASES)
def test_predictor_every_preset_agrees_with_torch(name: str, tmp_path: Path) -> None:
    """Probabilities within 1e-4."""
    case = PRESET_CASES[name]
    predictor = Predictor(write_model(tmp_path / "m.onnx", case, [str(i) for i in range(10)]))
    images = random_images(case, 8)
    logits, probabilities = predictor.predict_logits(images), predictor.predict_proba(images)
    with torch.inference_mode():
        expected = trained_model(case)(as_batch(random_preprocessing(case).normalize(images))).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * abs(expected).max())
    np.testing.assert_allclose(probabilities, expected_probabilities(case, images), rtol=0, atol=1e-4)
    labels = [prediction.label for prediction in predictor.predict(list(images))]
    assert labels == [str(i) for i in probabilities.argmax(1)]


def test_predictor_without_ood_score_gives_the_same_outputs(digits_run: Run) -> None:
    full, images = Predictor(digits_run.model_file), convscope.load_data("digits").test.images
    light = onnx.load_from_string(without_ood_score(digits_run.model_file.read_bytes()))
    onnx.checker.check_model(light, full_check=True)
    assert [output.name for output in light.graph.output] == ["features", "logits", "probabilities"]
    assert len(light.graph.node) < len(onnx.load(digits_run.model_file).graph.node) - 10
    assert not any(part.name.startswith("ood") for part in light.graph.initializer)
    probabilities = full.predict_proba(images)
    answers = full.predict(list(images[:20]))
    expected = [answer.probability for answer in answers]
    assert probabilities[:20].max(1) == pytest.approx(expected, abs=1e-6)
    assert full.features(images).shape[0] == full.ood_scores(images).shape[0] == len(images)


@pytest.mark.slow
def test_predictor_of_run_folder_opens_its_model_file(digits_run: Run) -> None:
    predictor = Predictor(str(digits_run.path))
    assert predictor.path == digits_run.path / "model.onnx"
    assert predictor.classes == digits_run.classes


def test_predictor_of_run_folder_verifies_it_as_open_run_does(digits_run: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(digits_run.path, tmp_path / "run"))
    (copy / "evaluation.json").write_text("{}")
    with pytest.raises(ModelFileError, match=r"evaluation\.json was altered after training"):
        Predictor(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(ModelFileError, match=r"manifest\.json is missing"):
        Predictor(copy)
    assert Predictor(copy / "model.onnx").classes == digits_run.classes


def test_predictor_of_model_file_describes_itself(tmp_path: Path) -> None:
    predictor = Predictor(write_model(tmp_path / "model.onnx"))
    assert predictor.classes == tuple(NAMES)
    assert predictor.preprocessing == random_preprocessing(LINE)
    assert predictor.metadata.architecture == LINE.architecture


def test_predict_probabilities_are_ranked_and_sum_to_one(predictor: Predictor) -> None:
    images = random_images(LINE, 20)
    rows = expected_probabilities(LINE, images)
    for row, prediction in zip(rows, predictor.predict(list(images)), strict=True):
        found = prediction.probabilities
        assert sum(found.values()) == pytest.approx(1, abs=1e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert prediction.label == NAMES[row.argmax()]
        assert prediction.probability == found[prediction.label] == max(found.values())
        assert [found[name] for name in NAMES] == pytest.approx(row.tolist(), abs=1e-5)


def test_predict_accepts_images_of_every_kind_and_size_in_one_call(predictor: Predictor, tmp_path: Path) -> None:
    image = random_images(LINE, 1)[0]
    (tmp_path / "a.png").write_bytes(encode_png(image))
    large, gray = np.repeat(np.repeat(image, 10, 0), 10, 1), np.full((6, 8), 9, np.uint8)
    images = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image), image, large, gray]
    found = predictor.predict(images)
    assert [prediction.image for prediction in found] == [str(tmp_path / "a.png")] * 2 + ["image"] * 4
    assert [prediction.notes for prediction in found] == [()] * 4 + [("resized 80x60 -> 8x6",), ()]
    for same in found[1:4]:
        assert same.probabilities == found[0].probabilities
    assert predictor.predict(tuple(images)) == found
    assert predictor.predict(image) == [found[3]]
    assert predictor.predict(tmp_path / "a.png") == [found[0]]
    assert predictor.predict_images([read_image(source) for source in images]) == found


def test_predict_an_array_of_several_images_classifies_each(predictor: Predictor) -> None:
    images = random_images(LINE, 3)
    assert predictor.predict(images) == predictor.predict(list(images))


def test_predict_an_open_file_reads_it(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(random_images(LINE, 1)[0]))
    (expected,) = predictor.predict(path)
    with path.open("rb") as file:
        found = predictor.predict(file) + predictor.predict([BytesIO(path.read_bytes())])
    assert [one.probabilities for one in found] == [expected.probabilities] * 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "image: expected a path, an open file, its bytes, a PIL image or a uint8 array, got NoneType"),
        (5, "image: expected a path, an open file, its bytes, a PIL image or a uint8 array, got int"),
        ([[0, 1]], "image: expected a path, an open file, its bytes, a PIL image or a uint8 array, got list"),
        (np.zeros((2, 2)), "got float64 (2, 2); convert it to uint8 0..255 first"),
        (np.zeros((2, 9, 9, 9, 1), np.uint8), "got uint8 (2, 9, 9, 9, 1); pass several images as a list"),
    ],
)
def test_predict_what_is_no_image_says_what_was_expected(predictor: Predictor, source: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message) + "$"):
        predictor.predict(source)


def test_predictor_copies_and_pickles_answer_alike(predictor: Predictor) -> None:
    images = random_images(LINE, 3)
    expected = predictor.predict_proba(images)
    for other in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):  # noqa: S301
        assert (other.path, other.threads) == (predictor.path, predictor.threads)
        np.testing.assert_array_equal(other.predict_proba(images), expected)


def test_predictor_shows_file_and_classes(predictor: Predictor) -> None:
    assert repr(predictor) == f"Predictor('{predictor.path}'): 5 classes, ape, bee, cat, dog, eel"


@pytest.mark.parametrize("threads", [0, -1])
def test_predictor_without_threads_raises_usage_error(predictor: Predictor, threads: int) -> None:
    with pytest.raises(UsageError, match=rf"^threads: expected at least 1, got {threads}$"):
        Predictor(predictor.path, threads=threads)


def test_predict_logits_of_more_images_than_one_batch(predictor: Predictor) -> None:
    images = random_images(LINE, 2_345)
    logits, probabilities = predictor.predict_logits(images), predictor.predict_proba(images)
    assert logits.shape == probabilities.shape == (2_345, 5)
    np.testing.assert_allclose(probabilities, expected_probabilities(LINE, images), rtol=0, atol=1e-5)


WITHOUT_TRAINING = """
import json, sys
for name in ("torch", "sklearn", "matplotlib", "onnx", "tensorboardX", "scipy"):
    sys.modules[name] = None  # any import of it fails
from convscope import Predictor
prediction, = Predictor(sys.argv[1]).predict(sys.argv[2])
print(json.dumps(prediction.probabilities))
"""


def test_predict_without_packages_of_the_training_extra(tmp_path: Path) -> None:
    model, image = write_model(tmp_path / "model.onnx"), random_images(LINE, 1)
    (tmp_path / "a.png").write_bytes(encode_png(image[0]))
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TRAINING, str(model), str(tmp_path / "a.png")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = expected_probabilities(LINE, image)[0].tolist()
    assert [found[name] for name in NAMES] == pytest.approx(expected, abs=1e-5)


def foreign(properties: Mapping[str, str]) -> bytes:
    """An ONNX file that convscope did not write: it doubles its input."""
    value = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 5])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph([helper.make_node("Add", ["images", "images"], ["logits"])], "other", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, dict(properties))
    return bytes(model.SerializeToString())


def metadata(**values: Any) -> str:
    fields = ModelMetadata(
        classes=tuple(NAMES), preprocessing=random_preprocessing(LINE), architecture=LINE.architecture
    ).model_dump(mode="json")
    return json.dumps(fields | values)


GOOD = export(LINE.network, get_weights(trained_model(LINE)), random_preprocessing(LINE), NAMES)
NOT_ONNX = "is not a readable ONNX file: restore it from a copy, or train again"
OTHER_VERSION = "has metadata that this version of convscope cannot read ("

# contents of the file (None: it does not exist), and the message after its path
WRONG_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "does not exist: train a model first"),
    "empty": (b"", NOT_ONNX),
    "text": (b"not a model", NOT_ONNX),
    "image": (encode_png(np.zeros((2, 2, 1), np.uint8)), NOT_ONNX),
    "cut off": (GOOD[: len(GOOD) // 2], NOT_ONNX),
    "foreign": (foreign({}), "was not written by convscope: its metadata has no 'convscope' entry"),
    "foreign with an author": (foreign({"author": "somebody"}), "was not written by convscope"),
    "no JSON": (with_metadata(GOOD, "convscope 1"), OTHER_VERSION),
    "no classes": (with_metadata(GOOD, '{"format": 1}'), OTHER_VERSION),
    "format of tomorrow": (with_metadata(GOOD, metadata(format=2)), OTHER_VERSION),
    "unknown field": (with_metadata(GOOD, metadata(humidity=1.5)), OTHER_VERSION),
    "another graph": (foreign({"convscope": metadata()}), "was altered: its content does not match its checksum"),
    "fewer classes": (
        with_metadata(GOOD, metadata(classes=NAMES[:4])),
        "its inputs or outputs are not those that its metadata describe",
    ),
    "other image size": (
        with_metadata(
            GOOD,
            metadata(preprocessing=random_preprocessing(LINE).model_copy(update={"width": 9}).model_dump(mode="json")),
        ),
        "its inputs or outputs are not those that its metadata describe",
    ),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_predictor_of_unusable_file_raises_model_file_error(name: str, tmp_path: Path) -> None:
    content, message = WRONG_FILES[name]
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{re.escape(str(path))}.*{re.escape(message)}") as caught:
        Predictor(path)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.zeros((2, 6, 8, 3), np.float32), "float32 (2, 6, 8, 3)"),
        (np.zeros((2, 6, 8, 1), np.uint8), "uint8 (2, 6, 8, 1)"),
        (np.zeros((2, 8, 6, 3), np.uint8), "uint8 (2, 8, 6, 3)"),
        (np.zeros((0, 6, 8, 3), np.uint8), "uint8 (0, 6, 8, 3)"),
    ],
)
def test_predict_logits_of_other_array_raises_data_error(predictor: Predictor, images: NDArray[Any], got: str) -> None:
    message = f"expected uint8 images (n, 6, 8, 3), got {got}: pass a list for images of any size"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        predictor.predict_logits(images)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda _: [], "expected at least one image to classify, got none"),
        (lambda _: (), "expected at least one image to classify, got none"),
        (lambda folder: folder / "no.png", r"no\.png: no such file"),
        (lambda folder: [random_images(LINE, 1)[0], folder / "no.png"], r"no\.png: no such file"),
        (lambda _: np.zeros((2, 2), np.float32), r"image: expected a uint8 array .* got float32 \(2, 2\)"),
        (lambda _: np.zeros((2000, 2000), np.uint8), "4 megapixels, expected at most 3"),
    ],
    ids=["empty list", "empty tuple", "missing", "one missing", "floats", "too large"],
)
def test_predict_unreadable_image_raises_data_error(
    predictor: Predictor, tmp_path: Path, image: Callable[[Path], Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        predictor.predict(image(tmp_path), max_megapixels=3)


def test_prediction_label_of_equal_classes_is_the_first() -> None:
    prediction = Prediction(image="p", probabilities={"a": 0.5, "b": 0.5}, notes=())
    assert (prediction.label, prediction.probability) == ("a", 0.5)


def test_predictor_every_method_takes_the_same_sources(predictor: Predictor, tmp_path: Path) -> None:
    images, folder = random_images(LINE, 70), tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(70)]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(encode_png(image))
    expected = expected_probabilities(LINE, images)
    for sources in (folder, str(folder), folder / "*.png", f"{tmp_path}/**/*.png", paths, tuple(paths), iter(paths)):
        np.testing.assert_allclose(predictor.predict_proba(sources), expected, rtol=0, atol=1e-5)
    found = predictor.predict(folder)
    assert [prediction.image for prediction in found] == [str(path) for path in paths]
    assert predictor.predict(path for path in paths) == list(predictor.predict_each(folder)) == found
    np.testing.assert_array_equal(predictor.features(paths[3]), predictor.features(images[3:4]))
    for source in (images[3], encode_png(images[3])):
        np.testing.assert_array_equal(predictor.predict_logits(source), predictor.predict_logits(images[3:4]))


def test_predict_of_folder_warns_of_what_it_passes_over(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(random_images(LINE, 1)[0]))
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("")
    with pytest.warns(UserWarning, match=r"^passed over 3 files other than images: 2 \.txt, 1 \.onnx$"):
        assert len(predictor.predict(tmp_path)) == 1


def test_predict_proba_of_unreadable_image_raises_data_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.png: no such file"):
        predictor.predict_proba([random_images(LINE, 1)[0], tmp_path / "no.png"])
    with pytest.raises(DataError, match=r"^expected at least one image to classify, got none$"):
        predictor.features([])


def test_predict_each_large_files_of_an_archive_are_read_a_few_at_a_time(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convscope.deploy.prepare.MAX_BATCH_BYTES", 100)
    content, taken = encode_png(random_images(LINE, 1)[0]), 0

    def sources() -> Iterator[EncodedImage]:
        nonlocal taken
        for taken in range(1, 51):
            yield EncodedImage(f"{taken}.png", content)

    assert len(content) > 100
    stream = predictor.predict_each(sources())
    assert next(stream).image == "1.png"
    assert taken <= 3
    assert [outcome.image for outcome in stream] == [f"{i}.png" for i in range(2, 51)]


def test_predict_each_keeps_order_and_gives_errors_in_their_place(predictor: Predictor, tmp_path: Path) -> None:
    images, sources = random_images(LINE, 150), []
    for i, image in enumerate(images):
        path = tmp_path / f"{i}.png"
        path.write_bytes(encode_png(image) if i % 50 else b"broken")
        sources.append(path)
    outcomes = list(predictor.predict_each(iter(sources)))
    assert [isinstance(outcome, DataError) for outcome in outcomes] == [i % 50 == 0 for i in range(150)]
    assert [str(path) in str(outcomes[i]) for i, path in enumerate(sources) if i % 50 == 0] == [True] * 3
    readable = [i for i in range(150) if i % 50]
    expected = expected_probabilities(LINE, images[readable])
    for i, row in zip(readable, expected, strict=True):
        outcome = outcomes[i]
        assert isinstance(outcome, Prediction)
        assert outcome.image == str(sources[i])
        assert [outcome.probabilities[name] for name in NAMES] == pytest.approx(row.tolist(), abs=1e-5)
    assert list(predictor.predict_each([])) == []


@pytest.mark.slow
def test_predict_each_holds_few_decoded_images(predictor: Predictor) -> None:
    side, count = 700, 400  # 196 MB if all were held, and each decoded one is 0.5 MB
    made = 0

    def sources() -> Iterator[NDArray[np.uint8]]:
        nonlocal made
        for made in range(1, count + 1):
            yield np.full((side, side), made % 256, np.uint8)

    tracemalloc.start()
    stream = predictor.predict_each(sources())
    next(stream)
    assert made < count  # the others are not decoded before they are wanted
    assert len(list(stream)) == count - 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * BATCH_SIZE * side**2


@pytest.mark.slow
def test_predict_list_of_paths_holds_few_decoded_images(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((700, 700, 1), np.uint8)))
    tracemalloc.start()
    assert len(predictor.predict([tmp_path / "a.png"] * 200)) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 700**2 / 4
