"""The application: its paths, and what they answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from convscope._records import Record
from convscope.backends.onnx.metadata import Rejection
from convscope.deploy.predictor import Predictor
from convscope.deploy.server.batching import Batcher, Overload
from convscope.deploy.server.inputs import Body, check_media_type, read_sources
from convscope.deploy.server.metrics import Metrics
from convscope.deploy.server.options import Access, ServeOptions
from convscope.deploy.server.problems import MEDIA_TYPE, ImageProblem, Problem
from convscope.errors import DataError

SMALL_BODY_BYTES = 2**16  # parsed in the event loop, because handing it to a thread would take longer


class ModelInfo(Record):
    """The model that a server serves.

    Attributes:
        name: The name of its file.
        sha256: Of its file.
        task: What its outputs mean.
        classes: Class names in the order of its outputs.
        height: Of its input, in pixels.
        width: Of its input, in pixels.
        channels: Of its input: 1 gray, 3 RGB, 4 RGBA.
        architecture: The network in the architecture language.
        precision: Of its arithmetic.
        temperature: By which the logits are divided before softmax.
        rejection: When it does not answer.
    """

    name: str
    sha256: str
    task: str
    classes: tuple[str, ...]
    height: int
    width: int
    channels: int
    architecture: str
    precision: str
    temperature: float
    rejection: Rejection


class Health(Record):
    """What /livez and /readyz answer."""

    status: Literal["ok"] = "ok"


@dataclass
class ServerState:
    """What the parts of a worker share.

    Attributes:
        options: What the server was told.
        access: Who may use it.
        predictor: The model.
        model: Facts on it.
        batcher: Classifies images.
        metrics: What is counted.
        stopping: Whether it was told to stop.
        body_bytes: Of request bodies in memory.
    """

    options: ServeOptions
    access: Access
    predictor: Predictor
    model: ModelInfo
    batcher: Batcher
    metrics: Metrics
    stopping: bool = False
    body_bytes: int = 0
    parsing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "convscope-parse"))


def model_info(predictor: Predictor, sha256: str) -> ModelInfo:
    """Facts on a model whose file has this digest."""
    metadata = predictor.metadata
    height, width, channels = metadata.input_shape
    return ModelInfo(
        name=predictor.path.name, sha256=sha256, task=metadata.task, classes=metadata.classes,
        height=height, width=width, channels=channels, architecture=metadata.architecture,
        precision=metadata.precision, temperature=metadata.temperature, rejection=metadata.rejection,
    )  # fmt: skip


def make_app(state: ServerState) -> FastAPI:
    """The application of a worker, without the layers of `middleware`."""
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, title="convscope")
    model = state.model.model_dump_json().encode()

    @app.post("/v1/predict")
    async def predict(request: Request) -> Response:
        """Classify one or many images."""
        return Response(await _predict(state, request), media_type="application/json")

    @app.get("/v1/model")
    async def describe_model() -> Response:
        """The model: classes, input, architecture, limits for answers."""
        return Response(model, media_type="application/json")

    @app.get("/livez")
    async def live() -> Health:
        """Whether the server runs."""
        return Health()

    @app.get("/readyz")
    async def ready() -> Health:
        """Whether the server accepts requests."""
        if state.stopping:
            raise Problem("stopping", "the server was told to stop: ask another one")
        return Health()

    @app.get("/metrics")
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        state.metrics.queue.set(state.batcher.pending)
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_wrong_route)
    app.add_exception_handler(Exception, _answer_failure)
    return app


async def _predict(state: ServerState, request: Request) -> bytes:
    """The answer as JSON."""
    content_type = request.headers.get("content-type", "")
    check_media_type(content_type)
    body = Body(content_type, await request.body())
    limit = state.options.max_images
    if len(body.content) <= SMALL_BODY_BYTES:
        sources = read_sources(body, limit)
    else:
        sources = await asyncio.get_running_loop().run_in_executor(state.parsing, read_sources, body, limit)
    try:
        results = await state.batcher.classify(sources, state.options.timeout)
    except Overload:
        raise Problem("overloaded", "too many images are waiting: try again later") from None
    errors = [
        ImageProblem(index=index, detail=str(result).replace("image:", f"{sources[index].name}:", 1))
        for index, result in enumerate(results)
        if isinstance(result, DataError)
    ]
    if errors:
        raise Problem("invalid-images", errors[0].detail, errors)
    return b'{"predictions":[' + b",".join(result for result in results if isinstance(result, bytes)) + b"]}"


def problem_response(problem: Problem, request_id: str) -> Response:
    """A problem as an answer."""
    return Response(problem.body(request_id), problem.status, problem.headers, MEDIA_TYPE)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error, request.state.request_id)


async def _answer_wrong_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    kind, detail = {
        404: ("not-found", f"there is nothing at {path}: /openapi.json lists what there is"),
        405: ("method-not-allowed", f"{request.method} is not possible at {path}"),
    }.get(error.status_code, ("malformed-request", str(error.detail)))
    return problem_response(Problem(kind, detail, headers=error.headers), request.state.request_id)


async def _answer_failure(request: Request, _: Exception) -> Response:
    """The answer to a bug; `Gateway` logs it."""
    return problem_response(
        Problem("internal-error", "an unexpected error, which the server has logged with this request id"),
        request.state.request_id,
    )
