"""The answers of a model, one by one and as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, computed_field

from convscope._records import Record
from convscope._text import escape_bytes, escape_controls
from convscope.errors import DataError, ImageError

if TYPE_CHECKING:
    from pandas import DataFrame

Status = Literal["answered", "unsure", "unlike"]


class Prediction(Record):
    """The classification of one image.

    Attributes:
        image: Path of the image, or "image" if it was given as an array.
        status: "answered"; "unsure" if the probability of the most likely class is too low to answer; or "unlike" if
            the image is unlike the training images. The model file holds the limits.
        probabilities: Probability of each class, most likely first; they sum to 1.
        notes: What preprocessing did to the image, such as "resized 60x80 -> 28x28".
    """

    image: str
    status: Status = "answered"
    probabilities: dict[str, float]
    notes: tuple[str, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        """The most likely class; of equally likely classes the first."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of the most likely class."""
        return self.probabilities[self.label]

    def keep(self, top_k: int | None) -> Prediction:
        """The prediction with the probabilities of the most likely classes only; of all for None."""
        if top_k is None:
            return self
        return self.model_copy(update={"probabilities": dict(list(self.probabilities.items())[:top_k])})


class PredictionList(Record):
    """The classifications of several images, as `convscope predict --json` prints them."""

    predictions: tuple[Prediction, ...]


class Answer(Record):
    """One line of answers.jsonl, as `convscope predict --out` writes it.

    Attributes:
        image: The path; for an image in an archive, that of the archive and its own.
        status: That of the prediction; "error" if the image cannot be read.
        label: The most likely class, whatever the status; null after an error.
        probability: That of the label; null after an error.
        probabilities: Of the most likely classes, most likely first, as many as `--top-k`.
        notes: What preprocessing did to the image.
        error: Why the image cannot be read; null if it can.
    """

    image: str
    status: Literal["answered", "unsure", "unlike", "error"]
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str | None = None


def to_answer(outcome: Prediction | DataError, top_k: int) -> Answer:
    """What is written about an image.

    Args:
        outcome: Its prediction or error.
        top_k: The number of classes to keep.
    """
    if isinstance(outcome, DataError):
        image = outcome.image if isinstance(outcome, ImageError) else "image"
        return Answer(image=escape_bytes(image), status="error", error=escape_controls(str(outcome)))
    return Answer(
        image=escape_bytes(outcome.image),
        status=outcome.status,
        label=outcome.label,
        probability=outcome.probability,
        probabilities=dict(list(outcome.probabilities.items())[:top_k]),
        notes=outcome.notes,
    )


def column_names(top_k: int) -> list[str]:
    """The columns of a table of answers with this number of classes.

    >>> column_names(2)
    ['image', 'status', 'label', 'probability', 'label_2', 'probability_2', 'notes', 'error']
    """
    others = [f"{name}_{i}" for i in range(2, top_k + 1) for name in ("label", "probability")]
    return ["image", "status", "label", "probability", *others, "notes", "error"]


def to_row(answer: Answer, top_k: int) -> list[str | float | None]:
    """The values of `column_names`; notes are one text."""
    ranked: list[str | float | None] = [value for pair in answer.probabilities.items() for value in pair]
    ranked += [None] * (2 * top_k - len(ranked))
    return [answer.image, answer.status, *ranked, "; ".join(answer.notes) or None, answer.error]


class Predictions(list[Prediction]):
    """A list of predictions, with a table of them."""

    def to_frame(self, top_k: int = 3) -> DataFrame:
        """A pandas DataFrame with a row per image: image, status, label, probability, label_2, ..., notes.

        Args:
            top_k: The number of classes, most likely first.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        from pandas import DataFrame  # here, because it is optional

        top_k = min(top_k, max((len(one.probabilities) for one in self), default=top_k))
        rows: list[Any] = [to_row(to_answer(prediction, top_k), top_k) for prediction in self]
        return DataFrame(rows, columns=column_names(top_k)).drop(columns="error")
