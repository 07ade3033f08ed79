"""The pre-flight check: what a survey of pictures says to someone who wants to train on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from convscope._text import list_some, pluralize
from convscope.data.audit.analysis import Survey
from convscope.data.audit.issue import Issue, Level

MIN_IMAGES_PER_CLASS = 20  # images of a class; its share of right answers is known to 20 points or so
IMBALANCE_RATIO = 3  # times as many images in the largest class as in the smallest
LONG = 3  # times as wide as high, or as high as wide
FLAT = 2  # levels between the darkest and the lightest pixel

Rule = Callable[[Survey], Iterator[Issue]]


def issues(survey: Survey) -> tuple[Issue, ...]:
    """All that was found, warnings first."""
    found = [issue for rule in RULES for issue in rule(survey)]
    return tuple(sorted(found, key=lambda issue: issue.level != "warning"))


def _unreadable(survey: Survey) -> Iterator[Issue]:
    reasons = survey.store.reasons
    for reason in dict.fromkeys(reasons.values()):
        numbers = [number for number, why in reasons.items() if why == reason]
        text = f"{pluralize(len(numbers), 'file')} cannot be read: {reason}"
        yield _found(survey, "unreadable", "warning", text, "left out", "", [[number] for number in numbers])


def _strays(survey: Survey) -> Iterator[Issue]:
    if strays := survey.listing.strays:
        text = f"{pluralize(len(strays), 'file')} in no class folder"
        yield Issue("stray", "note", text, "left out", files=tuple((name,) for name in strays))


def _two_classes(survey: Survey) -> Iterator[Issue]:
    if survey.conflicts:
        pairs = {" and ".join(dict.fromkeys(map(survey.listing.class_of, some))) for some in survey.conflicts}
        text = f"{pluralize(len(survey.conflicts), 'picture')} filed under two classes: {list_some(sorted(pairs))}"
        advice = "delete the wrong ones to have the right ones used"
        yield _found(survey, "two-classes", "warning", text, "left out under both", advice, survey.conflicts)


def _repeats(survey: Survey) -> Iterator[Issue]:
    across = [some for some in survey.repeats if len({survey.part(number) for number in some}) > 1]
    within = [some for some in survey.repeats if len({survey.part(number) for number in some}) == 1]
    if across:
        text = f"{pluralize(len(across), 'picture')} both in train and in another split"
        yield _found(survey, "leak", "warning", text, "left out of train", "", across)
    if within:
        text = f"{pluralize(len(within), 'picture')} filed more than once"
        yield _found(survey, "repeated", "note", text, "used once", "", within)


def _near(survey: Survey) -> Iterator[Issue]:
    labels, near = survey.listing.labels, survey.near
    across = np.array([survey.part(a) != survey.part(b) for a, b in near], bool)
    other = labels[near[:, 0]] != labels[near[:, 1]]
    if other.any():
        text = f"{pluralize(int(other.sum()), 'pair')} of nearly identical pictures in different classes"
        advice = "one of each pair may be in the wrong class"
        yield _found(survey, "near-identical-two-classes", "warning", text, _on_one_side(survey), advice, near[other])
    if (across & ~other).any():
        text = f"{pluralize(int((across & ~other).sum()), 'pair')} of nearly identical pictures in different splits"
        advice = "the test set is easier than new pictures are; take them out of train"
        yield _found(survey, "near-leak", "warning", text, "used as they are", advice, near[across & ~other])
    if (~across & ~other).any():
        text = f"{pluralize(int((~across & ~other).sum()), 'pair')} of nearly identical pictures"
        yield _found(survey, "near-identical", "note", text, _on_one_side(survey), "", near[~across & ~other])


def _series(survey: Survey) -> Iterator[Issue]:
    if series := survey.series:
        text = (
            f"the names count pictures: {series.count:,} series of {series.files / series.count:.3g}, which are more "
            f"alike (correlation {series.within:.2f}) than others of their class ({series.between:.2f})"
        )
        advice = f"if each series shows one thing, the test is too easy: give --group-by '{series.pattern}'"
        yield Issue("series", "warning", text, "split apart as if they were independent", advice)


def _classes(survey: Survey) -> Iterator[Issue]:
    names = survey.listing.classes
    counts = np.bincount(survey.listing.labels[survey.used], minlength=len(names))
    few = [i for i in range(len(names)) if counts[i] < MIN_IMAGES_PER_CLASS]
    if few:
        named = list_some([f"{names[i]} {counts[i]}" for i in few])
        text = f"{pluralize(len(few), 'class', 'classes')} with fewer than {MIN_IMAGES_PER_CLASS} images: {named}"
        yield Issue("few", "warning", text, "used", "their accuracy will be uncertain: add images")
    low, high = int(counts.argmin()), int(counts.argmax())
    if counts[high] > IMBALANCE_RATIO * counts[low]:
        text = f"classes of unequal size: {names[low]} {counts[low]:,}, {names[high]} {counts[high]:,}"
        yield Issue("unequal", "note", text)


def _sizes(survey: Survey) -> Iterator[Issue]:
    facts, record = survey.store.facts, survey.store.preprocessing
    height, width = facts["height"], facts["width"]
    area = np.where(survey.used, height * width, -1)
    if not survey.used.any():
        return
    largest, smallest = int(area.argmax()), int(np.where(survey.used, area, area.max() + 1).argmin())
    sizes = len({(h, w) for h, w in zip(height[survey.used], width[survey.used], strict=True)})
    if sizes > 1:
        text = (
            f"{sizes:,} sizes, from {width[smallest]}x{height[smallest]} to {width[largest]}x{height[largest]}, "
            f"median {np.median(width[survey.used]):.0f}x{np.median(height[survey.used]):.0f}"
        )
        yield Issue("sizes", "note", text, f"all brought to {record.width}x{record.height} ({record.fit})")
    tiny = survey.used & (2 * np.maximum(height, width) < max(record.height, record.width))
    yield from _marked(survey, "tiny", "note", tiny, "less than half as large as the network's input", "enlarged")
    long = survey.used & (np.maximum(height, width) > LONG * np.minimum(height, width))
    action = "cropped to their middle" if record.fit == "crop" else "mostly padding for the network"
    yield from _marked(survey, "long", "note", long, f"more than {LONG} times as long as wide", action)


def _modes(survey: Survey) -> Iterator[Issue]:
    facts, channels = survey.store.facts, survey.store.preprocessing.channels
    colored, clear, every = survey.used & facts["colored"], survey.used & facts["clear"], int(survey.used.sum())
    if 0 < colored.sum() < every:
        rarer = colored if 2 * colored.sum() < every else survey.used & ~facts["colored"]
        what = "in color among gray ones" if rarer is colored else "gray among colored ones"
        action = "all made gray" if channels == 1 else "all read as color"
        level: Level = "warning" if channels == 1 else "note"
        yield from _marked(survey, "colors", level, rarer, what, action)
    if channels < 4:
        yield from _marked(survey, "transparent", "note", clear, "partly transparent", "laid over white")
    turned = survey.used & facts["turned"]
    yield from _marked(survey, "turned", "note", turned, "stored lying or upside down", "turned as their EXIF says")
    flat = survey.used & (facts["lightest"].astype(int) - facts["darkest"] <= FLAT)
    yield from _marked(survey, "constant", "warning", flat, "of one color", "used", "is there anything to see?")


def _backgrounds(survey: Survey) -> Iterator[Issue]:
    record, border = survey.store.preprocessing, survey.store.facts["border"]
    if record.polarity == "mixed":
        return
    other = survey.used & ((border > 127) != (record.polarity == "light"))
    action = "inverted" if record.channels == 1 else "used as they are"
    what = f"with a {'dark' if record.polarity == 'light' else 'light'} background among {record.polarity} ones"
    yield from _marked(survey, "background", "note", other, what, action)


RULES: tuple[Rule, ...] = (
    _two_classes, _repeats, _near, _series, _unreadable, _strays, _classes, _sizes, _modes, _backgrounds,
)  # fmt: skip


def _marked(
    survey: Survey, kind: str, level: Level, marked: NDArray[np.bool_], what: str, action: str, advice: str = ""
) -> Iterator[Issue]:
    """One issue about all marked files, where there are any."""
    if marked.any():
        numbers = np.flatnonzero(marked)
        text = f"{pluralize(len(numbers), 'picture')} {what}"
        yield _found(survey, kind, level, text, action, advice, numbers[:, None])


def _found(
    survey: Survey, kind: str, level: Level, text: str, action: str, advice: str, numbers: Iterable[Iterable[int]]
) -> Issue:
    rows = tuple(tuple(map(int, some)) for some in numbers)
    files = tuple(tuple(survey.listing.files[number] for number in some) for some in rows)
    return Issue(kind, level, text, action, advice, files, rows)


def _on_one_side(survey: Survey) -> str:
    return "used" if survey.listing.parts else "kept on one side of every split"
