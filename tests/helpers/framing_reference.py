"""docs/framing.md in plain Python lists and integers: what another runtime has to do, and the oracle of the tests."""

from __future__ import annotations

from collections.abc import Callable

Rows = list[list[int]]
Frame = dict[str, int]


def quantile(values: list[int], a: int, b: int) -> int:
    return sorted(values)[(len(values) - 1) * a // b]


def otsu(values: list[int]) -> int:
    best, found = -1, 255
    n = len(values)
    for t in range(255):
        low, high = [v for v in values if v <= t], [v for v in values if v > t]
        if low and high:
            distance = 16 * sum(high) // len(high) - 16 * sum(low) // len(low)
            between = (16384 * len(low) // n) * (16384 * len(high) // n) * distance**2
            if between > best:
                best, found = between, t
    return found


def flat(image: Rows) -> list[int]:
    return [v for row in image for v in row]


def each(image: Rows, change: Callable[[int], int]) -> Rows:
    return [[change(v) for v in row] for row in image]


def transposed(image: Rows) -> Rows:
    return [list(column) for column in zip(*image, strict=True)]


def windows(image: Rows, r: int, choose: Callable[[list[int]], int]) -> Rows:
    """min or max over all full windows of 2r + 1 rows and columns."""
    for _ in range(2):
        image = transposed([[choose(row[i - r : i + r + 1]) for i in range(r, len(row) - r)] for row in image])
    return image


def extended(image: Rows, r: int) -> Rows:
    rows = [[row[0]] * r + row + [row[-1]] * r for row in image]
    return [rows[0]] * r + rows + [rows[-1]] * r


def opening(image: Rows, r: int) -> Rows:
    return windows(windows(extended(image, 2 * r), r, min), r, max)


def dilated(image: Rows, r: int) -> Rows:
    return windows(extended(image, r), r, max)


def resized(image: Rows, height: int, width: int) -> Rows:
    """Step 4 of the preprocessing, for a size that is known."""
    for m in (height, width):
        n = len(image)
        if m != n:
            weights = [
                [max(0, 2 * max(n, m) - abs((2 * i + 1) * n - (2 * j + 1) * m)) for j in range(n)] for i in range(m)
            ]
            image = [
                [
                    (2 * sum(w * v for w, v in zip(ws, column, strict=True)) + sum(ws)) // (2 * sum(ws))
                    for column in transposed(image)
                ]
                for ws in weights
            ]
        image = transposed(image)
    return image


def fitted(image: Rows, limit: int) -> Rows:
    h, w = len(image), len(image[0])
    if h <= w:
        return resized(image, max(1, (2 * h * limit + w) // (2 * w)), limit)
    return resized(image, limit, max(1, (2 * w * limit + h) // (2 * h)))


def border(image: Rows) -> list[int]:
    inner = [v for row in image[1:-1] for v in (row[:1] + row[1:][-1:])]
    return image[0] + image[1:][-1:][0] + inner if len(image) > 1 else image[0]


def borders(image: Rows) -> list[Rows]:
    """Step 2: what may be border, as rows of 0 and 1."""
    values = flat(image)
    t = otsu(values)
    low, high = [v for v in values if v <= t], [v for v in values if v > t]
    levels = (t, *(otsu(part) for part in (low, high) if part))
    middle = quantile(border(image), 1, 2)
    sides = [[[int((v > level) == light) for v in row] for row in image] for level in levels for light in (False, True)]
    return [each(image, lambda v: int(abs(v - middle) <= 24)), *sides]


def inside(image: Rows) -> tuple[int, int, int, int] | None:
    """Step 2: the rectangle inside borders: top, bottom, left, right."""
    y, x, found = 0, 0, None
    for _ in range(3):
        cut = next(filter(None, map(rectangle, borders(image))), None)
        if cut is None:
            break
        top, bottom, left, right = cut
        image = [row[left:right] for row in image[top:bottom]]
        found = y + top, y + bottom, x + left, x + right
        y, x = y + top, x + left
    return found


def cropped(image: Rows, box: tuple[int, int, int, int]) -> Rows:
    return [row[box[2] : box[3]] for row in image[box[0] : box[1]]]


def components(points: set[tuple[int, int]]) -> list[set[tuple[int, int]]]:
    """Points that touch at sides or corners, in the order of their first rows and columns."""
    waiting, parts = set(points), []
    while waiting:
        front = [min(waiting)]
        part: set[tuple[int, int]] = set()
        waiting -= set(front)
        while front:
            y, x = front.pop()
            part.add((y, x))
            around = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & waiting
            waiting -= around
            front += around
        parts.append(part)
    return parts


def sheet(image: Rows) -> Rows | None:
    """Step 2: the sheet that surroundings enclose."""
    h, w = len(image), len(image[0])
    points = {(y, x) for y in range(h) for x in range(w)}
    for mask in borders(image):
        if 2 * sum(border(mask)) < len(border(mask)):
            continue
        marked = {(y, x) for y, x in points if mask[y][x]}
        outside: set[tuple[int, int]] = set()
        for part in components(marked):
            if any(y in (0, h - 1) or x in (0, w - 1) for y, x in part):
                outside |= part
        parts = components(points - outside)
        if not parts:
            continue
        best = max(parts, key=len)
        ys, xs = [y for y, _ in best], [x for _, x in best]
        top, bottom, left, right = min(ys), max(ys) + 1, min(xs), max(xs) + 1
        ink = len(best & marked)
        if 8 * len(best) < h * w or min(bottom - top, right - left) < 8 or not 100 * ink >= len(best) >= 4 * ink:
            continue
        areas = []
        for k in range(-16, 17):
            u, v = [k * y + 16 * x for y, x in best], [16 * y - k * x for y, x in best]
            areas.append((max(u) - min(u) + 16) * (max(v) - min(v) + 16) // (256 + k * k))
        if 100 * len(best) < 90 * min(areas):
            continue
        paper = quantile([image[y][x] for y, x in best - marked], 1, 2)
        near = dilated([[int((y, x) not in best) for x in range(w)] for y in range(h)], 2)
        return [[paper if near[y][x] else image[y][x] for x in range(left, right)] for y in range(top, bottom)]
    return None


def rectangle(mask: Rows) -> tuple[int, int, int, int] | None:
    h, w = len(mask), len(mask[0])
    rows = [y for y in range(h) if 10 * sum(mask[y]) < 9 * w]
    columns = [x for x, column in enumerate(transposed(mask)) if 10 * sum(column) < 9 * h]
    if not rows or not columns:
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if (top, bottom, left, right) == (0, h, 0, w):
        return None
    top, bottom, left, right = top + (top > 0), bottom - (bottom < h), left + (left > 0), right - (right < w)
    if 8 * (bottom - top) * (right - left) < h * w or min(bottom - top, right - left) < 8:
        return None
    part = [row[left:right] for row in mask[top:bottom]]
    turned = transposed(part)
    if any(10 * sum(edge) > len(edge) for edge in (part[0], part[-1], turned[0], turned[-1])):
        return None
    return top, bottom, left, right


def ink_is_dark(image: Rows, r: int) -> bool:
    """Step 3: polarity."""
    h, w = len(image), len(image[0])
    cubes = absolute = 0
    for y in range(h):
        for x in range(w):
            near = flat([row[max(0, x - r) : x + r + 1] for row in image[max(0, y - r) : y + r + 1]])
            d = image[y][x] - (2 * sum(near) + len(near)) // (2 * len(near))
            cubes, absolute = cubes + d**3, absolute + abs(d) ** 3
    t, edge = otsu(flat(image)), border(image)
    light = sum(flat(image)) - sum(flat(opening(image, r)))
    dark = sum(255 - v for v in flat(opening(each(image, lambda v: 255 - v), r))) - sum(flat(image))
    score = -1000 * cubes // (absolute + 1) + 2000 * sum(v > t for v in edge) // len(edge) - 1000
    return score + 500 * (dark - light) // (dark + light + 1) > 0


def strokes(image: Rows) -> Rows | None:
    """Steps 3 to 6: levels of ink, cut to their bounding box."""
    h, w = len(image), len(image[0])
    r = max(1, max(h, w) // 4)
    if ink_is_dark(image, r):
        image = each(image, lambda v: 255 - v)
    u = [[v - o for v, o in zip(*rows, strict=True)] for rows in zip(image, opening(image, r), strict=True)]
    values = flat(u)
    t = otsu(values)
    for _ in range(2):
        paper = [v for v in values if v <= t]
        base = quantile(paper, 1, 2)
        noise = base - quantile(paper, 1, 10)
        t = max(t, base + 4 * noise)
    ink = [v for v in values if v > t]
    if not ink or quantile(ink, 1, 2) - base < 8:
        return None
    contrast = quantile(ink, 1, 2) - base
    levels = each(u, lambda v: min(255, max(0, (v - base) * 255 // contrast)))
    near = dilated(each(u, lambda v: int(v > t)), max(2, max(h, w) // 40))
    faint = base + max(contrast // 8, 2 * noise)
    parts = components({(y, x) for y in range(h) for x in range(w) if u[y][x] > faint and near[y][x]})
    parts = [part for part in parts if any(u[y][x] > t for y, x in part)]
    others = [part for part in parts if not is_line(part, h, w)]
    all_masses, masses = ([sum(levels[y][x] for y, x in part) for part in some] for some in (parts, others))
    if 8 * max(masses, default=0) >= max(all_masses):
        parts = others
    else:
        masses = all_masses
    kept = set().union(*(part for part, mass in zip(parts, masses, strict=True) if mass * 16 >= max(masses)))
    levels = [[levels[y][x] if (y, x) in kept else 0 for x in range(w)] for y in range(h)]
    rows = [y for y in range(h) if any(levels[y])]
    columns = [x for x, column in enumerate(transposed(levels)) if any(column)]
    return [row[columns[0] : columns[-1] + 1] for row in levels[rows[0] : rows[-1] + 1]]


def is_line(part: set[tuple[int, int]], h: int, w: int) -> bool:
    """Step 6: lines, boxes and grids."""
    ys, xs = [y for y, _ in part], [x for _, x in part]
    rows, columns = max(ys) - min(ys) + 1, max(xs) - min(xs) + 1
    middle = any(h // 4 <= y < h - h // 4 and w // 4 <= x < w - w // 4 for y, x in part)
    return (8 * rows >= 7 * h or 8 * columns >= 7 * w) and (8 * rows <= h or 8 * columns <= w or not middle)


def width(levels: Rows) -> int:
    edges = sum(abs(a - b) for rows in (levels, transposed(levels)) for row in rows
                for a, b in zip([0, *row], [*row, 0], strict=True))  # fmt: skip
    return 512 * sum(flat(levels)) // max(1, edges)


def full_ink(levels: Rows) -> Rows:
    values = flat(levels)
    t = otsu(values)
    q = max(1, quantile([v for v in values if v > t] or values, 1, 2))
    return each(levels, lambda v: min(255, v * 255 // q))


def scaled(box: Rows, side: int, stroke: int) -> Rows:
    levels = full_ink(fitted(box, side))
    before, after = max(len(box), len(box[0])), max(len(levels), len(levels[0]))
    if before < after:
        sharp = [
            each(levels, lambda v, c=c: min(255, max(0, (v - c) * after // before + c)))  # type: ignore[misc]
            for c in range(128, 209, 16)
        ]
        return min(sharp, key=lambda one: abs(width(one) - stroke))
    missing = stroke - width(levels)
    r = missing * before // (512 * after)
    if r < 1 or 4 * missing <= stroke:
        return levels
    zeros = [[0] * (len(box[0]) + 2 * r)] * r
    padded = zeros + [[0] * r + row + [0] * r for row in box] + zeros
    return full_ink(fitted(dilated(padded, r), side))


def framed(image: Rows, frame: Frame, height: int, width_: int) -> Rows | None:
    """An image in the frame, light ink on black; None if it has no ink."""
    if max(len(image), len(image[0])) > 160:
        image = fitted(image, 160)
    cut = inside(image)
    box = strokes(cropped(image, cut)) if cut else None
    if box is None and (part := sheet(image)):
        box = strokes(part)
    box = box or strokes(image)
    if box is None:
        return None
    levels = scaled(box, frame["side"], frame["stroke"])
    mass = max(1, sum(flat(levels)))
    start = []
    for name, part, size in (("row", levels, height), ("column", transposed(levels), width_)):
        moment = sum(i * sum(line) for i, line in enumerate(part))
        first = (2 * (frame[name] * mass - 256 * moment) + 256 * mass) // (512 * mass)
        start.append(min(max(0, first), size - len(part)))
    result = [[0] * width_ for _ in range(height)]
    for y, row in enumerate(levels):
        for x, v in enumerate(row):
            result[start[0] + y][start[1] + x] = v * frame["ink"] // 255
    return result


def without_surroundings(image: Rows, fills: bool) -> Rows:
    """Step 2a of the preprocessing."""
    h, w = len(image), len(image[0])
    small = fitted(image, 160) if max(h, w) > 160 else image
    whole = 0, len(small), 0, len(small[0])
    box = inside(small) or whole
    part = cropped(small, box)
    contrast = quantile(flat(part), 19, 20) - quantile(flat(part), 1, 20)
    if 4 * contrast < abs(quantile(border(small), 1, 2) - quantile(border(part), 1, 2)):
        box, part = whole, small
    if fills:
        b = quantile(border(part), 1, 2)
        distances = each(part, lambda v: abs(v - b))
        limit = max(16, max(flat(distances)) // 8)
        ys = [y for y, row in enumerate(distances) if max(row) > limit]
        xs = [x for x, column in enumerate(transposed(distances)) if max(column) > limit]
        if ys and 8 * max(ys[-1] - ys[0] + 1, xs[-1] - xs[0] + 1) < 7 * max(len(part), len(part[0])):
            box = box[0] + ys[0], box[0] + ys[-1] + 1, box[2] + xs[0], box[2] + xs[-1] + 1
    if box == whole:
        return image
    (top, bottom), (left, right) = (
        (p * n // m, max(p * n // m + 1, q * n // m))
        for p, q, n, m in ((box[0], box[1], h, len(small)), (box[2], box[3], w, len(small[0])))
    )
    return cropped(image, (top, bottom, left, right))


def stretched(image: Rows, level: int) -> Rows:
    """Step 5a of the preprocessing, light on black."""
    b = quantile(border(image), 1, 2)
    contrast = quantile(flat(image), 99, 100) - b
    if b <= level or 2 * quantile(flat(image), 1, 20) < b or contrast < 8:
        return image
    return each(image, lambda v: min(255, max(0, (v - b) * 255 // contrast)))
