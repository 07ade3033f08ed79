"""What an attacker, or a broken client, sends to a server; and whether each answer is what it should be."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from helpers.http_load import post

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF")
ANSWER_S = 15.0  # what is a hang


class RawAnswer(NamedTuple):
    """What came back over a socket: the status of the first answer (0 if none), its head, its body."""

    status: int
    head: bytes
    body: bytes


def fault_of(answer: RawAnswer, silent: bool = False) -> str:
    """What is wrong with an answer; "" if nothing.

    Args:
        answer: See `send_raw`.
        silent: Whether the server may close the connection without an answer.
    """
    if answer.status == 0:
        return "" if silent else "no answer"
    if answer.status >= 500 and answer.status != 503:
        return f"status {answer.status}"
    if answer.status == 503 and b"\r\nretry-after:" not in answer.head.lower():
        return "503 without Retry-After"
    if answer.status >= 400:
        if b"content-type: application/problem+json" not in answer.head.lower():
            return f"status {answer.status} without problem detail"
        if answer.body and json.loads(answer.body)["status"] != answer.status:
            return "another status in the problem detail"
    return ""


def send_raw(address: tuple[str, int], data: bytes, more: bytes = b"", half_close: bool = False) -> RawAnswer:
    """Send bytes over a connection of its own and read the first answer.

    Args:
        address: Of the server.
        data: Sent at once.
        more: Sent afterwards, in spite of an answer.
        half_close: Whether to end sending, as clients do that have nothing more to say.

    Raises:
        TimeoutError: There is no answer, and the connection stays open.
    """
    with socket.create_connection(address, timeout=ANSWER_S) as connection:
        try:
            connection.sendall(data)
            if more:
                connection.sendall(more)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer may be there all the same
        return read_answer(connection, head_only=data.startswith(b"HEAD "))


def read_answer(connection: socket.socket, head_only: bool = False) -> RawAnswer:
    received = b""
    while True:
        head, separator, body = received.partition(b"\r\n\r\n")
        if separator and head.startswith(b"HTTP/1.1 100"):
            received = body
            continue
        if separator:
            length = head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
            if head_only or len(body) >= int(length or 0):
                return RawAnswer(int(head[9:12]), head + b"\r\n", body[: int(length or 0)])
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            return RawAnswer(0, b"", received)
        received += part


def mutated_images(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged image files in five formats, each with a name that tells how to make it again."""
    generator = random.Random(seed)
    noise = np.random.default_rng(seed).integers(0, 256, (24, 20, 3), np.uint8)
    sound = {}
    for kind in FORMATS:
        buffer = BytesIO()
        Image.fromarray(noise).save(buffer, kind)
        sound[kind] = buffer.getvalue()
    for number in range(count):
        kind = FORMATS[number % len(FORMATS)]
        yield f"{kind} {number} of seed {seed}", _mutate(sound[kind], generator)


def _mutate(file: bytes, generator: random.Random) -> bytes:
    content = bytearray(file)
    for _ in range(generator.choice((1, 1, 2, 5, 20))):
        place = (
            generator.randrange(len(content))
            if generator.random() < 0.5
            else generator.randrange(min(64, len(content)))
        )
        way = generator.randrange(6)
        if way == 0:
            content[place] ^= 1 << generator.randrange(8)
        elif way == 1:
            content[place] = generator.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif way == 2:
            content[place : place + 4] = struct.pack(">I", generator.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000)))
        elif way == 3:
            del content[place:]
        elif way == 4:
            content[place:place] = generator.randbytes(generator.choice((1, 4, 100)))
        else:
            content[place:place] = content[place : place + generator.choice((1, 8, 200))]
        if not content:
            return b""
    return bytes(content)


def bombs() -> dict[str, bytes]:
    """Small files that claim, or have, many pixels."""
    return {
        "PNG of 100,000 x 100,000": png(100_000, 100_000, b""),
        "PNG of 2^31 - 1 columns": png(2**31 - 1, 1, b""),
        "PNG with all of 9,000 x 9,000 pixels": png(9000, 9000, zlib.compress(bytes(9001 * 9000), 1)),
        "PNG whose data is longer than its pixels": png(8, 8, zlib.compress(bytes(50_000_000), 1)),
        "PNG with a text of 50 MB": png(8, 8, zlib.compress(bytes(72)), zlib.compress(bytes(50_000_000))),
        "GIF of 65,535 x 65,535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0xF0, 0, 0) + bytes(6) + b",",
        "BMP of 2^31 - 1 rows": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        "PPM of 10^9 x 10^9": b"P6 1000000000 1000000000 255 ",
        "WebP of 16,384 x 16,384": b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(8),
        "TIFF of 2^32 - 1 x 2^32 - 1": b"II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHIIHHII", 256, 4, 1, 2**32 - 1, 257, 4, 1, 2**32 - 1) + bytes(4),
        "TIFF whose directory points at itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    }  # fmt: skip


def png(width: int, height: int, data: bytes, text: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    parts += [chunk(b"zTXt", b"Comment\0\0" + text)] if text else []
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def _get(path: str = "/livez", *lines: str, version: str = "1.1", host: str = "Host: localhost") -> bytes:
    head = "\r\n".join([f"GET {path} HTTP/{version}", *([host] if host else []), *lines])
    return head.encode("latin-1") + b"\r\n\r\n"


def _chunked(body: bytes) -> bytes:
    head = (
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head.encode() + body


# Requests that must get an answer 4xx, or none if nothing could be made out.
TRICKS: dict[str, bytes] = {
    "nothing": b"",
    "line ends only": b"\r\n\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(64) + b"\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": _get(version="9.9"),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "method with a space": b"GE T /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "method of 10,000 letters": b"G" * 10_000 + b" /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown method": b"BREW /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "proxy request": _get("http://example.org/"),
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "parent folders": _get("/../../../etc/passwd"),
    "encoded parent folders": _get("/%2e%2e/%2e%2e/etc/passwd"),
    "double slash": _get("//livez"),
    "backslash": _get("/..\\..\\livez"),
    "zero byte, encoded": _get("/livez%00"),
    "invalid percent": _get("/%zz"),
    "invalid UTF-8": _get("/%ff%fe"),
    "bytes over 127 in the path": _get("/liv\xe9z"),
    "semicolon": _get("/v1/model;jsessionid=1"),
    "trailing slash": _get("/v1/model/"),
    "upper case": _get("/V1/MODEL"),
    "path of 20,000 bytes": _get("/" + "a" * 20_000),
    "query of 20,000 bytes": _get("/livez?" + "a" * 20_000),
    "no host": _get(host=""),
    "two hosts": _get("/livez", "Host: evil.example"),
    "empty host": _get(host="Host: "),
    "host with a user": _get(host="Host: localhost@evil.example"),
    "host with a path": _get(host="Host: localhost/evil"),
    "host with a comma": _get(host="Host: localhost, evil.example"),
    "host that begins alike": _get(host="Host: localhost.evil.example"),
    "host that ends alike": _get(host="Host: evil-localhost"),
    "host as a number": _get(host="Host: 2130706433"),
    "host in octal": _get(host="Host: 0177.0.0.1"),
    "header without colon": _get("/livez", "nonsense"),
    "space before colon": _get("/livez", "X-A : 1"),
    "zero byte in header": _get("/livez", "X-A: \0"),
    "1,000 headers": _get("/livez", *[f"X-{i}: {'a' * 20}" for i in range(1000)]),
    "header of 100,000 bytes": _get("/livez", "X-A: " + "a" * 100_000),
    "negative length": post("/v1/predict", b"", Content_Length="-1"),
    "length in hexadecimal": _get("/livez", "Content-Length: 0x10"),
    "two lengths": _get("/livez", "Content-Length: 3", "Content-Length: 4"),
    "length of 40 digits": _get("/livez", "Content-Length: " + "9" * 40),
    "length and chunks": _get("/livez", "Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "gzip as transfer coding": _get("/livez", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "chunked twice": _get("/livez", "Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunk size that is no number": _chunked(b"zz\r\n"),
    "chunk size of 30 digits": _chunked(b"f" * 30 + b"\r\n"),
    "negative chunk size": _chunked(b"-1\r\n"),
    "chunk longer than its size": _chunked(b"3\r\nabcdef\r\n0\r\n\r\n"),
    "chunk extension of 100,000 bytes": _chunked(b"3;" + b"a" * 100_000),
    "endless trailer": _chunked(b"0\r\n" + b"X-A: 1\r\n" * 20_000),
    "body that is announced as too large": post("/v1/predict", b"", Content_Length="99999999999"),
    "compressed body": post("/v1/predict", zlib.compress(bytes(1_000_000)), Content_Encoding="gzip"),
    "other content type": post("/v1/predict", b"x", "text/html"),
    "content type with a line": post("/v1/predict", b"x", "image/png\t\x0b"),
    "boundary of 10,000 bytes": post("/v1/predict", b"x", "multipart/form-data; boundary=" + "a" * 10_000),
    "JSON of lists": post("/v1/predict", b'{"images":' + b"[" * 900_000, "application/json"),
    "JSON with empty rows": post("/v1/predict", b'{"images":[[' + b"[]," * 300_000 + b"[]]]}", "application/json"),
    "JSON in UTF-16": post("/v1/predict", '{"images": 1}'.encode("utf-16"), "application/json"),
    "JSON with a lone surrogate": post("/v1/predict", b'{"\\ud800": 1}', "application/json"),
    "web socket": _get("/v1/predict", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "page of another site": _get("/v1/model", "Origin: https://evil.example"),
    "page in a sandbox": _get("/v1/model", "Origin: null"),
    "page of another port": _get("/v1/model", "Origin: http://localhost:1"),
    "image on another site": _get("/v1/model", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
}  # fmt: skip


def try_tricks(address: tuple[str, int]) -> list[str]:
    """Send all of `TRICKS`; what was wrong."""
    faults = []
    for name, data in TRICKS.items():
        try:
            answer = send_raw(address, data, half_close=True)
        except TimeoutError:
            faults.append(f"{name}: hangs")
            continue
        silent = data in (b"", b"\r\n\r\n\r\n") or (data.endswith(b"X-A: 1\r\n") and answer.status == 0)
        fault = fault_of(answer, silent) or ("accepted" if 0 < answer.status < 400 else "")
        if fault:
            faults.append(f"{name}: {fault}")
    return faults


class SlowClients:
    """Connections that send, or read, a byte at a time.

    Args:
        address: Of the server.
        count: How many; a fourth each sends nothing, slow headers, a slow body, and reads slowly.
        interval: Seconds between two bytes.
    """

    def __init__(self, address: tuple[str, int], count: int, interval: float) -> None:
        self.open: dict[socket.socket, Iterator[bytes]] = {}
        self.longest = 0.0  # seconds until the server closed the last connection
        self.faults: list[str] = []
        self._interval, self._start = interval, time.monotonic()
        head = post("/v1/predict", bytes(10_000))[:-10_000]
        whole = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400
        for number in range(count):
            connection = socket.create_connection(address, timeout=ANSWER_S)
            first, slow = ((b"", b""), (b"", head[:-4]), (head, bytes(10_000)), (whole, b""))[number % 4]
            if number % 4 == 3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(first)
            self.open[connection] = iter([bytes([byte]) for byte in slow])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until the server has closed all connections, but no longer than this."""
        self._thread.join(seconds)
        for connection in self.open:
            connection.close()

    def _run(self) -> None:
        while self.open:
            for connection, slow in list(self.open.items()):
                try:
                    connection.send(next(slow, b""))
                    reset = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    closed = bool(reset) or not connection.recv(1)
                except BlockingIOError:
                    closed = False
                except OSError:
                    closed = True
                if closed:
                    self.longest = time.monotonic() - self._start
                    del self.open[connection]
                    connection.close()
            time.sleep(self._interval)
