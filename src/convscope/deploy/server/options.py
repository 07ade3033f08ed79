"""The options of `convscope serve`, checked before anything starts."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from convscope._records import Record
from convscope.errors import DataError, UsageError

TOKEN_VARIABLE = "CONVSCOPE_TOKEN"
MIN_TOKEN_LENGTH = 16
BACKLOG = 2048
IMAGES_PER_REQUEST = 4  # for which there is room if the queue is full
SEND_BUFFER_BYTES = 2**17  # what the kernel keeps for a client that does not read

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750: b64token
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:\d{1,5})?")


class ServeOptions(Record):
    """Where a server listens, and what it accepts.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        workers: Processes that answer requests.
        threads: Threads per worker that decode and classify; None for one per core, divided among the workers,
            at most 4.
        queue: Requests, and fourths of images, that may wait per worker; further ones are refused with 503.
        timeout: Seconds until an accepted request is answered, or refused with 503.
        read_timeout: Seconds until a request has arrived completely; its headers have a third of it. An answer that
            is not read for so long is given up.
        drain_delay: Seconds for which a stopping server still accepts connections.
        max_megapixels: Larger images are refused before they are decoded; WebP from three quarters of it on.
        max_body_mb: Larger request bodies are refused, in 10^6 bytes.
        max_images: Requests with more images are refused.
        max_connections: Further connections per worker are refused.
    """

    host: str = Field("127.0.0.1", description="Address to listen on; any but this machine's own needs a token.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Processes; each is restarted if it crashes.")
    threads: int | None = Field(
        None, ge=1, le=64, description="Threads per worker; by default one per core, at most 4."
    )
    queue: int = Field(64, ge=1, le=10_000, description="Requests that may wait per worker; others get 503.")
    timeout: float = Field(10.0, ge=0.1, le=300, description="Seconds within which a request is answered, or gets 503.")
    read_timeout: float = Field(30.0, ge=1, le=300, description="Seconds within which a request must have arrived.")
    drain_delay: float = Field(
        0.5, ge=0, le=15, description="Seconds during which a stopping server still accepts connections."
    )
    max_megapixels: float = Field(12.5, ge=0.001, le=100, description="Reject larger images, in millions of pixels.")
    max_body_mb: float = Field(16.0, ge=0.01, le=1000, description="Reject larger request bodies, in 10^6 bytes.")
    max_images: int = Field(64, ge=1, le=1000, description="Reject requests with more images.")
    max_connections: int = Field(1000, ge=1, le=100_000, description="Connections per worker; others get 503.")

    @model_validator(mode="after")
    def _check_that_the_largest_request_fits(self) -> Self:
        if self.max_images > self.max_waiting_images:
            raise ValueError(
                f"--max-images {self.max_images} exceeds {IMAGES_PER_REQUEST} times --queue {self.queue}: "
                "such a request could never be accepted"
            )
        return self

    @property
    def max_waiting_images(self) -> int:
        """Images that may wait per worker."""
        return IMAGES_PER_REQUEST * self.queue

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)


class Access(Record):
    """Who may use a server.

    Attributes:
        hosts: Names by which clients may address it, in lower case, apart from those of this machine itself.
        origins: Web pages that may use it, as `https://example.org`.
        token: What clients have to send as `Authorization: Bearer`; "" if nothing.
        any_address: Whether clients may address it by any IP address.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    token: str = Field(default="", repr=False)
    any_address: bool = False


def make_access(options: ServeOptions, hosts: list[str], origins: list[str], token_file: Path | None) -> Access:
    """Who may use a server with these options.

    Args:
        options: They decide whether a token is needed.
        hosts: Names by which clients may address the server.
        origins: Origins of web pages that may use it.
        token_file: The file with the token; None for the environment variable.

    Raises:
        UsageError: A name is none, or a token is missing, too short or not made of allowed characters.
        DataError: The token's file cannot be read.
    """
    token = _read_token(token_file)
    if not token and not options.is_local:
        raise UsageError(
            f"--host {options.host}: other machines could connect, so the server needs a token: "
            f"set {TOKEN_VARIABLE} or give --token-file"
        )
    for host in hosts:
        if not _HOST_NAME.fullmatch(host):
            raise UsageError(f"--allow-host {host}: expected a name without port, such as models.example.org")
    for origin in origins:
        if not _ORIGIN.fullmatch(origin.lower()):
            raise UsageError(f"--allow-origin {origin}: expected an origin such as https://example.org")
    return Access(
        hosts=tuple(host.lower() for host in hosts),
        origins=tuple(origin.lower() for origin in origins),
        token=token,
        any_address=not options.is_local,
    )


def is_loopback(host: str) -> bool:
    """Whether all addresses of a host are reached from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return all(ipaddress.ip_address(address).is_loopback for address in _addresses(host))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: The address is not one of this machine, or the port is in use.
    """
    address = _addresses(host)[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family, backlog=BACKLOG)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit it
        return listener
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port} ({error.strerror}): choose another --port or --host"
        ) from None


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(f"--host {host}: not an address of this machine; expected one such as 127.0.0.1") from None
    return [str(address[0]).partition("%")[0] for *_, address in found]


def _read_token(token_file: Path | None) -> str:
    if token_file is None:
        token, source = os.environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE
        if not token:
            return ""
    else:
        source = str(token_file)
        try:
            token = token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
            raise DataError(f"{source}: the token cannot be read ({reason})") from None
    if len(token) < MIN_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
        raise UsageError(
            f"{source}: expected a token of at least {MIN_TOKEN_LENGTH} letters, digits and -._~+/, "
            f"got {len(token)} characters; make one with: openssl rand -hex 32"
        )
    return token
