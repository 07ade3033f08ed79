"""The preprocessing record: what turns any picture into the input of one network, alike in every runtime.

From decoded pixels to the network's uint8 array all arithmetic is on integers, so that every runtime gets the same
bits. `//` rounds down. Pixels are (h, w, k), k = 1 gray, 3 RGB, 4 RGBA.

1. Alpha. For a network of 1 or 3 channels, RGBA is laid over white: color = (c * a + 255 * (255 - a) + 127) // 255.
2. Color. For 1 channel, gray = (299 R + 587 G + 114 B + 500) // 1000 (ITU-R BT.601); for 3 and 4 channels gray is
   repeated; for 4 channels a missing alpha is 255.
3. Crop. With `fit` "crop", where w * H > h * W the columns from (w - w") // 2 on are kept, w" = max(1, h * W // H) of
   them, and where w * H < h * W the rows from (h - h") // 2 on, h" = max(1, w * H // W) of them.
4. Size. The picture keeps its shape inside height x width (H x W):
       where h * W <= H * w:  w' = W, h' = max(1, (2 * h * W + w) // (2 * w))
       else:                  h' = H, w' = max(1, (2 * w * H + h) // (2 * h))
   First the rows, n = h to m = h', then the columns, n = w to m = w', each rounded to uint8. For output i of m:
       weight of input j = max(0, 2 * max(n, m) - |(2i + 1) * n - (2j + 1) * m|)
       output i = (2 * S + T) // (2 * T), S = sum of weight * pixel, T = sum of the weights
   That is the triangle filter, widened when shrinking (antialiasing), renormalized at the ends; m = n changes nothing.
5. Polarity. For 1 channel and a polarity that is not mixed: v becomes 255 - v where the resized picture's border (its
   first and last row and column) is light, its median over 127, and the network's dark, or the other way round. Median
   here is the lower one: of k sorted values number (k - 1) // 2.
6. Place. (H - h') // 2 rows of `fill` go above and (W - w') // 2 columns to the left, the rest below and to the right.

For sides up to 2^20 float64, and so JavaScript's numbers, hold all of this exactly: when shrinking, at most 2n / m + 1
weights are not 0 and none is over 2n, so T <= 6 n^2 and 2 * S + T <= 511 T < 2^52; when enlarging T is smaller still.
Rounding down a float64 quotient is right too: what is not a whole number misses it by 1 / (2 * T) > 2^-44 at least.

Then network input = float32(pixel) * scale - mean, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from convscope.images.read import DecodedImage

Pixels = NDArray[np.uint8]
Polarity = Literal["dark", "light", "mixed"]
Side = Annotated[int, Field(ge=1, le=16_384)]

_GRAY = np.array([299, 587, 114], np.uint32)
_CHUNK = 2**22  # values worked on at a time: bounds the memory, whatever the size of the picture or the data set


class Preprocessing(BaseModel):
    """What every picture goes through before the network; measured on the training images, carried with the model.

    height, width: of the network's input, in pixels. channels: 1 gray, 3 RGB, 4 RGBA.
    fit: how a picture of another shape is brought in: "letterbox" keeps all of it and pads with `fill`, "crop" cuts off
    what is too wide or too high, alike on both sides.
    fill: color of the padding, 0..255 per channel.
    polarity: the background of 90 % or more of the training images: "dark" (below 64), "light" (over 191) or "mixed".
    scale, mean: per channel; network input = float32(pixel) * scale - mean.

    >>> images = np.zeros((10, 28, 28, 1), np.uint8)
    >>> images[:, 4:24, 12:16] = 255
    >>> record = Preprocessing.plain(images)
    >>> record.polarity, record.fill, record.mean
    ('dark', (0,), (0.0,))
    >>> photo = DecodedImage(np.full((480, 640, 3), 250, np.uint8))
    >>> pixels, notes = record.transform(photo)
    >>> pixels.shape, notes
    ((28, 28, 1), ('resized 640x480 -> 28x21', 'inverted because its background is light', 'letterboxed to 28x28'))
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: Side
    width: Side
    channels: Literal[1, 3, 4]
    fit: Literal["letterbox", "crop"] = "letterbox"
    fill: tuple[Annotated[int, Field(ge=0, le=255)], ...]
    polarity: Polarity
    scale: tuple[float, ...]
    mean: tuple[float, ...]

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Self:
        for name in ("fill", "scale", "mean"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(f"expected {self.channels} values in {name}, one per channel")
        return self

    @classmethod
    def plain(cls, images: Pixels) -> Self:
        """Values 0..1 (article, A11: divide by 255). images: uint8 (n, h, w, c), the training images."""
        channels = images.shape[3]
        return cls._measured(images, _histogram(images), np.full(channels, 1 / 255), np.zeros(channels))

    @classmethod
    def standardized(cls, images: Pixels) -> Self:
        """Mean 0 and standard deviation 1 per channel over the training images, uint8 (n, h, w, c).

        A channel that never changes has no standard deviation; it becomes 0.
        """
        counts = _histogram(images)
        mean = _mean(counts) / 255
        distances = np.arange(256) / 255 - mean[:, None]  # (c, 256)
        std = np.sqrt((counts * distances**2).sum(axis=1) / counts.sum(axis=1))
        std[np.count_nonzero(counts, axis=1) == 1] = 1
        return cls._measured(images, counts, 1 / (255 * std), mean / std)

    @classmethod
    def _measured(
        cls, images: Pixels, counts: NDArray[np.int64], scale: NDArray[np.float64], mean: NDArray[np.float64]
    ) -> Self:
        borders = np.concatenate([_border(chunk) for chunk in _chunks(images)])  # (n, c)
        polarity = _polarity(borders)
        fill = np.floor(_mean(counts) + 0.5) if polarity == "mixed" else _lower_median(borders)
        return cls(
            height=images.shape[1],
            width=images.shape[2],
            channels=images.shape[3],
            fill=tuple(fill.astype(int).tolist()),
            polarity=polarity,
            scale=tuple(scale.tolist()),
            mean=tuple(mean.tolist()),
        )

    def transform(self, picture: DecodedImage) -> tuple[Pixels, tuple[str, ...]]:
        """The picture as the network's uint8 array (height, width, channels), by the algorithm this module opens with.

        The notes are the picture's own and one per step that altered what it shows; a picture that fits has none.
        """
        notes = list(picture.notes)
        pixels = self._in_channels(picture.pixels, notes)
        pixels = self._in_polarity(self._in_size(self._cropped(pixels, notes), notes), notes)
        if pixels.shape[:2] != (self.height, self.width):
            notes.append(f"letterboxed to {self.width}x{self.height}")
        return self._placed(pixels), tuple(notes)

    def normalize(self, images: Pixels) -> NDArray[np.float32]:
        """The network's input, float32 (n, h, w, c), channels last, of uint8 (n, h, w, c)."""
        values = images.astype(np.float32)
        values *= np.array(self.scale, np.float32)
        values -= np.array(self.mean, np.float32)
        return values

    @property
    def table(self) -> NDArray[np.float32]:
        """What each pixel value becomes in the network's input: float32 (256, c)."""
        values = np.arange(256, dtype=np.uint8)[None, :, None, None]
        return self.normalize(np.repeat(values, self.channels, axis=3))[0, :, 0]

    def _in_channels(self, pixels: Pixels, notes: list[str]) -> Pixels:
        if self.channels < 4 and pixels.shape[2] == 4:
            if pixels[..., 3].min() < 255:
                notes.append("transparency laid over white")
            pixels = over_white(pixels)
        if self.channels == 1 and pixels.shape[2] == 3:
            colored, pixels = pixels, gray(pixels)
            if (colored != pixels).any():
                notes.append("made gray")
        if self.channels > 1 and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        if self.channels == 4 and pixels.shape[2] == 3:
            pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
        return pixels

    def _cropped(self, pixels: Pixels, notes: list[str]) -> Pixels:
        height, width = pixels.shape[:2]
        if self.fit != "crop":
            return pixels
        columns = max(1, height * self.width // self.height) if width * self.height > height * self.width else width
        rows = max(1, width * self.height // self.width) if width * self.height < height * self.width else height
        if (rows, columns) == (height, width):
            return pixels
        notes.append(f"cropped {width}x{height} -> {columns}x{rows}")
        top, left = (height - rows) // 2, (width - columns) // 2
        return pixels[top : top + rows, left : left + columns]

    def _in_size(self, pixels: Pixels, notes: list[str]) -> Pixels:
        height, width = pixels.shape[:2]
        rows, columns = _fitting(height, width, self.height, self.width)
        if (rows, columns) != (height, width):
            notes.append(f"resized {width}x{height} -> {columns}x{rows}")
        return resize(pixels, rows, columns)

    def _in_polarity(self, pixels: Pixels, notes: list[str]) -> Pixels:
        if self.channels > 1 or self.polarity == "mixed":
            return pixels
        background = "light" if _border(pixels[None])[0, 0] > 127 else "dark"
        if background == self.polarity:
            return pixels
        notes.append(f"inverted because its background is {background}")
        return 255 - pixels

    def _placed(self, pixels: Pixels) -> Pixels:
        rows, columns = pixels.shape[:2]
        top, left = (self.height - rows) // 2, (self.width - columns) // 2
        placed = np.empty((self.height, self.width, self.channels), np.uint8)
        placed[:] = self.fill
        placed[top : top + rows, left : left + columns] = pixels
        return placed


def over_white(pixels: Pixels) -> Pixels:
    """RGBA uint8 (h, w, 4) laid over white: RGB uint8 (h, w, 3).

    >>> over_white(np.array([[[0, 100, 200, 128]]], np.uint8)).tolist()
    [[[127, 177, 227]]]
    """

    def step(rows: Pixels) -> Pixels:
        color, alpha = rows[..., :3].astype(np.uint16), rows[..., 3:].astype(np.uint16)
        return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)  # at most 65,152

    return _by_rows(step, pixels, 3)


def gray(pixels: Pixels) -> Pixels:
    """The brightness (ITU-R BT.601) of RGB uint8 (h, w, 3): uint8 (h, w, 1).

    >>> gray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))[0, :, 0]
    array([ 76, 150,  29], dtype=uint8)
    """

    def step(rows: Pixels) -> Pixels:
        return ((rows.astype(np.uint32) @ _GRAY + 500) // 1000).astype(np.uint8)[..., None]

    return _by_rows(step, pixels, 1)


def _by_rows(step: Callable[[Pixels], Pixels], pixels: Pixels, channels: int) -> Pixels:
    height, width = pixels.shape[:2]
    out = np.empty((height, width, channels), np.uint8)
    count = max(1, _CHUNK // (16 * width))
    for start in range(0, height, count):
        out[start : start + count] = step(pixels[start : start + count])
    return out


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """uint8 (h, w, c) -> uint8 (height, width, c), step 4 of the algorithm; sides up to 2^20.

    >>> resize(np.array([[[0], [100], [200], [40]]], np.uint8), 1, 2)[..., 0]
    array([[ 71, 117]], dtype=uint8)
    """
    return _resize_rows(_resize_rows(pixels, height).swapaxes(0, 1), width).swapaxes(0, 1)


def _resize_rows(pixels: Pixels, m: int) -> Pixels:
    n, *rest = pixels.shape
    if m == n:
        return pixels
    k = int(np.prod(rest))
    sums, totals = np.zeros((m, k)), np.zeros((m, 1), np.int64)
    count = max(1, _CHUNK // (4 * max(k, m)))
    for start in range(0, n, count):
        rows = pixels[start : start + count].reshape(-1, k).astype(np.float64)
        reached, weights, parts = _weights(n, m, start, len(rows))
        sums[reached] += weights @ rows
        totals[reached] += parts
    return ((2 * sums.astype(np.int64) + totals) // (2 * totals)).astype(np.uint8).reshape(m, *rest)


@lru_cache(8)  # pictures of one size follow each other
def _weights(n: int, m: int, start: int, count: int) -> tuple[slice, NDArray[np.float64], NDArray[np.int64]]:
    """Which of m outputs the inputs from `start` on reach, with what weights (outputs, count), and these summed."""
    positions = (2 * np.arange(start, start + count) + 1) * m
    centers = (2 * np.arange(m) + 1) * n
    weights = np.maximum(0, 2 * max(n, m) - abs(centers[:, None] - positions))
    reached = np.flatnonzero(weights.any(axis=1))
    whole = slice(reached[0], reached[-1] + 1)
    return whole, weights[whole].astype(np.float64), weights[whole].sum(axis=1, keepdims=True)


def _fitting(height: int, width: int, most_rows: int, most_columns: int) -> tuple[int, int]:
    if height * most_columns <= most_rows * width:
        return max(1, (2 * height * most_columns + width) // (2 * width)), most_columns
    return most_rows, max(1, (2 * width * most_rows + height) // (2 * height))


def _border(images: Pixels) -> Pixels:
    """The lower median color (n, c) of each image's first and last row and column; images (n, h, w, c)."""
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    return _lower_median(images[:, edge], axis=1)


def _lower_median(values: Pixels, axis: int = 0) -> Pixels:
    """Of k values along the axis, sorted, number (k - 1) // 2."""
    middle = (values.shape[axis] - 1) // 2
    median: Pixels = np.partition(values, middle, axis).take(middle, axis)
    return median


def _polarity(borders: Pixels) -> Polarity:
    colors = borders[:, None]  # (n, 1, c), read as a picture one pixel wide
    if borders.shape[1] == 4:
        colors = over_white(colors)
    return polarity_of(gray(colors) if colors.shape[2] == 3 else colors)


def polarity_of(brightness: Pixels) -> Polarity:
    """The background of 90 % or more of the images whose borders are so bright, 0..255.

    >>> polarity_of(np.array([250, 255, 240], np.uint8))
    'light'
    """
    if (brightness < 64).mean() >= 0.9:
        return "dark"
    return "light" if (brightness > 191).mean() >= 0.9 else "mixed"


def _histogram(images: Pixels) -> NDArray[np.int64]:
    """How often each value 0..255 comes, (c, 256)."""
    channels = images.shape[3]
    counts = np.zeros((channels, 256), np.int64)
    for chunk in _chunks(images, _CHUNK // 16):
        for channel in range(channels):
            values = chunk[..., channel].ravel()
            odd = len(values) % 2
            # Two values at a time: bincount makes an int64 of each number it counts.
            pairs = np.bincount(values[odd:].view(np.uint16), minlength=2**16).reshape(256, 256)
            counts[channel] += pairs.sum(axis=0) + pairs.sum(axis=1)
            counts[channel, values[:odd]] += 1
    return counts


def _mean(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = counts @ np.arange(256) / counts.sum(axis=1)
    return mean


def _chunks(images: Pixels, values: int = _CHUNK) -> Iterator[Pixels]:
    count = max(1, values // images[0].size)
    for start in range(0, len(images), count):
        yield images[start : start + count]
