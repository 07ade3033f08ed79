"""The preprocessing record: turns any image into the input of one network, bit for bit the same in every runtime.

From decoded pixels to the network's uint8 array all arithmetic is on integers, so that every runtime computes the same
bits. `//` rounds down. Pixels are (h, w, k) with k = 1 gray, 3 RGB or 4 RGBA.

0. Depth, only for gray files of 16 bits: v becomes (min(max(v, low), high) - low) * 256 // (high - low + 1), with low
   and high from `uint16_range`. For the full range that is the high byte.
1. Alpha. For a network of 1 or 3 channels, RGBA is composited over white:
   color = (c * a + 255 * (255 - a) + 127) // 255.
2. Color. For 1 channel, gray = (299 R + 587 G + 114 B + 500) // 1000 (ITU-R BT.601). For 3 and 4 channels gray is
   repeated. For 4 channels a missing alpha is 255.
2a. Surroundings, only if the record has a `background` and the image is not of size H x W: a border around the image
   and a margin around its subject are cut off; docs/framing.md has the steps.
3. Crop, only if `fit` is "crop". If w * H > h * W, the w" = max(1, h * W // H) columns from (w - w") // 2 on are kept.
   If w * H < h * W, the h" = max(1, w * H // W) rows from (h - h") // 2 on are kept.
4. Resize. If `fit` is "stretch", h' = H and w' = W. Otherwise the image keeps its aspect ratio inside H x W:
       if h * W <= H * w:  w' = W, h' = max(1, (2 * h * W + w) // (2 * w))
       else:               h' = H, w' = max(1, (2 * w * H + h) // (2 * h))
   First the rows, n = h to m = h', then the columns, n = w to m = w', each rounded to uint8. For output i of m:
       weight of input j = max(0, 2 * max(n, m) - |(2i + 1) * n - (2j + 1) * m|)
       output i = (2 * S + T) // (2 * T), S = sum of weight * pixel, T = sum of the weights
   This is the triangle filter, widened when shrinking (antialiasing) and renormalized at the ends; m = n changes
   nothing.
5. Polarity, only for 1 channel and a polarity that is not mixed. v becomes 255 - v if the background of the resized
   image (if step 2a cut a margin, of the part that had it) is light and the network's polarity dark, or vice versa. The
   background is the median of the border (first and last row and column); the median is the lower one: number
   (k - 1) // 2 of k sorted values. It is light if it exceeds the threshold that separates the image's light from its
   dark values best (`otsu_threshold`), or 127 if all values are equal.
5a. Contrast, only if the record has a `background`; docs/framing.md has the steps.
6. Pad. (H - h') // 2 rows of `fill` go above and (W - w') // 2 columns to the left, the rest below and to the right.
7. Frame, only if the record has a `frame`. If the result is not in the frame, with or without step 5, the ink of
   the image after step 2 is drawn in the frame instead of steps 3 to 6; docs/framing.md has the steps.

A record whose `fit` is "stretch" has neither `frame` nor `background`: both are measured on training images that keep
their aspect ratio, and say nothing about stretched ones. Polarity (step 5) is that of the stretched image.

For sides up to 2^20 float64, and so JavaScript's numbers, hold all of this exactly: when shrinking, at most 2n / m + 1
weights are not 0 and none exceeds 2n, so T <= 6 n^2 and 2 * S + T <= 511 T < 2^52; when enlarging T is smaller still.
Rounding down a float64 quotient is exact too: a quotient that is no whole number misses it by at least
1 / (2 * T) > 2^-44.

Then network input = float32(pixel) * scale - mean, in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from convscope._records import Record
from convscope.images.color import convert_channels
from convscope.images.comparison import TypicalImages
from convscope.images.depth import FULL_RANGE
from convscope.images.fit import DEFAULT_FIT, Fit
from convscope.images.framing.background import Background
from convscope.images.framing.frame import Frame
from convscope.images.framing.ink import Ink, find_ink
from convscope.images.read import DecodedImage
from convscope.images.resize import fit_inside, resize
from convscope.images.statistics import (
    Polarity,
    border_colors,
    has_light_background,
    histogram,
    histogram_mean,
    lower_median,
    polarity_of_colors,
)

Pixels = NDArray[np.uint8]
_FRAMED_NOTE = "framed as in the training images"
_INVERTED_NOTE = "inverted because"

Value16 = Annotated[int, Field(ge=0, le=65535)]
Side = Annotated[int, Field(ge=1, le=16_384)]


class Preprocessing(Record):
    """Everything that happens to an image before the network; measured on the training images, stored with the model.

    Attributes:
        height: height of the network's input, in pixels.
        width: width of the network's input, in pixels.
        channels: 1 gray, 3 RGB, 4 RGBA.
        fit: how an image of another aspect ratio is fitted in: "letterbox" keeps the whole image and pads it with
            `fill`, "crop" cuts the longer side equally at both ends, "stretch" resizes rows and columns independently.
        fill: color of the padding, 0..255 per channel.
        polarity: the background of 90 % or more of the training images: "dark" (below 64), "light" (over 191) or
            "mixed".
        frame: where all training images show their ink, and how large; None if they do not share a frame.
        background: what surrounds the subjects of the training images; None for colors, a mixed polarity, and a frame.
        typical: how bright, rich in contrast and so on the training images are; None if that was not measured.
        uint16_range: the gray values of 16-bit files that are mapped to 0..255, for example 0..4095 for 12 bits.
        scale: one factor per channel, see `mean`.
        mean: one number per channel: network input = float32(pixel) * scale - mean.

    >>> images = np.zeros((10, 28, 28, 1), np.uint8)
    >>> images[:, 4:24, 12:16] = 255
    >>> record = Preprocessing.plain(images)
    >>> image = DecodedImage(np.full((480, 640, 3), 250, np.uint8))
    >>> pixels, notes = record.transform(image)
    >>> pixels.shape, notes
    ((28, 28, 1), ('resized 640x480 -> 28x21', 'inverted because its background is light', 'letterboxed to 28x28'))
    """

    height: Side
    width: Side
    channels: Literal[1, 3, 4]
    fit: Fit = DEFAULT_FIT
    fill: tuple[Annotated[int, Field(ge=0, le=255)], ...]
    polarity: Polarity
    frame: Frame | None = None
    background: Background | None = None
    uint16_range: tuple[Value16, Value16] = FULL_RANGE
    typical: TypicalImages | None = None
    scale: tuple[float, ...]
    mean: tuple[float, ...]

    @model_validator(mode="after")
    def _check_one_value_per_channel(self) -> Self:
        for name in ("fill", "scale", "mean"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(f"expected {self.channels} values in {name}, one per channel")
        if self.uint16_range[0] > self.uint16_range[1]:
            raise ValueError(f"expected a lower and an upper value in uint16_range, got {self.uint16_range}")
        return self

    @model_validator(mode="after")
    def _check_stretched_images_share_nothing(self) -> Self:
        if self.fit == "stretch" and (self.frame or self.background):
            raise ValueError("expected neither frame nor background with fit 'stretch', which changes aspect ratios")
        return self

    @classmethod
    def plain(cls, images: Pixels) -> Self:
        """Scale the training images, uint8 (n, h, w, c), to 0..1 (article, A11: divide by 255)."""
        channels = images.shape[3]
        return cls._measured(images, histogram(images), np.full(channels, 1 / 255), np.zeros(channels))

    @classmethod
    def standardized(cls, images: Pixels) -> Self:
        """Scale the training images, uint8 (n, h, w, c), to mean 0 and standard deviation 1 per channel.

        A constant channel, which has no standard deviation, becomes 0.
        """
        counts = histogram(images)
        mean = histogram_mean(counts) / 255
        distances = np.arange(256) / 255 - mean[:, None]  # (c, 256)
        std = np.sqrt((counts * distances**2).sum(axis=1) / counts.sum(axis=1))
        std[np.count_nonzero(counts, axis=1) == 1] = 1
        return cls._measured(images, counts, 1 / (255 * std), mean / std)

    @classmethod
    def _measured(
        cls, images: Pixels, counts: NDArray[np.int64], scale: NDArray[np.float64], mean: NDArray[np.float64]
    ) -> Self:
        """The record of images with these histograms, (c, 256), and this normalization, (c,)."""
        borders = border_colors(images)
        polarity = polarity_of_colors(borders)
        frame, background = _frame_or_background(images, polarity)
        fill = np.floor(histogram_mean(counts) + 0.5) if polarity == "mixed" else lower_median(borders)
        return cls(
            height=images.shape[1],
            width=images.shape[2],
            channels=images.shape[3],
            fill=tuple(fill.astype(int).tolist()),
            polarity=polarity,
            frame=frame,
            background=background,
            typical=TypicalImages.measure(images),
            scale=tuple(scale.tolist()),
            mean=tuple(mean.tolist()),
        )

    def transform(self, image: DecodedImage) -> tuple[Pixels, tuple[str, ...]]:
        """Apply the algorithm in the module's docstring.

        Returns:
            The network's uint8 array (height, width, channels), and notes: those of the image and one for each step
            that changed what the image shows.
        """
        image = image.with_range(*self.uint16_range)
        notes = list(image.notes)
        pixels = convert_channels(image.pixels, self.channels, notes)
        fitted, fitted_notes = self._fit(pixels)
        if self.frame is not None and not self._is_framed(fitted, self.frame):
            ink = find_ink(pixels[..., 0])
            if ink is not None:
                return self._place(ink, self.frame), (*notes, *self._framing_notes(ink, self.frame))
        return fitted, (*notes, *fitted_notes)

    def transform_each(self, images: Iterable[DecodedImage]) -> list[tuple[Pixels, tuple[str, ...]]]:
        """`transform` for several images; those of the network's size that nothing changes are fast."""
        results: list[tuple[Pixels, tuple[str, ...]]] = []
        same_size: dict[int, DecodedImage] = {}
        for image in images:
            if image.pixels.shape == (self.height, self.width, self.channels) and image.deep is None:
                same_size[len(results)] = image
                results.append((image.pixels, image.notes))
            else:
                results.append(self.transform(image))
        if same_size:
            stays = self._stay(np.stack([image.pixels for image in same_size.values()]))
            for (i, image), stay in zip(same_size.items(), stays.tolist(), strict=True):
                results[i] = results[i] if stay else self.transform(image)
        return results

    def _stay(self, images: Pixels) -> NDArray[np.bool_]:
        """Which images of the network's size, uint8 (n, h, w, c), no step changes; some of these may be left out."""
        if self.channels > 1 or self.polarity == "mixed":
            return np.ones(len(images), bool)
        light = _light_on_black(images[..., 0], self.polarity)
        borders, lowest = _light_on_black(border_colors(images)[:, 0], self.polarity), light.min(axis=(1, 2))
        stay: NDArray[np.bool_] = (borders == lowest) & ((borders < 128) | (lowest < light.max(axis=(1, 2))))
        if self.background is not None:
            stay &= border_colors(light[..., None])[:, 0] <= self.background.level
        return stay & self.frame.contains_each(light) if self.frame is not None else stay

    def normalize(self, images: Pixels) -> NDArray[np.float32]:
        """Convert uint8 (n, h, w, c) to the network's input, float32 (n, h, w, c)."""
        values = images.astype(np.float32)
        values *= np.array(self.scale, np.float32)
        values -= np.array(self.mean, np.float32)
        return values

    @property
    def table(self) -> NDArray[np.float32]:
        """The network's input for each pixel value: float32 (256, c)."""
        values = np.arange(256, dtype=np.uint8)[None, :, None, None]
        return self.normalize(np.repeat(values, self.channels, axis=3))[0, :, 0]

    def _crop(self, pixels: Pixels, notes: list[str]) -> Pixels:
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

    def _resize(self, pixels: Pixels, notes: list[str]) -> Pixels:
        height, width = pixels.shape[:2]
        rows, columns = self.height, self.width
        if self.fit != "stretch":
            rows, columns = fit_inside(height, width, rows, columns)
        if (rows, columns) != (height, width):
            notes.append(f"resized {width}x{height} -> {columns}x{rows}")
        return resize(pixels, rows, columns)

    def _fit(self, pixels: Pixels) -> tuple[Pixels, list[str]]:
        """Steps 3 to 6, and notes on them."""
        notes: list[str] = []
        pixels, around = self._cut_surroundings(pixels, notes)
        pixels = self._resize(self._crop(pixels, notes), notes)
        if around is None:
            around = pixels
        if background := self._other_polarity(around):
            notes.append(f"{_INVERTED_NOTE} its background is {background}")
            pixels, around = 255 - pixels, 255 - around
        pixels = self._stretch_contrast(pixels, around, notes)
        if pixels.shape[:2] != (self.height, self.width):
            notes.append(f"letterboxed to {self.width}x{self.height}")
        return self._pad(pixels), notes

    def _other_polarity(self, around: Pixels) -> str:
        """The background of an image if it is not that of the training images; else ""."""
        if self.channels > 1 or self.polarity == "mixed":
            return ""
        background = "light" if has_light_background(around[..., 0]) else "dark"
        return "" if background == self.polarity else background

    def _cut_surroundings(self, pixels: Pixels, notes: list[str]) -> tuple[Pixels, Pixels | None]:
        """The subject, and what shows its background if a margin was cut."""
        is_foreign = pixels.shape[:2] != (self.height, self.width)
        subject = self.background.crop(pixels[..., 0]) if self.background and is_foreign else None
        if subject is None:
            return pixels, None
        (height, width), (rows, columns) = pixels.shape[:2], pixels[subject.box].shape[:2]
        notes.append(f"cut out of its surroundings {width}x{height} -> {columns}x{rows}")
        return pixels[subject.box], None if subject.around is None else subject.around[..., None]

    def _stretch_contrast(self, pixels: Pixels, around: Pixels, notes: list[str]) -> Pixels:
        light, surroundings = (_light_on_black(one[..., 0], self.polarity) for one in (pixels, around))
        stretched = self.background.stretch_contrast(light, surroundings) if self.background else None
        if stretched is None:
            return pixels
        notes.append(f"contrast stretched from the background to {'white' if self.polarity == 'dark' else 'black'}")
        return _light_on_black(stretched, self.polarity)[..., None]

    def _is_framed(self, fitted: Pixels, frame: Frame) -> bool:
        return frame.contains(_light_on_black(fitted[..., 0], self.polarity))

    def _place(self, ink: Ink, frame: Frame) -> Pixels:
        return _light_on_black(frame.place(ink, self.height, self.width), self.polarity)[..., None]

    def _framing_notes(self, ink: Ink, frame: Frame) -> tuple[str, ...]:
        rows, columns = ink.size
        framed = f"ink of {columns}x{rows} {_FRAMED_NOTE}: {frame.side} pixels, centered by mass"
        if ink.dark != (self.polarity == "dark"):
            return (framed,)
        return f"{_INVERTED_NOTE} its ink is {'dark' if ink.dark else 'light'}", framed

    def _pad(self, pixels: Pixels) -> Pixels:
        rows, columns = pixels.shape[:2]
        top, left = (self.height - rows) // 2, (self.width - columns) // 2
        padded = np.empty((self.height, self.width, self.channels), np.uint8)
        padded[:] = self.fill
        padded[top : top + rows, left : left + columns] = pixels
        return padded


def was_inverted(notes: tuple[str, ...]) -> bool:
    """Whether the notes of `Preprocessing.transform` say that the image was inverted."""
    return any(note.startswith(_INVERTED_NOTE) for note in notes)


def was_framed(notes: tuple[str, ...]) -> bool:
    """Whether the notes of `Preprocessing.transform` say that the image was drawn in the training images' frame."""
    return any(_FRAMED_NOTE in note for note in notes)


def _light_on_black(gray: Pixels, polarity: Polarity) -> Pixels:
    """Gray pixels; inverted, or inverted back, if the background is light."""
    return 255 - gray if polarity == "light" else gray


def _frame_or_background(images: Pixels, polarity: Polarity) -> tuple[Frame | None, Background | None]:
    """The frame that images, uint8 (n, h, w, c), share, or else their background; neither for colors and mixed ones."""
    if images.shape[3] > 1 or polarity == "mixed":
        return None, None
    light = _light_on_black(images[..., 0], polarity)
    frame = Frame.measure(light)
    return frame, None if frame else Background.measure(light)
