"""Minified scripts do the same: run in Node before and after."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from convscope.lab.bundle import bundle_script
from convscope.lab.minify import minify_script, minify_scripts

CASES = (Path(__file__).parent / "minify_cases.txt").read_text("utf-8")
SCRIPTS = {name: script for name, _, script in (case.partition("\n") for case in CASES.split("# ")[1:])}


def run(script: str) -> str:
    node = str(shutil.which("node"))
    source = f'"use strict"; const print = (...values) => console.log(...values);\n{script}'
    return subprocess.run([node, "-e", source], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("name", SCRIPTS)
def test_minified_script_prints_the_same(name: str) -> None:
    script = SCRIPTS[name]
    printed = run(script)
    assert printed.strip()
    assert run(minify_script(script)) == printed


def test_minify_script_shortens_names_and_leaves_texts() -> None:
    script = 'const counter = (starting) => { const label = "counter of starting"; return label + starting; };'
    assert minify_script(script) == 'const c=a=>{const b="counter of starting";return b+a};'


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("const a = 1; const b = { c: 2, }; const d = () => { f(); }; f();", "const a=1,b={c:2},d=()=>{f()};f();"),
        ("let a = 1; const b = 2; f(); const c = 3;", "let a=1;const b=2;f();const c=3;"),
        ("const a = 1; (f)(); const b = 2;", "const a=1;(f)();const b=2;"),
        (
            "for (const { a } of b) { const c = a; if (c) f(); const d = 1; }",
            "for(const{a}of b){const c=a;if(c)f();const d=1}",
        ),
        ("{ const a = 1; } const b = 2;", "{const a=1}const b=2;"),
        ("async (a) => f(a, (b, c) => b)", "async a=>f(a,(b,c)=>b)"),
        ("f(true, false, undefined, 0.5, 10.5, a.true);", "f(!0,!1,void 0,.5,10.5,a.true);"),
    ],
)
def test_minify_script_leaves_out_needless_signs(script: str, expected: str) -> None:
    assert minify_script(script) == expected


@pytest.mark.usefixtures("node")
def test_minify_scripts_shortens_the_globals_that_are_used_often() -> None:
    lines = "print(Math.floor(1.5), Math.floor(2.5), Math.max(3, 4), new Float64Array(2).length);"
    scripts = [f"{{ const point = {{ Math: {{ floor: 9 }} }}; print(point.Math.floor); {lines} }}", lines, lines]
    found = minify_scripts(scripts)
    assert run(found) == run("\n".join(scripts))
    assert found.splitlines()[0] == "const $a=Math.floor,$b=print,$c=Math.max,$d=Float64Array;"
    assert "Math.floor(" not in found.split("\n", 1)[1].replace("a.Math.floor", "")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("let low = f(1, 2), high = [low, 3], { size } = high;", "let b=f(1,2),a=[b,3],{size}=a;"),
        ("try { f(); } catch (error) { g(error.name); }", "try{f()}catch(a){g(a.name)}"),
        ("for (let first = 0, last = 9; first < last; first++) f(last);", "for(let a=0,b=9;a<b;a++)f(b);"),
    ],
)
def test_minify_script_shortens_every_declared_name(script: str, expected: str) -> None:
    assert minify_script(script) == expected


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("entry", ["app.js", "worker.js"])
def test_bundled_script_is_valid(entry: str) -> None:
    command = [str(shutil.which("node")), "--check", "-"]
    found = subprocess.run(command, input=bundle_script(entry), capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
