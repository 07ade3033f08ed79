"""Results as people read them in a terminal; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from convscope._text import duration, percent, pluralize
from convscope.cli.console import aligned, plain_table
from convscope.deploy.predictor import Prediction
from convscope.evaluation.metrics import Evaluation
from convscope.network.cost import NetworkCost, TrainingCost, Work
from convscope.network.layers.base import shape_text
from convscope.runs.config import REPORT_FILE, RunConfig
from convscope.runs.folder import Run

if TYPE_CHECKING:
    from convscope.api.benchmark import BenchmarkResult
    from convscope.api.explain import Explanation
    from convscope.api.filter import FilterResult
    from convscope.backends.native.roofline import Roofline
    from convscope.data.audit.issue import Issue
    from convscope.data.audit.report import AuditReport
    from convscope.evaluation.explain import CellExplanation

SHOWN_TERMS = 36
CLASS_ROWS = 50
CHECK_ROWS = 20
SHOWN_FILES = 5


def short(number: float) -> str:
    """A number to three digits with a unit prefix.

    >>> short(542230), short(999_950), short(12), short(2.5e9)
    ('542 k', '1 M', '12', '2.5 G')
    """
    for limit, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= 0.9995 * limit:  # what rounds to 1000 takes the next unit
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def layer_table(cost: NetworkCost) -> Table:
    """One row per layer with its cost for one image, and the totals."""
    body = [(layer.name, layer.source, shape_text(layer.output_shape), *_work_cells(layer)) for layer in cost.layers]
    columns = ("layer", "source", "output", "parameters", "multiply-adds", "activation bytes")
    table = plain_table(columns, [*body, ("total", "", "", *_work_cells(cost.image))], numbers_from=2)
    table.rows[-2].end_section = True
    return table


def _work_cells(work: Work) -> tuple[str, str, str]:
    return f"{work.parameters:,}", f"{work.multiply_adds:,}", f"{work.activation_bytes:,}"


def evaluation_lines(evaluation: Evaluation) -> list[Any]:
    """Accuracy, loss, top-k, then a table of classes."""
    top = ", ".join(f"top-{k} {percent(share)}" for k, share in evaluation.top_k.items() if k > 1)
    head = [f"accuracy {evaluation.accuracy_text}", f"loss     {evaluation.loss:.4f}" + (f"   ({top})" if top else "")]
    scores = [
        (
            score.name,
            *(percent(share, 1) for share in (score.precision, score.recall, score.f1)),
            f"{score.support:,}",
        )
        for score in evaluation.per_class[:CLASS_ROWS]
    ]
    if evaluation.tta:
        head.insert(1, f"         {evaluation.tta.text} with test-time augmentation")
    return [*head, plain_table(("class", "precision", "recall", "F1", "images"), scores), *_confusions(evaluation)]


def _confusions(evaluation: Evaluation, most: int = 5) -> list[str]:
    """The pairs of classes that are confused most often."""
    names = evaluation.classes
    pairs = [
        (int(evaluation.confusion[i, j]), names[i], names[j])
        for i in range(len(names))
        for j in range(len(names))
        if i != j and evaluation.confusion[i, j]
    ]
    worst = sorted(pairs, reverse=True)[:most]
    if not worst:
        return ["no mistakes"]
    return ["most frequent mistakes: " + ", ".join(f"{true} taken for {said} ({count})" for count, true, said in worst)]


def prediction_lines(prediction: Prediction, top: int) -> list[str]:
    """What was done to the picture in one line, then the classes with their probabilities."""
    ranked = list(prediction.probabilities.items())[:top]
    return [
        f"{prediction.image}: {prediction.label}",
        f"  {', '.join(prediction.notes) or 'fits the network as it is'}",
        "  " + ", ".join(f"{name} {percent(share)}" for name, share in ranked),
    ]


def cell_lines(cell: CellExplanation) -> list[str]:
    """The arithmetic of one cell, term by term; of very long sums the largest terms and what the rest adds up to."""
    order = sorted(range(len(cell.terms)), key=lambda i: -abs(cell.terms[i].product))
    weighted = any(term.weight != 1 for term in cell.terms)
    most = SHOWN_TERMS if weighted else len(order)  # of a window, each value may be the one that counts
    shown = [cell.terms[i] for i in sorted(order[:most])]
    lines = [f"{cell.layer}[{','.join(map(str, cell.index))}] is {cell.rule}:"]
    for term in shown:
        product = f" x {term.weight:>+12.6g} = {term.product:>+12.6g}" if weighted else ""
        lines.append(f"  {term.source:>14}  {term.value:>+12.6g}{product}")
    if len(shown) < len(cell.terms):
        rest = sum(cell.terms[i].product for i in order[most:])
        lines.append(f"  {'':>14}  {len(order) - most:,} smaller terms add up to {rest:+.6g}")
    if cell.bias:
        lines.append(f"  {'bias':>14}  {cell.bias:>+12.6g}")
    lines.append(f"  {'result':>14}  {cell.value:>+12.6g}   the model computed {cell.model_value:+.6g}")
    return lines


def plan_lines(config: RunConfig) -> list[str]:
    """What is about to be trained, before step 0."""
    network, recipe = config.network, config.recipe
    reasons = dict(config.reasons)
    why = f": {reasons.pop('precision')}" if "precision" in reasons else ""
    return [
        f"{config.dataset.name}: {config.dataset.counts}, {shape_text(config.input_shape)}, "
        f"{len(config.classes)} classes",
        f"{config.model}: {network.parameters:,} parameters, {short(network.multiply_adds)} multiply-adds per image",
        f"recipe {recipe.name}: {_epochs(config)}, "
        f"batch size {recipe.batch_size}, seed {config.seed}, "
        f"on {config.machine.threads} of {config.machine.cores} cores",
        f"in {config.precision}{why}; kernels: {config.backend}",
        *reasons.values(),
    ]


def _epochs(config: RunConfig) -> str:
    epochs = pluralize(config.epochs, "epoch")
    return f"about {epochs}, done within {duration(config.budget)}" if config.budget else epochs


def run_lines(run: Run) -> list[str]:
    """What a finished training has to say."""
    evaluation = run.evaluation
    assert evaluation is not None
    said = {"test accuracy": evaluation.accuracy_text}
    if evaluation.tta:
        said[""] = f"{evaluation.tta.text} with test-time augmentation"
    if run.config.recipe.stopping.target_accuracy is not None:
        said["target"] = f"{100 * run.config.recipe.stopping.target_accuracy:g} % " + (
            f"not surely reached in {pluralize(len(run.history), 'epoch')}"
            if run.missed_target
            else f"reached in {len(run.history)} of {pluralize(run.config.epochs, 'epoch')}"
        )
    if run.config.recipe.stopping.patience is not None and "target" not in said:
        said["epochs"] = f"{len(run.history)} of {run.config.epochs}, the best of them {_best_epoch(run)}"
    said |= {
        "test loss": f"{evaluation.loss:.4f}",
        "training": f"{duration(run.manifest.train_seconds)} on {run.config.machine.summary}",
        "run": str(run.path),
        "report": str(run.path / REPORT_FILE),
        "next": f"convscope predict {run.path} PICTURE",
    }
    return aligned(said)


def _best_epoch(run: Run) -> int:
    """The number of the epoch with the best validation accuracy; of equals, the latest."""
    best = max(run.history, key=lambda row: (row["validation_accuracy"], row["epoch"]))
    return int(best["epoch"])


def preset_lines(presets: Sequence[Mapping[str, Any]]) -> list[str]:
    """The presets with their costs and their lines."""
    lines, width = [], 2 + max(len(preset["name"]) for preset in presets)
    for preset in presets:
        work = f"{preset['parameters']:,} parameters, {short(preset['multiply_adds'])} multiply-adds"
        lines += [f"{preset['name']:<{width}}{work}", f"{'':<{width}}{preset['architecture']}"]
    return [*lines, "", "Costs are for 28x28x1 images and 10 classes; see one in full with: convscope models article"]


def cost_lines(cost: NetworkCost) -> list[Any]:
    """The layer table, then the cost of an image, of training if it was estimated, and of a 4K image."""
    work = cost.image
    pairs = {"one image": f"{short(work.multiply_adds)} multiply-adds, {short(work.activation_bytes)}B of activations"}
    if cost.training:
        pairs |= _training_pairs(cost.training)
    if cost.image_4k:
        size = shape_text(cost.input_shape[:2][::-1])
        pairs["a 4K image"] = (
            f"3840x2160 at full size: {_work_text(cost.image_4k)}; reduced to {size}: {_work_text(work)} "
            f"({cost.image_4k.multiply_adds / work.multiply_adds:,.0f} times less work)"
        )
    return [layer_table(cost), "", *aligned(pairs)]


def _training_pairs(training: TrainingCost) -> dict[str, str]:
    time = training.time
    return {
        "one epoch": f"{short(training.epoch_multiply_adds)} multiply-adds for {training.images:,} images, "
        f"about {duration(time.epoch_seconds)}",
        "training": f"about {duration(time.training_seconds)} for {pluralize(time.epochs, 'epoch')} of recipe "
        f"{training.recipe}",
        "measured": f"{duration(time.probe_seconds)} of training on random images; {training.machine.summary}",
    }


def _work_text(work: Work) -> str:
    return (
        f"{short(work.multiply_adds)} multiply-adds, {short(work.activation_bytes)}B of activations, "
        f"{short(work.parameters)} parameters"
    )


def bench_lines(bench: BenchmarkResult) -> list[Any]:
    """The machine, what an epoch takes beside plain PyTorch, and the kernels beside the machine's limits."""
    machine, cache = bench.machine, bench.last_cache_bytes
    size = "" if cache is None else f", last cache {cache / 2**20:.0f} MiB"
    pairs = {
        "machine": f"{machine.processor}, {machine.threads} of {machine.cores} cores{size}",
        "kernels": bench.kernels + (f": {bench.reason}" if bench.reason else ""),
        "versions": ", ".join(f"{name} {machine.versions[name]}" for name in ("convscope", "torch", "numpy")),
    }
    if bench.busy:
        said = f"a slice took up to {bench.slice_ratio:.1f} times its fastest"
        load = "" if bench.load is None else f", {percent(bench.load, 0)} of all cores were busy before"
        pairs["BUSY"] = f"{said}{load}: measure again when it is quiet"
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
        f"peak: {roofline.peak_gflops:.0f} GFLOP/s, float32 multiply-adds in registers (bf16's is not measured)",
        "copy: a plain copy of as many bytes, in the last cache; * in memory",
    ]


def explanation_lines(explained: Explanation) -> list[Any]:
    """The answer, every layer's output in short, the arithmetic of the cells, and where the pictures are."""
    body = [
        (
            layer.name,
            layer.source,
            shape_text(layer.output),
            *(f"{value:.3f}" for value in (layer.min, layer.mean, layer.max)),
        )
        for layer in explained.layers
    ]
    answer = Prediction(image=explained.image, probabilities=explained.probabilities, notes=explained.notes)
    lines: list[Any] = [
        *prediction_lines(answer, 3),
        "",
        plain_table(("layer", "source", "output", "min", "mean", "max"), body, 2),
    ]
    for cell in explained.cells:
        lines += ["", *cell_lines(cell)]
    if not explained.cells:
        lines += ["", "the arithmetic of any cell: --cell LAYER,ROW,COLUMN,CHANNEL, or --cell LAYER,INDEX for vectors"]
    return [*lines, "", f"{len(explained.written)} figures in {explained.folder}"]


def filtered_lines(found: FilterResult) -> list[str]:
    """The numbers, or the file; then the arithmetic of the cell that was asked for."""
    lines = list(found.arithmetic)
    if found.written is None:
        table = [[f"{value:g}" for value in row] for row in found.values[:, :, 0]]
        width = max(len(word) for row in table for word in row)
        return [" ".join(word.rjust(width) for word in row) for row in table] + lines
    return [f"{found.written}: {', '.join(found.notes)}", *lines]


def check_lines(checked: AuditReport) -> list[Any]:
    """One page: the classes, the issues, and what would be trained on."""
    total, used = (sum(counts[i] for counts in checked.counts.values()) for i in (0, 1))
    some = sorted(checked.counts.items(), key=lambda item: item[1][1])
    if len(some) > CHECK_ROWS:
        some = [*some[: CHECK_ROWS // 2], *some[-CHECK_ROWS // 2 :]]
    body = [(name, f"{files:,}", f"{good:,}") for name, (files, good) in some]
    heading = f"{checked.path}: {total:,} files in {len(checked.counts):,} classes, {used:,} used"
    lines = [heading, "", plain_table(("class", "files", "used"), body)]
    if len(some) < len(checked.counts):
        lines.append(f"(the {CHECK_ROWS // 2} smallest and the {CHECK_ROWS // 2} largest classes)")
    lines += ["", *(issue_lines(checked.issues) or ["nothing found that would spoil a training"])]
    if checked.splits:
        splits = ", ".join(f"{count:,} {name}" for name, count in checked.splits.items())
        lines += ["", f"the network sees: {checked.seen}", f"splits: {splits}", f"next: convscope train {checked.path}"]
    return lines


def issue_lines(issues: Sequence[Issue]) -> list[str]:
    """What was found, and what is done about it, with the first files."""
    lines = []
    for issue in issues:
        done = f"; {issue.action}" if issue.action else ""
        lines.append(f"{issue.level}: {issue.text}{done}")
        lines += [f"    {issue.advice}"] if issue.advice else []
        lines += [f"    {' = '.join(files)}" for files in issue.files[:SHOWN_FILES] if issue.level == "warning"]
        if issue.level == "warning" and len(issue.files) > SHOWN_FILES:
            lines.append(f"    and {len(issue.files) - SHOWN_FILES:,} more: convscope data check PATH --json")
    return lines


def dataset_lines(shown: Mapping[str, Any]) -> list[Any]:
    """Counts and statistics per split and class, then the numbers behind one image (A1)."""
    lines: list[Any] = [
        f"{shown['name']}: {shape_text(shown['shape'])} (height, width, channels), from {shown['source']}"
    ]
    for name, split in shown["splits"].items():
        body = [_statistics("all", split)] + [_statistics(part["name"], part) for part in split["classes"][:CLASS_ROWS]]
        lines += ["", plain_table((name, "images", "least", "mean", "deviation", "most"), body)]
    image = shown["image"]
    lines += [
        "",
        f"training image {image['index']}, labeled {image['class']}, as numbers ({image['shape']}):",
        image["text"],
    ]
    return [*lines, "", *(f"drawn in {path}" for path in shown["written"])]


def _statistics(name: str, part: Mapping[str, Any]) -> tuple[str, ...]:
    figures = ("-" if part[key] is None else f"{part[key]:.1f}" for key in ("min", "mean", "std", "max"))
    return (name, f"{part['n']:,}", *figures)
