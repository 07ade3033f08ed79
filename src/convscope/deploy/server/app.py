"""The application: its paths, and what they answer."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.telemetry import TelemetryConfig
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from convscope._records import Record
from convscope.backends.onnx.metadata import Rejection, TemperatureScaling
from convscope.deploy.prediction import PredictionList
from convscope.deploy.predictor import Predictor
from convscope.deploy.server.batching import Batcher, Overload
from convscope.deploy.server.http.openapi import PREDICT_KINDS, add_components, problem_responses, request_body
from convscope.deploy.server.http.problems import MEDIA_TYPE, ImageProblem, Problem, ProblemDetails, overloaded
from convscope.deploy.server.inputs import Body, check_media_type, read_sources
from convscope.deploy.server.metrics import Metrics
from convscope.deploy.server.options import Access, ServeOptions
from convscope.deploy.server.page import StaticPage, add_page
from convscope.errors import DataError

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
REFERENCE = "#/components/schemas/{model}"
SMALL_BODY_BYTES = 2**16  # parsed in the event loop, because handing it to a thread would take longer


class ModelInfo(Record):
    """The model that a server serves.

    Attributes:
        name: The name of its file.
        sha256: See `Predictor`.
        task: What its outputs mean.
        classes: Class names in the order of its outputs.
        height: Of its input, in pixels.
        width: Of its input, in pixels.
        channels: Of its input: 1 gray, 3 RGB, 4 RGBA.
        architecture: The network in the architecture language.
        precision: Of its arithmetic.
        calibration: What happens to the logits before softmax.
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
    calibration: TemperatureScaling
    rejection: Rejection


class Health(Record):
    """What /livez and /readyz answer."""

    status: Literal["ok"] = "ok"


@dataclass
class ServerState:
    """What the parts of a worker share.

    Attributes:
        options: Of the server.
        access: Who may use it.
        predictor: The model.
        model: Facts on it.
        batcher: Classifies images.
        metrics: What is counted.
        stopping: Whether it is about to stop.
        body_bytes: Of request bodies in memory.
        uploads: Requests whose bodies have not arrived completely.
        tasks: Of all requests.
    """

    options: ServeOptions
    access: Access
    predictor: Predictor
    model: ModelInfo
    batcher: Batcher
    metrics: Metrics
    stopping: bool = False
    body_bytes: int = 0
    uploads: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    parsing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "convscope-parse"))

    @property
    def is_full(self) -> bool:
        """Whether no further request for a prediction is accepted."""
        return len(self.tasks) - self.uploads >= self.options.queue or self.batcher.is_full


def describe_model(predictor: Predictor) -> ModelInfo:
    """Facts on a model."""
    metadata = predictor.metadata
    height, width, channels = metadata.input_shape
    return ModelInfo(
        name=predictor.path.name, sha256=predictor.sha256, task=metadata.task, classes=metadata.classes,
        height=height, width=width, channels=channels, architecture=metadata.architecture,
        precision=metadata.precision, calibration=metadata.calibration, rejection=metadata.rejection,
    )  # fmt: skip


def make_app(state: ServerState, page: StaticPage | None = None) -> FastAPI:
    """The application of a worker, without the layers of `gateway`.

    Args:
        state: Of the worker.
        page: What /lab/ shows, if anything.
    """
    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY,
        title="convscope", version=version("convscope"), description="Classifies images with one model.",
    )  # fmt: skip
    _add_prediction(app, state)
    _add_health(app, state)
    if page:
        add_page(app, page, state.predictor)
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_wrong_route)
    app.add_exception_handler(Exception, _answer_failure)
    _add_description(app, bool(state.access.token))
    return app


def _add_description(app: FastAPI, token: bool) -> None:
    _, definitions = models_json_schema([(ProblemDetails, "serialization")], ref_template=REFERENCE)
    document = json.dumps(add_components(app.openapi(), definitions["$defs"], token)).encode()

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(document, media_type="application/json")


def _add_prediction(app: FastAPI, state: ServerState) -> None:
    model, token = state.model.model_dump_json().encode(), bool(state.access.token)

    @app.post(
        "/v1/predict", response_model=PredictionList, responses=problem_responses(PREDICT_KINDS, token),
        openapi_extra={"requestBody": request_body(state.options.max_images)},
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        """Classify one or many images: an image file, a form with files, or arrays in JSON."""
        return Response(await _predict(state, request), media_type="application/json")

    @app.get("/v1/model", response_model=ModelInfo, responses=problem_responses((), token))
    async def model_info() -> Response:
        """The model: classes, input, architecture, limits for answers."""
        return Response(model, media_type="application/json")


def _add_health(app: FastAPI, state: ServerState) -> None:
    @app.get("/livez", responses=problem_responses((), token=False))
    async def livez() -> Health:
        """Whether the server runs."""
        return Health()

    @app.get("/readyz", responses=problem_responses(("stopping",), token=False))
    async def readyz() -> Health:
        """Whether the server accepts requests: not while it is stopping."""
        if state.stopping:
            raise Problem("stopping", "the server is stopping: ask another one")
        return Health()

    @app.get("/metrics", response_class=PlainTextResponse, responses=problem_responses((), bool(state.access.token)))
    async def metrics() -> Response:
        """Numbers in the text format of Prometheus."""
        state.metrics.queue.set(state.batcher.pending)
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _predict(state: ServerState, request: Request) -> bytes:
    """The answer as JSON."""
    content_type = request.headers.get("content-type", "")
    check_media_type(content_type, request.headers.get("content-encoding", ""))
    body = Body(content_type, await _read_body(request))
    if state.batcher.is_full:
        raise overloaded()
    limit = state.options.max_images
    if len(body.content) <= SMALL_BODY_BYTES:
        sources = read_sources(body, limit)
    else:
        sources = await asyncio.get_running_loop().run_in_executor(state.parsing, read_sources, body, limit)
    try:
        results = await state.batcher.classify(sources, state.options.timeout)
    except Overload:
        raise overloaded() from None
    errors = [
        ImageProblem(index=index, detail=_name_image(str(result), sources[index].name))
        for index, result in enumerate(results)
        if isinstance(result, DataError)
    ]
    if errors:
        raise Problem("invalid-images", errors[0].detail, errors)
    return b'{"predictions":[' + b",".join(result for result in results if isinstance(result, bytes)) + b"]}"


def problem_response(problem: Problem, request_id: str) -> Response:
    """A problem as an answer."""
    return Response(problem.body(request_id), problem.status, problem.headers, MEDIA_TYPE)


def _name_image(message: str, name: str) -> str:
    """The message of a decoder, about an image of this name, without what only the command line could change."""
    return message.replace("image:", f"{name}:", 1).removesuffix(" or raise --max-megapixels")


async def _read_body(request: Request) -> bytes:
    """The body. `request.body()` would also keep it until the garbage collector finds the request."""
    parts = bytearray()
    async for part in request.stream():
        parts += part
    return bytes(parts)


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
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # `Gateway` answers HEAD as it answers GET
    return problem_response(Problem(kind, detail, headers=headers), request.state.request_id)


async def _answer_failure(request: Request, _: Exception) -> Response:
    """The answer to a bug; `Gateway` logs it."""
    return problem_response(
        Problem("internal-error", "an unexpected error, which the server has logged with this request id"),
        request.state.request_id,
    )
