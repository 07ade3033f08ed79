"""The analysis of image files: duplicates, groups, issues, and the splits that follow from them."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from convscope.data.audit.analysis import Analysis
from convscope.data.audit.issue import Issue
from convscope.data.audit.rules import find_issues
from convscope.data.dataset import Dataset
from convscope.data.formats.image_files import analyze, build_dataset
from convscope.data.load import load_data
from convscope.data.options import LoadContext, LoadOptions
from convscope.errors import DataError, UsageError
from convscope.images.fit import Fit
from helpers.images import Pixels, animals, noise, write_images
from helpers.reporting import FailingReporter

Examine = Callable[..., Analysis]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Writes images into a folder and analyzes it."""

    def examine_(images: Mapping[str, Pixels | bytes], options: LoadOptions | None = None) -> Analysis:
        folder = write_images(tmp_path / "set", images)
        return analyze(folder, context(tmp_path, options or LoadOptions()))

    return examine_


def context(folder: Path, options: LoadOptions) -> LoadContext:
    """What a reader gets; decoded images go into the folder."""
    return LoadContext(options, folder / "cache", FailingReporter())


def issues_of(analysis: Analysis) -> dict[str, Issue]:
    """The issues by kind."""
    return {issue.kind: issue for issue in find_issues(analysis)}


def jpeg(pixels: Pixels, quality: int, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def names(analysis: Analysis, numbers: NDArray[np.int64]) -> list[str]:
    return [analysis.listing.files[number] for number in numbers]


def test_analysis_resaved_image_is_a_near_duplicate(examine: Examine) -> None:
    photograph = load_sample_image("china.jpg")[100:356, 200:456]
    analysis = examine(
        animals()
        | {"cat/a.png": photograph, "cat/b.jpg": jpeg(photograph, 60, 200), "dog/c.jpg": jpeg(photograph, 90, 128)},
        LoadOptions(image_size=32),
    )
    near = [names(analysis, pair) for pair in analysis.near]
    assert near == [["cat/a.png", "cat/b.jpg"], ["cat/a.png", "dog/c.jpg"], ["cat/b.jpg", "dog/c.jpg"]]
    groups = analysis.groups[[analysis.listing.files.index(name) for name in ("cat/a.png", "cat/b.jpg", "dog/c.jpg")]]
    assert len(set(groups)) == 1
    assert len(set(analysis.groups)) == len(analysis.listing) - 2
    assert issues_of(analysis)["near-duplicate"].files == (("cat/a.png", "cat/b.jpg"),)
    assert issues_of(analysis)["near-duplicate-conflict"].level == "warning"


def test_analysis_file_in_two_classes_is_excluded(examine: Examine) -> None:
    analysis = examine(animals() | {"cat/x.png": noise(9), "dog/y.png": noise(9), "dog/0.png": noise(0)})
    assert not analysis.used[
        [analysis.listing.files.index(name) for name in ("cat/x.png", "dog/y.png", "cat/0.png")]
    ].any()
    assert analysis.used.sum() == 10
    issue = issues_of(analysis)["conflicting-labels"]
    assert issue.files == (("cat/0.png", "dog/0.png"), ("cat/x.png", "dog/y.png"))
    assert issue.text == "2 images in two classes: cat and dog"


def test_analysis_duplicate_file_is_used_once(examine: Examine) -> None:
    analysis = examine(animals() | {"cat/0again.png": noise(0)})
    assert analysis.used.sum() == 12
    assert issues_of(analysis)["duplicate"].files == (("cat/0.png", "cat/0again.png"),)
    assert analysis.used[analysis.listing.files.index("cat/0.png")]


def test_analysis_image_in_train_and_test_is_excluded_from_train(examine: Examine) -> None:
    images = {
        f"{part}/{name}": some
        for part, start in (("train", 0), ("test", 100))
        for name, some in animals(start=start).items()
    }
    images |= {
        "train/cat/leak.png": noise(100),
        "train/dog/near.jpg": jpeg(noise(1100, 64, 64), 70, 64),
        "test/dog/0.png": noise(1100, 64, 64),
    }
    analysis = examine(images)
    assert analysis.used[analysis.listing.files.index("test/cat/0.png")]
    assert not analysis.used[analysis.listing.files.index("train/cat/leak.png")]
    assert issues_of(analysis)["leak"].files == (("test/cat/0.png", "train/cat/leak.png"),)
    assert issues_of(analysis)["near-duplicate-leak"].files == (("test/dog/0.png", "train/dog/near.jpg"),)
    dataset = build_dataset(analysis.listing.root, analysis, LoadOptions())
    assert (len(dataset.train), len(dataset.test)) == (13, 12)


def frames(tracks: int, each: int = 2) -> dict[str, Pixels | bytes]:
    """Series of nearly the same image: `tracks` of them in each of two classes, `each` images long."""
    images: dict[str, Pixels | bytes] = {}
    for name in ("cat", "dog"):
        for track in range(tracks):
            seen = noise(1000 * track + len(name) + ord(name[0]), 32, 32)
            for i in range(each):
                images[f"{name}/{track:03d}_{i:03d}.png"] = np.roll(seen, 3 * i, axis=1)
    return images


def test_series_of_similar_images_are_found(examine: Examine) -> None:
    series = examine(frames(6)).series
    assert series
    assert (series.count, series.files) == (12, 24)
    assert series.within > series.between + 0.1
    pattern = re.compile(series.pattern)
    assert {hit[1] for name in frames(6) if (hit := pattern.search(name.rpartition("/")[2]))} == {
        f"00{i}" for i in range(6)
    }


NAMES = {  # of the images i = 0, 1, 2 of a series t
    "counter": lambda t, i: f"{t}_{i}.png" if i else f"{t}.png",
    "copies": lambda t, i: f"IMG {t} ({i}).png" if i else f"IMG {t}.png",
    "letters": lambda t, i: f"x{t}{'abc'[i]}.png",
    "words": lambda t, i: f"IMG_{t}{['', ' copy', '_flip'][i]}.png",
    "prefix": lambda t, i: f"{['', 'flip_', 'rot90_'][i]}{t}.png",
    "no numbers": lambda t, i: f"{'abcdefghij'[t]}{['', '_left', '_right'][i]}.png",
    "folders": lambda t, i: f"{t}/{i}.png",
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_series_proposed_pattern_joins_every_series(examine: Examine, tmp_path: Path, kind: str) -> None:
    images = {}
    for name, some in frames(8, 3).items():
        label, _, rest = name.partition("/")
        track, frame = map(int, rest.removesuffix(".png").split("_"))
        prefix = label if kind == "folders" else ""
        images[f"{label}/{prefix}{NAMES[kind](track, frame)}"] = some
    series = examine(images).series
    assert series
    assert (series.count, series.files, series.divided) == (16, 48, 16)
    grouped = analyze(tmp_path / "set", context(tmp_path, LoadOptions(group_by=series.pattern)))
    assert len(set(grouped.groups)) == 16
    assert grouped.series is None


def test_series_that_a_pattern_divides_are_still_reported(examine: Examine) -> None:
    """The pattern leaves out the first image of each series."""
    images = {f"{name[:7]}{name[7:].replace('_000', '')}": some for name, some in frames(8, 3).items()}
    analysis = examine(images, LoadOptions(group_by=r"^(.+)[-_. ]\d+\.\w+$"))
    assert analysis.series
    assert (analysis.series.count, analysis.series.divided) == (16, 16)
    assert "16 series of 3 images (16 of them divided by --group-by)" in issues_of(analysis)["series"].text


def test_series_in_several_splits_are_reported(examine: Examine) -> None:
    images = {}
    for name, some in frames(8, 3).items():
        images[f"{'test' if name.endswith('_002.png') and '/000' not in name else 'train'}/{name}"] = some
    analysis = examine(images)
    assert analysis.series
    assert (analysis.series.count, analysis.series.divided) == (16, 14)
    assert "(14 of them in more than one split)" in issues_of(analysis)["series"].text


def test_series_of_the_same_names_in_train_and_test_are_no_leak(examine: Examine) -> None:
    other = {f"test/{name}": noise(5000 + i, 32, 32) for i, name in enumerate(frames(8, 3))}
    assert examine({f"train/{name}": some for name, some in frames(8, 3).items()} | other).series is None


@pytest.mark.parametrize(
    "images",
    [
        animals(20),
        {
            f"{name}/{i}_{j}.png": noise(7 * i + 51 * j + 300 * len(name))
            for name in ("a", "bb")
            for i in range(6)
            for j in range(2)
        },
    ],
)
def test_series_of_unrelated_images_are_not_found(examine: Examine, images: Mapping[str, Pixels | bytes]) -> None:
    """One counter runs through the whole class, or the images that the names count do not correlate."""
    assert examine(images).series is None


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [(r"^(\d+)_", 12), (r"^\d+", 12), (r"_(\d+)", 4), (r"(cat|dog)/0", 2), (r"/(\d+)_", 6)],
)
def test_groups_by_name_or_by_path_are_counted(examine: Examine, pattern: str, groups: int) -> None:
    analysis = examine(frames(6), LoadOptions(group_by=pattern))
    assert len(set(analysis.groups)) == groups
    assert (analysis.series is None) == (pattern != r"_(\d+)")  # the only one that divides series


def test_build_dataset_never_divides_groups(examine: Examine) -> None:
    analysis = examine(frames(8, 3), LoadOptions(group_by=r"^(\d+)_"))
    dataset = build_dataset(analysis.listing.root, analysis, LoadOptions())
    groups = {part: set(analysis.groups[split.rows]) for part, split in dataset.splits.items()}
    assert groups["train"].isdisjoint(groups["test"])
    assert (len(dataset.train), len(dataset.test)) == (42, 6)


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "is not a regular expression"), ("zebra", "matches no file name")]
)
def test_groups_wrong_pattern_raises(examine: Examine, pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _ = examine(frames(3), LoadOptions(group_by=pattern)).groups


CASES: list[tuple[str, dict[str, Pixels | bytes], str, int]] = [
    ("unreadable", {"cat/x.png": b"x", "dog/y.png": b"y"}, "2 files cannot be read: not an image", 2),
    ("stray", {"x.png": noise(5)}, "1 file outside the class folders", 1),
    ("small-class", {}, "2 classes with fewer than 20 images: cat 6, dog 6", 0),
    (
        "imbalance",
        {f"dog/m{i}.png": noise(50 + i) for i in range(13)},
        "imbalanced classes: cat has 6 images, dog 19",
        0,
    ),
    ("sizes", {"cat/x.png": noise(5, 20, 30)}, "2 sizes, from 12x12 to 30x20, median 12x12", 0),
    ("aspect-ratio", {"cat/x.png": noise(5, 12, 40)}, "1 image with an aspect ratio above 3", 1),
    ("tiny", {"cat/x.png": noise(5, 1, 1)}, "1 image less than half as large as the network's input", 1),
    ("mixed-colors", {"cat/x.png": noise(5, channels=1)}, "1 image in gray among colored ones", 1),
    ("transparent", {"cat/x.png": np.dstack([noise(5), noise(6)[..., 0]])}, "1 image partly transparent", 1),
    ("constant", {"cat/x.png": np.full((12, 12, 3), 7, np.uint8)}, "1 image of a single color", 1),
]


@pytest.mark.parametrize(("kind", "images", "text", "files"), CASES, ids=[case[0] for case in CASES])
def test_find_issues_finds_each_kind(
    examine: Examine, kind: str, images: dict[str, Pixels | bytes], text: str, files: int
) -> None:
    issue = issues_of(examine(animals() | images))[kind]
    assert issue.text.startswith(text)
    assert len(issue.files) == files
    assert {name for some in issue.files for name in some} == (set(images) if files else set())


@pytest.mark.parametrize(
    ("fit", "action"),
    [
        ("letterbox", "mostly padding for the network"),
        ("crop", "cropped to the center"),
        ("stretch", "squeezed for the network"),
    ],
)
def test_find_issues_says_what_happens_to_long_images(examine: Examine, fit: Fit, action: str) -> None:
    images: dict[str, Pixels | bytes] = {"cat/x.png": noise(5, 12, 40)}
    assert issues_of(examine(animals() | images, LoadOptions(fit=fit)))["aspect-ratio"].action == action


def test_find_issues_clean_data_has_none(examine: Examine) -> None:
    assert find_issues(examine(animals(20))) == ()


def test_find_issues_background_unlike_the_others_is_found(examine: Examine) -> None:
    images: dict[str, Pixels | bytes] = {}
    for i in range(40):
        pixels = np.full((12, 12, 1), 255 if i == 7 else 0, np.uint8)
        pixels[4:8, 4:8] = noise(i, 4, 4, 1)
        images[f"{'ab'[i % 2]}/{i:02}.png"] = pixels
    analysis = examine(images)
    issue = issues_of(analysis)["mixed-background"]
    assert (issue.files, issue.action) == ((("b/07.png",),), "inverted")
    assert analysis.store.pixels[analysis.listing.files.index("b/07.png")][0, 0, 0] == 0


def test_find_issues_exif_rotation_is_found(examine: Examine, tmp_path: Path) -> None:
    write_images(tmp_path / "set", animals())
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(noise(5)).save(tmp_path / "set" / "cat" / "x.png", exif=exif)
    assert issues_of(examine({}))["rotated"].files == (("cat/x.png",),)


@pytest.fixture(scope="session")
def real(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of flowers and of traffic signs, unpacked."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("flowers128/flowers.tar.gz", "gtsrb-subset/gtsrb.tar"):
        with tarfile.open(data_folder / name) as tar:
            tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Loads a folder with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda path, **options: load_data(path, LoadOptions(**options), FailingReporter())


def test_load_data_flowers_have_their_known_issues(real: Path, read: Callable[..., Dataset]) -> None:
    dataset = read(real / "flowers")
    kinds = {issue.kind: issue for issue in dataset.issues}
    assert dataset.classes == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert len(dataset.train) + len(dataset.test) == 4317 - 8 - 2
    for some in kinds["conflicting-labels"].files:
        assert [name.partition("/")[0] for name in some] == ["rose", "tulip"]
        assert len({name.partition("/")[2] for name in some}) == 1
    assert len(kinds["conflicting-labels"].files) == 4
    assert len(kinds["duplicate"].files) == 2
    assert len(kinds["near-duplicate"].files) >= 18
    assert "series" not in kinds
    shares = [np.mean(split.labels == k) for split in (dataset.train, dataset.test) for k in range(5)]
    np.testing.assert_allclose(shares[:5], shares[5:], atol=0.002)


def test_load_data_traffic_signs_are_series(real: Path, read: Callable[..., Dataset]) -> None:
    dataset = read(real / "gtsrb")
    assert len(dataset.classes) == 43
    (series,) = (issue for issue in dataset.issues if issue.kind == "series")
    assert series.text.startswith("file names count images: 888 series of 2 images, ")
    pattern = re.search("--group-by '(.*)'", series.advice)
    assert pattern
    grouped = read(real / "gtsrb", group_by=pattern[1])
    assert "series" not in {issue.kind for issue in grouped.issues}
    assert grouped.fingerprint != dataset.fingerprint
    assert grouped.train.groups is not None
    assert grouped.test.groups is not None
    assert set(grouped.train.groups).isdisjoint(grouped.test.groups)
    assert len(set(grouped.test.labels)) == 43
    assert 0.17 < len(grouped.test) / 1776 < 0.23


def test_load_data_too_few_images_of_a_class_raises(read: Callable[..., Dataset], tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", animals() | {f"owl/{i}.png": noise(70 + i) for i in range(4)})
    with pytest.raises(
        DataError, match=r"set: too few images in owl \(4\): expected 5 or more usable images per class"
    ):
        read(folder)


def test_load_data_same_files_make_the_same_dataset(read: Callable[..., Dataset], tmp_path: Path) -> None:
    first, second = (read(write_images(tmp_path / name / "set", animals(12))) for name in "ab")
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.train.images, second.train.images)
    assert (
        read(write_images(tmp_path / "c" / "set", animals(12) | {"dog/12.png": noise(44)})).fingerprint
        != first.fingerprint
    )


def test_load_data_keeps_its_validation_split(read: Callable[..., Dataset], tmp_path: Path) -> None:
    parts = (("train", 0), ("val", 100), ("test", 200))
    folder = write_images(
        tmp_path / "set",
        {f"{part}/{name}": some for part, start in parts for name, some in animals(start=start).items()},
    )
    dataset = read(folder)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 12, "validation": 12, "test": 12}
    assert "test" not in dataset.source.rpartition(";")[2]
    (folder / "test").rename(tmp_path / "elsewhere")
    assert list(read(folder).splits) == ["train", "test"]
    assert read(folder).source.endswith("val is the test split")
