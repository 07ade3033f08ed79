"""The figures of one image on its way through a network, each with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.evaluation.attribution import integrated_gradients
from convscope.evaluation.calibration import UNCALIBRATED
from convscope.evaluation.trace import LayerTrace, trace
from convscope.network.layers.base import shape_text
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Flatten
from convscope.network.layers.elementwise import Activation, Dropout
from convscope.report import heat_plots, layer_plots
from convscope.report.figures import FigureSpec
from convscope.report.html import Section
from convscope.report.region_figures import region_figure
from convscope.runs.config import RunConfig

MAX_LAYERS = 24  # of a deep network; a page with more is not read


def layer_figures(
    config: RunConfig,
    model: nn.Sequential,
    pixels: NDArray[np.uint8],
    title: str,
    calibration: TemperatureScaling = UNCALIBRATED,
    *,
    every_layer: bool,
) -> Iterator[FigureSpec]:
    """Filters, attribution, regions, feature maps and probabilities.

    Args:
        config: Of the run.
        model: In evaluation mode.
        pixels: One image, uint8 (h, w, c).
        title: What the texts call the image.
        calibration: Of the model file.
        every_layer: Include layers that only reorder or copy their input, and more than `MAX_LAYERS`.
    """
    image = config.preprocessing.normalize(pixels[None])[0]
    traces = trace(model, config.network, image, calibration)
    probabilities = traces["softmax"].output
    first = next((traced for traced in traces.values() if isinstance(traced.layer, Conv)), None)
    if first is not None:
        yield _filters(first)
    target, *others = np.argsort(-probabilities, kind="stable").tolist()
    yield _attribution(pixels, integrated_gradients(model, image, target), config.classes[target], title)
    yield region_figure(config, model, pixels, [target, *others[:1]], title)
    for traced in traces.values():
        if isinstance(traced.layer, Activation) and traced.layer.kind == "relu" and traced.output.ndim == 3:
            yield _relu(traced)
            break
    yield from _layers(config, traces, title, every_layer=every_layer)
    yield FigureSpec(
        "probabilities",
        Section.FEATURES,
        "Softmax: the probabilities",
        f"The last layer turns scores into probabilities that sum to one: the prediction for {title}.",
        "Bars of the most probable classes",
        partial(layer_plots.class_probabilities, probabilities, config.classes),
    )


def _layers(
    config: RunConfig, traces: Mapping[str, LayerTrace], title: str, *, every_layer: bool
) -> Iterator[FigureSpec]:
    """The output of each layer, or of some of them."""
    layers = [name for name in traces if name != "softmax"]
    shown = layers if every_layer else _some([n for n in layers if not isinstance(traces[n].layer, Flatten | Dropout)])
    for number, name in enumerate(layers, 1):
        traced = traces[name]
        if name in shown:
            figure = _feature_maps(number, name, traced, title)
            if name == "classifier":
                scores = partial(layer_plots.class_scores, figure.heading, traced.output, config.classes)
                figure = figure._replace(plot=scores, alt="Bars of the score of each class")
            yield figure
        if isinstance(traced.layer, Flatten):
            yield _flatten(traced)


def _some(names: list[str]) -> list[str]:
    """At most `MAX_LAYERS` of the names, the first and the last among them, evenly spaced."""
    return [names[i] for i in np.linspace(0, len(names) - 1, min(MAX_LAYERS, len(names))).round().astype(int)]


def _filters(traced: LayerTrace) -> FigureSpec:
    kernels = traced.weights["weight"].transpose(2, 3, 1, 0)
    return FigureSpec(
        "filters",
        Section.FEATURES,
        "The filters of the first layer",
        "Each square is a learned detector; its output is large where the image resembles it.",
        f"{kernels.shape[-1]} learned kernels of {kernels.shape[0]}x{kernels.shape[1]}",
        partial(layer_plots.filters, kernels),
    )


def _attribution(pixels: NDArray[np.uint8], heat: NDArray[np.float32], label: str, title: str) -> FigureSpec:
    return FigureSpec(
        "attribution",
        Section.FEATURES,
        f"Which pixels influenced the prediction {label}",
        "Integrated gradients (Sundararajan et al., 2017): orange pixels raised the score of the predicted class, "
        "blue pixels lowered it.",
        f"{title} next to a heat map of its influential pixels",
        partial(heat_plots.attribution, pixels, heat),
    )


def _relu(traced: LayerTrace) -> FigureSpec:
    channel = int(np.ptp(traced.input, axis=(0, 1)).argmax())
    before, after = traced.input[:, :, channel], traced.output[:, :, channel]
    return FigureSpec(
        "relu",
        Section.FEATURES,
        "Before and after ReLU",
        "ReLU sets negative values to zero. Without it, consecutive layers would act as a single linear layer.",
        "One feature map before and after ReLU",
        partial(layer_plots.before_after, before, after, (f"channel {channel} before", "after ReLU")),
    )


def _feature_maps(number: int, name: str, traced: LayerTrace, title: str) -> FigureSpec:
    shape = shape_text(traced.output.shape)
    heading = f"{name}: {traced.layer.source}"
    return FigureSpec(
        f"layer-{number:02d}-{name.replace('.', '-')}",
        Section.FEATURES,
        heading,
        f"The output of this layer for {title}: {shape} numbers.",
        f"Feature maps of layer {name}, {shape}",
        partial(layer_plots.feature_maps, heading, traced.output),
    )


def _flatten(traced: LayerTrace) -> FigureSpec:
    return FigureSpec(
        "flatten",
        Section.FEATURES,
        "Flatten: maps become one vector",
        "Row by row and column by column, the values of all channels at a position follow each other.",
        "Cells of the feature maps and the vector entries that they become",
        partial(layer_plots.flatten_view, traced.input),
    )
