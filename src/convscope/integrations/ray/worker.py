"""What runs on the nodes: a task scores one part. The process that runs tasks keeps the model for the next ones."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import ray

from convscope._text import escape_bytes
from convscope.deploy.prediction import Answer, to_answer
from convscope.deploy.predictor import Predictor
from convscope.deploy.prepare import BatchOptions
from convscope.deploy.sources.items import PassedOver
from convscope.deploy.sources.read import OnceFilter, read_archives
from convscope.errors import ConvscopeError, ImageError
from convscope.integrations.ray.output import OutputFolder, encode_answers
from convscope.integrations.ray.plan import Missing, Part

SAME_VERSIONS = ("convscope", "numpy", "onnxruntime", "pillow")  # on which the bits of the answers depend


class ScoringJob(NamedTuple):
    """What all tasks of a call share.

    Attributes:
        model: the model file.
        model_name: its name, for messages.
        batch: how images are decoded.
        top_k: number of classes per answer.
        out: the folder of the answers.
        folder: the working folder of local paths; "" if all are addresses.
        seen: local paths that every node must have.
        versions: of `SAME_VERSIONS`.
    """

    model: bytes
    model_name: str
    batch: BatchOptions
    top_k: int
    out: str
    folder: str
    seen: tuple[str, ...]
    versions: tuple[str, ...]


class PartResult(NamedTuple):
    """What became of a part.

    Attributes:
        statuses: number of images by status.
        kinds: number of other files in archives, by suffix.
        repeated: number of images that an archive has more than once.
        resumed: whether an earlier call has scored it.
    """

    statuses: Counter[str]
    kinds: Counter[str]
    repeated: int
    resumed: bool


def installed_versions() -> tuple[str, ...]:
    """The versions of `SAME_VERSIONS` here."""
    return tuple(map(version, SAME_VERSIONS))


def score_part(job: list[Any], part: Part, is_done: bool) -> tuple[PartResult, str]:
    """Score a part, and write its answers; the task of Ray.

    Args:
        job: The reference of a `ScoringJob`, in a list so that Ray does not copy the model for every task.
        part: What to score.
        is_done: It only remains to count its answers.

    Returns:
        The result, and the name of the node.
    """
    scorer = _scorer(job[0])
    return scorer.recount(part) if is_done else scorer.score(part), _node()


@lru_cache(maxsize=1)
def _scorer(job: Any) -> Scorer:
    return Scorer(ray.get(job))


class Scorer:
    """Scores the parts of a job.

    Raises:
        ConvscopeError: This node has other versions of packages, or not the files.
    """

    def __init__(self, job: ScoringJob) -> None:
        self._job, self._out = job, OutputFolder(job.out)
        _check_versions(job.versions)
        if job.folder:
            _enter_folder(job)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, job.model_name)
            path.write_bytes(job.model)
            self._predictor = Predictor(path, threads=job.batch.threads)

    def score(self, part: Part) -> PartResult:
        """Score a part, and write its answers."""
        passed_over = PassedOver()
        content, statuses = encode_answers(self._answers(part, passed_over), self._job.top_k)
        self._out.write(part.file, content)
        return PartResult(statuses, passed_over.kinds, passed_over.repeated, False)

    def recount(self, part: Part) -> PartResult:
        """Count the answers of a part that an earlier call has scored."""
        return PartResult(self._out.statuses(part.file), Counter(), 0, True)

    def _answers(self, part: Part, passed_over: PassedOver) -> Iterator[Answer]:
        found = [ImageError(*one) if isinstance(one, Missing) else one for one in part.items]
        images = read_archives(found, passed_over, OnceFilter(frozenset(), passed_over))
        for outcome in self._predictor.predict_found(images, self._job.batch):
            yield to_answer(outcome, self._job.top_k)


def _check_versions(expected: tuple[str, ...]) -> None:
    for name, wanted, here in zip(SAME_VERSIONS, expected, installed_versions(), strict=True):
        if wanted != here:
            raise ConvscopeError(
                f"the node {_node()} has {name} {here}, not {wanted}: install the same versions on all nodes, or "
                "answers differ"
            )


def _enter_folder(job: ScoringJob) -> None:
    """Make local paths mean what they mean where the call was made."""
    for path in (job.folder, *job.seen):
        if not os.path.lexists(os.path.join(job.folder, path)):  # noqa: PTH118
            raise ConvscopeError(
                f"the node {_node()} does not have {escape_bytes(path)}: name a folder that all nodes share, or an "
                "address such as s3://bucket/folder"
            )
    os.chdir(job.folder)


def _node() -> str:
    """The address of this node, and the beginning of its number in Ray, as one machine may be several nodes."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{address} ({ray.get_runtime_context().get_node_id()[:8]})"
