"""The description of the API, as /openapi.json: what each path takes and answers, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convscope.deploy.server.http.problems import DOCUMENTATION, KINDS, MEDIA_TYPE
from convscope.deploy.server.inputs import BINARY, FORM, JSON

FILE = {"type": "string", "format": "binary"}
IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff", BINARY)

PIXEL = {"type": "integer", "minimum": 0, "maximum": 255}
GRAY_ROW = {"type": "array", "minItems": 1, "items": PIXEL}
COLORS = [{"type": "array", "minItems": count, "maxItems": count, "items": PIXEL} for count in (1, 3, 4)]
COLOR_ROW = {"type": "array", "minItems": 1, "items": {"anyOf": COLORS}}

PREDICT_KINDS = (
    "malformed-request", "slow-request", "too-large", "unsupported-media-type", "invalid-images", "overloaded",
)  # fmt: skip
COMMON_KINDS = ("malformed-request", "foreign-origin", "too-large", "long-address", "wrong-host", "headers-too-large")


def request_body(max_images: int) -> dict[str, Any]:
    """What /v1/predict takes."""
    images = {"type": "array", "minItems": 1, "maxItems": max_images}
    rows = {"type": "array", "minItems": 1}
    json_images = {**images, "items": {"anyOf": [{**rows, "items": GRAY_ROW}, {**rows, "items": COLOR_ROW}]}}
    content: dict[str, Any] = {kind: {"schema": FILE} for kind in IMAGE_TYPES}
    files = {**images, "items": FILE}  # under any names
    content[FORM] = {
        "schema": {
            "type": "object", "properties": {"image": files}, "minProperties": 1, "additionalProperties": files,
        }
    }  # fmt: skip
    content[JSON] = {
        "schema": _object({"images": json_images}),
        "examples": {
            "gray": {"summary": "One gray image of 2x2 pixels", "value": {"images": [[[0, 255], [255, 0]]]}},
            "color": {
                "summary": "Two RGB images of 1x2 pixels",
                "value": {"images": [[[[255, 0, 0], [0, 0, 255]]], [[[0, 0, 0], [255, 255, 255]]]]},
            },
        },
    }
    return {"required": True, "content": content}


def problem_responses(kinds: tuple[str, ...], token: bool) -> dict[int | str, dict[str, Any]]:
    """The answers of a path that are problem details.

    Args:
        kinds: Of `KINDS`, apart from those of every path.
        token: Whether the server wants one.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for kind in sorted({*COMMON_KINDS, *kinds, *(["missing-token"] if token else [])}):
        status, title = KINDS[kind]
        value = {
            "type": DOCUMENTATION + kind, "title": title, "status": status,
            "detail": "what was expected, what came, what to do", "request_id": "7caf6dd279883f54b7dcd3c17e0bcc3a",
        }  # fmt: skip
        schema = {"$ref": "#/components/schemas/ProblemDetails"}
        examples = found.get(status, {}).get("content", {MEDIA_TYPE: {"examples": {}}})[MEDIA_TYPE]["examples"]
        found[status] = {
            "description": title,
            "content": {MEDIA_TYPE: {"schema": schema, "examples": {**examples, kind: {"value": value}}}},
        }
    return found


def add_components(document: dict[str, Any], schemas: Mapping[str, Any], token: bool) -> dict[str, Any]:
    """The document with schemas that no route returns as its result, and with the token if one is needed."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for path in ("/livez", "/readyz"):
            document["paths"][path]["get"]["security"] = []
    return document


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip
