"""Rows of the bad-input table: commands, networks, runs and model files that must be refused in one line.

Every row runs in a folder with a valid `run`, images (`seven.png`, `large.png`), data sets of one class and of two
(`one.npz`, `two.npz`) and files that are no models (`text.onnx`, `empty.onnx`, `cut.onnx`, `foreign.onnx`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from onnx import TensorProto, helper
from safetensors.numpy import save

from cases.bad_inputs import KERAS, BadInput, npz
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.backends.onnx.export import to_onnx
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.data.load import load_data
from convscope.evaluation.metrics import evaluate
from convscope.images.read import encode_png
from convscope.runs.config import BEST_WEIGHTS_FILE, LAST_WEIGHTS_FILE, METRICS_FILE, MODEL_FILE, TRAINING_IMAGES_FILE
from convscope.runs.folder import RunWriter
from convscope.runs.weights import save_hashes

Alter = Callable[[Path], object]


def _foreign_onnx() -> bytes:
    """A valid ONNX file that convscope did not write."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


@cache
def workspace_files() -> dict[str, bytes]:
    """The files in the folder. The run's network has conv1, relu1, flatten1 and the classifier, and is untrained."""
    with TemporaryDirectory() as folder:
        config = make_plan(load_data("digits"), TrainOptions(model="conv 2 3, relu, flatten"), "digits").config
        writer, weights = RunWriter(Path(folder, "run"), config), get_weights(build_model(config.network))
        writer.write(BEST_WEIGHTS_FILE, save(weights))
        writer.write(LAST_WEIGHTS_FILE, save(weights))
        writer.write(MODEL_FILE, to_onnx(config.network, weights, config.model_metadata()))
        writer.write(TRAINING_IMAGES_FILE, save_hashes(np.zeros(0, np.uint64)))
        writer.write_rows(METRICS_FILE, [])
        logits = np.zeros((1, len(config.classes)), np.float32)
        writer.write_record("evaluation.json", evaluate(logits, np.array([0]), config.classes))
        run = writer.finish(signal=0, selected_epoch=0, train_seconds=0)
        files = {f"run/{path.name}": path.read_bytes() for path in run.path.iterdir()}
    return {
        **files,
        "seven.png": encode_png(np.zeros((8, 8, 1), np.uint8)),
        "large.png": encode_png(np.zeros((40, 50, 1), np.uint8)),
        "one.npz": npz(**{**KERAS, "y_train": KERAS["y_train"] * 0, "y_test": KERAS["y_test"] * 0}),
        "two.npz": npz(**KERAS, classes=["cat", "dog"]),
        "text.onnx": b"seven",
        "empty.onnx": b"",
        "cut.onnx": files["run/model.onnx"][:-100],
        "foreign.onnx": _foreign_onnx(),
    }


def write_workspace(folder: Path) -> None:
    """Put all of it into an empty folder."""
    (folder / "run").mkdir()
    for name, content in workspace_files().items():
        (folder / name).write_bytes(content)


def _rows(exit_code: int, *rows: tuple[str, str], alter: tuple[str, Alter] = ("", lambda _: None)) -> list[BadInput]:
    """Rows of a command line and its message, the run altered as it is called."""

    def arranging(words: str) -> Callable[[Path], list[str]]:
        def prepare(folder: Path) -> list[str]:
            write_workspace(folder)
            alter[1](folder / "run")
            return shlex.split(words)

        return prepare

    return [
        BadInput(f"{words[:80]} {alter[0]}".strip(), arranging(words), exit_code, message) for words, message in rows
    ]


def _without(name: str) -> tuple[str, Alter]:
    return f"without {name}", lambda run: (run / name).unlink()


def _altered(name: str) -> tuple[str, Alter]:
    """One bit of the last byte."""

    def alter(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    return f"with another {name}", alter


def _later_format(run: Path) -> None:
    values = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**values, "format": 2}))


LONG = 300 * "a"
HINT = "; see --help$"
NOT_THERE = "does not exist: use the folder that 'convscope train' printed$"

USAGE = _rows(
    2,
    ("trian", f"^No such command 'trian'.*{HINT}"),
    ("data shwo digits", f"^No such command 'shwo'.*{HINT}"),
    (f"train digits --run {LONG}", f"^{LONG} cannot be read: File name too long$"),
    ("train digits --epoch 3", f"^No such option: --epoch .*--epochs.*{HINT}"),
    ("evaluate", f"^Missing argument 'RUN'{HINT}"),
    ("evaluate run digits mnist", f"^Got unexpected extra argument.*mnist.*{HINT}"),
    ("train digits --epochs few", f"^Invalid value for '--epochs': .*{HINT}"),
    ("train digits --epochs 0", "^Invalid value for '--epochs': .*1"),
    ("train digits --batch-size 0", "^Invalid value for '--batch-size': .*1"),
    ("train digits --checkpoint-interval -1", "^Invalid value for '--checkpoint-interval': .*0"),
    ("train --resume run", "^run is complete already: use --more-epochs to train it further$"),
    ("train digits --more-epochs 2", "^--more-epochs needs the finished run that it continues: --resume RUN$"),
    (
        "train --resume run --more-epochs 2 --batch-size 3",
        "^--resume takes everything from .*: leave out --batch-size$",
    ),
    ("train digits --budget soon", "^--budget 'soon': expected a time such as 60s, 2min or 1.5h$"),
    ("train digits --log wandb:x", "^--log wandb:x: expected mlflow:URI, such as .* or tensorboard:FOLDER$"),
    ("crossval digits --folds 1", "^Invalid value for '--folds': .*2"),
    ("crossval digits --folds 200", "^--folds 200: expected at most 146, the number of images of the largest class$"),
    ("crossval digits --out all.csv", r"^--out all.csv: expected a name that ends in \.parquet$"),
    ("crossval digits --run here", f"^No such option: --run.*{HINT}"),
    ("search digits --trials 1", "^Invalid value for '--trials': .*2"),
    ("search digits --out run", "^run exists already: choose another --out, or continue with --resume run$"),
    ("search --resume run", r"^run has no search\.json: expected the folder of a search$"),
    ("search digits --resume run", r"^--resume takes everything from search\.json of the search: leave out DATA$"),
    ("search digits --budget soon", "^--budget 'soon': expected a time such as 60s, 2min or 1.5h$"),
    ("train digits --patience 0", "^Invalid value for '--patience': .*1"),
    (
        "train digits --recipe article --patience 3",
        "^recipe 'article' measures its epochs on the test set, which must not .*: leave out --patience, or choose",
    ),
    (
        "train digits --recipe article --target-accuracy 0.9 --patience 3",
        "^recipe 'article' measures .*: leave out --target-accuracy and --patience, or choose another recipe$",
    ),
    ("train --resume run digits", "^--resume takes everything from the run's config.json: leave out DATA$"),
    ("train digits --seed -1", "^Invalid value for '--seed': .*0"),
    ("train digits --seed 18446744073709551616", "^Invalid value for '--seed': .*9223372036854775807"),
    (
        "filter 11/10 --kernel '1e308 1e308/1e308 1e308'",
        "^'1e308' in the matrix row '1e308 1e308' is too large: .*1e",
    ),
    (
        "models 'conv 1 1 pad 20000, globalavg' --data digits",
        "^the activations of 'conv 1 1 pad 20000, globalavg' take 6.4 GB per image, 820 GB for a batch of 128, ",
    ),
    (
        "train digits --model 'conv 1 1 pad 20000, globalavg'",
        "^the activations of .* take 6.4 GB per image, .*memory are available: .*pool earlier",
    ),
    ("train digits --threads 0", "^Invalid value for '--threads': .*1"),
    ("predict run seven.png --max-megapixels 0", "^Invalid value for '--max-megapixels': .*0.001"),
    ("train digits --model lenet", "^unknown preset 'lenet': did you mean 'lenet5'\\? presets are article, lenet5"),
    ("models resnet", "^unknown preset 'resnet': .*presets are article, lenet5.*or write an architecture such as "),
    (
        "train digits --init nothing",
        "^expected a backbone \\(efficientnet-lite0, .*\\), a file or a run folder, but nothing does not exist$",
    ),
    ("train digits --init run --model small", "^--init run brings its own network: leave out --model$"),
    (
        "train digits --init run --recipe article",
        "^recipe article begins with random weights: choose another recipe, or --init none$",
    ),
    ("train digits --init resnet18", "^resnet18 is not on this machine: convscope backbones add .* --download$"),
    ("train digits --recipe articel", "^unknown recipe 'articel': did you mean 'article'\\? recipes are article"),
    ("models small --recipe slow", "^unknown recipe 'slow': recipes are article, default, fast, best$"),
    ("train digits --learning-rate 0", "^--learning-rate 0.0: expected a number greater than 0$"),
    ("train digits --learning-rate nan", "^--learning-rate nan: expected a finite number$"),
    ("train digits --learning-rate inf", "^--learning-rate inf: expected a finite number$"),
    ("data show digits --image 1438", "^--image 1438: expected 0..1437, an index of a training image$"),
    ("filter 11/10 --kernel 1 --pool max 2", "^expected either --kernel or --pool: for example --kernel edge"),
    ("filter seven.png", "^expected either --kernel or --pool: for example --kernel edge, or --pool max 2$"),
    ("filter 11/10 --pool max 2 --stride 1", "^--stride goes with --kernel"),
    ("filter 11/10 --pool median 2", "^expected kind max, min, average, got 'median'"),
    ("filter seven.png --pool median 2", "^unknown pooling 'median': expected max, min, average$"),
    ("filter 11/10 --kernel 1 --cell 2,0", "^--cell '2,0': expected ROW,COLUMN within 2 rows and 2 columns, from 0$"),
    ("explain run seven.png --cell 3,4", "^unknown layer '3': layers are conv1, relu1, flatten1, classifier"),
    ("explain run seven.png --cell conv9,0,0,0", "^unknown layer 'conv9': layers are conv1"),
    (
        "explain run seven.png --cell conv1,6,0,0",
        "^expected conv1,ROW,COLUMN,CHANNEL within 6x6x2",
    ),
    ("explain run seven.png --cell conv1,1", "^expected conv1,ROW,COLUMN,CHANNEL within 6x6x2"),
    ("explain run seven.png --cell classifier,10", "^expected classifier,INDEX within 10"),
    ("explain run seven.png --cell conv1,a,b,c", "^--cell 'conv1,a,b,c': expected LAYER,ROW,COLUMN,CHANNEL such as"),
    ("serve run --workers 0", "^Invalid value for '--workers': .*1"),
    ("serve run --port 65536", "^Invalid value for '--port': .*65535"),
    ("serve run --host 0.0.0.0", "^--host 0.0.0.0: other machines could connect, so the server needs a token: set "),
    ("serve run --host a..b", "^--host a..b: not an address of this machine; expected one such as 127.0.0.1$"),
    (
        "serve run --allow-host models.example.org:80",
        "^--allow-host models.example.org:80: expected a name without port",
    ),
    ("serve run --allow-origin '*'", "^--allow-origin \\*: expected an origin such as https://example.org$"),
    ("serve run --max-images 257", "^--max-images 257 exceeds 4 times --queue 64: such a request could never be "),
    (
        "serve run --token-file run/config.json",
        "^run/config.json: expected a token of at least 16 letters, digits and ",
    ),
    ("export run --int8 --best", "^--int8 and --best exclude each other: --best decides by measurement$"),
    ("export run --out text.onnx", "^text.onnx exists and has another content: choose another place with --out, or"),
    ("export run --to hub", "^Invalid value for '--to': .*'hub' is not one of 'file', 'hub-folder'"),
    ("verify run --no-http", "^run/model.onnx has no golden inputs: name a folder of images with --images$"),
    ("explain run seven.png --cell relu1,0,0,0 --cell x,0", "^unknown layer 'x'"),
    ("backbones remove x", f"^No such command 'remove'.*{HINT}"),
    ("backbones add", f"^Missing argument 'FILE'{HINT}"),
    ("backbones add run --as Bad/Name", "^expected a name of up to 64 letters a-z, digits and '.', '_', '-', got 'Bad"),
    ("backbones add seven.png --network vgg", "^expected the name of a published backbone, got 'vgg': they are effici"),
    ("backbones add vgg --download", "^expected the name of a published backbone, got 'vgg': they are efficientnet-l"),
    ("backbones add efficientnet-lite2 --download", "^efficientnet-lite2 has no address to .*: pip install efficient"),
)

DATA = _rows(
    3,
    ("train one.npz", "^one.npz: .*only one class .0.: expected at least two$"),
    ("train digist", "^unknown data set 'digist', did you mean 'digits'"),
    ("models small --data digist", "^unknown data set 'digist', did you mean 'digits'"),
    ("evaluate run digist", "^unknown data set 'digist', did you mean 'digits'"),
    (
        "evaluate run two.npz",
        "^two.npz has classes that the network was not trained on: cat, dog; choose data with its classes, which",
    ),
    ("serve run --token-file missing", "^missing: the token cannot be read .No such file or directory.$"),
    ("export run --golden none", "^expected a folder of images, but none does not exist$"),
    ("export run --golden run", "^run: a folder with results of a training; name one with images$"),
    ("verify run --images seven.png", "^expected a folder of images, but seven.png is a file$"),
    ("predict run eight.png", "^eight.png: no such file"),
    ("predict run eight.png --json", "^eight.png: no such file"),
    ("predict run two.npz", "^two.npz: not an image, expected PNG, JPEG"),
    ("predict run run", "^run: a folder with results of a training; name one with images"),
    ("predict run large.png --max-megapixels 0.001", "^large.png: 50x40 are 0.002 megapixels, expected at most 0.001"),
    ("explain run large.png --max-megapixels 0.001", "^large.png: 50x40 are 0.002 megapixels, expected at most 0.001"),
    (
        "filter large.png --kernel edge --max-megapixels 0.001",
        "^large.png: 50x40 are 0.002 megapixels, expected at most 0.001",
    ),
    ("explain run eight.png", "^eight.png: no such file"),
    ("backbones add none.pth", "^expected the file of a backbone, but none.pth does not exist: get it, or add one by"),
    ("backbones add seven.png", "^seven.png: expected a published file, but none has the SHA-256 [0-9a-f]{64}: if it "),
    ("backbones add run/best.safetensors --as mine", "^run/best.safetensors: expected a published file, but none has"),
    (
        "backbones add seven.png --as efficientnet-lite2",
        "^seven.png: expected efficientnet-lite2-9656183e.pth with the",
    ),
    (
        "backbones add run/best.safetensors --network efficientnet-lite2 --as x",
        "^run/best.* expected a tensor 'conv_st",
    ),
    ("backbones add run --as efficientnet-lite2", "^it was not made from efficientnet-lite2-9656183e.pth with the SH"),
)

UNREADABLE_RUNS = [
    *_rows(
        4,
        ("evaluate runs/none", f"^expected a run folder, but runs/none {NOT_THERE}"),
        (f"evaluate {LONG}", f"^{LONG} cannot be read: File name too long$"),
        (f"predict {LONG} seven.png", f"^{LONG} cannot be read: File name too long$"),
        (f"train --resume {LONG}", f"^{LONG} cannot be read: File name too long$"),
        ("train --resume none", f"^expected a run folder, but none {NOT_THERE}"),
        ("train --resume seven.png", "^expected a run folder, but seven.png is a file"),
        ("explain none seven.png", f"^expected a run folder, but none {NOT_THERE}"),
        ("predict none seven.png", "^expected a run folder or a model.onnx, but none does not exist: train a model"),
        ("evaluate text.onnx", "^expected a run folder, but text.onnx is a file: use the folder"),
        ("predict text.onnx seven.png", "^text.onnx is not a readable ONNX file: restore it from a copy, or train"),
        ("export run/model.onnx", "^expected a run folder, but run/model.onnx is a file: use the folder"),
        ("verify cut.onnx", "^cut.onnx is not a readable ONNX file"),
        ("verify run --int8 foreign.onnx", "^foreign.onnx was not written by convscope"),
        ("predict empty.onnx seven.png", "^empty.onnx is not a readable ONNX file"),
        ("predict cut.onnx seven.png", "^cut.onnx is not a readable ONNX file"),
        ("predict foreign.onnx seven.png", "^foreign.onnx was not written by convscope: its metadata has no"),
        ("backbones add foreign.onnx", "^foreign.onnx was not written by convscope: its metadata has no"),
    ),
    *_rows(
        4,
        ("evaluate run", "^run/manifest.json is missing: its training did not finish, or it is not a run folder"),
        ("predict run seven.png", "^run/manifest.json is missing: its training did not finish"),
        alter=_without("manifest.json"),
    ),
    *_rows(
        4, ("train --resume run", "^run/config.json is missing: expected the folder of a stopped or killed training$"),
        alter=_without("config.json"),
    ),
    *_rows(4, ("evaluate run", "^run/manifest.json cannot.*: format: input should be 1; use the version that"),
           alter=("of a later format", _later_format)),
    *_rows(4, ("explain run seven.png", "^run/best.safetensors is missing"), alter=_without("best.safetensors")),
    *_rows(4, ("explain run seven.png", "^run/last.safetensors was alt"), alter=_altered("last.safetensors")),
    *_rows(4, ("evaluate run", "^run/config.json was altered after training"), alter=_altered("config.json")),
    *_rows(
        4,
        ("evaluate run", "^run/model.onnx was altered after training: restore it from a copy, or train again$"),
        ("predict run seven.png", "^run/model.onnx was altered after training"),
        alter=_altered("model.onnx"),
    ),
]  # fmt: skip

FAILED = _rows(
    1,
    ("data show digits --out text.onnx/x", "^cannot write text.onnx/x/.*: Not a directory; free some space or choose"),
    ("filter seven.png --kernel blur --out run", "^cannot write run: it is a folder; choose another name"),
    ("explain run seven.png --out two.npz", "^cannot write two.npz/"),
)

COMMAND_ROWS = [*USAGE, *DATA, *UNREADABLE_RUNS, *FAILED]

LINE_ROWS = _rows(
    2,
    ("train digits --model 'cnov 8 3, flatten'", "^unknown layer 'cnov': did you mean 'conv'\\? layers are conv"),
    ("train digits --model lenet5", "^'conv 16 5' needs feature maps of at least 5x5, got 4x4: remove a layer"),
    (
        "train digits --model 'conv 8 3, relu'",
        "^the classifier needs a vector, got 6x6x8 feature maps from 'relu': end with flatten, globalavg or globalmax$",
    ),
    ("models 'relu, whiten 2, flatten'", "^'whiten' must be the first layer: its kernels are computed from patches"),
    ("models 'conv 8, flatten'", "^'conv 8' lacks the kernel size: write it as in 'conv 32 3'$"),
    ("models 'residual(conv 8 3, flatten'", "^unclosed '\\(': add '\\)' after its last layer$"),
    ("models ''", "^expected a layer at the end: add one$"),
    ("models '8 * (conv 4 3), flatten' --data digits", "^'conv 4 3' needs feature maps of at least 3x3, got 2x2"),
)
