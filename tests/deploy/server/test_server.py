"""What a server answers: predictions, the model, health, and a problem detail for everything else."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import convscope
from convscope.images.read import encode_png, read_image
from helpers.serving import Reply, RunningServer, form, serving

PREDICT = "/v1/predict"
SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"


def schema_of(command: str) -> dict[str, Any]:
    """The published JSON Schema of what a command prints."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{command}.json").read_text("utf-8"))
    return schema


def check_problem(reply: Reply, status: int, kind: str) -> dict[str, Any]:
    """Check that a reply is a problem detail of this kind; what it says."""
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json
    assert problem["status"] == status
    assert problem["type"].endswith(f"serving.md#{kind}")
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"]
    return problem


def expected(run: convscope.Run, files: list[bytes]) -> list[dict[str, Any]]:
    """What `Predictor` answers in this process."""
    return [one.model_dump(mode="json") for one in convscope.Predictor(run.model_file).predict(list(files))]


def check_predictions(reply: Reply, wanted: list[dict[str, Any]]) -> None:
    """Check that a reply has these predictions; batches of other sizes may round differently."""
    assert reply.status == 200, reply
    found = reply.json["predictions"]
    assert [one["label"] for one in found] == [one["label"] for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
        assert (one["status"], one["notes"]) == (other["status"], other["notes"])


def test_predict_with_image_file_answers_as_predictor(
    server: RunningServer, digits_run: convscope.Run, digit_files: list[bytes]
) -> None:
    for file in digit_files:
        check_predictions(server.predict(file), expected(digits_run, [file]))


def test_predict_with_image_of_over_2_megapixels_answers_as_predictor(
    digits_run: convscope.Run, digit_files: list[bytes]
) -> None:
    pixels = read_image(digit_files[0]).pixels[..., 0]
    large = encode_png(np.kron(pixels, np.ones((200, 200), np.uint8))[..., None])
    with serving(digits_run.model_file) as running:  # with the default limits
        for files in ([large], [digit_files[1], large, digit_files[2]]):
            check_predictions(running.request("POST", PREDICT, *form(*files)), expected(digits_run, files))


def test_predict_with_form_answers_in_order_with_file_names(
    server: RunningServer, digits_run: convscope.Run, digit_files: list[bytes]
) -> None:
    reply = server.request("POST", PREDICT, *form(*digit_files[:8]))
    check_predictions(reply, expected(digits_run, digit_files[:8]))
    assert [one["image"] for one in reply.json["predictions"]] == [f"{i}.png" for i in range(8)]


def test_predict_with_json_arrays_answers_as_for_files(
    server: RunningServer, digits_run: convscope.Run, digit_files: list[bytes]
) -> None:
    arrays = [read_image(file).pixels[..., 0].tolist() for file in digit_files[:3]]
    body = json.dumps({"images": arrays})
    reply = server.request("POST", PREDICT, body, {"Content-Type": "application/json"})
    check_predictions(reply, expected(digits_run, digit_files[:3]))


def test_what_a_ready_server_prints_is_accepted_by_its_schema(server: RunningServer) -> None:
    Draft202012Validator(schema_of("serve")).validate(server.info)


def test_predictions_are_accepted_by_the_schema_of_predict(server: RunningServer, digit_files: list[bytes]) -> None:
    Draft202012Validator(schema_of("predict")).validate(server.predict(digit_files[0]).json)


def test_model_is_described(server: RunningServer, digits_run: convscope.Run) -> None:
    model = server.request("GET", "/v1/model").json
    assert model["classes"] == [str(i) for i in range(10)]
    assert (model["height"], model["width"], model["channels"]) == (8, 8, 1)
    assert model["sha256"] == server.info["sha256"]
    assert model["name"] == digits_run.model_file.name


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_ok(server: RunningServer, path: str) -> None:
    assert server.request("GET", path).json == {"status": "ok"}


def test_head_answers_as_get_without_body(server: RunningServer) -> None:
    reply = server.request("HEAD", "/v1/model")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) == len(server.request("GET", "/v1/model").body)


def test_request_id_is_echoed_if_well_formed(server: RunningServer) -> None:
    reply = server.request("GET", "/livez", headers={"X-Request-ID": "trace-1.2_3"})
    assert reply.headers["x-request-id"] == "trace-1.2_3"
    reply = server.request("GET", "/livez", headers={"X-Request-ID": "a b;<script>"})
    assert len(reply.headers["x-request-id"]) == 32


BAD_REQUESTS = {
    "unknown path": ("GET", "/nope", None, {}, 404, "not-found"),
    "parent folder": ("GET", "/../../etc/passwd", None, {}, 404, "not-found"),
    "wrong method": ("GET", PREDICT, None, {}, 405, "method-not-allowed"),
    "trace": ("TRACE", "/livez", None, {}, 405, "method-not-allowed"),
    "form of a browser": (
        "POST", PREDICT, b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type",
    ),
    "no content type": ("POST", PREDICT, b"\x89PNG", {}, 415, "unsupported-media-type"),
    "empty body": ("POST", PREDICT, b"", {"Content-Type": "image/png"}, 422, "invalid-images"),
    "no image": ("POST", PREDICT, b"hello", {"Content-Type": "image/png"}, 422, "invalid-images"),
    "large body": ("POST", PREDICT, bytes(1_000_001), {"Content-Type": "image/png"}, 413, "too-large"),
    "large image": (
        "POST", PREDICT, b"P5 2000 2000 255 " + bytes(100), {"Content-Type": "image/x-portable-graymap"},
        422, "invalid-images",
    ),
    "broken JSON": ("POST", PREDICT, b'{"images": [', {"Content-Type": "application/json"}, 400, "malformed-request"),
    "deep JSON": ("POST", PREDICT, b"[" * 100_000, {"Content-Type": "application/json"}, 400, "malformed-request"),
    "NaN": ("POST", PREDICT, b'{"images": [[[NaN]]]}', {"Content-Type": "application/json"}, 400, "malformed-request"),
    "no JSON images": ("POST", PREDICT, b'{"images": []}', {"Content-Type": "application/json"}, 422, "invalid-images"),
    "other JSON": ("POST", PREDICT, b"[1, 2]", {"Content-Type": "application/json"}, 422, "invalid-images"),
    "true for 1": (
        "POST", PREDICT, b'{"images": [[[true]]]}', {"Content-Type": "application/json"}, 422, "invalid-images",
    ),
    "float": ("POST", PREDICT, b'{"images": [[[0.5]]]}', {"Content-Type": "application/json"}, 422, "invalid-images"),
    "256": ("POST", PREDICT, b'{"images": [[[256]]]}', {"Content-Type": "application/json"}, 422, "invalid-images"),
    "huge number": (
        "POST", PREDICT, b'{"images": [[[%s]]]}' % (b"9" * 400), {"Content-Type": "application/json"},
        422, "invalid-images",
    ),
    "ragged rows": (
        "POST", PREDICT, b'{"images": [[[1, 2], [3]]]}', {"Content-Type": "application/json"}, 422, "invalid-images",
    ),
    "two channels": (
        "POST", PREDICT, b'{"images": [[[[1, 2]]]]}', {"Content-Type": "application/json"}, 422, "invalid-images",
    ),
    "form without boundary": ("POST", PREDICT, b"x", {"Content-Type": "multipart/form-data"}, 400, "malformed-request"),
    "cut form": ("POST", PREDICT, form(b"abc")[0][:-9], form()[1], 400, "malformed-request"),
    "empty form": ("POST", PREDICT, *form(), 422, "invalid-images"),
    "too many images": ("POST", PREDICT, *form(*[b"x"] * 9), 422, "invalid-images"),
    "text field": (
        "POST", PREDICT, form(b"abc")[0].replace(b'; filename="0.png"', b""), form()[1], 422, "invalid-images",
    ),
    "other host": ("GET", "/livez", None, {"Host": "evil.example"}, 421, "wrong-host"),
    "broken host": ("GET", "/livez", None, {"Host": "a b"}, 400, "malformed-request"),
    "other page": ("GET", "/livez", None, {"Origin": "https://evil.example"}, 403, "foreign-origin"),
    "sandboxed page": ("GET", "/livez", None, {"Origin": "null"}, 403, "foreign-origin"),
    "image of other page": ("GET", "/v1/model", None, {"Sec-Fetch-Site": "cross-site"}, 403, "foreign-origin"),
    "long query": ("GET", "/livez?" + "x" * 9000, None, {}, 414, "long-address"),
    "long headers": ("GET", "/livez", None, {"X-Long": "x" * 70_000}, 431, "headers-too-large"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_request_is_answered_with_problem_detail(server: RunningServer, case: str) -> None:
    method, path, body, headers, status, kind = BAD_REQUESTS[case]
    check_problem(server.request(method, path, body, headers), status, kind)


def test_number_of_too_many_digits_is_refused_without_words_of_python(server: RunningServer) -> None:
    body = b'{"images": [[[' + b"1" * 5000 + b"]]]}"
    answer = server.request("POST", PREDICT, body, {"Content-Type": "application/json"})
    problem = check_problem(answer, 400, "malformed-request")
    assert problem["detail"] == "the body is not JSON: a number has too many digits"


def test_bad_images_are_listed_by_index(server: RunningServer, digit_files: list[bytes]) -> None:
    problem = check_problem(
        server.request("POST", PREDICT, *form(digit_files[0], b"no image", b"")), 422, "invalid-images"
    )
    assert [(error["index"], error["detail"].partition(":")[0]) for error in problem["errors"]] == [
        (1, "1.png"), (2, "2.png"),
    ]  # fmt: skip


def test_method_not_allowed_names_those_that_are(server: RunningServer) -> None:
    assert server.request("GET", PREDICT).headers["allow"] == "POST"
    assert server.request("POST", "/v1/model", b"").headers["allow"] == "GET, HEAD"


@pytest.mark.slow
def test_sigterm_ends_server_that_was_ready_with_code_0(digits_run: convscope.Run) -> None:
    with serving(digits_run.model_file) as running:
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        problem = check_problem(running.request("GET", "/readyz"), 503, "stopping")
        assert "stop" in problem["detail"]
        assert running.process.wait(30) == 0


def test_model_that_cannot_be_read_ends_with_code_4(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(np.arange(100, dtype=np.uint8).tobytes())
    with pytest.raises(AssertionError, match=r"bad\.onnx"), serving(tmp_path / "bad.onnx"):
        pass
