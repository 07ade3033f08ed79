"""Texts of the report and the model card: what they claim, and what they must not."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convscope import Evaluation, Run, load_data
from convscope._statistics import wilson
from convscope.evaluation.proportion import Proportion
from convscope.images.framing.frame import Frame
from convscope.images.read import encode_png
from convscope.report.content import backbone_details, make_report, notes, preprocessing_details
from convscope.report.model_card import model_card
from convscope.runs.config import Race, RunConfig
from convscope.training.callbacks import TrainResult
from convscope.training.recipes import RECIPES, VARIANTS
from convscope.training.state import EpochMetrics
from helpers.init_info import init_info

RESULT = TrainResult(
    "best",
    best_epoch=2,
    last_epoch=3,
    history=[EpochMetrics(n, 1.0, 0.5, 1.0, 0.5, 0.1, 100.0, 1.0) for n in (1, 2, 3)],
    seconds=3.25,
)


@pytest.fixture(scope="module")
def config(digits_run: Run) -> Callable[..., RunConfig]:
    """The run's config with another recipe."""

    def changed(recipe: str = "default", **values: Any) -> RunConfig:
        known = {**RECIPES, **{chosen.name: chosen for chosen in VARIANTS["color"].values()}}
        chosen = known[recipe].override(**values)
        return digits_run.config.model_copy(update={"recipe": chosen, "reasons": {}})

    return changed


@pytest.fixture(scope="module")
def evaluation(digits_run: Run) -> Evaluation:
    assert digits_run.evaluation is not None
    return digits_run.evaluation


def test_notes_of_the_article_say_that_curves_show_the_test_set(
    config: Callable[..., RunConfig],
) -> None:
    (note,) = notes(config("article"), 10)
    assert note == (
        "As in the article, the validation curves show the test set. It did not influence the weights: they are "
        "those of the last epoch, 10."
    )


@pytest.mark.parametrize(
    ("select", "chosen"), [("best", "which has the best validation accuracy"), ("last", "the last one")]
)
def test_notes_say_how_the_test_set_was_used(config: Callable[..., RunConfig], select: str, chosen: str) -> None:
    (note,) = notes(config(weights=select), 2)
    assert note == (
        f"The weights are those of epoch 2, {chosen}. The 145 validation images are not part of the training set. "
        "The test set was used once, for the numbers on this page."
    )


def test_make_report_has_the_details_of_the_run(config: Callable[..., RunConfig], evaluation: Evaluation) -> None:
    plan = config()
    report = make_report(plan, evaluation, RESULT, [])
    assert report.title == "small on digits"
    assert (report.accuracy, report.interval, report.n) == (evaluation.accuracy, evaluation.interval, 359)
    assert report.summary == (
        ("Test loss", f"{evaluation.loss:.4f}"),
        ("Parameters", "7,722"),
        ("Training time", "3.2 s for 3 epochs"),
    )
    assert report.notes == notes(plan, 2)
    assert [(row.name, row.support, row.recall) for row in report.per_class] == [
        (score.name, score.support, score.recall) for score in evaluation.per_class
    ]
    assert sum(row.parameters for row in report.layers) == 7_722
    assert sum(row.multiply_adds for row in report.layers) == plan.network.multiply_adds


@pytest.mark.parametrize(
    ("changes", "details"),
    [
        (
            {"recipe": "article"},
            {
                "Recipe": "article",
                "Optimizer": "SGD, learning rate 0.01 (constant), momentum 0.9",
                "Weight decay": "0",
                "Label smoothing": "0",
                "Batch size": "128",
                "Epochs": "3",
                "Augmentation": "none",
                "Seed": "0",
            },
        ),
        (
            {"label_smoothing": 0.1, "max_shift": 2},
            {
                "Recipe": "default",
                "Optimizer": "SGD, learning rate 0.1 (one-cycle), Nesterov momentum 0.9",
                "Weight decay": "0.0005",
                "Label smoothing": "0.1",
                "Batch size": "128",
                "Epochs": "3",
                "Augmentation": "random shifts of up to 2 pixels",
                "Seed": "0",
            },
        ),
        (
            {
                "optimizer": {"name": "muon"},
                "max_shift": 1,
                "horizontal_flip": "always",
                "progressive_resizing": ((0.3, 0.625), (2 / 3, 0.75)),
            },
            {
                "Recipe": "default",
                "Optimizer": "Muon, learning rate 0.1 (one-cycle), Nesterov momentum 0.9",
                "Weight decay": "0.0005",
                "Label smoothing": "0",
                "Batch size": "128",
                "Epochs": "3",
                "Augmentation": (
                    "random shifts of up to 1 pixel, horizontal flips, images at 62.5 % of their size until 30 % of "
                    "training, images at 75 % of their size until 66.7 % of training"
                ),
                "Seed": "0",
            },
        ),
        (
            {"max_shift": 0, "min_crop_area": 0.25, "color_jitter": 0.3, "cutmix": 0.7, "cutmix_until": 0.95},
            {
                "Recipe": "default",
                "Optimizer": "SGD, learning rate 0.1 (one-cycle), Nesterov momentum 0.9",
                "Weight decay": "0.0005",
                "Label smoothing": "0",
                "Batch size": "128",
                "Epochs": "3",
                "Augmentation": (
                    "random crops of at least 25 % of the area, contrast, brightness and saturation jitter of up to "
                    "30 %, CutMix in 70 % of the batches until 95 % of training"
                ),
                "Seed": "0",
            },
        ),
        (
            {"max_shift": 0, "horizontal_flip": "always", "nesterov": False},
            {
                "Recipe": "default",
                "Optimizer": "SGD, learning rate 0.1 (one-cycle), momentum 0.9",
                "Weight decay": "0.0005",
                "Label smoothing": "0",
                "Batch size": "128",
                "Epochs": "3",
                "Augmentation": "horizontal flips",
                "Seed": "0",
            },
        ),
    ],
)
def test_make_report_describes_the_recipe(
    config: Callable[..., RunConfig], evaluation: Evaluation, changes: dict[str, Any], details: dict[str, str]
) -> None:
    assert dict(make_report(config(**changes), evaluation, RESULT, []).recipe) == details


def test_make_report_names_budget_and_reasons(config: Callable[..., RunConfig], evaluation: Evaluation) -> None:
    reasons = {"horizontal_flip": "measured", "class_balance": "unequal", "precision": "equal"}
    given = config("article").model_copy(
        update={"budget": 120.0, "reasons": reasons, "precision": "bf16", "augment": "rain"}
    )
    shown = dict(make_report(given, evaluation, RESULT, []).recipe)
    assert shown["Budget"] == "2 min for the whole command"
    assert shown["Augmentation"] == "rain (the user's own)"
    assert (shown["Flips"], shown["Class balance"], shown["Precision"]) == ("measured", "unequal", "bf16: equal")


def test_make_report_describes_data_and_hardware(config: Callable[..., RunConfig], evaluation: Evaluation) -> None:
    plan = config()
    report = make_report(plan, evaluation, RESULT, [])
    assert dict(report.dataset) == {
        "Data set": "digits",
        "Source": plan.dataset.source,
        "Images": "1,293 training, 145 validation, 359 test images",
        "Classes": "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "Image shape": "8x8x1 (height, width, channels)",
        "Fingerprint": plan.dataset.fingerprint,
    }
    assert dict(report.preprocessing) == {
        "Size": "8x8, letterbox",
        "Background": plan.preprocessing.polarity,
        "Scale": f"{plan.preprocessing.scale[0]:.6g}",
        "Mean": f"{plan.preprocessing.mean[0]:.6g}",
    }
    assert dict(preprocessing_details(framed_like_mnist(plan)))["Frame"] == "ink of 20 pixels, centered by mass"
    machine = dict(report.machine)
    assert machine["Processor"] == plan.machine.summary
    assert f"torch {plan.machine.versions['torch']}" in machine["Versions"]
    assert machine["Trained"] == f"{plan.created:%Y-%m-%d %H:%M} UTC"


def framed_like_mnist(plan: RunConfig) -> RunConfig:
    frame = Frame(side=20, row=3584, column=3584, offset=144, threshold=0, stroke=500, ink=255, faintest=254)
    return plan.model_copy(update={"preprocessing": plan.preprocessing.model_copy(update={"frame": frame})})


def test_model_card_has_accuracy_interval_notes_and_usage(
    config: Callable[..., RunConfig], evaluation: Evaluation
) -> None:
    for recipe in (*RECIPES, *(chosen.name for chosen in VARIANTS["color"].values())):
        plan = config(recipe)
        card = model_card(plan, evaluation, RESULT)
        low, high = (f"{100 * bound:.2f}" for bound in evaluation.interval)
        _, front_matter, text = card.split("---\n")
        assert f"- {{type: accuracy, value: {evaluation.accuracy:.4f}}}\n" in front_matter
        assert '- name: "small on digits"\n' in front_matter
        assert '    dataset: {name: "digits", type: "digits", split: test}\n' in front_matter
        assert text.startswith("\n# small on digits\n\nTest accuracy ")
        assert f"{100 * evaluation.accuracy:.2f} % (95 % interval {low} to {high}, n = 359)" in card
        assert f"\n{notes(plan, 2)[0]}\n" in card
        assert f"\n    {plan.architecture}\n" in card
        assert f"- Fingerprint: {plan.dataset.fingerprint}\n" in card
        assert f"- Recipe: {recipe}\n" in card
        assert "`convscope predict model.onnx IMAGE`" in card


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (
            "/home/me/secret/photos; letterbox to 64x64; test split: its own",
            "photos; letterbox to 64x64; test split: its own",
        ),
        ("C:\\Users\\me\\photos; letterbox to 64x64", "photos; letterbox to 64x64"),
        ("https://example.org/mnist.zip; cached", "https://example.org/mnist.zip; cached"),
    ],
)
def test_model_card_names_no_folder_of_this_machine(
    config: Callable[..., RunConfig], evaluation: Evaluation, source: str, shown: str
) -> None:
    plan = config()
    data = plan.dataset.model_copy(update={"source": source})
    assert f"\n- Source: {shown}\n" in model_card(plan.model_copy(update={"dataset": data}), evaluation, RESULT)


@pytest.mark.parametrize("fitted", [True, False])
def test_model_card_says_how_far_to_trust_probabilities_and_how_often_it_answers(
    config: Callable[..., RunConfig], evaluation: Evaluation, fitted: bool
) -> None:
    assert evaluation.calibration is not None
    calibration = evaluation.calibration.model_copy(update={"fitted": fitted})
    card = model_card(config(), evaluation.model_copy(update={"calibration": calibration}), RESULT)
    assert f"\nExpected calibration error {100 * calibration.ece:.2f} % (95 % interval " in card
    assert ("uncalibrated, as no images were held out" in card) == (not fitted)
    own = evaluation.answers[0]
    assert (
        f'\nIt answers {100 * own.answered:.2f} % of the test images; {100 * own.unsure:.2f} % are "unsure", ' in card
    )


def test_model_card_example_runs(digits_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(digits_run.path)
    card = (digits_run.path / "README.md").read_text("utf-8")
    image = tmp_path / "image.png"
    image.write_bytes(encode_png(load_data("digits").test.images[0]))
    code = re.search(r"\n((?:    .*\n|\n)+)\nThe file also runs", card[card.index("    from convscope") - 1 :])
    assert code
    exec(textwrap.dedent(code[1]).replace("image.png", str(image)))


def test_tta_accuracy_is_shown_in_addition_to_the_accuracy(
    config: Callable[..., RunConfig], evaluation: Evaluation
) -> None:
    plan, told = config(), "98.33 % (96.40 to 99.23)"
    both = evaluation.model_copy(update={"tta": Proportion(accuracy=353 / 359, interval=wilson(353, 359))})
    report, plain = (make_report(plan, one, RESULT, []) for one in (both, evaluation))
    assert report.accuracy == plain.accuracy == evaluation.accuracy
    assert report.summary == (plain.summary[0], ("With test-time augmentation", told), *plain.summary[1:])
    card, plain_card = (model_card(plan, one, RESULT) for one in (both, evaluation))
    assert f"test loss {evaluation.loss:.4f}.\nWith test-time augmentation: {told}.\n\n" in card
    assert card.replace(f"\nWith test-time augmentation: {told}.", "") == plain_card
    assert "augmentation" not in plain_card


def test_files_of_the_run_show_the_same(digits_run: Run, evaluation: Evaluation) -> None:
    card, page = ((digits_run.path / name).read_text() for name in ("README.md", "report.html"))
    (note,) = notes(digits_run.config, digits_run.manifest.selected_epoch)
    for text in (card, page):
        assert note in text
        assert f"{100 * evaluation.accuracy:.2f}" in text
        assert digits_run.config.dataset.fingerprint in text


# From a backbone


def test_notes_of_a_classifier_alone_say_so(config: Callable[..., RunConfig]) -> None:
    (note,) = notes(config().model_copy(update={"init": init_info()}), 0)
    assert note == (
        "The weights are those of the backbone, with a classifier fitted on its features. "
        "The test set was used once, for the numbers on this page."
    )


def test_notes_of_last_layers_that_were_no_better_say_so(config: Callable[..., RunConfig]) -> None:
    (note,) = notes(config().model_copy(update={"init": init_info(cut=3)}), 0)
    assert note == (
        "The weights are those of the backbone, with a classifier fitted on its features, as training more layers "
        "was not clearly better on the 145 validation images. The test set was used once, for the numbers on this page."
    )


def test_notes_of_trained_last_layers_name_the_epoch(config: Callable[..., RunConfig]) -> None:
    from_backbone = config(weights="last").model_copy(update={"init": init_info(cut=3)})
    assert notes(from_backbone, 2) == notes(config(weights="last"), 2)


def test_backbone_details_without_a_backbone_are_none(config: Callable[..., RunConfig]) -> None:
    assert backbone_details(config()) == ()


def test_backbone_details_have_origin_licence_and_what_was_trained(config: Callable[..., RunConfig]) -> None:
    assert backbone_details(config().model_copy(update={"init": init_info()})) == (
        ("Backbone", "tiny-net, trained on photos"),
        ("Weights from", f"a friend; license MIT; SHA-256 {'ab' * 32}"),
        ("Trained here", "the classifier alone"),
        ("Features as published", "87.50 % of 145 validation images with a new classifier"),
        ("Views of each image", "3"),
    )


def test_backbone_details_with_cut_race_and_unknown_licence(config: Callable[..., RunConfig]) -> None:
    race = Race(accuracy=0.5, seconds=12)
    init = init_info(cut=3, license=None).model_copy(update={"race": race})
    found = dict(backbone_details(config().model_copy(update={"init": init})))
    assert found["Trained here"] == "the classifier, and the layers behind maxpool1"  # the third
    assert found["From scratch"] == "50.00 % after 12 s, in a race on the validation images"
    assert found["Weights from"] == f"a friend; license unknown; SHA-256 {'ab' * 32}"


def test_report_and_model_card_show_the_backbone(config: Callable[..., RunConfig], evaluation: Evaluation) -> None:
    from_backbone = config().model_copy(update={"init": init_info()})
    report = make_report(from_backbone, evaluation, TrainResult("best"), [])
    assert report.recipe[:5] == backbone_details(from_backbone)
    assert "fitted on its features" in report.notes[0]
    card = model_card(from_backbone, evaluation, TrainResult("best"))
    for text in ("tiny-net, trained on photos", "license MIT", "fitted on its features"):
        assert text in card
