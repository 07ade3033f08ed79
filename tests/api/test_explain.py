"""Explaining one image: the record and the figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cases.bad_commands import write_workspace
from convscope import Predictor, Run, explain_image, load_data, open_run
from convscope.errors import UsageError
from convscope.images.read import encode_png

FIGURES = [
    "attribution.png", "filters.png", "flatten.png", "layer-01-conv1.png", "layer-02-relu1.png",
    "layer-03-flatten1.png", "layer-04-classifier.png", "probabilities.png", "regions.png", "relu.png",
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An untrained run with the layers conv1 (2 filters of 3x3), relu1, flatten1 and classifier."""
    write_workspace(tmp_path)
    return open_run(tmp_path / "run")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The first test image of digits, as a file."""
    path = tmp_path / "first.png"
    path.write_bytes(encode_png(load_data("digits").test.images[0]))
    return path


def test_explain_image_summarizes_every_layer_and_works_out_cells(run: Run, image: Path) -> None:
    found = explain_image(run, image, ["conv1,2,3,1", "classifier,7", "softmax, 7"])
    (answer,) = Predictor(run.path).predict(image)
    assert list(found.probabilities) == list(answer.probabilities)
    assert found.probabilities == pytest.approx(answer.probabilities, abs=1e-5)
    assert (found.image, found.notes) == (str(image), answer.notes)
    assert [(layer.name, layer.source, layer.output) for layer in found.layers] == [
        ("conv1", "conv 2 3", (6, 6, 2)),
        ("relu1", "relu", (6, 6, 2)),
        ("flatten1", "flatten", (72,)),
        ("classifier", "dense 10", (10,)),
        ("softmax", "softmax", (10,)),
    ]
    relu, softmax = found.layers[1], found.layers[4]
    assert relu.min == 0
    assert softmax.mean == pytest.approx(0.1)
    assert softmax.max == pytest.approx(max(answer.probabilities.values()), abs=1e-5)
    assert [(cell.layer, cell.index, len(cell.terms), cell.agrees) for cell in found.cells] == [
        ("conv1", (2, 3, 1), 9, True), ("classifier", (7,), 72, True), ("softmax", (7,), 10, True),
    ]  # fmt: skip
    assert found.cells[2].value == pytest.approx(answer.probabilities["7"], abs=1e-5)


@pytest.mark.slow
def test_explain_image_writes_figures_to_the_run_or_to_the_folder(run: Run, image: Path, tmp_path: Path) -> None:
    found = explain_image(run, image)
    assert found.folder == run.path / "explain" / "first"
    assert sorted(found.written) == FIGURES
    for name in FIGURES:
        with Image.open(found.folder / name) as figure:
            assert figure.format == "PNG"
    assert sorted(path.name for path in found.folder.iterdir()) == FIGURES
    assert open_run(run.path).manifest == run.manifest  # the run still passes its checks
    assert explain_image(run, image, folder=tmp_path / "here").folder == tmp_path / "here"
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == FIGURES


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["conv1"],
            "^--cell 'conv1': expected LAYER,ROW,COLUMN,CHANNEL such as conv1,3,4,0, or LAYER,INDEX$",
        ),
        (["conv1,0,0,-1"], "^--cell 'conv1,0,0,-1': expected"),
        ([",1"], "^--cell ',1': expected"),
        (["conv1,0,0,0", "conv1,0,6,0"], "^expected conv1,ROW,COLUMN,CHANNEL within 6x6x2"),
        (["conv1,0,0,2"], "^expected conv1,ROW,COLUMN,CHANNEL within 6x6x2"),
        (["classifier,10"], "^expected classifier,INDEX within 10"),
    ],
)
def test_explain_image_unknown_cell_raises_before_writing(
    run: Run, image: Path, cells: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        explain_image(run, image, cells)
    assert not (run.path / "explain").exists()


def test_explanation_json_holds_every_term(run: Run, image: Path, tmp_path: Path) -> None:
    found = explain_image(run, image, ["conv1,0,0,0"], tmp_path / "here")
    values = json.loads(found.model_dump_json())
    (cell,) = values["cells"]
    assert cell["agrees"] is True
    assert sum(term["product"] for term in cell["terms"]) + cell["bias"] == pytest.approx(cell["value"], abs=1e-9)
    assert all(term["value"] * term["weight"] == term["product"] for term in cell["terms"])
    assert values["written"] == list(found.written)


def test_explain_image_own_file_is_kept_without_force(run: Run, image: Path, tmp_path: Path) -> None:
    own = tmp_path / "here" / "probabilities.png"
    own.parent.mkdir()
    own.write_bytes(b"my own")
    with pytest.raises(UsageError, match=r"probabilities\.png exists and has another content"):
        explain_image(run, image, folder=own.parent)
    assert [path.name for path in own.parent.iterdir()] == ["probabilities.png"]
    assert own.read_bytes() == b"my own"
    explain_image(run, image, folder=own.parent, force=True)
    assert own.read_bytes().startswith(b"\x89PNG")
