"""The model file of a run for use elsewhere: in float32 or int8, verified before it gets its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from convscope._extras import require_package
from convscope._files import write_results
from convscope._records import Record, validate_options
from convscope._reporting import Reporter
from convscope._text import percent
from convscope.api.export_options import ExportOptions
from convscope.api.verify import image_files, trainer_runtime, verify_runtimes
from convscope.backends.onnx.read import ModelFile, read_model_file
from convscope.data.dataset import Split
from convscope.data.load import load_data
from convscope.deploy.predictor import Predictor
from convscope.deploy.quantization import MAX_CHANGED, Quantization, compare_quantized
from convscope.deploy.verify import Verification, predictor_runtime
from convscope.errors import DataError, GateError, UsageError
from convscope.lab.bundle import bundle_page
from convscope.lab.samples import RunImages
from convscope.runs.config import CARD_FILE, MODEL_FILE
from convscope.runs.folder import Run, open_run
from convscope.training.resolve import train_val_split

DEFAULT_OUT = {"file": MODEL_FILE, "hub-folder": "hub", "web": "lab.html"}
CALIBRATION_IMAGES = 512
MAX_GOLDEN_BYTES = 1_000_000  # of all images together


class Export(Record):
    """A model file that was written, as `convscope export --json` prints it.

    Attributes:
        model: The model file, or the page with the model inside.
        bytes: Its size.
        precision: Of its arithmetic.
        verification: What was compared before it was written.
        quantization: int8 compared with float32; None if only float32 was asked for.
    """

    model: Path
    bytes: int
    precision: Literal["float32", "int8"]
    verification: Verification
    quantization: Quantization | None


def export_model(run: Run | str | Path, *, reporter: Reporter | None = None, **options: Any) -> Export:
    """Write the model file of a run, verified: `export_model(run, out="digits.onnx", int8=True)`.

    Args:
        run: A run, or its folder.
        reporter: Where messages and progress of loading data go.
        options: The fields of `ExportOptions`.

    Raises:
        UsageError: An option is wrong, a file exists and has another content, or int8 is asked for a run on data in
            memory.
        DataError: The run's data for int8, or the golden images, cannot be read.
        GateError: The runtimes disagree, or int8 changes too many answers. Nothing is written.
        MissingExtraError: int8, or golden images, need the training extra.
    """
    run = run if isinstance(run, Run) else open_run(run)
    wanted = validate_options(ExportOptions, options)
    with _workshop(run, wanted.golden) as original:
        chosen, quantization = original, None
        if wanted.int8 or wanted.best:
            require_package("onnx", "int8")
            quantized, quantization = _quantize(run, original, reporter or Reporter())
            if wanted.int8 and not quantization.passed:
                raise GateError(_gate_message(quantization))
            if quantization.passed and (wanted.int8 or quantization.is_faster):
                chosen = quantized
        verification = _verify(run, chosen, original)
        content = chosen.read_bytes()
        precision = read_model_file(chosen).metadata.precision
        out = wanted.out or Path(DEFAULT_OUT[wanted.to])
        files = _output_files(run, wanted, out, content)
        write_results(files, wanted.force)
    model = next(iter(files))
    return Export(
        model=model,
        bytes=len(files[model]),
        precision=precision,
        verification=verification.model_copy(update={"model": model}),
        quantization=quantization,
    )


@contextmanager
def _workshop(run: Run, golden: Path | None) -> Iterator[Path]:
    """A float32 model file in a temporary folder, with other golden inputs if wanted."""
    with TemporaryDirectory(prefix="convscope-") as folder:
        path = Path(folder, MODEL_FILE)
        content = run.model_file.read_bytes()
        path.write_bytes(_with_golden(run, read_model_file(run.model_file), golden) if golden else content)
        yield path


def _with_golden(run: Run, file: ModelFile, folder: Path) -> bytes:
    """The model file with other golden inputs, answered by PyTorch."""
    for package in ("torch", "onnx"):
        require_package(package, "--golden")
    from convscope.backends.onnx.export import to_onnx
    from convscope.evaluation.golden import golden_inputs
    from convscope.training.loop import predict_logits

    paths = image_files(folder)
    if (size := sum(path.stat().st_size for path in paths)) > MAX_GOLDEN_BYTES:
        raise DataError(
            f"the golden images in {folder} have {size / 1e6:.1f} MB, expected at most {MAX_GOLDEN_BYTES / 1e6:g} MB: "
            "name a folder with fewer or smaller ones"
        )
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    model, preprocessing = run.model(), run.config.preprocessing
    golden = golden_inputs(
        files, preprocessing, lambda images: predict_logits(model, images, preprocessing), file.metadata.calibration
    )
    return to_onnx(run.network, file.constants, file.metadata.model_copy(update={"golden": golden}))


def _quantize(run: Run, original: Path, reporter: Reporter) -> tuple[Path, Quantization]:
    """An int8 file next to the original, and both compared on the validation images of the run."""
    from convscope.api.training.calibrate import with_limits
    from convscope.deploy.int8 import to_int8

    train, validation = _splits(run, reporter)
    path = original.with_name("int8.onnx")
    path.write_bytes(to_int8(read_model_file(original), train.subsample(CALIBRATION_IMAGES).images))
    held_out = train if run.config.recipe.validates_on_test else validation
    path.write_bytes(with_limits(path, run.network, held_out, run.config.max_error))
    return path, compare_quantized(original, path, validation)


def _splits(run: Run, reporter: Reporter) -> tuple[Split, Split]:
    """The images that a run was trained and validated on. Raises an error if they are not at hand any more."""
    config, trained = run.config, run.config.dataset
    if not trained.path:
        raise UsageError(f"int8 is calibrated on training images, but {run.path} was trained on data in memory")
    dataset = load_data(trained.path, trained.load_options, reporter)
    if dataset.fingerprint != trained.fingerprint:
        raise DataError(
            f"int8 is calibrated on the training images, but {trained.path} has changed since {run.path} was trained "
            "on it: restore it, or export in float32"
        )
    return train_val_split(dataset, config.recipe, config.seed)


def _verify(run: Run, chosen: Path, original: Path) -> Verification:
    """Compare all runtimes on the golden inputs. Raises GateError if they disagree."""
    predictor = Predictor(chosen)
    runtimes = [predictor_runtime(predictor, "ONNX Runtime")]
    if chosen == original and find_spec("torch") is not None:
        runtimes.insert(0, trainer_runtime(run, predictor.metadata.calibration))
    if not predictor.metadata.golden:
        return Verification(model=chosen, comparisons=(), skipped=("golden inputs: the file has none",))
    verification = verify_runtimes(chosen, runtimes)
    for one in verification.comparisons:
        if not one.passed:
            raise GateError(
                f"{one.first} and {one.second} differ by {one.max_difference:.1e}, with {one.label_flips} label flips, "
                f"on the golden inputs, expected at most {one.bound:.0e}: nothing was written; please report this"
            )
    return verification


def _gate_message(found: Quantization) -> str:
    low, high = (percent(bound) for bound in found.interval)
    return (
        f"int8 changes {found.changed_answers:,} of {found.images:,} answers (at most {percent(MAX_CHANGED, 1)} are "
        f"accepted) and the accuracy by {percent(found.accuracy_change)} (95 % interval {low} to {high}): nothing was "
        "written; export in float32, or train a network with wider layers"
    )


def _output_files(run: Run, wanted: ExportOptions, out: Path, content: bytes) -> dict[Path, bytes]:
    """What is written; the model file, or the page that holds it, first."""
    if wanted.to == "hub-folder":
        return _hub_files(run, out, content)
    if wanted.to == "file":
        return {out: content}
    samples = RunImages(run, wanted.samples).samples if wanted.samples else None
    if samples and samples["note"]:
        raise DataError(f"--samples: {samples['note']}")
    return {out: bundle_page(content, run.path.name, samples).encode()}


def _hub_files(run: Run, folder: Path, content: bytes) -> dict[Path, bytes]:
    """What `huggingface_hub` uploads: the model file, and the run's model card, which its owner may have edited."""
    card = run.path / CARD_FILE
    if not card.is_file():
        raise UsageError(f"{card} is missing, which a hub shows: finish the training, or export a single file")
    return {
        folder / MODEL_FILE: content,
        folder / CARD_FILE: card.read_bytes(),
        folder / ".gitattributes": b"*.onnx filter=lfs diff=lfs merge=lfs -text\n",
    }
