"""Where a backbone is cut: the layers before stay frozen, and those behind are trained."""

from __future__ import annotations

from math import prod

from convscope.network.network import Network

MIN_TAIL_COST, MAX_TAIL_COST = 0.1, 0.2  # of the network's multiply-adds


def choose_cut(network: Network) -> int | None:
    """The number of layers that stay frozen when only the last ones are trained.

    Of the places behind which `MIN_TAIL_COST` to `MAX_TAIL_COST` of the multiply-adds are left, it is the one with the
    smallest maps, the last of equals. If there is none, it is the first with less; None if only vectors follow.

    >>> from convscope.network.build import parse_network
    >>> network = parse_network("conv 8 3 stride 2, relu, conv 64 3, relu, conv 8 3 stride 2, relu, globalavg")
    >>> cut = choose_cut(network)
    >>> cut, network.layers[cut - 1].output_shape, network.layers[cut].name
    (4, (11, 11, 64), 'conv3')
    """
    body = network.layers[:-2]
    total = network.multiply_adds
    left = [sum(layer.multiply_adds for layer in network.layers[cut:]) / total for cut in range(len(body))]
    places = [cut for cut in range(1, len(body)) if left[cut] <= MAX_TAIL_COST and len(body[cut - 1].output_shape) == 3]
    good = [cut for cut in places if left[cut] >= MIN_TAIL_COST]
    return min(reversed(good), key=lambda cut: prod(body[cut - 1].output_shape)) if good else next(iter(places), None)
