"""Text for `convscope models` and `bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from convscope._text import duration, percent, pluralize
from convscope.cli.console import aligned, plain_table, short_number
from convscope.network.cost import NetworkCost, PresetCost, PresetList, TrainingCost, Work
from convscope.network.layers.base import shape_text

if TYPE_CHECKING:
    from convscope.api.benchmark import BenchmarkResult
    from convscope.backends.native.roofline import Roofline
    from convscope.pretrained.catalog import BackboneList


def layer_table(cost: NetworkCost) -> Table:
    """One row per layer with its cost for one image, and the totals."""
    body = [(layer.name, layer.source, shape_text(layer.output_shape), *_work_cells(layer)) for layer in cost.layers]
    columns = ("layer", "source", "output", "parameters", "multiply-adds", "activation bytes")
    table = plain_table(columns, [*body, ("total", "", "", *_work_cells(cost.image))], numbers_from=2)
    table.rows[-2].end_section = True
    return table


def preset_lines(presets: PresetList) -> list[str]:
    """The presets with their costs and architectures, and the published networks with their costs."""
    lines, width = [], 2 + max(len(one.name) for one in (*presets.presets, *presets.backbones))
    for preset in presets.presets:
        lines += [f"{preset.name:<{width}}{_size_text(preset)}", f"{'':<{width}}{preset.architecture}"]
    lines += ["", "Costs are for 28x28x1 images and 10 classes. For all layers of one: convscope models article", ""]
    for one in presets.backbones:
        shape = f"{one.image_size}x{one.image_size}x3 images and {one.classes:,} classes"
        lines.append(f"{one.name:<{width}}{_size_text(one)} for {shape}")
    return [*lines, "", "These are published networks. With their weights: convscope backbones"]


def _size_text(one: PresetCost) -> str:
    return f"{one.parameters:,} parameters, {short_number(one.multiply_adds)} multiply-adds"


def backbone_lines(found: BackboneList) -> list[Any]:
    """A table of the backbones, how to get those that are missing, and the files that cannot be used."""
    rows = [
        (one.name, f"{one.image_size}", f"{one.parameters:,}", short_number(one.multiply_adds),
         "-" if one.top1 is None else percent(one.top1, 1), one.license or "unknown", one.sha256[:8],
         "yes" if one.path else "no", one.source)
        for one in found.backbones
    ]  # fmt: skip
    columns = ("backbone", "pixels", "parameters", "multiply-adds", "top-1", "license", "SHA-256", "here", "source")
    table = plain_table(columns, rows)
    for column in table.columns[5:]:
        column.justify = "left"
    how = "Top-1 is the published accuracy on ImageNet-1k. Add one: convscope backbones add FILE, or NAME --download"
    return [table, "", how, *found.problems]


def cost_lines(cost: NetworkCost) -> list[Any]:
    """The layer table, then the cost of an image, of training if it was estimated, and of a 4K image."""
    work = cost.image
    memory = f"{short_number(work.activation_bytes)}B of activations"
    pairs = {"one image": f"{short_number(work.multiply_adds)} multiply-adds, {memory}"}
    if cost.training:
        pairs |= _training_pairs(cost.training)
    if cost.image_4k:
        size = shape_text(cost.input_shape[:2][::-1])
        times = f"{cost.image_4k.multiply_adds / work.multiply_adds:,.0f} times less work"
        pairs["a 4K image"] = f"3840x2160 at full size: {_work_text(cost.image_4k)}"
        pairs["the same, reduced"] = f"to {size}: {_work_text(work)} ({times})"
    return [layer_table(cost), "", *aligned(pairs)]


def _training_pairs(training: TrainingCost) -> dict[str, str]:
    time = training.time
    return {
        "one epoch": f"{short_number(training.epoch_multiply_adds)} multiply-adds for {training.images:,} images, "
        f"about {duration(time.epoch_seconds)}",
        "training": f"about {duration(time.training_seconds)} for {pluralize(time.epochs, 'epoch')} of recipe "
        f"{training.recipe}",
        "measured": f"{duration(time.probe_seconds)} of training on random images; {training.machine.summary}",
    }


def _work_text(work: Work) -> str:
    return (
        f"{short_number(work.multiply_adds)} multiply-adds, {short_number(work.activation_bytes)}B of activations, "
        f"{short_number(work.parameters)} parameters"
    )


def _work_cells(work: Work) -> tuple[str, str, str]:
    return f"{work.parameters:,}", f"{work.multiply_adds:,}", f"{work.activation_bytes:,}"


def bench_lines(bench: BenchmarkResult) -> list[Any]:
    """The machine, the time of an epoch compared with plain PyTorch, and the kernels compared with their limits."""
    machine, cache = bench.machine, bench.last_cache_bytes
    size = "" if cache is None else f", last cache {cache / 2**20:.0f} MiB"
    pairs = {
        "machine": f"{machine.processor}, {machine.threads} of {machine.cores} cores{size}",
        "kernels": bench.kernels + (f": {bench.reason}" if bench.reason else ""),
        "versions": ", ".join(f"{name} {machine.versions[name]}" for name in ("convscope", "torch", "numpy")),
    }
    if bench.busy:
        load = "" if bench.load is None else f", and {percent(bench.load, 0)} of all cores were busy before"
        pairs["BUSY"] = (
            f"the slowest slice took {bench.slice_ratio:.1f} times as long as the fastest{load}: "
            "repeat this on an idle machine"
        )
    body = [
        (row.program, f"{row.images_per_second:,.0f}",
         *(f"{value:.2f}" for value in (row.epoch_seconds.min, row.epoch_seconds.median, row.epoch_seconds.max)),
         f"{row.speedup:.1f}")
        for row in bench.training
    ]  # fmt: skip
    lines: list[Any] = [
        *aligned(pairs),
        "",
        f"The article's network on {bench.images:,} random images, from {bench.slices} slices of "
        f"{pluralize(bench.steps, 'step')}",
        plain_table(("", "images/s", "s/epoch: min", "median", "max", "x PyTorch"), body),
    ]
    return lines if bench.roofline is None else [*lines, "", *_roofline_lines(bench.roofline)]


def _roofline_lines(roofline: Roofline) -> list[Any]:
    body = [
        (
            row.name,
            row.shape,
            f"{row.milliseconds.median:.3f}",
            f"{row.rate:.0f} {row.unit}",
            f"{row.fraction_text:<11}",
        )
        for row in roofline.kernels
    ]
    return [
        f"The kernels on batches of 128, median of {roofline.rounds} rounds",
        plain_table(("", "", "ms", "reached", "of limit"), body, 2),
        "",
        f"peak: {roofline.peak_gflops:.0f} GFLOP/s, float32 multiply-adds in registers (not measured for bf16)",
        "copy: a copy of the same number of bytes in the last-level cache; * in memory",
    ]
