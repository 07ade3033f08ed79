"""A hostile web page in the browser of someone who runs a server: it reads nothing, and its requests are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import convscope
from helpers.browser import chromium
from helpers.serve_checks import metrics_of
from helpers.serving import RunningServer, serving

pytestmark = pytest.mark.slow

READ = ("READ", "OPEN", "LOADED")  # what must not happen
ATTACKS = """async base => {
  const found = {};
  const attempt = async (name, run) => {
    const late = new Promise(done => setTimeout(() => done('nothing happened'), 3000));
    try { found[name] = await Promise.race([run(), late]); } catch { found[name] = 'blocked'; }
  };
  const read = async (path, options) => `READ ${(await fetch(base + path, options)).status}`;
  for (const path of ['/v1/model', '/livez', '/readyz', '/metrics', '/openapi.json']) {
    await attempt(`fetch ${path}`, () => read(path));
    await attempt(`opaque fetch ${path}`, async () => (await fetch(base + path, {mode: 'no-cors'})).type);
  }
  const types = ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=b', 'image/png',
                 'application/json'];
  for (const type of types) {
    const options = {method: 'POST', headers: {'Content-Type': type}, body: '{"images": [[[1]]]}'};
    await attempt(`post ${type}`, () => read('/v1/predict', options));
  }
  await attempt('opaque form', async () => {
    const form = new FormData();
    form.append('image', new Blob(['x']), 'a.png');
    return (await fetch(base + '/v1/predict', {method: 'POST', mode: 'no-cors', body: form})).type;
  });
  await attempt('beacon', async () => String(navigator.sendBeacon(base + '/v1/predict', 'x')));
  await attempt('XMLHttpRequest', () => new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open('GET', base + '/v1/model');
    request.onload = () => done('READ');
    request.onerror = fail;
    request.send();
  }));
  await attempt('credentials', () => read('/v1/model', {credentials: 'include'}));
  await attempt('token', () => read('/v1/model', {headers: {Authorization: 'Bearer x'}}));
  const tags = {img: 'src', script: 'src', link: 'href', video: 'src', audio: 'src', object: 'data', embed: 'src'};
  for (const [tag, attribute] of Object.entries(tags)) {
    await attempt(tag, () => new Promise((done, fail) => {
      const element = document.createElement(tag);
      if (tag === 'link') element.rel = 'stylesheet';
      element[attribute] = base + '/v1/model';
      element.onload = () => done(tag === 'object' || tag === 'embed' ? 'opaque' : 'LOADED');
      element.onerror = fail;
      document.body.append(element);
      setTimeout(() => done('nothing happened'), 300);
    }));
  }
  await attempt('iframe', () => new Promise(done => {
    const frame = document.createElement('iframe');
    frame.src = base + '/v1/model';
    frame.onload = () => {
      try { done(`READ ${frame.contentDocument.body.innerText}`); } catch { done('opaque'); }
    };
    document.body.append(frame);
  }));
  await attempt('websocket', () => new Promise((done, fail) => {
    const socket = new WebSocket(base.replace('http', 'ws') + '/v1/predict');
    socket.onopen = () => done('OPEN');
    socket.onerror = fail;
  }));
  await attempt('event source', () => new Promise((done, fail) => {
    const source = new EventSource(base + '/metrics');
    source.onopen = () => done('OPEN');
    source.onerror = fail;
  }));
  await attempt('worker', () => new Promise((done, fail) => {
    new Worker(base + '/v1/model').onerror = fail;
    setTimeout(() => done('nothing happened'), 300);
  }));
  return found;
}"""


class _Page(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><body></body>")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def page_port() -> Iterator[int]:
    """Where the page is."""
    pages = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    yield pages.server_port
    pages.shutdown()
    pages.server_close()


@pytest.fixture(scope="module")
def victim(digits_run: convscope.Run) -> Iterator[RunningServer]:
    """A server as `convscope serve` starts it."""
    with serving(digits_run.model_file) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for which a name of the attacker leads to this machine (DNS rebinding)."""
    with chromium("--host-resolver-rules=MAP evil.example 127.0.0.1") as instance:
        yield instance


@pytest.mark.parametrize(
    ("page_host", "server_host"),
    [("127.0.0.1", "127.0.0.1"), ("evil.example", "127.0.0.1"), ("evil.example", "evil.example")],
    ids=["other port", "other host", "rebinding"],
)
def test_hostile_page_reads_nothing_and_gets_no_prediction(
    browser: Any, victim: RunningServer, page_port: int, page_host: str, server_host: str
) -> None:
    port = victim.address[1]
    page = browser.new_page()
    page.goto(f"http://{page_host}:{page_port}")
    found = page.evaluate(ATTACKS, f"http://{server_host}:{port}")
    page.close()
    assert len(found) >= 30
    assert {name: result for name, result in found.items() if result.startswith(READ)} == {}
    served = {name for name, count in metrics_of(victim).items() if name.startswith("convscope_answer") and count}
    assert served == set()  # no image was classified


def test_page_of_the_attacker_that_leads_to_the_server_is_refused(browser: Any, victim: RunningServer) -> None:
    page = browser.new_page()
    reply = page.goto(f"http://evil.example:{victim.address[1]}/v1/model")
    assert (reply.status, reply.headers["content-type"]) == (421, "application/problem+json")
    assert "classes" not in json.loads(reply.body())
    page.close()
