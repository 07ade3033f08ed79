"""The body of a request becomes images: a form, one image file, or arrays in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, FormParser, parse_options_header

from convscope.deploy.server.batching import Source
from convscope.deploy.server.http.problems import ImageProblem, Problem
from convscope.errors import DataError
from convscope.images.read import read_image

FORM, JSON, BINARY = "multipart/form-data", "application/json", "application/octet-stream"
ACCEPTED = f"an image (image/png, image/jpeg, ...), {FORM} or {JSON}"
MAX_JSON_BYTES = 4_000_000  # Python needs up to 30 times as much for them
MAX_NAME_LENGTH = 200


class Body(NamedTuple):
    """A request's content type, as sent, and its body."""

    content_type: str
    content: bytes


def media_type(content_type: str) -> str:
    """The media type of a header, without parameters.

    >>> media_type("Multipart/Form-Data; boundary=x")
    'multipart/form-data'
    """
    return content_type.partition(";")[0].strip().lower()


def check_media_type(content_type: str, content_encoding: str) -> None:
    """Raise Problem unless bodies with these two headers can be read."""
    if content_encoding.lower() not in ("", "identity"):
        raise Problem("unsupported-media-type", f"expected no Content-Encoding, got {content_encoding[:100]!r}")
    kind = media_type(content_type)
    if kind not in (FORM, JSON, BINARY) and not kind.startswith("image/"):
        got = f"got {content_type[:100]!r}" if content_type else "got none"
        raise Problem("unsupported-media-type", f"expected the Content-Type of {ACCEPTED}, {got}")


def read_sources(body: Body, max_images: int) -> list[Source]:
    """The images of a request; those in files are not decoded yet.

    Args:
        body: The request's body; see `check_media_type`.
        max_images: More are refused.

    Raises:
        Problem: The body is not what its content type says, or has no or too many images.
    """
    kind = media_type(body.content_type)
    if kind == FORM:
        sources = _read_form(body, max_images)
    elif kind == JSON:
        sources = _read_json(body.content, max_images)
    else:
        sources = [Source("image", body.content)]
    if not sources:
        raise Problem("invalid-images", f"expected 1 to {max_images} images, got none")
    return sources


def _read_form(body: Body, max_images: int) -> list[Source]:
    sources: list[Source] = []

    def add(file: Any) -> None:
        if len(sources) == max_images:
            _refuse_number(max_images)
        name = (file.file_name or b"").decode("utf-8", "replace")[:MAX_NAME_LENGTH]
        sources.append(Source(name or "image", file.file_object.getvalue()))  # which copies nothing

    def refuse(field: Any) -> NoReturn:
        name = (field.field_name or b"").decode("utf-8", "replace")[:MAX_NAME_LENGTH]
        raise Problem("invalid-images", f"the part {name!r} has no file name: send each image as a file")

    _parse_form(body, add, refuse)
    return sources


def _parse_form(body: Body, on_file: Callable[[File], None], on_field: Callable[[Any], NoReturn]) -> None:
    _, options = parse_options_header(body.content_type)
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        boundary = options.get(b"boundary")
        config = {"MAX_MEMORY_FILE_SIZE": len(body.content) + 1, "UPLOAD_ERROR_ON_BAD_CTE": True}
        parser = FormParser(FORM, on_field, on_file, end, boundary=boundary, config=config)
        parser.write(body.content)
        parser.finalize()
    except (FormParserError, AssertionError) as error:
        raise Problem("malformed-request", f"the multipart body cannot be read: {error}") from None
    if not ended:
        raise Problem("malformed-request", "the multipart body ends before its last boundary: send it again")


def _read_json(content: bytes, max_images: int) -> list[Source]:
    if len(content) > MAX_JSON_BYTES:
        raise Problem(
            "too-large", f"expected at most {MAX_JSON_BYTES:,} bytes of JSON, got {len(content):,}: send image files"
        )
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        reason = "a number has too many digits" if "set_int_max_str_digits" in reason else reason
        raise Problem("malformed-request", f"the body is not JSON: {reason}") from None
    images = value.get("images") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(images, list):
        raise Problem("invalid-images", 'expected an object {"images": [image, ...]} and nothing else in it')
    if len(images) > max_images:
        _refuse_number(max_images)
    arrays, errors = [], []
    for index, image in enumerate(images):
        try:
            arrays.append(Source("image", _to_array(image)))
        except DataError as error:
            errors.append(ImageProblem(index=index, detail=str(error)))
    if errors:
        raise Problem("invalid-images", errors[0].detail, errors)
    return arrays


def _to_array(image: Any) -> NDArray[np.uint8]:
    """Nested lists of integers as uint8 (height, width) or (height, width, channels)."""
    expected = "image: expected rows of pixels, each a whole number 0 to 255 or a list of 1, 3 or 4 of them"
    if not isinstance(image, list) or not _only_integers(image):
        raise DataError(f"{expected}, got other values")
    try:
        values = np.array(image)
    except (ValueError, OverflowError):
        raise DataError(f"{expected}, got rows of different lengths") from None
    if values.dtype.kind != "i" or values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise DataError(f"{expected}, got numbers out of this range")
    pixels = values.astype(np.uint8)
    read_image(pixels)  # raises DataError if the shape is wrong
    return pixels


def _only_integers(values: list[Any], depth: int = 3) -> bool:
    """Whether nested lists hold nothing but integers; true and false are none."""
    kinds = set(map(type, values))
    if kinds == {list}:
        return depth > 1 and all(_only_integers(inner, depth - 1) for inner in values)
    return kinds == {int}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refuse_number(max_images: int) -> NoReturn:
    raise Problem(
        "invalid-images", f"expected at most {max_images} images per request, got more: send several requests"
    )
