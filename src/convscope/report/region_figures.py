"""Figures of the regions that speak for a class: of one image, and of the worst mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from convscope._text import percent, pluralize
from convscope.data.dataset import Dataset
from convscope.evaluation.attribution import integrated_gradients
from convscope.evaluation.calibration import softmax
from convscope.evaluation.heat_maps import ClassMap, Kind, Patches, class_map, occlusion_maps
from convscope.report import heat_plots
from convscope.report.canvas import short_label
from convscope.report.figures import FigureSpec, rank_mistakes
from convscope.report.html import Section
from convscope.runs.config import RunConfig
from convscope.training.loop import predict_logits

MAX_MISTAKES, MAX_LARGE_MISTAKES = 4, 2
LARGE_NETWORK = 1e8  # multiply-adds per image: the regions of a mistake take half a second or more
EXACT = "their sum, plus the bias, is the score exactly"
KINDS: dict[Kind, str] = {
    "class activation map": f"Class activation map (Zhou et al., 2016): what each position of {{}} adds; {EXACT}.",
    "contributions": f"Contributions: what each position of {{}} adds; {EXACT}.",
    "HiResCAM": "HiResCAM (Draelos and Carin, 2020): what each position of {} adds, an approximation.",
}

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Predict = Callable[[Pixels], Floats]


def region_figure(
    config: RunConfig, model: nn.Sequential, pixels: Pixels, targets: Sequence[int], title: str
) -> FigureSpec:
    """The class activation map and the occlusion map of some classes for one image.

    Args:
        config: Of the run.
        model: In evaluation mode.
        pixels: One image, uint8 (h, w, c).
        targets: Numbers of the classes.
        title: What the texts call the image.
    """
    predict = partial(predict_logits, model, preprocessing=config.preprocessing)
    found, occlusion, patches = _maps(config, model, pixels, targets, predict)
    kind = found[0].kind
    heats = np.stack([np.stack([_stretch(one.heat, pixels), drop]) for one, drop in zip(found, occlusion, strict=True)])
    titles = [text for target in targets for text in (short_label(config.classes[target], 24), kind, "occlusion")]
    names = " and ".join(config.classes[target] for target in targets)
    return FigureSpec(
        "regions",
        Section.FEATURES,
        f"Which regions speak for {names}",
        _explain(found[0], patches),
        f"{title} next to maps of the regions that raise or lower the score of {names}",
        partial(heat_plots.region_maps, "Regions", np.stack([pixels] * len(targets)), heats, titles),
    )


def mistake_figures(
    config: RunConfig, model: nn.Sequential, dataset: Dataset, logits: Floats, predict: Predict
) -> Iterator[FigureSpec]:
    """Why the network fell for the worst mistakes, if there are any.

    Args:
        config: Of the run.
        model: In evaluation mode.
        dataset: Its test split was evaluated.
        logits: float32 (n, classes) of the test images.
        predict: The logits of uint8 images (n, h, w, c), by what computes them fastest.
    """
    most = MAX_MISTAKES if config.network.multiply_adds < LARGE_NETWORK else MAX_LARGE_MISTAKES
    worst = rank_mistakes(dataset.test.labels, logits)[:most]
    if not len(worst):
        return
    images, heats, titles = [], [], []
    for index, probabilities in zip(worst.tolist(), softmax(logits[worst]), strict=True):
        pixels, target = dataset.test.image(index), int(probabilities.argmax())
        (found,), (drops,), patches = _maps(config, model, pixels, [target], predict)
        pixel_heat = integrated_gradients(model, config.preprocessing.normalize(pixels[None])[0], target)
        images.append(pixels)
        heats.append(np.stack([_stretch(found.heat, pixels), drops, pixel_heat]))
        true, predicted = (
            short_label(config.classes[label], 12) for label in (int(dataset.test.labels[index]), target)
        )
        short_kind = "activation" if found.kind == "class activation map" else found.kind
        titles += [f"{true} → {predicted}\n{percent(float(probabilities.max()), 0)}", short_kind, "occlusion", "pixels"]
    yield FigureSpec(
        "worst-mistakes-regions",
        Section.MISTAKES,
        "Why these mistakes",
        f"What spoke for the predicted class in the worst {pluralize(len(worst), 'mistake')}. "
        f"{_explain(found, patches)} Pixels: integrated gradients (Sundararajan et al., 2017).",
        "Misclassified test images next to maps of the regions that raised the score of the predicted class",
        partial(heat_plots.region_maps, "True → predicted class", np.stack(images), np.stack(heats), titles),
    )


def _maps(
    config: RunConfig, model: nn.Sequential, pixels: Pixels, targets: Sequence[int], predict: Predict
) -> tuple[list[ClassMap], list[Floats], Patches]:
    """For each class its class activation map, and its occlusion map as float32 (h, w)."""
    image = config.preprocessing.normalize(pixels[None])[0]
    found = [class_map(model, config.network, image, target) for target in targets]
    patches, drops = occlusion_maps(predict, pixels, config.preprocessing)
    return found, [patches.spread(drops[target], *pixels.shape[:2]) for target in targets], patches


def _explain(found: ClassMap, patches: Patches) -> str:
    layer = "the input" if found.layer == "input" else found.layer
    patch = f"{patches.size}x{patches.size} pixels" if patches.size > 1 else "one pixel"
    return (
        f"{KINDS[found.kind].format(layer)} Occlusion (Zeiler and Fergus, 2014): how much the score drops where "
        f"a patch of {patch} in the color of the background, or in the mean color, covers the image."
    )


def _stretch(heat: Floats, pixels: Pixels) -> Floats:
    """A map in the size of the image; each position becomes a rectangle."""
    rows, columns = (
        np.arange(side) * positions // side for side, positions in zip(pixels.shape[:2], heat.shape, strict=True)
    )
    stretched: Floats = heat[rows][:, columns]
    return stretched
