"""What is the same in a set of pictures, what belongs together, what is said about it, and how it is split."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from convscope.data import load as loading
from convscope.data.audit.analysis import Survey
from convscope.data.audit.duplicates import NEAR_BITS, correlations, near_pairs, same_files, together
from convscope.data.audit.issue import Issue
from convscope.data.audit.rules import issues
from convscope.data.dataset import Dataset
from convscope.data.formats.image_folder import dataset_of, survey_of
from convscope.data.load import load_data
from convscope.data.options import LoadOptions
from convscope.errors import DataError, UsageError
from helpers.pictures import Pixels, animals, noise, write
from helpers.reporting import FailingReporter

Examine = Callable[..., Survey]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Writes pictures into a folder and surveys it."""

    def examined(pictures: Mapping[str, Pixels | bytes], reading: LoadOptions | None = None) -> Survey:
        folder = write(tmp_path / "set", pictures)
        return survey_of(folder, reading or LoadOptions(), tmp_path / "cache", FailingReporter())

    return examined


def found(survey: Survey) -> dict[str, Issue]:
    return {issue.kind: issue for issue in issues(survey)}


def jpeg(pixels: Pixels, quality: int, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def names(survey: Survey, numbers: NDArray[np.int64]) -> list[str]:
    return [survey.listing.files[number] for number in numbers]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_same_files_are_those_with_the_same_digest(which: list[int]) -> None:
    digests = np.random.default_rng(0).integers(0, 2**63, (6, 4), np.uint64)[which]
    expected = [np.flatnonzero(np.array(which) == k) for k in dict.fromkeys(which) if which.count(k) > 1]
    assert [some.tolist() for some in same_files(digests)] == [some.tolist() for some in expected]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=8))
def test_together_joins_whatever_is_linked(bundles: list[list[int]]) -> None:
    sets = [{i} for i in range(10)]
    for bundle in bundles:
        touched = [some for some in sets if some & set(bundle)]
        sets = [some for some in sets if not some & set(bundle)] + [set().union(*touched)]
    numbers = together(10, bundles)
    assert {frozenset(np.flatnonzero(numbers == number)) for number in numbers} == set(map(frozenset, sets))


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=12), st.integers(0, 3))
def test_every_pair_of_hashes_a_few_bits_apart_is_a_candidate(first: int, flipped: set[int], others: int) -> None:
    second = first ^ sum(1 << bit for bit in flipped)
    hashes = np.array([first, second, *range(others)], np.uint64)
    alike = np.tile(noise(1, 8, 8, 1), (len(hashes), 1, 1, 1))
    pairs = near_pairs(hashes, alike, np.arange(len(hashes))).tolist()
    distance = {(i, j): (int(hashes[i]) ^ int(hashes[j])).bit_count() for j in range(len(hashes)) for i in range(j)}
    assert sorted(map(tuple, pairs)) == sorted(pair for pair, bits in distance.items() if bits <= NEAR_BITS)


def test_near_pictures_have_to_look_alike_too() -> None:
    pixels = np.stack([noise(1, 8, 8), noise(2, 8, 8), 255 - noise(1, 8, 8), noise(1, 8, 8) // 2, noise(1, 8, 8) * 0])
    assert near_pairs(np.zeros(5, np.uint64), pixels, np.arange(5)).tolist() == [[0, 3]]
    assert near_pairs(np.zeros(5, np.uint64), pixels, np.array([1, 3])).tolist() == []
    pairs = np.array([[0, 3], [0, 2], [0, 4]])
    np.testing.assert_allclose(correlations(pixels, pairs), [1, -1, 0], atol=0.01)


def test_a_picture_that_was_saved_again_is_nearly_the_same(examine: Examine) -> None:
    photo = load_sample_image("china.jpg")[100:356, 200:456]
    survey = examine(
        animals() | {"cat/a.png": photo, "cat/b.jpg": jpeg(photo, 60, 200), "dog/c.jpg": jpeg(photo, 90, 128)},
        LoadOptions(image_size=32),
    )
    near = [names(survey, pair) for pair in survey.near]
    assert near == [["cat/a.png", "cat/b.jpg"], ["cat/a.png", "dog/c.jpg"], ["cat/b.jpg", "dog/c.jpg"]]
    groups = survey.groups[[survey.listing.files.index(name) for name in ("cat/a.png", "cat/b.jpg", "dog/c.jpg")]]
    assert len(set(groups)) == 1
    assert len(set(survey.groups)) == len(survey.listing) - 2
    assert found(survey)["near-identical"].files == (("cat/a.png", "cat/b.jpg"),)
    assert found(survey)["near-identical-two-classes"].level == "warning"


def test_one_file_under_two_classes_is_not_used(examine: Examine) -> None:
    survey = examine(animals() | {"cat/x.png": noise(9), "dog/y.png": noise(9), "dog/0.png": noise(0)})
    assert not survey.used[[survey.listing.files.index(name) for name in ("cat/x.png", "dog/y.png", "cat/0.png")]].any()
    assert survey.used.sum() == 10
    issue = found(survey)["two-classes"]
    assert issue.files == (("cat/0.png", "dog/0.png"), ("cat/x.png", "dog/y.png"))
    assert "2 pictures filed under two classes: cat and dog" in issue.text


def test_a_repeat_is_used_once(examine: Examine) -> None:
    survey = examine(animals() | {"cat/0again.png": noise(0)})
    assert survey.used.sum() == 12
    assert found(survey)["repeated"].files == (("cat/0.png", "cat/0again.png"),)
    assert survey.used[survey.listing.files.index("cat/0.png")]


def test_what_is_in_train_and_test_is_taken_out_of_train(examine: Examine) -> None:
    pictures = {
        f"{part}/{name}": some
        for part, start in (("train", 0), ("test", 100))
        for name, some in animals(start=start).items()
    }
    pictures |= {
        "train/cat/leak.png": noise(100),
        "train/dog/near.jpg": jpeg(noise(1100, 64, 64), 70, 64),
        "test/dog/0.png": noise(1100, 64, 64),
    }
    survey = examine(pictures)
    assert survey.used[survey.listing.files.index("test/cat/0.png")]
    assert not survey.used[survey.listing.files.index("train/cat/leak.png")]
    assert found(survey)["leak"].files == (("test/cat/0.png", "train/cat/leak.png"),)
    assert found(survey)["near-leak"].files == (("test/dog/0.png", "train/dog/near.jpg"),)
    dataset = dataset_of(survey.listing.root, survey, LoadOptions())
    assert (len(dataset.train), len(dataset.test)) == (13, 12)


def frames(tracks: int, each: int = 2) -> dict[str, Pixels | bytes]:
    """So many things, each seen some times from nearly the same place."""
    pictures: dict[str, Pixels | bytes] = {}
    for name in ("cat", "dog"):
        for track in range(tracks):
            seen = noise(1000 * track + len(name) + ord(name[0]), 32, 32)
            for i in range(each):
                pictures[f"{name}/{track:03d}_{i:03d}.png"] = np.roll(seen, 3 * i, axis=1)
    return pictures


def test_series_are_noticed(examine: Examine) -> None:
    series = examine(frames(6)).series
    assert series
    assert (series.count, series.files) == (12, 24)
    assert series.within > series.between + 0.1
    pattern = re.compile(series.pattern)
    assert {hit[1] for name in frames(6) if (hit := pattern.search(name.rpartition("/")[2]))} == {
        f"00{i}" for i in range(6)
    }


@pytest.mark.parametrize(
    "pictures",
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
def test_series_that_are_none_are_not(examine: Examine, pictures: Mapping[str, Pixels | bytes]) -> None:
    """One number counts the whole class; or what the names count is not alike."""
    assert examine(pictures).series is None


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [(r"^(\d+)_", 12), (r"^\d+", 12), (r"_(\d+)", 4), (r"(cat|dog)/0", 2), (r"/(\d+)_", 6)],
)
def test_groups_by_name_or_by_path(examine: Examine, pattern: str, groups: int) -> None:
    survey = examine(frames(6), LoadOptions(group_by=pattern))
    assert len(set(survey.groups)) == groups
    assert survey.series is None


def test_groups_are_never_split(examine: Examine) -> None:
    survey = examine(frames(8, 3), LoadOptions(group_by=r"^(\d+)_"))
    dataset = dataset_of(survey.listing.root, survey, LoadOptions())
    sides = {part: set(survey.groups[split.rows]) for part, split in dataset.splits.items()}
    assert sides["train"].isdisjoint(sides["test"])
    assert (len(dataset.train), len(dataset.test)) == (42, 6)


@pytest.mark.parametrize(("pattern", "message"), [("(", "is no regular expression"), ("zebra", "matches no file name")])
def test_wrong_patterns(examine: Examine, pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _ = examine(frames(3), LoadOptions(group_by=pattern)).groups


CASES: list[tuple[str, dict[str, Pixels | bytes], str, int]] = [
    ("unreadable", {"cat/x.png": b"x", "dog/y.png": b"y"}, "2 files cannot be read: not an image", 2),
    ("stray", {"x.png": noise(5)}, "1 file in no class folder", 1),
    ("few", {}, "2 classes with fewer than 20 images: cat 6, dog 6", 0),
    ("unequal", {f"dog/m{i}.png": noise(50 + i) for i in range(13)}, "classes of unequal size: cat 6, dog 19", 0),
    ("sizes", {"cat/x.png": noise(5, 20, 30)}, "2 sizes, from 12x12 to 30x20, median 12x12", 0),
    ("long", {"cat/x.png": noise(5, 12, 40)}, "1 picture more than 3 times as long as wide", 1),
    ("tiny", {"cat/x.png": noise(5, 1, 1)}, "1 picture less than half as large as the network's input", 1),
    ("colors", {"cat/x.png": noise(5, channels=1)}, "1 picture gray among colored ones", 1),
    ("transparent", {"cat/x.png": np.dstack([noise(5), noise(6)[..., 0]])}, "1 picture partly transparent", 1),
    ("constant", {"cat/x.png": np.full((12, 12, 3), 7, np.uint8)}, "1 picture of one color", 1),
]


@pytest.mark.parametrize(("kind", "pictures", "text", "files"), CASES, ids=[case[0] for case in CASES])
def test_findings(examine: Examine, kind: str, pictures: dict[str, Pixels | bytes], text: str, files: int) -> None:
    issue = found(examine(animals() | pictures))[kind]
    assert issue.text.startswith(text)
    assert len(issue.files) == files
    assert {name for some in issue.files for name in some} == (set(pictures) if files else set())


def test_nothing_is_found_where_there_is_nothing(examine: Examine) -> None:
    assert issues(examine(animals(20))) == ()


def test_a_background_unlike_the_others(examine: Examine) -> None:
    pictures: dict[str, Pixels | bytes] = {}
    for i in range(40):
        pixels = np.full((12, 12, 1), 255 if i == 7 else 0, np.uint8)
        pixels[4:8, 4:8] = noise(i, 4, 4, 1)
        pictures[f"{'ab'[i % 2]}/{i:02}.png"] = pixels
    survey = examine(pictures)
    issue = found(survey)["background"]
    assert (issue.files, issue.action) == ((("b/07.png",),), "inverted")
    assert survey.store.pixels[survey.listing.files.index("b/07.png")][0, 0, 0] == 0


def test_a_picture_that_its_exif_turns_is_found(examine: Examine, tmp_path: Path) -> None:
    write(tmp_path / "set", animals())
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(noise(5)).save(tmp_path / "set" / "cat" / "x.png", exif=exif)
    assert found(examine({}))["turned"].files == (("cat/x.png",),)


@pytest.fixture(scope="session")
def real(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real photos of flowers and of traffic signs, unpacked."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("flowers128/flowers.tar.gz", "gtsrb-subset/gtsrb.tar"):
        with tarfile.open(data_folder / name) as tar:
            tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    monkeypatch.setattr(loading, "cache_folder", lambda: tmp_path / "cache")
    return lambda path, **options: load_data(path, LoadOptions(**options), FailingReporter())


def test_real_flowers(real: Path, read: Callable[..., Dataset]) -> None:
    dataset = read(real / "flowers")
    kinds = {issue.kind: issue for issue in dataset.issues}
    assert dataset.classes == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert len(dataset.train) + len(dataset.test) == 4317 - 8 - 2
    for some in kinds["two-classes"].files:
        assert [name.partition("/")[0] for name in some] == ["rose", "tulip"]
        assert len({name.partition("/")[2] for name in some}) == 1
    assert len(kinds["two-classes"].files) == 4
    assert len(kinds["repeated"].files) == 2
    assert len(kinds["near-identical"].files) >= 18
    assert "series" not in kinds
    shares = [np.mean(split.labels == k) for split in (dataset.train, dataset.test) for k in range(5)]
    np.testing.assert_allclose(shares[:5], shares[5:], atol=0.002)


def test_real_signs(real: Path, read: Callable[..., Dataset]) -> None:
    dataset = read(real / "gtsrb")
    assert len(dataset.classes) == 43
    (series,) = (issue for issue in dataset.issues if issue.kind == "series")
    assert series.text.startswith("the names count pictures: 888 series of 2, ")
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


def test_too_few_of_a_class(read: Callable[..., Dataset], tmp_path: Path) -> None:
    folder = write(tmp_path / "set", animals() | {f"owl/{i}.png": noise(70 + i) for i in range(4)})
    with pytest.raises(DataError, match=r"set: too few images in owl \(4\): expected 5 or more per class"):
        read(folder)


def test_the_same_files_make_the_same_set(read: Callable[..., Dataset], tmp_path: Path) -> None:
    first, second = (read(write(tmp_path / name / "set", animals(12))) for name in "ab")
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.train.images, second.train.images)
    assert read(write(tmp_path / "c" / "set", animals(12) | {"dog/12.png": noise(44)})).fingerprint != first.fingerprint


def test_a_set_with_its_own_validation(read: Callable[..., Dataset], tmp_path: Path) -> None:
    parts = (("train", 0), ("val", 100), ("test", 200))
    folder = write(
        tmp_path / "set",
        {f"{part}/{name}": some for part, start in parts for name, some in animals(start=start).items()},
    )
    dataset = read(folder)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 12, "validation": 12, "test": 12}
    assert "test" not in dataset.source.rpartition(";")[2]
    (folder / "test").rename(tmp_path / "elsewhere")
    assert list(read(folder).splits) == ["train", "test"]
    assert read(folder).source.endswith("val is the test set")
