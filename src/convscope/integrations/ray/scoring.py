"""Scoring on a Ray cluster: every image exactly once, whatever happens to the nodes.

Why tasks, and not Ray Data: Ray Data gives the files it writes new names in every execution, so that a second call
cannot tell what the first has written, and it copies the content of all images through its object store. Here the work
is split by name, in an order that is always the same; a task reads its images where they are and writes one file, whose
name tells what is in it. Ray repeats the tasks of a node that is lost, and gives those that wait to one that joins.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from convscope._records import Record
from convscope._reporting import Reporter
from convscope._storage import check_address, is_address
from convscope._text import pluralize
from convscope.deploy.answers import PartHeader, is_stream
from convscope.deploy.predictor import MAX_MEGAPIXELS, Predictor
from convscope.deploy.prepare import BATCH_SIZE, BatchOptions
from convscope.deploy.sources.find import find_images
from convscope.deploy.sources.items import PassedOver
from convscope.deploy.sources.read import OnceFilter
from convscope.errors import UsageError
from convscope.integrations.ray.cluster import LOCAL, MAX_RETRIES, check_ray_address, connected, plain_errors
from convscope.integrations.ray.output import FINISHED, HEADER, OutputFolder, ScoringSummary, open_output
from convscope.integrations.ray.plan import Part, plan_parts
from convscope.integrations.ray.worker import PartResult, ScoringJob, installed_versions, score_part

SCORING = "classifying"  # the task of the reporter
TOP_K = 3
TASKS_PER_CORE = 2  # in flight: one runs, one waits, so that no core is idle and nothing piles up
RECOUNT_S = 1.0  # between looks at how many cores the cluster has


class ScoringOptions(Record):
    """How images are scored; see `convscope predict`."""

    top_k: int = TOP_K
    max_megapixels: float = MAX_MEGAPIXELS
    batch_size: int = BATCH_SIZE


def predict(
    model: str | Path,
    sources: Sequence[str],
    out: str,
    *,
    address: str = LOCAL,
    options: ScoringOptions | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> ScoringSummary:
    """Classify images on a Ray cluster into a folder of Parquet files; call it again to resume after any stop.

    In order of their names, the files have the rows that `convscope predict` writes on one machine.

    Args:
        model: A run folder or a model.onnx, on this machine.
        sources: Images, folders, archives, Parquet files and patterns, by paths that all nodes share or by addresses
            such as "s3://bucket/photos/".
        out: The folder to write, a path that all nodes share or an address.
        address: `local` for this machine, `auto`, or HOST:PORT of a cluster; not used after `ray.init()`.
        options: As in `convscope predict`.
        force: Start again if the folder is complete, or has answers of another model.
        reporter: Where messages and progress go.

    Raises:
        UsageError: The sources or the folder cannot be used.
        MissingExtraError: What reads the addresses is not installed.
        ConvscopeError: The storage or the cluster fails; nothing that was written is lost.
    """
    options, reporter = options or ScoringOptions(), reporter or Reporter()
    check_ray_address(address)
    _check(sources, out)
    predictor = Predictor(model, threads=1)
    header = PartHeader(
        model=predictor.sha256,
        top_k=min(options.top_k, len(predictor.classes)),
        max_megapixels=options.max_megapixels,
        folder=str(Path.cwd()),
    )
    passed_over = PassedOver()
    once = OnceFilter(frozenset(), passed_over) if len(sources) > 1 else _accept  # one source names nothing twice
    parts = plan_parts(find_images(sources, passed_over), once)
    with open_output(out, header, force) as (folder, written), connected(address):
        job = _job(predictor, header, options.batch_size, sources, folder)
        state = _Progress(set(written), reporter, passed_over)
        try:
            for result in _run(job, state.note(parts), written, reporter):
                state.add(*result)
        except KeyboardInterrupt:
            reporter.message(f"{out} keeps the answers so far: run the same command again to resume")
            raise
        return _finish(folder, out, state)


def _check(sources: Sequence[str], out: str) -> None:
    for place in (*sources, out):
        if is_address(place):
            check_address(place)
    if not sources:
        raise UsageError("expected at least one image, folder, archive or pattern, got none")
    if any(map(is_stream, sources)):
        raise UsageError("an image on standard input or in a pipe cannot be read on other nodes: leave out --ray")


def _accept(_: str) -> bool:
    return True


def _job(
    predictor: Predictor, header: PartHeader, batch_size: int, sources: Sequence[str], folder: OutputFolder
) -> ScoringJob:
    """What the tasks share."""
    if predictor.path.suffix.lower() == ".json":
        raise UsageError(f"{predictor.path}: a model that convscope did not train cannot be sent: leave out --ray")
    local = [source for source in sources if not is_address(source) and os.path.lexists(source)]
    seen = [*local, *([] if is_address(folder.place) else [f"{folder.place}/{HEADER}"])]
    return ScoringJob(
        model=predictor.path.read_bytes(),
        model_name=predictor.path.name,
        batch=BatchOptions(header.max_megapixels, batch_size, threads=1),
        top_k=header.top_k,
        out=folder.place,
        folder="" if all(map(is_address, (*sources, folder.place))) else header.folder,
        seen=tuple(seen),
        versions=installed_versions(),
    )


def _run(
    job: ScoringJob, parts: Iterator[Part], written: set[str], reporter: Reporter
) -> Iterator[tuple[Part, PartResult, str]]:
    """Score parts, a bounded number at a time; yields them as they are finished."""
    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(score_part)
    reference, cores = ray.put(job), _Cores(reporter)
    running: dict[Any, Part] = {}
    for part in parts:
        running[task.remote([reference], part, part.file in written)] = part
        while len(running) >= TASKS_PER_CORE * cores.count():
            yield _next(running)
    while running:
        yield _next(running)


def _next(running: dict[Any, Part]) -> tuple[Part, PartResult, str]:
    """Wait for the next part that is finished, and take it out."""
    (done,), _ = ray.wait(list(running), num_returns=1)
    part = running.pop(done)
    sources = f"{pluralize(len(part.items), 'source')} from {_name(part)} on"
    with plain_errors(f"while it scored {sources}; is its memory enough? Run the same command again to resume"):
        return part, *ray.get(done)


def _name(part: Part) -> str:
    first = part.items[0]
    return first if isinstance(first, str) else str(first[0])


class _Cores:
    """How many cores the cluster has, looked up once in a while; reports nodes that join or are lost."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._count, self._nodes, self._checked = 1, 0, float("-inf")

    def count(self) -> int:
        if time.monotonic() > self._checked + RECOUNT_S:
            self._checked = time.monotonic()
            alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
            self._count = max(1, int(sum(node["Resources"].get("CPU", 0) for node in alive)))
            if len(alive) != self._nodes:
                if self._nodes:
                    cores = pluralize(self._count, "core")
                    self._reporter.message(f"the cluster has {pluralize(len(alive), 'node')} with {cores} now")
                self._nodes = len(alive)
        return self._count


@dataclass
class _Progress:
    """What has been scored.

    Attributes:
        left: Parts of earlier calls that have not been named yet.
    """

    left: set[str]
    reporter: Reporter
    passed_over: PassedOver
    statuses: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    parts: int = 0
    resumed: int = 0

    def note(self, parts: Iterator[Part]) -> Iterator[Part]:
        """The same parts."""
        for part in parts:
            self.left.discard(part.file)
            yield part

    def add(self, _: Part, result: PartResult, node: str) -> None:
        """Count the answers of a part."""
        images = result.statuses.total()
        self.parts += 1
        self.statuses += result.statuses
        self.passed_over.kinds += result.kinds
        self.passed_over.repeated += result.repeated
        if result.resumed:
            self.resumed += images
        else:
            self.nodes[node] += images
        self.reporter.progress(SCORING, self.statuses.total(), None)


def _finish(folder: OutputFolder, out: str, state: _Progress) -> ScoringSummary:
    """Remove parts of earlier calls that nothing names anymore, and mark the folder as complete."""
    summary = ScoringSummary(
        path=out,
        images=state.statuses.total(),
        statuses=dict(state.statuses),
        resumed=state.resumed,
        left_out=sum(folder.statuses(name).total() for name in state.left),
        passed_over=state.passed_over.kinds.total(),
        parts=state.parts,
        nodes=dict(state.nodes),
    )
    folder.remove(state.left)
    folder.write(FINISHED, f"{summary.model_dump_json()}\n".encode())
    for text in state.passed_over.messages:
        state.reporter.message(text)
    return summary
