"""Class activation and occlusion maps, on networks whose logits can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convscope.backends.pytorch.models import as_batch, build_model
from convscope.evaluation.heat_maps import Patches, class_map, occlusion_maps
from convscope.evaluation.trace import trace
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.training.loop import predict_logits

SHAPE = (10, 8, 3)


def random_image() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8)


def record() -> Preprocessing:
    images = np.random.default_rng(2).integers(0, 256, (20, *SHAPE), np.uint8)
    return Preprocessing.standardized(images)


@pytest.mark.parametrize(
    ("line", "kind", "layer"),
    [
        ("conv 6 3 pad same, relu, globalavg", "class activation map", "relu1"),
        ("residual(conv 4 3 pad same, relu), globalavg, dropout 0.5", "class activation map", "residual1"),
        ("globalavg", "class activation map", "input"),
        ("conv 6 3, relu, maxpool 2, flatten, dropout 0.5", "contributions", "maxpool1"),
        ("flatten", "contributions", "input"),
        ("conv 6 3, relu, globalmax", "contributions", "relu1"),
    ],
)
def test_class_map_of_an_exact_kind_adds_up_to_the_logit(line: str, kind: str, layer: str) -> None:
    network = parse_network(line, SHAPE, 4)
    model = build_model(network, seed=3).eval()
    torch.nn.init.normal_(model.state_dict()["classifier.bias"])
    image = record().normalize(random_image()[None])[0]
    logits = model(as_batch(image[None])).detach().numpy()[0]
    bias = model.state_dict()["classifier.bias"].numpy()
    for target in range(4):
        found = class_map(model, network, image, target)
        assert (found.kind, found.layer) == (kind, layer)
        assert found.heat.sum() + bias[target] == pytest.approx(logits[target], rel=1e-4, abs=1e-5)


def test_class_map_after_a_global_average_is_that_of_zhou() -> None:
    """The class's weights, applied to each position of the maps, divided by the number of positions."""
    network = parse_network("conv 6 3, relu, globalavg", SHAPE, 4)
    model, image = build_model(network, seed=3).eval(), record().normalize(random_image()[None])[0]
    maps = trace(model, network, image)["relu1"].output
    weights = model.state_dict()["classifier.weight"].numpy()
    found = class_map(model, network, image, 1).heat
    np.testing.assert_allclose(found, maps @ weights[1] / (8 * 6), rtol=1e-5, atol=1e-7)


def test_class_map_is_of_the_last_maps_with_more_than_one_position() -> None:
    network = parse_network("conv 6 3, relu, maxpool 6, flatten", SHAPE, 4)
    image = record().normalize(random_image()[None])[0]
    found = class_map(build_model(network).eval(), network, image, 1)
    assert (found.kind, found.layer, found.heat.shape) == ("HiResCAM", "relu1", (8, 6))


@pytest.mark.parametrize("head", ["flatten, dense 5, relu", "globalavg, dense 5, tanh"])
def test_class_map_of_other_heads_is_hirescam(head: str) -> None:
    """Activation times gradient, by finite differences of the head."""
    network = parse_network(f"conv 3 3, relu, maxpool 2, {head}", SHAPE, 4)
    model = build_model(network, seed=3).eval()
    image = record().normalize(random_image()[None])[0]
    found = class_map(model, network, image, 2)
    assert (found.kind, found.layer) == ("HiResCAM", "maxpool1")
    model = model.double()
    with torch.no_grad():
        maps = model[:3](as_batch(image[None].astype(np.float64)))[0]
        steps = 1e-6 * torch.eye(maps.numel(), dtype=torch.float64).reshape(-1, *maps.shape)
        slopes = (model[3:](maps + steps) - model[3:](maps - steps))[:, 2] / 2e-6
    expected = (slopes.reshape(maps.shape) * maps).sum(0).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(found.heat, expected, rtol=1e-4, atol=1e-5)


def test_class_map_leaves_no_gradient_behind() -> None:
    network = parse_network("conv 6 3, relu, globalavg", SHAPE, 4)
    model = build_model(network).eval()
    class_map(model, network, record().normalize(random_image()[None])[0], 0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert len(trace(model, network, record().normalize(random_image()[None])[0])) == len(network.layers)


def test_occlusion_of_a_pixel_is_the_difference_worked_out_by_hand() -> None:
    """In a network of one dense layer, a pixel's drop is its weights times its change, summed over the channels."""
    network = parse_network("flatten", SHAPE, 4)
    model, preprocessing, pixels = build_model(network, seed=3).eval(), record(), random_image()
    patches = Patches(1, tuple(range(SHAPE[0])), tuple(range(SHAPE[1])))
    _, drops = occlusion_maps(lambda x: predict_logits(model, x, preprocessing), pixels, preprocessing, patches)
    weights = model.state_dict()["classifier.weight"].numpy().reshape(4, *SHAPE)  # rows, columns, channels
    changes = (pixels - np.array(preprocessing.fill, float)) * preprocessing.scale
    np.testing.assert_allclose(drops, (weights * changes).sum(3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "size", "rows", "columns"),
    [
        ((28, 28), 4, tuple(range(0, 25, 2)), tuple(range(0, 25, 2))),
        ((8, 8), 2, tuple(range(7)), tuple(range(7))),
        ((10, 8), 2, tuple(range(9)), tuple(range(7))),
        ((64, 32), 5, (*range(0, 59, 2), 59), (*range(0, 27, 2), 27)),
        ((1, 3), 1, (0,), (0, 1, 2)),
    ],
)
def test_patches_cover_the_image(
    shape: tuple[int, int], size: int, rows: tuple[int, ...], columns: tuple[int, ...]
) -> None:
    found = Patches.cover(*shape)
    assert (found.size, found.rows, found.columns) == (size, rows, columns)
    spread = found.spread(np.full((len(rows), len(columns)), 3, np.float32), *shape)
    np.testing.assert_array_equal(spread, np.full(shape, 3))


def test_patches_spread_is_the_mean_of_the_patches_over_a_pixel() -> None:
    drops = np.array([[1, 2, 4]], np.float32)
    found = Patches(2, (0,), (0, 1, 2)).spread(drops, 2, 4)
    np.testing.assert_allclose(found, [[1, 1.5, 3, 4]] * 2)
