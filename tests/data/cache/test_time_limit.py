"""How many images are decoded when there is little time."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from convscope import _workers, load_data
from convscope.data.cache import time_limit
from convscope.data.formats.image_folder import list_folder
from convscope.data.formats.listing import Listing, Row, make_listing
from convscope.data.options import LoadOptions
from helpers.images import noise, write_images
from helpers.reporting import RecordingReporter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 images of one class and 60 of another; each takes 0.1 s to decode on one thread."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    now = [0.0]

    def request(worker: _workers.Worker, message: bytes) -> bytes:
        now[0] += 0.1
        return original(worker, message)

    original = _workers.Worker.request

    monkeypatch.setattr(_workers.Worker, "request", request)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time_limit, "max_threads", lambda: 1)
    images = {f"cat/{i:03}.png": noise(i) for i in range(200)} | {f"dog/{i:03}.png": noise(1000 + i) for i in range(60)}
    return write_images(tmp_path / "set", images)


def classes_of(listing: Listing) -> dict[str, int]:
    return dict(Counter(listing.class_of(i) for i in range(len(listing))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1000.0, None), (27.1, 130), (11.1, 50), (0.1, 1)],  # a second for the start, then 0.1 s, for the sample again
)
def test_load_data_decode_limit_reads_what_fits(folder: Path, seconds: float, expected: int | None) -> None:
    reporter = RecordingReporter()
    dataset = load_data(folder, LoadOptions(decode_seconds=seconds), reporter)
    assert dataset.load_options is not None
    assert dataset.load_options.model_dump() == LoadOptions(max_images=expected).model_dump()
    used = len(dataset.train) + len(dataset.test)
    if expected is None:
        assert (used, reporter.messages) == (260, [])
        return
    listing = list_folder(folder).subsample(expected)
    assert used == len(listing) == sum(classes_of(listing).values())
    message = f"{used:,} of 260 images are used: there is no time to decode all of them"
    assert reporter.messages == [message]
    again = load_data(folder, dataset.load_options, reporter)
    assert (again.fingerprint, reporter.messages) == (dataset.fingerprint, [message])


def test_load_data_decode_limit_decoded_before_reads_everything(folder: Path) -> None:
    load_data(folder)
    reporter = RecordingReporter()
    dataset = load_data(folder, LoadOptions(decode_seconds=1.0), reporter)
    assert (len(dataset.train) + len(dataset.test), reporter.messages) == (260, [])


@pytest.mark.parametrize(
    ("n", "expected"), [(None, 260), (260, 260), (130, 130), (26, 30), (1, 20)]
)  # at least ten of each class
def test_listing_subsample_keeps_fractions_of_classes(folder: Path, n: int | None, expected: int) -> None:
    listing = list_folder(folder)
    some = listing.subsample(n)
    assert len(some) == expected
    counts = classes_of(some)
    assert counts["dog"] == max(10, round(60 * (n or 260) / 260))
    assert set(some.files) <= set(listing.files)
    assert [listing.class_of(listing.files.index(file)) for file in some.files] == [
        some.class_of(i) for i in range(len(some))
    ]


def test_listing_subsample_keeps_fractions_of_splits() -> None:
    rows = [
        Row(f"{split}{label}{i}.png", label, split)
        for split, count in (("train", 100), ("test", 40), ("validation", 5))
        for label in "ab"
        for i in range(count)
    ]
    some = make_listing(Path(), rows).subsample(145)
    found = Counter((some.class_of(i), some.split_of(i)) for i in range(len(some)))
    assert found == {
        (label, split): count for label in "ab" for split, count in (("train", 50), ("test", 20), ("validation", 5))
    }
