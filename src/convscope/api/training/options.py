"""The options of a training, checked once: the same record for the command line, Python and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from convscope._records import PERCENT, Record
from convscope._reporting import Reporter
from convscope._text import parse_duration
from convscope.errors import UsageError
from convscope.images.fit import DEFAULT_FIT, Fit
from convscope.network.layers.base import Shape
from convscope.training.recipe import MAX_EPOCHS, MAX_SEED, Recipe
from convscope.training.recipes import Kind, recipe_named

if TYPE_CHECKING:
    from convscope.data.dataset import Dataset
    from convscope.data.load import DataSource
    from convscope.data.options import LoadOptions

CHECKPOINT_INTERVAL_S = 60.0
PREPARATION_SECONDS = 10.0  # of a budget, for decoding, probes and results, about
DECODE_FRACTION = 0.3  # of a budget, at most
IMAGE_FIELDS = (
    "image_size",
    "channels",
    "fit",
    "group_by",
    "class_level",
    "max_megapixels",
)  # they apply to image files
RECIPE_FIELDS = ("epochs", "batch_size", "learning_rate", "precision", "target_accuracy", "patience")


class TrainOptions(Record):
    """How to train: options that are left out follow from the recipe, the data and this machine."""

    model: str | None = Field(
        default=None, description="Preset or architecture, see 'convscope models'; by default the recipe's preset."
    )
    recipe: Recipe | str | None = Field(
        default=None,
        description="default, fast (least time), best (highest accuracy) or article (exactly the article's training). "
        "By default 'default', or with --budget the most accurate recipe that fits.",
        json_schema_extra={"metavar": "NAME"},
    )
    init: str | Path | None = Field(
        default=None,
        description="Start from a backbone (see 'convscope backbones'), a run, a .safetensors or a model.onnx; none: "
        "from scratch. By default, --budget tries the backbone that is installed.",
        json_schema_extra={"metavar": "BACKBONE"},
    )
    tune: Literal["classifier", "last", "all"] | None = Field(
        default=None,
        description="Which layers of a backbone to train: its classifier, the last layers too, or all. By default, "
        "recipe and budget choose between the first two.",
    )
    run: Path | None = Field(default=None, description="Folder to write; by default the next free one in runs/.")
    epochs: int | None = Field(default=None, ge=1, le=MAX_EPOCHS, description="Passes over the training images.")
    batch_size: int | None = Field(default=None, ge=1, description="Images per training step.")
    learning_rate: float | None = Field(default=None, gt=0, description="Peak learning rate.")
    precision: Literal["float32", "bf16", "auto"] | None = Field(
        default=None, description="float32, bf16, or auto: bf16 if the processor supports it without loss of accuracy."
    )
    target_accuracy: Annotated[float, Field(gt=0, le=1), PERCENT] | None = Field(
        default=None,
        description="Stop once validation images show this accuracy, e.g. 97%; at most 2.5 % of stops are false.",
        json_schema_extra={"metavar": "NUMBER"},
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many epochs without a better validation accuracy."
    )
    max_error: Annotated[float, Field(gt=0, lt=1), PERCENT] | None = Field(
        default=None,
        description="Error rate that answers may have, e.g. 1%: the model is unsure about images below the "
        "probability that keeps it.",
        json_schema_extra={"metavar": "NUMBER"},
    )
    budget: float | str | None = Field(
        default=None,
        description="Wall-clock limit for the whole command: 60s, 2min, 1h; with --epochs, whichever comes first.",
        json_schema_extra={"metavar": "TIME"},
    )
    image_size: int | None = Field(default=None, ge=8, le=512, description="Side of the network's input, in pixels.")
    channels: Literal[1, 3, 4] | None = Field(
        default=None, description="1 for gray, 3 for color, 4 for color with transparency."
    )
    fit: Fit | None = Field(
        default=None,
        description="How images of another aspect ratio fit in: letterbox pads, crop cuts, stretch does neither; by "
        "default letterbox.",
    )
    group_by: str | None = Field(
        default=None,
        description="Keep files of a class in one split if the pattern matches the same text in their names.",
        json_schema_extra={"metavar": "REGEX"},
    )
    class_level: Literal[1, 2] | None = Field(
        default=None,
        description="1 if the top folders are the classes, 2 if those inside them are; by default found out.",
    )
    max_megapixels: float | None = Field(
        default=None, gt=0, description="Leave out larger images, in millions of pixels; by default over 50."
    )
    seed: int = Field(
        default=0, ge=0, le=MAX_SEED, description="The same seed, threads and versions give the same weights."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; by default as many as pay off.")
    checkpoint_interval: float = Field(
        default=CHECKPOINT_INTERVAL_S,
        ge=0,
        description="Seconds between two checkpoints.",
        json_schema_extra={"metavar": "SECONDS"},
    )

    @model_validator(mode="after")
    def _budget_is_a_duration(self) -> Self:
        _ = self.budget_seconds  # raises UsageError for a text that is no duration
        return self

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds. Raises UsageError for a text that is no duration."""
        return parse_duration(self.budget) if isinstance(self.budget, str) else self.budget

    @property
    def core_seconds(self) -> float | None:
        """Processor seconds that training can use within the budget; None without a budget.

        On a busy machine, they are fewer than the seconds times the number of cores.
        """
        from convscope._hardware import slowdown_at_start, usable_cores  # loads numpy, which --help does without

        seconds = self.budget_seconds
        if seconds is None:
            return None
        return max(seconds - PREPARATION_SECONDS, 1) * usable_cores() / slowdown_at_start()

    def load_options(self, input_shape: Shape | None = None) -> LoadOptions:
        """Return how to load images; their number, and their size unless it was given, follow from the budget.

        Args:
            input_shape: of a backbone; its images are stretched.
        """
        from convscope.data.options import MAX_MEGAPIXELS, LoadOptions

        core_seconds = self.core_seconds  # asked for now, while nothing else runs in this process
        return LoadOptions(
            image_size=self.image_size or (input_shape[0] if input_shape else None),
            channels=cast("Literal[1, 3, 4]", input_shape[2]) if input_shape else self.channels,
            fit=self.fit or ("stretch" if input_shape else DEFAULT_FIT),
            group_by=self.group_by,
            class_level=self.class_level,
            max_megapixels=self.max_megapixels or MAX_MEGAPIXELS,
            core_seconds=None if self.image_size or input_shape else core_seconds,
            decode_seconds=None if self.budget_seconds is None else DECODE_FRACTION * self.budget_seconds,
        )

    def load_data(
        self, source: DataSource | None, reporter: Reporter, input_shape: Shape | None = None
    ) -> tuple[Dataset, str]:
        """Load a data set, by default MNIST or digits; return it with the name or path that it came from, or "".

        Args:
            source: see `load_data`; None for the default.
            reporter: where messages and progress go.
            input_shape: height, width and channels that a backbone takes; None to choose them.

        Raises:
            UsageError: the images do not have as many channels.
            DataError: the data set is unknown or cannot be read.
        """
        from convscope.data.load import load_data, load_default

        if source is None:
            dataset = load_default(reporter)
            return dataset, dataset.name
        dataset = load_data(source, self.load_options(input_shape), reporter)
        if input_shape and dataset.shape[2] != input_shape[2]:
            raise UsageError(
                f"expected images with {input_shape[2]} channels, as {self.init} takes, got {dataset.shape[2]}: "
                "choose another backbone, or --init none"
            )
        given = [name for name in IMAGE_FIELDS if getattr(self, name)]
        if given and dataset.load_options is None:
            reporter.message(f"{dataset.name} has no image files: {', '.join(given)} have no effect")
        return dataset, str(source) if isinstance(source, str | Path) else ""

    def chosen_recipe(self, kind: Kind = "gray", default: str = "default") -> Recipe:
        """Return the recipe for data of that kind, with the options that override it.

        Args:
            kind: kind of data, see `Dataset.kind`.
            default: name of the recipe if none was chosen.

        Raises:
            UsageError: there is no such recipe, or it does not allow a value.
        """
        recipe = self.recipe or default
        recipe = recipe if isinstance(recipe, Recipe) else recipe_named(recipe, kind)
        return recipe.override(**{name: getattr(self, name) for name in RECIPE_FIELDS})
