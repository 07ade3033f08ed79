"""The page as files to serve, and as one HTML file that works from disk.

The page's modules import and export by name, without circles, so that they become one script without a parser: each
becomes a minified block that puts what it exports into a variable.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from convscope.lab.minify import minify_scripts

PAGE = Path(__file__).parent / "page"

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)


def bundle_script(entry: str) -> str:
    """A module with all that it imports, as one script.

    Args:
        entry: Its path in `PAGE`.
    """
    parts: dict[Path, str] = {}
    _collect(PAGE / entry, parts)
    variables = ",".join(f"${i}" for i in range(len(parts)))
    return f'"use strict";let {variables};\n{minify_scripts([*parts.values()])}\n'


def bundle_page(model: bytes | None = None, name: str = "model.onnx", samples: Mapping[str, Any] | None = None) -> str:
    """The page as one HTML file that loads nothing else.

    Args:
        model: A model file that it opens; None asks for one.
        name: What the page calls the model.
        samples: Images of the model's data set that the page offers, as `RunImages.samples` has them.
    """
    html = (PAGE / "index.html").read_text("utf-8")
    style = re.sub(r"\s*([{};,])\s*|(?<=:) ", r"\1", (PAGE / "lab.css").read_text("utf-8")).replace(";}", "}")
    html = html.replace('<link rel="stylesheet" href="lab.css">', f"<style>\n{style}</style>")
    inside = [_script("lab-worker", "text/plain", bundle_script("worker.js"))]
    if model is not None:
        inside.append(_script("lab-model", "text/plain", b64encode(model).decode(), f' data-name="{escape(name)}"'))
    if samples is not None:
        inside.append(_script("lab-samples", "application/json", json.dumps(samples)))
        inside.append(f'<script type="module">\n{_closed(bundle_script("samples.js"))}</script>\n')
    script = f'{"".join(inside)}<script type="module">\n{_closed(bundle_script("app.js"))}</script>\n</html>'
    html = re.sub(r'<script type="module" src="\w+.js"></script>\n', "", html)
    return html.replace("</html>", script)


def _script(name: str, kind: str, text: str, attributes: str = "") -> str:
    return f'<script id="{name}" type="{kind}"{attributes}>{_closed(text)}</script>\n'


def _closed(text: str) -> str:
    """Text that cannot end the element it is in."""
    return text.replace("</script", "<\\/script")


def _collect(path: Path, parts: dict[Path, str]) -> None:
    """Add a module, after all that it imports."""
    if path in parts:
        return
    text = path.read_text("utf-8")
    for _, source in _IMPORT.findall(text):
        _collect((path.parent / source).resolve(), parts)
    variables = {one: f"${i}" for i, one in enumerate(parts)}
    parts[path] = _block(path, text, variables)


def _block(path: Path, text: str, variables: Mapping[Path, str]) -> str:
    """A module as a block that assigns its exports, as an array whose entries may be called anything, to a variable.

    Args:
        path: Of the module.
        text: Its code.
        variables: That hold the exports of the modules before.
    """

    def take(match: re.Match[str]) -> str:
        wanted = {name.strip() for name in match[1].split(",")}
        source = (path.parent / match[2]).resolve()
        names = [name if name in wanted else "" for name in _exports(source.read_text("utf-8"))]
        return f"const [{','.join(names).rstrip(',')}] = {variables[source]};\n"

    code = _IMPORT.sub(take, _EXPORT.sub(r"\1", text))
    return f"{{\n{code}\n${len(variables)} = [{', '.join(_exports(text))}];\n}}"


def _exports(text: str) -> list[str]:
    return [name for _, name in _EXPORT.findall(text)]
