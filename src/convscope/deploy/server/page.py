"""The page at /lab: static files in a folder, and the model file that the page opens."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from convscope._records import Record
from convscope.deploy.predictor import Predictor
from convscope.deploy.server.static import read_files

PATH = "/lab/"


class StaticPage(Record):
    """A page that a server shows.

    Attributes:
        folder: Of its files; `index.html` is what /lab/ answers, `model.onnx` is the model that is served.
        headers: Of each of its answers.
    """

    folder: Path
    headers: dict[str, str]


def add_page(app: FastAPI, page: StaticPage, predictor: Predictor) -> None:
    """Answer /lab/ and what is below it.

    Args:
        app: Of the worker.
        page: Its files are read once.
        predictor: Whose model file the page opens; not that of a foreign model, whose record the page does not read.
    """
    files = read_files(page.folder)
    headers = dict(page.headers)
    if predictor.path.suffix == ".onnx":
        files["model.onnx"] = predictor.path.read_bytes(), "application/octet-stream"
    name = quote("/".join(predictor.path.parts[-2:]))

    @app.get(PATH.rstrip("/"), include_in_schema=False)
    async def redirect() -> Response:
        return RedirectResponse(PATH, 308)

    @app.get(PATH + "{path:path}", include_in_schema=False)
    async def file(path: str) -> Response:
        if path not in files:
            raise HTTPException(404)
        content, media_type = files[path]
        more = {"X-Model-Name": name} if path == "model.onnx" else {}
        return Response(content, media_type=media_type, headers=headers | more)
