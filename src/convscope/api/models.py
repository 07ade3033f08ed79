"""What a network costs on a data set, before it is trained."""

from __future__ import annotations

from pathlib import Path

from convscope._extras import needs_extra
from convscope._reporting import Reporter
from convscope.data.load import load_data
from convscope.errors import MissingExtraError
from convscope.network.build import parse_network
from convscope.network.cost import NetworkCost, network_cost
from convscope.network.presets import MNIST_SHAPE, resolve_architecture
from convscope.training.recipes import recipe_named


def model_cost(
    architecture: str,
    data: str | Path | None = None,
    recipe: str = "default",
    threads: int | None = None,
    reporter: Reporter | None = None,
) -> NetworkCost:
    """Count what a network costs, and measure how long it would train on this machine.

    Args:
        architecture: A preset or an architecture line.
        data: The data set that sets image size, classes and number of images; by default those of MNIST.
        recipe: The recipe that sets epochs and batch size.
        threads: Processor threads; by default chosen by measurement.
        reporter: Receives the progress of loading, and a message if the training extra is missing; the cost then
            has no `training`.

    Raises:
        UsageError: The preset or recipe does not exist, or the network does not fit the images.
        DataError: The data set cannot be loaded.
    """
    reporter, architecture = reporter or Reporter(), resolve_architecture(architecture)
    recipe_named(recipe)
    dataset = None if data is None else load_data(data, reporter=reporter)
    shape, classes = (dataset.shape, len(dataset.classes)) if dataset else (MNIST_SHAPE, 10)
    network = parse_network(architecture, shape, classes)
    cost = network_cost(network)
    try:
        with needs_extra("the time estimate"):
            from convscope.training.probes.estimate import training_cost
    except MissingExtraError as error:
        reporter.message(str(error))
        return cost
    return cost.model_copy(update={"training": training_cost(network, dataset, recipe, threads)})
