"""The rules of the audit: each looks at the analysis of a data set and yields the issues that it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._text import list_some, pluralize
from convscope.data.audit.analysis import Analysis
from convscope.data.audit.class_names import odd_names
from convscope.data.audit.issue import Issue
from convscope.images.fit import Fit

MIN_IMAGES_PER_CLASS = 20  # with fewer, the accuracy of a class is uncertain by 20 points or more
IMBALANCE_RATIO = 3  # images of the largest class to those of the smallest
MAX_ASPECT_RATIO = 3  # longer side to shorter side
CONSTANT_RANGE = 2  # levels from the darkest to the lightest pixel of an image that counts as constant
LONG_IMAGES_ARE: dict[Fit, str] = {
    "letterbox": "mostly padding for the network",
    "crop": "cropped to the center",
    "stretch": "squeezed for the network",
}

Rule = Callable[[Analysis], Iterator[Issue]]


def find_issues(analysis: Analysis, more: Iterable[Issue] = ()) -> tuple[Issue, ...]:
    """All issues, warnings first.

    Args:
        analysis: the images.
        more: issues that were found elsewhere.
    """
    found = [*(issue for rule in RULES for issue in rule(analysis)), *more]
    return tuple(sorted(found, key=lambda issue: issue.level != "warning"))


def _conflicting_labels(analysis: Analysis) -> Iterator[Issue]:
    if analysis.conflicts:
        classes = {" and ".join(dict.fromkeys(map(analysis.listing.class_of, some))) for some in analysis.conflicts}
        yield _issue(
            analysis,
            analysis.conflicts,
            kind="conflicting-labels",
            level="warning",
            text=f"{pluralize(len(analysis.conflicts), 'image')} in two classes: {list_some(sorted(classes))}",
            action="excluded from both",
            advice="delete the wrong files to use the right ones",
        )


def _duplicates(analysis: Analysis) -> Iterator[Issue]:
    split_counts = [len({analysis.listing.split_of(index) for index in some}) for some in analysis.repeats]
    across = [some for some, splits in zip(analysis.repeats, split_counts, strict=True) if splits > 1]
    within = [some for some, splits in zip(analysis.repeats, split_counts, strict=True) if splits == 1]
    if across:
        text = f"{pluralize(len(across), 'image')} both in train and in another split"
        yield _issue(analysis, across, kind="leak", level="warning", text=text, action="excluded from train")
    if within:
        text = f"{pluralize(len(within), 'image')} with duplicate files"
        yield _issue(analysis, within, kind="duplicate", level="note", text=text, action="one file of each is used")


def _near_duplicates(analysis: Analysis) -> Iterator[Issue]:
    labels, near = analysis.listing.labels, analysis.near
    other_split = np.array([analysis.listing.split_of(a) != analysis.listing.split_of(b) for a, b in near], bool)
    other_class = labels[near[:, 0]] != labels[near[:, 1]]
    same_side = "used" if analysis.listing.splits else "kept in the same split"
    if other_class.any():
        yield _issue(
            analysis,
            near[other_class],
            kind="near-duplicate-conflict",
            level="warning",
            text=f"{pluralize(int(other_class.sum()), 'pair')} of nearly identical images in different classes",
            action=same_side,
            advice="one image of each pair may be in the wrong class",
        )
    if (leaks := other_split & ~other_class).any():
        yield _issue(
            analysis,
            near[leaks],
            kind="near-duplicate-leak",
            level="warning",
            text=f"{pluralize(int(leaks.sum()), 'pair')} of nearly identical images in different splits",
            action="used",
            advice="the test split is easier than new images are: remove these from train",
        )
    if (harmless := ~other_split & ~other_class).any():
        text = f"{pluralize(int(harmless.sum()), 'pair')} of nearly identical images"
        yield _issue(analysis, near[harmless], kind="near-duplicate", level="note", text=text, action=same_side)


def _series(analysis: Analysis) -> Iterator[Issue]:
    series = analysis.series
    if series is None:
        return
    option = f"use --group-by '{series.pattern}'" if series.pattern else "split them in a table, with a column 'split'"
    action, advice = (
        "split as if they were independent",
        f"if each series shows one object, the test is too easy: {option}",
    )
    text = f"file names count images: {series.count:,} series of {series.files / series.count:.3g} images"
    if analysis.listing.splits:
        text += f" ({series.divided:,} of them in more than one split)"
        action, advice = (
            "used as they are",
            "if each series shows one object, the test is too easy: move it into one split",
        )
    elif analysis.group_by:
        text += f" ({series.divided:,} of them divided by --group-by)"
    text += f", which correlate more ({series.within:.2f}) than other images of their class ({series.between:.2f})"
    yield Issue(kind="series", level="warning", text=text, action=action, advice=advice)


def _unreadable(analysis: Analysis) -> Iterator[Issue]:
    kinds: dict[str, list[int]] = {}
    for index, reason in analysis.store.reasons.items():
        kinds.setdefault(re.sub(r"\d+", "0", reason), []).append(index)
    for some in kinds.values():  # such as all truncated files, however many bytes they lack
        indices = [[index] for index in some]
        reasons = {analysis.store.reasons[index] for index in some}
        example = "for example, " if len(reasons) > 1 else ""
        text = f"{pluralize(len(some), 'file')} cannot be read: {example}{analysis.store.reasons[some[0]]}"
        yield _issue(analysis, indices, kind="unreadable", level="warning", text=text, action="excluded")


def _strays(analysis: Analysis) -> Iterator[Issue]:
    if strays := analysis.listing.strays:
        text = f"{pluralize(len(strays), 'file')} outside the class folders"
        files = tuple((name,) for name in strays)
        yield Issue(kind="stray", level="note", text=text, action="ignored", files=files)


def _listing(analysis: Analysis) -> Iterator[Issue]:
    yield from analysis.listing.issues


def _class_names(analysis: Analysis) -> Iterator[Issue]:
    yield from odd_names(analysis.listing.classes)


def _class_sizes(analysis: Analysis) -> Iterator[Issue]:
    names = analysis.listing.classes
    counts = np.bincount(analysis.listing.labels[analysis.used], minlength=len(names))
    if small := [i for i in range(len(names)) if counts[i] < MIN_IMAGES_PER_CLASS]:
        listed = list_some(f"{names[i]} {counts[i]}" for i in small)
        yield Issue(
            kind="small-class",
            level="warning",
            text=f"{pluralize(len(small), 'class', 'classes')} with fewer than {MIN_IMAGES_PER_CLASS} images: {listed}",
            action="used",
            advice="their accuracy will be uncertain: add images",
        )
    low, high = int(counts.argmin()), int(counts.argmax())
    if counts[high] > IMBALANCE_RATIO * counts[low]:
        text = f"imbalanced classes: {names[low]} has {counts[low]:,} images, {names[high]} {counts[high]:,}"
        yield Issue(kind="imbalance", level="note", text=text)


def _sizes(analysis: Analysis) -> Iterator[Issue]:
    info, record, used = analysis.store.info, analysis.store.preprocessing, analysis.used
    if not used.any():
        return
    height, width = info["height"], info["width"]
    area = np.where(used, height * width, -1)
    largest, smallest = int(area.argmax()), int(np.where(used, area, area.max() + 1).argmin())
    sizes = len({(h, w) for h, w in zip(height[used], width[used], strict=True)})
    if sizes > 1:
        text = (
            f"{sizes:,} sizes, from {width[smallest]}x{height[smallest]} to {width[largest]}x{height[largest]}, "
            f"median {np.median(width[used]):.0f}x{np.median(height[used]):.0f}"
        )
        action = f"all resized to {record.width}x{record.height} ({record.fit})"
        yield Issue(kind="sizes", level="note", text=text, action=action)
    tiny = used & (2 * np.maximum(height, width) < max(record.height, record.width))
    text = "less than half as large as the network's input"
    yield from _marked(analysis, tiny, text, kind="tiny", level="note", action="enlarged")
    long = used & (np.maximum(height, width) > MAX_ASPECT_RATIO * np.minimum(height, width))
    text = f"with an aspect ratio above {MAX_ASPECT_RATIO}"
    yield from _marked(analysis, long, text, kind="aspect-ratio", level="note", action=LONG_IMAGES_ARE[record.fit])


def _colors(analysis: Analysis) -> Iterator[Issue]:
    info, channels, used = analysis.store.info, analysis.store.preprocessing.channels, analysis.used
    colored = used & info["colored"]
    if 0 < colored.sum() < used.sum():
        rarer = colored if 2 * colored.sum() < used.sum() else used & ~info["colored"]
        text = "in color among gray ones" if rarer is colored else "in gray among colored ones"
        action = "all converted to gray" if channels == 1 else "all read as color"
        level = "warning" if channels == 1 else "note"
        yield from _marked(analysis, rarer, text, kind="mixed-colors", level=level, action=action)
    if channels < 4:
        transparent = used & info["transparent"]
        action = "composited over white"
        yield from _marked(analysis, transparent, "partly transparent", kind="transparent", level="note", action=action)


def _depth(analysis: Analysis) -> Iterator[Issue]:
    (low, high), deep = (
        analysis.store.preprocessing.uint16_range,
        analysis.used & (analysis.store.info["highest16"] > 0),
    )
    text = "of 16 bits per pixel"
    action = f"values {low}..{high} mapped to 0..255"
    yield from _marked(analysis, deep, text, kind="depth", level="note", action=action)


def _content(analysis: Analysis) -> Iterator[Issue]:
    info, used = analysis.store.info, analysis.used
    text, action = "stored sideways or upside down", "rotated by their EXIF orientation"
    yield from _marked(analysis, used & info["rotated"], text, kind="rotated", level="note", action=action)
    text, action = "whose compressed data is partly missing or wrong", "used, although some of their pixels are wrong"
    advice = "look at them, and get them again or remove them"
    damaged = used & info["damaged"]
    yield from _marked(analysis, damaged, text, kind="damaged", level="warning", action=action, advice=advice)
    constant = used & (info["lightest"].astype(int) - info["darkest"] <= CONSTANT_RANGE)
    advice = "check whether they show anything"
    yield from _marked(
        analysis, constant, "of a single color", kind="constant", level="warning", action="used", advice=advice
    )


def _backgrounds(analysis: Analysis) -> Iterator[Issue]:
    record, border = analysis.store.preprocessing, analysis.store.info["border"]
    if record.polarity == "mixed":
        return
    other = analysis.used & ((border > 127) != (record.polarity == "light"))
    text = f"with a {'dark' if record.polarity == 'light' else 'light'} background among {record.polarity} ones"
    action = "inverted" if record.channels == 1 else "used"
    yield from _marked(analysis, other, text, kind="mixed-background", level="note", action=action)


RULES: tuple[Rule, ...] = (
    _listing, _class_names, _conflicting_labels, _duplicates, _near_duplicates, _series, _unreadable, _strays,
    _class_sizes, _sizes, _colors, _depth, _content, _backgrounds,
)  # fmt: skip


def _marked(analysis: Analysis, marked: NDArray[np.bool_], text: str, **fields: Any) -> Iterator[Issue]:
    """One issue about all marked images, (n,), if there are any; `text` follows their number."""
    if marked.any():
        indices = np.flatnonzero(marked)
        yield _issue(analysis, indices[:, None], text=f"{pluralize(len(indices), 'image')} {text}", **fields)


def _issue(analysis: Analysis, indices: Iterable[Iterable[int]], **fields: Any) -> Issue:
    """An issue about files, with their names and rows."""
    rows = tuple(tuple(map(int, some)) for some in indices)
    files = tuple(tuple(analysis.listing.files[index] for index in some) for some in rows)
    return Issue(files=files, rows=rows, **fields)
