"""Requests made from the server's own OpenAPI document, valid and invalid, find no fault (Schemathesis)."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from helpers.serving import RunningServer

pytestmark = pytest.mark.slow

EXAMPLES = 100  # per case
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = [  # of the others, nothing can be invalid
    ("POST", "/v1/predict", POSITIVE), ("POST", "/v1/predict", NEGATIVE), ("GET", "/v1/model", POSITIVE),
    ("GET", "/livez", POSITIVE), ("GET", "/readyz", POSITIVE), ("GET", "/metrics", POSITIVE),
]  # fmt: skip


@pytest.fixture(scope="module")
def document(server: RunningServer) -> Any:
    """The server's OpenAPI document."""
    return schemathesis.openapi.from_url(server.info["url"] + "/openapi.json")


def test_cases_are_all_operations_of_the_document(document: Any) -> None:
    found = {result.ok().label for result in document.get_all_operations()}
    assert found == {f"{method} {path}" for method, path, _ in CASES}


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_server_answers_as_its_document_says(document: Any, method: str, path: str, mode: GenerationMode) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=document[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        # A schema cannot say that bytes are an image, so valid requests may be refused.
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == ["application/problem+json"]
            assert answer.json()["status"] == answer.status_code

    check()
