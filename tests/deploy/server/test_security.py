"""Tokens, names of the server, and web pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import convscope
from convscope.deploy.server.http.problems import Problem
from convscope.deploy.server.http.security import check_access, cors_headers
from convscope.deploy.server.options import Access
from helpers.serving import RunningServer, serving

TOKEN = "correct-horse-battery-staple"
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def guarded(digits_run: convscope.Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a token that listens on all addresses and may be used by one page."""
    path = Path(tmp_path_factory.mktemp("token"), "token")
    path.write_text(TOKEN + "\n")
    words = ("--host", "0.0.0.0", "--token-file", str(path), "--allow-origin", PAGE, "--allow-host", "models.example")
    with serving(digits_run.model_file, *words) as running:
        yield running._replace(info={**running.info, "url": running.info["url"].replace("0.0.0.0", "127.0.0.1")})


@pytest.mark.parametrize("path", ["/v1/model", "/metrics", "/openapi.json", "/nope"])
@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
)
def test_without_the_token_nothing_is_told(guarded: RunningServer, path: str, given: str) -> None:
    reply = guarded.request("GET", path, headers={"Authorization": given} if given else {})
    assert (reply.status, reply.headers["content-type"]) == (401, "application/problem+json")
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_with_the_token_the_model_is_described(guarded: RunningServer) -> None:
    assert guarded.request("GET", "/v1/model", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200


def test_health_needs_no_token(guarded: RunningServer) -> None:
    assert [guarded.request("GET", path).status for path in ("/livez", "/readyz")] == [200, 200]


def test_allowed_page_gets_preflight_and_readable_answers(guarded: RunningServer) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    preflight = guarded.request("OPTIONS", "/v1/predict", headers=asked)
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, PAGE)
    reply = guarded.request("GET", "/v1/model", headers={"Origin": PAGE, "Authorization": f"Bearer {TOKEN}"})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, PAGE)


def test_preflight_of_other_page_is_refused(guarded: RunningServer) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = guarded.request("OPTIONS", "/v1/predict", headers=asked)
    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers


HOSTS = {  # Host: whether a local server, and one on all addresses, accepts it
    "localhost": (True, True),
    "LOCALHOST:80": (True, True),
    "127.0.0.1:8000": (True, True),
    "[::1]:8000": (True, True),
    "models.example": (True, True),
    "192.0.2.7": (False, True),
    "[2001:db8::1]:8000": (False, True),
    "evil.example": (False, False),
    "localhost.evil.example": (False, False),
    "2130706433": (False, False),
    "": (False, False),
}


@pytest.mark.parametrize("host", HOSTS)
def test_host_is_accepted_if_it_is_a_name_of_the_server(host: str) -> None:
    for any_address, accepted in zip((False, True), HOSTS[host], strict=True):
        access = Access(hosts=("models.example",), any_address=any_address)
        try:
            check_access(access, "GET", "/livez", {"host": host})
            found = True
        except Problem:
            found = False
        assert found == accepted


SITES = {  # headers: whether they are accepted without and with --allow-origin PAGE
    (): (True, True),
    (("origin", "http://localhost:8000"),): (True, True),
    (("origin", PAGE),): (False, True),
    (("origin", PAGE), ("sec-fetch-site", "cross-site")): (False, True),
    (("origin", "https://app.example.evil.example"),): (False, False),
    (("origin", "null"),): (False, False),
    (("origin", "http://localhost:8001"),): (False, False),
    (("sec-fetch-site", "cross-site"),): (False, False),
    (("sec-fetch-site", "same-site"),): (False, False),
    (("sec-fetch-site", "same-origin"),): (True, True),
    (("sec-fetch-site", "none"),): (True, True),
}


@pytest.mark.parametrize("headers", SITES)
def test_web_page_is_accepted_if_it_is_allowed(headers: tuple[tuple[str, str], ...]) -> None:
    for origins, accepted in zip(((), (PAGE,)), SITES[headers], strict=True):
        try:
            check_access(Access(origins=origins), "GET", "/livez", {"host": "localhost:8000", **dict(headers)})
            found = True
        except Problem:
            found = False
        assert found == accepted


def test_cors_headers_are_for_allowed_pages_only() -> None:
    assert cors_headers(Access(), PAGE) == {}
    assert cors_headers(Access(origins=(PAGE,)), "https://evil.example") == {"vary": "Origin"}
    assert cors_headers(Access(origins=(PAGE,)), PAGE)["access-control-allow-origin"] == PAGE
