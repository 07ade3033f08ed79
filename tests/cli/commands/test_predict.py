"""`convscope predict`: what it accepts, prints and writes; a file of answers survives anything."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import pandas
import pytest

from convscope import Predictor
from convscope._files import lock_file
from helpers.command import Command
from helpers.process import SCRIPT, start_command, wait_until

COLUMNS = [
    "image", "status", "label", "probability", "label_2", "probability_2", "label_3", "probability_3", "notes", "error",
]  # fmt: skip


def test_predict_good_image_between_bad_ones_is_classified(command: Command, workspace: Path) -> None:
    answer = command("predict", "run", "text.onnx", "big.png", "none.png", "--top", "1")
    assert answer.code == 3
    assert [line.split(":")[:2] for line in answer.err.splitlines()] == [
        ["convscope", " text.onnx"],
        ["convscope", " none.png"],
    ]
    name, done, classes = answer.out.splitlines()
    assert name.startswith("big.png: ")
    assert done.startswith("  resized 24x32 -> 6x8")
    assert re.fullmatch(r"  \d [\d.]+ %", classes)
    assert Predictor(workspace / "run").predict("big.png")[0].label == name[-1]


@pytest.mark.usefixtures("workspace")
def test_predict_model_file_without_run_folder_gives_the_same_answer(command: Command) -> None:
    shutil.copy("run/model.onnx", "model.onnx")
    assert command("predict", "model.onnx", "big.png").out == command("predict", "run", "big.png").out != ""


@pytest.fixture
def photos(workspace: Path) -> list[str]:
    """The paths of a dozen digits in a folder, and of a file that is not an image although its name says so."""
    (workspace / "photos").mkdir()
    names = [f"photos/{i}.png" for i in range(12)]
    for name in names:
        shutil.copy("big.png" if name[7] == "1" else "seven.png", name)
    Path("photos/3.png").write_bytes(b"broken")
    Path("photos/notes.txt").write_text("not an image")
    return names


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predict_out_csv_has_a_row_per_image_and_the_same_answers(command: Command, photos: list[str]) -> None:
    answer = command("predict", "run", "photos", "--out", "new/answers.csv")
    assert answer.code == 3
    assert answer.out == "new/answers.csv: 11 answered, 1 error\n"
    assert answer.err == "passed over 1 file other than images: 1 .txt\n"
    found = rows("new/answers.csv")
    assert list(found[0]) == COLUMNS
    assert [row["image"] for row in found] == photos
    assert [row["image"] for row in found if row["status"] == "error"] == ["photos/3.png"]
    assert found[3]["error"].startswith("photos/3.png: not an image, expected PNG")
    assert found[3]["label"] == found[3]["probability"] == ""
    (expected,) = Predictor("run").predict(photos[1])
    ranked = [value for pair in list(expected.probabilities.items())[:3] for value in map(str, pair)]
    assert list(found[1].values()) == [photos[1], "answered", *ranked, "; ".join(expected.notes), ""]
    assert {path.name for path in Path("new").iterdir()} == {"answers.csv"}


def test_predict_out_formats_agree(command: Command, photos: list[str]) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        assert command("predict", "run", "photos", "--out", f"a.{suffix}", "--top-k", "2").code == 3
    table = pandas.read_parquet("a.parquet")
    text = pandas.read_csv("a.csv", dtype={"label": str, "label_2": str})
    pandas.testing.assert_frame_equal(table, text, check_dtype=False)
    assert list(table.columns) == [*COLUMNS[:6], *COLUMNS[8:]]
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == table["image"].tolist() == photos
    assert [line["probability"] for line in lines] == pytest.approx(
        [None if pandas.isna(value) else value for value in table["probability"]]
    )
    assert list(lines[0]["probabilities"].items()) == [
        (table["label"][0], table["probability"][0]), (table["label_2"][0], table["probability_2"][0]),
    ]  # fmt: skip
    assert lines[3]["probabilities"] == {}


def test_predict_out_frame_in_python_equals_the_file(command: Command, photos: list[str]) -> None:
    Path("photos/3.png").unlink()
    command("predict", "run", "photos", "--out", "a.parquet")
    with pytest.warns(UserWarning, match="passed over 1 file other than images: 1 .txt"):
        frame = Predictor("run").predict("photos").to_frame()
    written = pandas.read_parquet("a.parquet").drop(columns="error")
    pandas.testing.assert_frame_equal(frame, written, check_dtype=False)
    assert frame["image"].tolist() == [name for name in photos if name != "photos/3.png"]


def cut(path: str, lines: int, rest: bytes) -> None:
    """Make a partial file of an earlier one: its header, some lines, and a row that a kill has torn."""
    content = Path(path).read_bytes().splitlines(keepends=True)
    Path(path).write_bytes(b"".join(content[: 1 + lines]) + rest)


@pytest.fixture
def partial(command: Command, photos: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a file of answers whose partial one is complete: the command ends before it writes the table."""
    with monkeypatch.context() as patch:
        patch.setattr("convscope.deploy.answers.replace_file", None)
        with pytest.raises(TypeError):
            command("predict", "run", "photos", "--out", "a.csv")
    assert len(Path("a.csv.part").read_text().splitlines()) == 1 + len(photos)
    return "a.csv"


@pytest.mark.parametrize("rest", [b"", b'{"image":"photos/5.png","sta', b"{}\n", b"\0" * 100, b"\xff\n"])
@pytest.mark.usefixtures("photos")
def test_predict_out_resumes_after_the_last_whole_row(command: Command, partial: str, rest: bytes) -> None:
    command("predict", "run", "photos", "--out", "whole.csv")
    cut(f"{partial}.part", 5, rest)
    answer = command("predict", "run", "photos", "--out", partial)
    assert answer.out == f"{partial}: 11 answered, 1 error\n5 images of these had been classified before\n"
    assert rows(partial) == rows("whole.csv")
    assert not Path(f"{partial}.part").exists()


def test_predict_out_resumed_reads_only_the_rest(command: Command, photos: list[str], partial: str) -> None:
    cut(f"{partial}.part", 5, b"")
    for name in photos[:5]:
        Path(name).write_bytes(b"changed")
    command("predict", "run", "photos", "--out", partial)
    assert [row["image"] for row in rows(partial) if row["status"] == "error"] == ["photos/3.png"]


def test_predict_out_resumed_with_other_images_holds_those_named_now(
    command: Command, photos: list[str], partial: str
) -> None:
    cut(f"{partial}.part", 5, b"")
    shutil.copy("big.png", "photos/new.png")
    Path("photos/0.png").unlink()
    answer = command("predict", "run", "photos", "--out", partial)
    assert answer.out.splitlines()[1:] == [
        "4 images of these had been classified before",
        "left out 1 earlier answer, of images that are no longer named",
    ]
    assert [row["image"] for row in rows(partial)] == [*photos[1:], "photos/new.png"]


CHANGES = {
    "model": (["other.onnx", "photos"], "a.csv.part holds answers of another model: use that one to resume"),
    "classes": (["run", "photos", "--top-k", "2"], "a.csv.part was started with --top-k 3, not 2: use that"),
    "size": (
        ["run", "photos", "--max-megapixels", "9"], "a.csv.part was started with --max-megapixels 25, not 9: use that",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("partial")
def test_predict_out_resumed_with_other_options_is_refused(command: Command, photos: list[str], change: str) -> None:
    words, message = CHANGES[change]
    if change == "model":
        assert command("train", "digits", "--epochs", "1", "--run", "other").code == 0
        shutil.copy("other/model.onnx", "other.onnx")
    before = Path("a.csv.part").read_bytes()
    answer = command("predict", *words, "--out", "a.csv")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"convscope: {message}, or add --force to start again\n"
    assert Path("a.csv.part").read_bytes() == before
    assert command("predict", *words, "--out", "a.csv", "--force").code == 3
    assert [row["image"] for row in rows("a.csv")] == photos


@pytest.mark.usefixtures("photos")
def test_predict_out_partial_file_of_another_program_is_refused(command: Command) -> None:
    for content in (b"", b"mine\n", bytes(100_000)):
        Path("a.csv.part").write_bytes(content)
        answer = command("predict", "run", "photos", "--out", "a.csv")
        assert answer.code == 2
        assert answer.err == (
            "convscope: a.csv.part was not written by this version of convscope predict: remove it, or add --force to "
            "start again\n"
        )
        assert Path("a.csv.part").read_bytes() == content


def test_predict_out_existing_file_is_kept_without_force(command: Command, photos: list[str]) -> None:
    Path("a.csv").write_text("mine")
    answer = command("predict", "run", "photos", "--out", "a.csv")
    assert (answer.code, answer.err) == (
        2, "convscope: a.csv exists: choose another name with --out, or add --force\n",
    )  # fmt: skip
    assert Path("a.csv").read_text() == "mine"
    assert command("predict", "run", "photos", "--out", "a.csv", "--force").code == 3
    assert len(rows("a.csv")) == len(photos)


@pytest.mark.usefixtures("photos")
def test_predict_out_file_in_use_is_refused(command: Command) -> None:
    with lock_file(Path("a.csv")):
        answer = command("predict", "run", "photos", "--out", "a.csv")
    assert (answer.code, answer.err) == (
        2, "convscope: a.csv is in use by another process: wait until it ends, or stop it\n",
    )  # fmt: skip
    assert command("predict", "run", "photos", "--out", "a.csv").code == 3


@pytest.mark.parametrize(
    ("out", "code", "message"),
    [
        ("a.txt", 2, "--out a.txt: expected a name that ends in .csv, .jsonl, .parquet"),
        ("-", 2, "--out -: expected a name that ends in .csv, .jsonl, .parquet"),
        ("folder.csv", 1, "cannot write folder.csv: it is a folder; choose another name"),
        ("seven.png/a.csv", 1, "cannot write seven.png/a.csv.part: File exists; free some space or choose"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_predict_out_that_cannot_be_written_is_refused_at_once(
    command: Command, out: str, code: int, message: str
) -> None:
    Path("folder.csv").mkdir()
    answer = command("predict", "run", "photos", "--out", out)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(f"convscope: {message}")


@pytest.mark.usefixtures("photos")
def test_predict_out_parquet_without_pyarrow_names_the_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope._extras.find_spec", lambda _: None)
    answer = command("predict", "run", "photos", "--out", "a.parquet")
    assert (answer.code, answer.err) == (
        2, "convscope: writing Parquet needs the parquet extra: pip install 'convscope[parquet]'\n",
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are Unicode")
def test_predict_out_odd_names_are_readable_by_other_programs(command: Command, workspace: Path) -> None:
    odd = ["a,b.png", 'q"uote.png', "new\nline.png", "re\rturn.png", "\u732b.png"]
    (workspace / "odd").mkdir()
    for name in odd:
        shutil.copy("seven.png", f"odd/{name}")
    shutil.copy(b"seven.png", b"odd/caf\xe9.png")
    for suffix in ("csv", "jsonl", "parquet"):
        assert command("predict", "run", "odd", "--out", f"a.{suffix}").code == 0
    found = [
        pandas.read_csv("a.csv")["image"].tolist(),
        pandas.read_json("a.jsonl", lines=True)["image"].tolist(),
        pandas.read_parquet("a.parquet")["image"].tolist(),
    ]
    assert [sorted(names) for names in found] == 3 * [sorted(f"odd/{name}" for name in (*odd, "caf\\xe9.png"))]


def test_predict_sources_from_a_list_on_standard_input(
    command: Command, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = command("predict", "run", *photos[:3], "--json")
    for start, end, words in (("", "\n", []), ("\ufeff", "\r\n", []), ("", "\0", ["-0"]), ("", "\0", ["--null"])):
        listed = io.TextIOWrapper(io.BytesIO((start + "".join(f"{name}{end}" for name in photos[:3])).encode()))
        monkeypatch.setattr(sys, "stdin", listed)
        assert command("predict", "run", "--files-from", "-", *words, "--json") == expected
    Path("list").write_text("\n".join(photos[1:3]))
    assert command("predict", "run", photos[0], "--files-from", "list", "--json") == expected


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("", 2, "expected at least one image, folder, archive or pattern, got none"),
        ("--files-from empty", 2, "expected at least one image, folder, archive or pattern, got none"),
        ("--files-from none", 3, "none: no such file; check the spelling and the folder"),
        ("- --files-from -", 2, "standard input is either an image (-) or the list (--files-from -)"),
        ("big.png --null", 2, "--null needs --files-from"),
        ("big.png --threads 0", 2, "Invalid value for '--threads'"),
        ("big.png --top-k 0", 2, "Invalid value for '--top-k'"),
        ("big.png --batch-size 0", 2, "Invalid value for '--batch-size'"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_predict_wrong_options_are_refused(command: Command, words: str, code: int, message: str) -> None:
    Path("empty").write_bytes(b"\n\n")
    answer = command("predict", "run", *words.split())
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(f"convscope: {message}")


@pytest.mark.usefixtures("workspace")
def test_predict_listed_name_with_a_null_character_is_an_error(command: Command) -> None:
    Path("list").write_bytes(b"a\0b.png\nbig.png\n")
    answer = command("predict", "run", "--files-from", "list")
    assert answer.code == 3
    assert answer.out.startswith("big.png: ")
    assert answer.err == (
        "convscope: a\\x00b.png: no file has a null character in its name; check where the name comes from\n"
    )


@pytest.mark.usefixtures("workspace")
def test_predict_image_on_standard_input_is_never_resumed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.csv.part").write_bytes(b"")
    for name in ("big.png", "seven.png"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(name).read_bytes())))
        answer = command("predict", "run", "-", "--out", "a.csv", "--force")
        assert answer.code == 0
        assert [row["image"] for row in rows("a.csv")] == ["standard input"]
        assert rows("a.csv")[0]["label"] == Predictor("run").predict(name)[0].label


@pytest.mark.skipif(os.name == "nt", reason="needs the limits of POSIX")
def test_predict_out_on_a_full_disk_is_resumed(command: Command, photos: list[str], workspace: Path) -> None:
    limited = ["bash", "-c", f'ulimit -f 2; exec {SCRIPT} "$@"', "-"]  # KiB, as if the disk were full
    process = start_command(workspace, "predict", "run", "photos", "--out", "a.csv", program=limited)
    _, err = process.communicate()
    assert process.returncode == 1
    advice = "free some space, and run the same command again to resume"
    assert err.endswith(f"convscope: cannot write a.csv.part: File too large; {advice}\n")
    assert not Path("a.csv").exists()
    assert command("predict", "run", "photos", "--out", "a.csv").code == 3
    assert [row["image"] for row in rows("a.csv")] == photos


def test_predict_archive_gives_the_answers_of_its_files(command: Command, photos: list[str]) -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in photos:
            archive.write(name)
    from_files, from_archive = (command("predict", "run", source, "--json") for source in ("photos", "a.zip"))
    assert from_files.code == from_archive.code == 3
    assert from_archive.out.replace("a.zip/", "") == from_files.out


@pytest.mark.usefixtures("photos")
def test_predict_top_k_limits_text_and_json(command: Command) -> None:
    assert command("predict", "run", "big.png").out.splitlines()[2].count("%") == 3
    assert command("predict", "run", "big.png", "--top-k", "5").out.splitlines()[2].count("%") == 5
    for words, count in (([], 10), (["--top-k", "4"], 4), (["--top", "2"], 2)):
        (found,) = json.loads(command("predict", "run", "big.png", "--json", *words).out)["predictions"]
        assert len(found["probabilities"]) == count


@pytest.mark.parametrize(
    "words", [["--threads", "1"], ["--threads", "3"], ["--batch-size", "1"], ["--batch-size", "5"]]
)
@pytest.mark.usefixtures("photos")
def test_predict_threads_and_batch_size_do_not_change_answers(command: Command, words: list[str]) -> None:
    expected, found = (command("predict", "run", "photos", "--json", *more) for more in ([], words))
    for one, other in zip(json.loads(found.out)["predictions"], json.loads(expected.out)["predictions"], strict=True):
        assert one.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-6)
        assert one == other


def write_many(folder: Path, count: int) -> list[str]:
    (folder / "many").mkdir()
    for i in range(count):
        (folder / f"many/{i}.png").hardlink_to(folder / "seven.png")
    return [f"many/{i}.png" for i in range(count)]


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_predict_out_interrupted_says_how_to_resume(command: Command, workspace: Path) -> None:
    names, part = write_many(workspace, 3_000), workspace / "a.csv.part"
    process = start_command(workspace, "predict", "run", "many", "--out", "a.csv")
    wait_until(lambda: part.exists() and part.stat().st_size > 10_000, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (
        130, "a.csv.part keeps the answers so far: run the same command again to resume\n",
    )  # fmt: skip
    assert command("predict", "run", "many", "--out", "a.csv").code == 0
    assert [row["image"] for row in rows("a.csv")] == names


@pytest.mark.slow
def test_predict_out_killed_again_and_again_has_every_image_once(command: Command, workspace: Path) -> None:
    names, part, kills = write_many(workspace, 3_000), workspace / "a.csv.part", 0
    size = 0
    while kills < 4:
        process = start_command(workspace, "predict", "run", "many", "--out", "a.csv")
        wait_until(lambda size=size: part.exists() and part.stat().st_size > size + 20_000, process)  # type: ignore[misc]
        process.kill()
        process.communicate()
        kills, size = kills + 1, part.stat().st_size
    answer = command("predict", "run", "many", "--out", "a.csv")
    assert re.fullmatch(
        r"a.csv: 3,000 answered, 0 errors\n[\d,]+ images of these had been classified before\n", answer.out
    )
    assert [row["image"] for row in rows("a.csv")] == names
