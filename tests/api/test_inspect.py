"""Looking at data and into a network: what is told, and what is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cases.bad_commands import write_world
from convscope import Predictor, Run, explain_picture, load_data, open_run
from convscope.api.inspect import show_dataset
from convscope.errors import DataError, UsageError
from convscope.images.read import encode_png

PICTURES = [
    "attribution.png", "filters.png", "flatten.png", "layer-01-conv1.png", "layer-02-relu1.png",
    "layer-03-flatten1.png", "layer-04-classifier.png", "probabilities.png", "relu.png",
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An untrained run whose layers are conv1 (2 filters of 3x3), relu1, flatten1 and classifier."""
    write_world(tmp_path)
    return open_run(tmp_path / "run")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The first test image of digits, as a file."""
    path = tmp_path / "first.png"
    path.write_bytes(encode_png(load_data("digits").test.images[0]))
    return path


def test_a_picture_is_followed_through_every_layer(run: Run, picture: Path) -> None:
    found = explain_picture(run, picture, ["conv1,2,3,1", "classifier,7", "softmax, 7"])
    (answer,) = Predictor(run.path).predict(picture)
    assert list(found.probabilities) == list(answer.probabilities)
    assert found.probabilities == pytest.approx(answer.probabilities, abs=1e-5)
    assert (found.picture, found.notes) == (str(picture), answer.notes)
    assert [(layer["name"], layer["source"], layer["output"]) for layer in found.layers] == [
        ("conv1", "conv 2 3", [6, 6, 2]),
        ("relu1", "relu", [6, 6, 2]),
        ("flatten1", "flatten", [72]),
        ("classifier", "dense 10", [10]),
        ("softmax", "softmax", [10]),
    ]
    relu, softmax = found.layers[1], found.layers[4]
    assert relu["least"] == 0
    assert softmax["mean"] == pytest.approx(0.1)
    assert softmax["most"] == pytest.approx(max(answer.probabilities.values()), abs=1e-5)
    assert [(cell.layer, cell.place, len(cell.terms), cell.agrees) for cell in found.cells] == [
        ("conv1", (2, 3, 1), 9, True), ("classifier", (7,), 72, True), ("softmax", (7,), 10, True),
    ]  # fmt: skip
    assert found.cells[2].value == pytest.approx(answer.probabilities["7"], abs=1e-5)


def test_its_pictures_are_written_into_the_run_or_where_they_are_wanted(
    run: Run, picture: Path, tmp_path: Path
) -> None:
    found = explain_picture(run, picture)
    assert found.folder == run.path / "explain" / "first"
    assert sorted(found.written) == PICTURES
    for name in PICTURES:
        with Image.open(found.folder / name) as drawn:
            assert drawn.format == "PNG"
    assert sorted(path.name for path in found.folder.iterdir()) == PICTURES
    assert open_run(run.path).manifest == run.manifest  # still a sound run
    assert explain_picture(run, picture, folder=tmp_path / "here").folder == tmp_path / "here"
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == PICTURES


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["conv1"],
            "^--cell 'conv1': expected LAYER,ROW,COLUMN,CHANNEL such as conv1,3,4,0, or LAYER,INDEX$",
        ),
        (["conv1,0,0,-1"], "^--cell 'conv1,0,0,-1': expected"),
        ([",1"], "^--cell ',1': expected"),
        (["conv1,0,0,0", "conv1,0,6,0"], "^conv1 has 6x6x2 cells"),
        (["conv1,0,0,2"], "^conv1 has 6x6x2 cells"),
        (["classifier,10"], "^classifier has 10 cells, so give classifier,INDEX"),
    ],
)
def test_a_cell_that_is_not_there_stops_before_anything_is_written(
    run: Run, picture: Path, cells: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        explain_picture(run, picture, cells)
    assert not (run.path / "explain").exists()


def test_an_explanation_is_json(run: Run, picture: Path, tmp_path: Path) -> None:
    found = explain_picture(run, picture, ["conv1,0,0,0"], tmp_path / "here")
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    (cell,) = values["cells"]
    assert cell["agrees"] is True
    assert sum(term["product"] for term in cell["terms"]) + cell["bias"] == pytest.approx(cell["value"], abs=1e-9)
    assert all(term["value"] * term["weight"] == term["product"] for term in cell["terms"])
    assert values["written"] == list(found.written)


def test_a1_a10_a_data_set_shows_its_numbers_and_its_first_nine(tmp_path: Path) -> None:
    data = load_data("digits")
    shown = show_dataset("digits", 3, tmp_path)
    image = data.train.images[3]
    assert shown["image"] == {
        "index": 3,
        "class": str(data.train.labels[3]),
        "shape": "8x8x1",
        "pixels": image.tolist(),
        "text": "\n".join(" ".join(f"{value:3d}" for value in row) for row in image[:, :, 0].tolist()),
    }
    nine, one = (Path(path) for path in shown["written"])
    assert (nine, one) == (tmp_path / "digits-first-nine.png", tmp_path / "digits-image-3.png")
    with Image.open(one) as drawn:
        assert np.array_equal(np.asarray(drawn), image[:, :, 0])
    with Image.open(nine) as drawn:
        assert min(drawn.size) > 100
    assert (shown["splits"]["train"]["n"], shown["splits"]["test"]["n"]) == (1438, 359)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_an_image_that_is_not_there_stops_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--image 1438: digits has 1,438 training images, counted from 0$"):
        show_dataset("digits", 1438, tmp_path)
    with pytest.raises(DataError, match=r"^unknown data set 'digist'"):
        show_dataset("digist", 0, tmp_path)
    assert not list(tmp_path.iterdir())
