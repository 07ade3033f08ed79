"""Who may use the server: names by which it is addressed, web pages, and the token.

A web page that the user of this machine has open can send requests to 127.0.0.1, and with a name of its own that
resolves to 127.0.0.1 (DNS rebinding) even read the answers. So requests must address the server by a name that it
knows, and must not come from a page, unless that page is allowed.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Mapping

from convscope.deploy.server.http.problems import Problem
from convscope.deploy.server.options import Access

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
OPEN_PATHS = ("/livez", "/readyz")  # without a token, for those who watch over servers
OPEN_PAGE = re.compile(
    r"/lab(/(?!model\.onnx$).*)?"
)  # the page, not the model: a browser cannot send a token by itself

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")


def check_access(access: Access, method: str, path: str, headers: Mapping[str, str]) -> None:
    """Raise Problem if a request may not be answered.

    Args:
        access: Who may use the server.
        method: Of the request.
        path: Of the request.
        headers: Of the request, with names in lower case.
    """
    _check_host(access, headers.get("host", ""))
    _check_origin(access, path, headers)
    is_open = path in OPEN_PATHS or OPEN_PAGE.fullmatch(path)
    if access.token and not is_open and method != "OPTIONS":
        _check_token(access.token, headers.get("authorization", ""))


def cors_headers(access: Access, origin: str) -> dict[str, str]:
    """The headers that let an allowed web page read the answer; none for others."""
    if origin.lower() not in access.origins:
        return {"vary": "Origin"} if access.origins else {}
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": "Retry-After, X-Request-ID",
        "vary": "Origin",
    }


def preflight_headers() -> dict[str, str]:
    """What the preflight of an allowed web page is answered, apart from `cors_headers`."""
    return {
        "access-control-allow-methods": "GET, HEAD, POST",
        "access-control-allow-headers": "Authorization, Content-Type, X-Request-ID",
        "access-control-allow-private-network": "true",
        "access-control-max-age": "600",
    }


def _check_host(access: Access, host: str) -> None:
    match = _HOST.fullmatch(host)
    if not match:
        raise Problem("malformed-request", "expected one Host header with the name or address of this server")
    name = match[1].lower().removesuffix(".")
    if name in (*LOCAL_NAMES, *access.hosts) or (access.any_address and _is_address(name)):
        return
    raise Problem(
        "wrong-host", f"{name} is not a name of this server: the server's --allow-host {name} would make it one"
    )


def _check_origin(access: Access, path: str, headers: Mapping[str, str]) -> None:
    origin = headers.get("origin", "").lower()
    if origin in access.origins and origin:
        return
    site = headers.get("sec-fetch-site", "none").lower()
    if path == "/lab/" and headers.get("sec-fetch-mode") == "navigate":  # a link to the page, which cannot be framed
        site = "none"
    if origin not in ("", f"http://{headers['host'].lower()}") or (not origin and site not in ("none", "same-origin")):
        shown = origin[:200] or "another site"
        raise Problem(
            "foreign-origin", f"the request comes from a web page of {shown}, which --allow-origin does not name"
        )


def _check_token(token: str, authorization: str) -> None:
    scheme, _, given = authorization.partition(" ")
    sound = secrets.compare_digest(given.strip().encode(), token.encode())
    if not sound or scheme.lower() != "bearer":
        raise Problem(
            "missing-token",
            "expected the header Authorization: Bearer TOKEN with the server's token",
            headers={"www-authenticate": 'Bearer realm="convscope"'},
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
