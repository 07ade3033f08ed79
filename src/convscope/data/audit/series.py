"""Series: files whose names say that they show the same thing, such as the frames of one film.

Several ways to name series are tried on the listing. One counts if two images of a series correlate clearly more than
images of two series of a class, and if it joins images that those before it do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from convscope.data.audit.duplicates import connected_groups, correlation_matrix, correlations
from convscope.data.formats.listing import Listing
from convscope.data.types import Images, Labels

PATTERNS = (  # as for `group_by`; the first of several that join all series is proposed
    r"^(.+?)(?:[-_. ]+\(?\d+\)?)?\.\w+$",  # 100.png, 100_1.png, 100 (2).png
    r"^(\D*\d+)",  # 100.png, 100_flip_2.png, slide7_x100_y200.png
    r"^(.*\d)[-_. ]?[A-Za-z]?\.\w+$",  # 100a.png, 100b.png
    r"^(.+)/[^/]+$",  # a folder per series
    r"^(.+?)(?:[-_. ][^-_. ]+)?\.\w+$",  # lisa.png, lisa_left.png
    r"(\d+)\D*\.\w+$",  # 100.png, flip_100.png
    r"^([^-_. ]+)",  # lisa_left_2.png
)
MAX_PAIRS = 500  # of images in different splits that are compared
MAX_FILES = 600  # in series that are compared, and half as many others
FILES_PER_SERIES, SERIES_PER_CLASS = 12, 4  # that are compared; more if there is room
MIN_GAIN = 0.1  # of the correlation inside series over that of other images of their class
PERMUTATIONS, MIN_DEVIATIONS = 100, 4  # shuffled series, and standard deviations that true ones correlate more
MIN_SERIES = 3  # fewer may be chance
MIN_SHARE = 0.05  # of the files that are in series; fewer hardly change the accuracy
MAX_SHARE = 0.5  # of the files of a class that are one series; more are numbered from 1 to n
MAX_ODD, ODD_PAIRS = 300, 20  # large groups that are checked one by one, and pairs of images compared in each

Groups = list[list[int]]  # indices of files


@dataclass(frozen=True)
class Series:
    """Series that the splits do not keep together.

    Attributes:
        count: number of series.
        files: number of files in them.
        divided: number of series whose files are, or may come, into different splits.
        within: mean correlation of two images of a series.
        between: mean correlation of images of two series of a class.
        pattern: a regular expression for `group_by` that keeps every series in one split; "" if none was found.
    """

    count: int
    files: int
    divided: int
    within: float
    between: float
    pattern: str


def find_series(listing: Listing, pixels: Images, together: Labels) -> Series | None:
    """The series of a listing, if one of them is divided.

    Args:
        listing: the files.
        pixels: their images, uint8 (n, h, w, c).
        together: a number for each file, (n,), equal for files that are certain to be in one split.
    """
    joined = np.arange(len(listing))
    measured: list[tuple[float, float]] = []
    for pattern in PATTERNS:
        groups = _possible_series(listing, pattern, joined)
        if _is_frequent(groups, listing) and (found := _measure(listing, pixels, groups, joined)):
            measured.append(found)
            groups = _without_odd_ones(pixels, groups, *found)
            joined = connected_groups(len(listing), [*_links(joined), *groups])
    series = _links(joined)
    divided = [some for some in series if len(set(together[some])) > 1]
    if not divided or (listing.splits and not _correlate_across(listing, pixels, divided, measured[0][1])):
        return None
    within, between = measured[0]
    return Series(len(series), sum(map(len, series)), len(divided), within, between, _choose(listing, joined))


def match_names(listing: Listing, pattern: str) -> Groups:
    """The files with the same match; of the same class, unless the pattern contains a "/".

    Args:
        listing: the files.
        pattern: see `LoadOptions.group_by`.

    Raises:
        re.error: it is not a regular expression.
    """
    compiled, across = re.compile(pattern), "/" in pattern
    found: dict[tuple[str, ...], list[int]] = {}
    for index, file in enumerate(listing.files):
        if hit := compiled.search(file if across else file.rpartition("/")[2]):
            key = hit.groups() or (hit.group(),)
            found.setdefault(key if across else (listing.class_of(index), *key), []).append(index)
    return list(found.values())


def _possible_series(listing: Listing, pattern: str, joined: Labels) -> Groups:
    """The groups of a pattern that are not too large to be series, and join files that are not joined yet."""
    sizes = np.bincount(listing.labels)
    groups = (some for some in match_names(listing, pattern) if len(some) <= MAX_SHARE * sizes[listing.labels[some[0]]])
    return [some for some in groups if len(set(joined[some])) > 1]


def _without_odd_ones(pixels: Images, groups: Groups, within: float, between: float) -> Groups:
    """The groups without those that are larger than most and whose images do not correlate.

    If series are named 7.png, 7_1.png, 7_2.png, then IMG_7.png and IMG_8.png look like one series of the name IMG.
    """
    usual = np.median([len(some) for some in groups])
    large = sorted((some for some in groups if len(some) > usual), key=len)[-MAX_ODD:]
    if not large:
        return groups
    random = np.random.default_rng(0)
    pairs = [random.choice(some, 2, replace=False) for some in large for _ in range(ODD_PAIRS)]
    means = correlations(pixels, np.array(pairs)).reshape(len(large), ODD_PAIRS).mean(1)
    odd = {some[0] for some, mean in zip(large, means, strict=True) if mean < (within + 2 * between) / 3}
    return [some for some in groups if some[0] not in odd]


def _is_frequent(groups: Groups, listing: Listing) -> bool:
    """Whether there are enough series to matter, and not to be chance."""
    return len(groups) >= MIN_SERIES and sum(map(len, groups)) >= MIN_SHARE * len(listing)


def _measure(listing: Listing, pixels: Images, groups: Groups, joined: Labels) -> tuple[float, float] | None:
    """The mean correlations in a series and between series, if the former is clearly higher.

    It is compared with that in series of the same sizes whose files were shuffled inside their class.

    Args:
        listing: the files.
        pixels: their images.
        groups: the series.
        joined: a number for each file, equal for files that are known to belong together; these are not compared.
    """
    random = np.random.default_rng(0)
    series, files = _sample(listing, groups, joined, random)
    labels, known = listing.labels[files], joined[files]
    comparable = (labels[:, None] == labels) & (known[:, None] != known)
    matrix = np.where(comparable, correlation_matrix(pixels, files), 0)
    inside = comparable & (series[:, None] == series) & (series >= 0)
    outside = comparable & ~inside
    if not inside.any() or not outside.any():
        return None
    first, second = np.nonzero(np.triu(inside))
    weights = 1 / np.bincount(series[first])[series[first]]  # each series counts once
    within, between = float(np.average(matrix[first, second], weights=weights)), float(matrix[outside].mean())
    shuffled = _shuffles(labels, random)
    chance = [np.average(matrix[other[first], other[second]], weights=weights) for other in shuffled]
    is_clear = within - np.mean(chance) >= MIN_DEVIATIONS * np.std(chance)
    return (within, between) if is_clear and within - between >= MIN_GAIN else None


def _shuffles(labels: Labels, random: np.random.Generator) -> Iterator[Labels]:
    """Permutations of the indices of files that keep their classes."""
    by_class = np.argsort(labels, kind="stable")
    for _ in range(PERMUTATIONS):
        shuffled = np.empty_like(by_class)
        shuffled[by_class] = np.lexsort((random.random(len(labels)), labels))
        yield shuffled


def _sample(listing: Listing, groups: Groups, joined: Labels, random: np.random.Generator) -> tuple[Labels, Labels]:
    """Some files of some series, spread over the classes, and other files of these classes.

    Returns:
        The number of the series of each file, -1 for the others, and the indices of the files.
    """
    seen: dict[int, list[int]] = {}  # classes in a random order, with their series
    for number in random.permutation(len(groups)).tolist():
        seen.setdefault(int(listing.labels[groups[number][0]]), []).append(number)
    ranked = [
        (i // SERIES_PER_CLASS, turn, number)
        for turn, some in enumerate(seen.values())
        for i, number in enumerate(some)
    ]
    each = max(FILES_PER_SERIES, MAX_FILES // len(groups))
    series: list[int] = []
    files: list[int] = []
    for _, _, number in sorted(ranked):
        if len(files) >= MAX_FILES - 1:
            break
        _, apart = np.unique(joined[groups[number]], return_index=True)  # one file of those known to belong together
        chosen = random.permutation(np.array(groups[number])[apart])[: min(each, MAX_FILES - len(files))]
        files += chosen.tolist()
        series += [number] * len(chosen)
    among = np.isin(listing.labels, listing.labels[files])
    among[[file for group in groups for file in group]] = False
    others = random.permutation(np.flatnonzero(among))[: MAX_FILES // 2]
    return np.array([*series, *[-1] * len(others)], np.int64), np.array([*files, *others], np.int64)


def _correlate_across(listing: Listing, pixels: Images, divided: Groups, between: float) -> bool:
    """Whether images of a series in different splits correlate: names may repeat in train and test by chance."""
    splits, pairs = listing.splits, []
    for one, *others in divided[:MAX_PAIRS]:
        pairs.append((one, next(other for other in others if splits[other] != splits[one])))
    return float(correlations(pixels, np.array(pairs)).mean()) - between >= MIN_GAIN


def _choose(listing: Listing, joined: Labels) -> str:
    """The first pattern that joins every series, and leaves two groups or more in every class; "" if none does."""
    series = _links(joined)
    for pattern in PATTERNS:
        numbers = connected_groups(len(listing), match_names(listing, pattern))
        counts = (len(set(numbers[listing.labels == label])) for label in range(len(listing.classes)))
        if all(len(set(numbers[some])) == 1 for some in series) and all(count > 1 for count in counts):
            return pattern
    return ""


def _links(joined: Labels) -> Groups:
    """The indices of files with the same number, for every number that occurs more than once."""
    order = np.argsort(joined, kind="stable")
    ends = np.flatnonzero(np.diff(joined[order])) + 1
    return [some.tolist() for some in np.split(order, ends) if len(some) > 1]
