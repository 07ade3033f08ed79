"""Layouts of folders: what becomes a class, a split, or neither, and what is refused because it is unclear."""

from __future__ import annotations

import json
from pathlib import Path
from time import process_time

import pytest

from convscope.data.folders.annotations import set_aside_annotations
from convscope.data.folders.layout import Reading, find_layout
from convscope.data.folders.tree import Folder
from convscope.data.formats.image_folder import list_folder
from convscope.data.formats.listing import Listing
from convscope.errors import DataError
from helpers.images import write_images

ANIMALS = ("cat/1.png", "cat/2.png", "dog/1.png")


def listed(folder: Path, *patterns: str, reading: Reading = Reading()) -> Listing:  # noqa: B008
    """The listing of a folder in which `{}` stands for the files of cats and dogs."""
    names = [pattern.format(name) for pattern in patterns for name in (ANIMALS if "{" in pattern else ("",))]
    return list_folder(write_images(folder, dict.fromkeys(names, b"x")), reading)


def splits(found: Listing) -> dict[str, int]:
    """How many files are in each split."""
    return {name: found.splits.count(name) for name in dict.fromkeys(found.splits)}


def kinds(found: Listing) -> list[str]:
    return [issue.kind for issue in found.issues]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train_images", "test_images"),
        ("trainset", "testset"),
        ("TrainData", "TestData"),
        ("train2017", "test2017"),
        ("1-train", "2-test"),
        ("seg_train", "seg_test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("mnist_png_training", "mnist_png_testing"),
        ("data/train", "data/test"),
        ("archive/raw/train", "archive/raw/test"),
    ],
)
def test_find_layout_splits_are_recognized_however_they_are_spelled(tmp_path: Path, train: str, test: str) -> None:
    found = listed(tmp_path, f"{train}/{{}}", f"{test}/{{}}", "__MACOSX/x/._1.png", ".ipynb_checkpoints/1.png")
    assert found.classes == ("cat", "dog")
    assert splits(found) == {"train": 3, "test": 3}
    assert found.issues == ()


def test_find_layout_val2017_is_validation(tmp_path: Path) -> None:
    found = listed(tmp_path, "train2017/{}", "val2017/{}")
    assert splits(found) == {"train": 3, "validation": 3}


def test_find_layout_splits_inside_the_classes(tmp_path: Path) -> None:
    found = listed(tmp_path, *(f"{name}/{part}/1.png" for name in ("cat", "dog") for part in ("Train", "test")))
    assert (found.classes, found.splits) == (("cat", "dog"), ("train", "test", "train", "test"))


@pytest.mark.parametrize("further", ["samples/1.png", "seg_pred/seg_pred/1.png", "extra/{}"])
def test_find_layout_folder_next_to_splits_is_left_out_with_a_warning(tmp_path: Path, further: str) -> None:
    found = listed(tmp_path, "train/{}", "val/{}", "test/{}", further)
    assert splits(found) == {"train": 3, "validation": 3, "test": 3}
    (issue,) = found.issues
    assert (issue.kind, issue.level) == ("passed-over", "warning")
    assert issue.text.endswith(f"in {further.partition('/')[0]}, next to the splits")
    assert len(issue.files) == (3 if "{" in further else 1)


@pytest.mark.parametrize("test", ["test/1.png", "test/test/1.png", "Test Images/1.png", "test/unknown/1.png"])
def test_find_layout_test_without_labels_is_left_out_with_a_warning(tmp_path: Path, test: str) -> None:
    found = listed(tmp_path, "train/{}", test)
    assert (found.classes, found.splits) == (("cat", "dog"), ())
    assert [issue.text for issue in found.issues] == [
        f"1 file in {test.partition('/')[0]}, without class folders, so without labels"
    ]


@pytest.mark.parametrize("test", ["letters_test", "letters_test/letters_test"])
def test_find_layout_names_that_differ_in_the_split_are_no_classes(tmp_path: Path, test: str) -> None:
    found = listed(tmp_path, "letters_train/letters_train/{}", f"{test}/1.png")
    assert (found.classes, len(found)) == (("cat", "dog"), 3)
    assert [issue.text for issue in found.issues] == [
        "1 file in letters_test, without class folders, so without labels"
    ]


def test_find_layout_flat_folders_named_like_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="letters_test, letters_train hold images, but look like splits"):
        listed(tmp_path, "letters_train/1.png", "letters_test/1.png")


def test_find_layout_runs_and_folders_without_images_are_no_classes(tmp_path: Path) -> None:
    run = {"config.json": b"{}", "metrics.jsonl": b"", "plots/curve.png": b"x"}
    write_images(tmp_path / "runs" / "d-small-1", run)
    write_images(tmp_path / "exp", {"events.out.tfevents.1.host": b"", "1.png": b"x"})
    found = listed(tmp_path, "{}", "docs/readme.txt", "scripts/a.py")
    assert found.classes == ("cat", "dog")
    assert [issue.text for issue in found.issues] == [
        "2 folders with results of a training: exp, runs/d-small-1",
        "2 folders without images: docs, scripts",
    ]


def test_find_layout_a_class_may_be_called_runs(tmp_path: Path) -> None:
    assert listed(tmp_path, "{}", "runs/1.png").classes == ("cat", "dog", "runs")


@pytest.mark.parametrize("annotations", ["annotations/1.xml", "masks/{}", "Ground_Truth/1.png", "labels/train/1.txt"])
def test_find_layout_annotations_are_no_class(tmp_path: Path, annotations: str) -> None:
    found = listed(tmp_path, "images/{}", annotations)
    assert (found.classes, len(found)) == (("cat", "dog"), 3)


def test_find_layout_images_and_annotations_with_splits(tmp_path: Path) -> None:
    found = listed(tmp_path, "images/train/{}", "images/val/{}", "masks/train/{}", "masks/val/{}")
    assert splits(found) == {"train": 3, "validation": 3}


def test_find_layout_missing_class_in_test_is_allowed(tmp_path: Path) -> None:
    found = listed(tmp_path, "train/{}", "test/cat/1.png")
    assert splits(found) == {"train": 3, "test": 1}


AMBIGUOUS = [
    (
        ("fold1/{}", "fold2/{}"),
        "two ways to read the folders: the classes may be fold1, fold2, or cat, dog inside them; choose by",
    ),
    (("london/{}", "paris/{}"), "the classes may be london, paris, or cat, dog inside them"),
    (("raw/{}", "processed/{}"), "the classes may be processed, raw"),
    (("train_1/{}", "fold/{}"), "two ways"),
    (("train/{}", "samples/1.png"), "the classes may be samples, train, or cat, dog inside them"),
    (("train/{}", "cat/1.png"), "two ways"),
    (("{}", "backup/{}"), "backup contains cat, dog like the folder around it: a copy, or a class"),
    (("{}", "test/1.png"), "test next to cat, dog: a class, or images without labels"),
    (("{}", "unlabeled/1.png"), "unlabeled next to cat, dog: a class, or images without labels"),
    (("labeled/{}", "unlabeled/1.png"), "unlabeled next to labeled: a class, or images without labels"),
    (("{}", "masks/1.png"), "masks next to cat, dog: a class"),
    (("cat/train/1.png", "cat/test/1.png", "dog/1.png"), "the classes may be cat, dog, or test, train inside them"),
    (("train/1.png", "test/1.png"), "no class folders: test, train hold images, but look like splits or parts"),
    (("fold1/1.png", "fold2/1.png"), "no class folders: fold1, fold2 hold images, but look like"),
    (
        ("train/images/1.png", "train/labels/1.txt", "valid/images/1.png"),
        "no class folders: the images are in train/images, valid/images; expected",
    ),
    (("images/1.png", "annotations/1.xml"), "no class folders: the images are in images; expected one folder"),
    (("fold1/train/{}", "fold1/test/{}", "fold2/train/{}", "fold2/test/{}"), "the classes may be fold1, fold2"),
]


@pytest.mark.parametrize(("patterns", "message"), AMBIGUOUS, ids=[" ".join(row[0]) for row in AMBIGUOUS])
def test_find_layout_unclear_layout_raises(tmp_path: Path, patterns: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(tmp_path, *patterns)


PARTS = [
    (("HAM10000_images_part_1/1.png", "HAM10000_images_part_2/2.png"), "look like splits or parts"),
    (("Images_Part1/1.png", "Images_Part2/2.png", "Images_Part4/2.png"), "look like splits or parts"),
    (("photos batch A/1.png", "photos batch B/2.png"), "look like splits or parts"),
    (("dataset1/1.png", "dataset2/2.png"), "look like splits or parts"),
    (("images_part1/{}", "images_part2/owl/1.png"), "may be images_part1, images_part2, or cat, dog, owl inside them"),
    (("part_1/images/1.png", "part_2/images/2.png"), "look like splits or parts"),
    (("part_1/1.png", "part_2/1.png", "segmentations_lesion/1.png"), "look like splits or parts"),
    (("data_batch_1/1.png", "data_batch_2/1.png", "test_batch/1.png"), "look like splits or parts"),
    (("imgs/1.png", "gts/1.png"), "no class folders: the images are in imgs; expected"),
    (("images/1.png", "lesion_masks/1.png"), "images next to lesion_masks: a class, or images without labels"),
    (("unlabeled/1.png", "masks/1.png"), "masks, unlabeled next to "),
    (("{}", "images/1.png"), "images next to cat, dog: a class, or images without labels"),
    (("train/1.png", "train_masks/1.gif"), "no class folders: the images are in train; expected"),
    (("train_images/1.png", "train_labels/1.png"), "no class folders: the images are in train_images; expected"),
    (("data/1.png", "masks/1.png"), "no class folders: the images are in data; expected"),
    (("covid/1.png", "covid_masks/1.png", "flu/1.png"), "covid_masks next to covid, with the same file names: a class"),
    (("face/1.png", "face_mask/1_mask.png"), "face_mask next to face, with the same file names: a class, or annot"),
]


@pytest.mark.parametrize(("patterns", "message"), PARTS, ids=[" ".join(row[0]) for row in PARTS])
def test_find_layout_parts_and_annotations_with_other_words_raise(
    tmp_path: Path, patterns: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        listed(tmp_path, *patterns)


def test_find_layout_table_next_to_parts_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a table of files and labels \(if meta.csv has them, name it instead"):
        listed(tmp_path, "part_1/1.png", "part_2/2.png", "meta.csv")
    with pytest.raises(DataError, match=r"a table of files and labels \(if meta.csv has them, name it instead"):
        listed(tmp_path / "other", "train/1.png", "meta.csv")


@pytest.mark.parametrize(
    "classes",
    [
        ("Mask", "No Mask"),
        ("mask", "without_mask", "with_mask"),
        ("face", "face_mask"),
        ("bottle", "bottle_label", "bottle cap"),
        ("lego part 3001", "lego part 3002"),
        ("part", "whole"),
        ("cat", "dog", "train"),
        ("stage 1", "stage 2"),
        ("собака", "кошка"),
        ("1", "2"),
    ],
)
def test_find_layout_classes_named_a_little_like_annotations_or_parts(tmp_path: Path, classes: tuple[str, ...]) -> None:
    found = listed(tmp_path, *(f"{name}/{number}.png" for name in classes for number in (1, 2)))
    assert sorted(found.classes) == sorted(classes)
    assert [issue.level for issue in found.issues] in ([], ["note"])  # a class called train is mentioned


@pytest.mark.parametrize("level", [None, 1])
def test_find_layout_masks_inside_class_folders_are_left_out(tmp_path: Path, level: int | None) -> None:
    files = ("a/images/1.png", "a/masks/1.png", "b/images/1.png", "c/2.png", "c/mask/2_mask.png")
    found = listed(tmp_path, *files, reading=Reading(class_level=level))
    assert found.files == ("a/images/1.png", "b/images/1.png", "c/2.png")
    assert [issue.text for issue in found.issues] == [
        "2 files in a/masks, c/mask, named like annotations",
        "2 folders inside the class folders: a/images, b/images",
    ]


def test_list_folder_masks_named_like_the_images_next_to_them_are_left_out(tmp_path: Path) -> None:
    names = ("b (1).png", "b (1)_mask.png", "b (1)_mask_1.png", "face-mask.png", "Mask.png")
    found = listed(tmp_path, *(f"{label}/{name}" for label in ("benign", "normal") for name in names))
    kept = [f"{label}/{name}" for label in ("benign", "normal") for name in ("Mask.png", "b (1).png", "face-mask.png")]
    assert list(found.files) == kept
    (issue,) = found.issues
    assert (issue.text, issue.level) == ("4 files named like annotations of other images", "warning")
    assert issue.files[0] == ("benign/b (1)_mask.png",)


def test_list_folder_few_files_named_like_annotations_are_images(tmp_path: Path) -> None:
    names = [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(20)]
    found = listed(tmp_path, *names, "cat/1_label.png")
    assert (len(found), found.issues) == (41, ())


def test_find_layout_masks_inside_splits_are_left_out(tmp_path: Path) -> None:
    found = listed(tmp_path, "train/images/{}", "train/masks/{}", "test/images/{}", "test/masks/{}")
    assert (found.classes, splits(found)) == (("cat", "dog"), {"test": 3, "train": 3})
    assert [issue.text for issue in found.issues] == ["6 files in test/masks, train/masks, named like annotations"]


def test_find_layout_class_level_1_makes_classes_of_paired_names(tmp_path: Path) -> None:
    found = listed(tmp_path, "train/1.png", "train_masks/1.png", reading=Reading(class_level=1))
    assert found.classes == ("train", "train_masks")


def test_find_layout_of_many_classes_is_linear() -> None:
    folders = [Folder(f"class {i}", f"class {i}", [f"{i}.png"]) for i in range(10_000)]
    folders += [Folder(f"c{i}_masks", f"c{i}_masks", [f"{i}.png"]) for i in range(1_000)]
    start = process_time()
    base = Folder("all", "", folders=folders)
    assert set_aside_annotations(base, by_subject=True) == []
    assert len(find_layout(base, Reading()).classes) == 11_000
    assert process_time() - start < 5  # about 0.5 s; quadratic time would be minutes


CATS = Reading(classes=("cat", "dog"))


@pytest.mark.parametrize(
    "patterns",
    [
        ("cat/2019/1.png", "cat/2020/1.png", "dog/2019/1.png", "dog/2020/1.png"),
        ("data/cat/2019/1.png", "data/cat/2020/2.png"),
        ("cat/images/1.png", "cat/masks/1.png", "dog/images/1.png"),
        ("cat/cat/1.png", "dog/dog/1.png"),
        ("fold1/{}", "fold2/{}"),
        ("cat/cat/1.png", "cat/dog/1.png"),
    ],
)
@pytest.mark.parametrize("level", [None, 1, 2])
def test_find_layout_known_classes_come_before_other_rules(
    tmp_path: Path, patterns: tuple[str, ...], level: int | None
) -> None:
    found = listed(tmp_path, *patterns, reading=CATS._replace(class_level=level))
    assert set(found.classes) <= {"cat", "dog"}


def test_find_layout_known_class_named_like_annotations_or_a_split(tmp_path: Path) -> None:
    reading = Reading(classes=("Mask", "No Mask", "images", "train"))
    found = listed(tmp_path, "Mask/1.png", "images/1.png", "train/1.png", reading=reading)
    assert found.classes == ("Mask", "images", "train")


def test_find_layout_known_classes_with_splits_inside(tmp_path: Path) -> None:
    found = listed(tmp_path, *(f"{name}/{part}/1.png" for name in ("cat", "dog") for part in ("train", "test")))
    with_classes = listed(tmp_path, reading=CATS)
    assert with_classes.splits == found.splits == ("test", "train", "test", "train")


def test_find_layout_unclear_with_known_classes_offers_no_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"named like the network's classes, which are cat, dog$"):
        listed(tmp_path, "a/owl/1.png", "a/fox/1.png", "b/owl/1.png", "b/fox/1.png", reading=CATS)
    with pytest.raises(DataError, match="two ways to read the folders: the classes may be cat, dog, or cat, dog"):
        listed(tmp_path / "confused", "cat/cat/1.png", "cat/dog/1.png", "dog/cat/1.png", reading=CATS)


def test_find_layout_class_level_decides(tmp_path: Path) -> None:
    assert listed(tmp_path, "a/{}", "b/{}", reading=Reading(class_level=1)).classes == ("a", "b")
    found = listed(tmp_path, reading=Reading(class_level=2))
    assert (found.classes, len(found)) == (("cat", "dog"), 6)


def test_find_layout_known_classes_decide(tmp_path: Path) -> None:
    found = listed(tmp_path, "fold1/{}", "fold2/{}", reading=Reading(classes=("cat", "dog", "owl")))
    assert (found.classes, len(found)) == (("cat", "dog"), 6)


def test_find_layout_class_called_train_with_folders_inside(tmp_path: Path) -> None:
    found = listed(tmp_path, "bus/city/1.png", "car/old/1.png", "train/steam/1.png")
    assert found.classes == ("bus", "car", "train")
    assert kinds(found) == ["nested-folders", "split-name"]
    assert json.loads(found.issues[0].model_dump_json())["text"].startswith("3 folders inside the class folders")


def test_list_folder_table_next_to_the_class_folders_is_a_note(tmp_path: Path) -> None:
    (issue,) = listed(tmp_path, "{}", "labels.csv", "readme.md").issues
    assert issue.text == "1 table next to the class folders: labels.csv"


def test_find_layout_masks_may_be_part_of_class_names(tmp_path: Path) -> None:
    assert listed(tmp_path, "with_mask/1.png", "without_mask/1.png").classes == ("with_mask", "without_mask")


def test_find_layout_class_without_a_test_folder_inside(tmp_path: Path) -> None:
    found = listed(tmp_path, "a/train/1.png", "a/test/1.png", "b/train/1.png", "b/2.png")
    assert (found.classes, splits(found)) == (("a", "b"), {"test": 1, "train": 2})
    assert [issue.text for issue in found.issues] == ["1 file directly in b, outside the folders in it"]


def test_find_layout_images_next_to_the_classes_of_a_split_are_reported(tmp_path: Path) -> None:
    found = listed(tmp_path, "train/{}", "train/loose.png", "test/{}")
    assert [issue.text for issue in found.issues] == ["1 file directly in train, outside the folders in it"]


def test_find_layout_empty_split_is_reported(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    found = listed(tmp_path, "train/{}", "test/{}")
    assert [issue.text for issue in found.issues] == ["1 empty folder: val"]


def test_find_layout_other_versions_of_a_split_are_left_out(tmp_path: Path) -> None:
    found = listed(tmp_path, "train/{}", "train_augmented/{}", "test/{}")
    assert [issue.text for issue in found.issues] == ["3 files in train_augmented, next to the splits"]
