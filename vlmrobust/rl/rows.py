"""Convert samples to training rows: unchanged, adversarially augmented, or the paper's mixture in its two stages."""

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field, SerializeAsAny, model_validator

from ..data import load_benchmark, samples_from
from ..data.files import is_table
from ..perturbations import (
    Base,
    CorrectCaption,
    CorrectThink,
    NotApplicable,
    Perturbation,
    WrongCaption,
    WrongThink,
    expand,
)
from ..perturbations.expansion import check_conditions
from ..prompting import KNOWN_TOKENS
from ..seeding import generator, subset
from ..types import Prompt, Sample, Style, check_samples, open_image
from ..types.frozen import Frozen
from ..types.image import needs_no_care
from .formats import dataset_of, features

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["AUGMENTATION", "Augment", "paper_mixture", "row_of", "to_grpo_rows"]

logger = logging.getLogger(__name__)

Source: TypeAlias = str | Path | Iterable[Sample] | None

_STAGE_1 = {"sat2": 32_000, "pixmo-count": 15_000}
_STAGES: dict[int, dict[str, int]] = {1: _STAGE_1, 2: _STAGE_1 | {"geometry3k": 2_101}}
AUGMENTATION: Mapping[Perturbation, float] = dict.fromkeys(
    (CorrectCaption(), WrongCaption(), CorrectThink(), WrongThink()), 0.1
)
"""The paper's augmentation: perturbations and their probabilities."""


def row_of(prompt: Prompt, style: Style, *, decode: bool = True) -> dict[str, Any]:
    """Return a prompt as a row of TRL's conversational format.

    A prefilled thought is a final assistant message, which `continue_prefill` leaves open.

    Args:
        prompt: the prompt.
        style: style with which the answers to all rows are parsed.
        decode: decode all images; otherwise keep files as files and decode only other images.

    Raises:
        ValueError: an option was added or removed, or the prompt has another style, so that the row's answers would be
            parsed differently from the prompt's.
        OSError: an image cannot be decoded.
    """
    sample = prompt.sample
    if sorted(prompt.order, key=lambda index: -1 if index is None else index) != list(range(len(sample.options))):
        raise ValueError(
            f"sample {sample.id!r}, condition {prompt.condition!r}, field 'order': expected exactly the sample's "
            f"options, as training rows cannot hold others, got {prompt.order}"
        )
    if prompt.style != style:
        raise ValueError(
            f"sample {sample.id!r}, condition {prompt.condition!r}, field 'style': expected the style of all rows, as "
            f"training rows cannot hold another, got {prompt.style}"
        )
    prompt = prompt.with_inert(KNOWN_TOKENS)  # the trainer's tokenizer is unknown here
    messages = prompt.messages()
    if prompt.prefill:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": prompt.prefill}]})
    return {
        "prompt": messages,
        "images": [open_image(image) if decode else _undecoded(image) for image in prompt.images],
        "solution": style.letters[prompt.order.index(sample.answer)],
        "question": prompt.question,
        "options": list(prompt.options),
        "condition": prompt.condition,
        "prefill": prompt.prefill,
    }


def _undecoded(image: Any) -> Any:
    """Return an image as `datasets` stores it: a file's bytes or path, decoded whenever the row is read.

    Images that `datasets` would decode differently from `open_image`, such as transparent ones, are decoded here.
    """
    if not isinstance(image, str | Path | bytes) or not needs_no_care(image):
        return open_image(image)
    return image if isinstance(image, bytes) else str(Path(image).resolve())


class Augment(Frozen):
    """Applies each perturbation to a prompt with its probability, at most one per prompt.

    The choice depends only on the seed and the sample's id, not on order or worker. A sample to which its perturbation
    does not apply stays unchanged.

    Attributes:
        probabilities: pairs of a perturbation and its probability in [0, 1], or a mapping. The remainder to 1 is the
            probability of no perturbation.
        seed: seeds every draw, together with the sample's id.
        style: style of the prompts.

    Raises:
        ValueError: the probabilities add up to more than 1, or two perturbations have the same name.

    Example:
        >>> from vlmrobust.perturbations import CorrectCaption, WrongCaption
        >>> from vlmrobust import demo
        >>> augment = Augment({CorrectCaption(): 0.1, WrongCaption(): 0.1}, seed=0)
        >>> rows = augment(demo.samples(200))
        >>> augment.shares(rows)
        {'base': 0.785, 'correct_caption': 0.09, 'wrong_caption': 0.125}

    Source: arXiv:2602.12506, which gives correct and wrong captions and thoughts 10 % each.
    """

    probabilities: tuple[tuple[SerializeAsAny[Perturbation], float], ...]
    seed: int = 0
    style: Style = Field(default_factory=Style)

    def __init__(
        self,
        probabilities: Mapping[Perturbation, float] | Sequence[tuple[Perturbation, float]],
        seed: int = 0,
        **fields: Any,
    ) -> None:
        pairs = probabilities.items() if isinstance(probabilities, Mapping) else probabilities
        super().__init__(**{"probabilities": tuple(pairs), "seed": seed} | fields)

    @model_validator(mode="after")
    def _are_probabilities(self) -> "Augment":
        check_conditions([perturbation for perturbation, _ in self.probabilities])
        values = [probability for _, probability in self.probabilities]
        if any(not 0 <= value <= 1 for value in values) or sum(values) > 1 + 1e-9:
            raise ValueError(f"field 'probabilities': expected values in [0, 1] that add up to at most 1, got {values}")
        return self

    def prompts(self, samples: Iterable[Sample]) -> list[Prompt]:
        """Return one prompt per sample, perturbed or not."""
        checked = check_samples(samples)
        expanded = expand(checked, [], seed=self.seed, style=self.style)
        prompts = []
        for sample in checked:
            try:
                prompts.append(expanded.make(sample, self._draw(sample)))
            except NotApplicable:
                prompts.append(expanded.make(sample, Base()))
        return prompts

    def __call__(
        self,
        data: "Iterable[Sample] | Iterable[Mapping[str, Any]] | Dataset",
        columns: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return training rows in TRL's conversational format for images.

        Args:
            data: samples; rows as `samples_from` takes them; or a `datasets.Dataset` of such rows, which is mapped row
                by row, with row numbers as ids if it has no column `id`.
            columns: the columns of fields, as for `samples_from`.

        Returns:
            Rows with `prompt`, `images`, `solution` (the correct letter), `question`, `options`, `condition` and
            `prefill`, as a list with decoded images, or as a `datasets.Dataset` if `data` is one.

        Raises:
            ValueError: a row is not a valid sample, or a perturbation adds options or changes the style.
        """
        if "datasets" in sys.modules and isinstance(data, sys.modules["datasets"].Dataset):
            return self._map_dataset(data, columns)
        items: Any = data if is_table(data) else list(data)
        if is_table(items) or not all(isinstance(item, Sample) for item in items):
            items = list(samples_from(items, columns))
        rows = [row_of(prompt, self.style) for prompt in self.prompts(items)]
        logger.info("%d training rows: %s", len(rows), self.shares(rows))
        return rows

    @staticmethod
    def shares(rows: Any, column: str = "condition") -> dict[str, float]:
        """Return the share of rows under each condition, in [0, 1].

        Args:
            rows: training rows, a list or a `datasets.Dataset`.
            column: the column to count; "source" = the sources of rows from `paper_mixture`.
        """
        counts = Counter([row[column] for row in rows] if isinstance(rows, list) else rows[column])
        total = sum(counts.values())
        return {value: count / total for value, count in sorted(counts.items())}

    def _draw(self, sample: Sample) -> Perturbation:
        point = float(generator(self.seed, sample.id, "augment").random())
        for perturbation, probability in self.probabilities:
            point -= probability
            if point < 0:
                return perturbation
        return Base()

    def _map_dataset(self, data: "Dataset", columns: Mapping[str, Any] | None) -> "Dataset":
        columns = columns or {}
        id_column = columns.get("id", "id")

        def augmented(row: dict[str, Any], index: int) -> dict[str, Any]:
            with_id = row if id_column in data.column_names else {**row, "id": str(index)}
            [prompt] = self.prompts(samples_from([with_id], columns))
            return row_of(prompt, self.style)

        rows = data.map(augmented, with_indices=True, remove_columns=data.column_names, features=features())
        logger.info("%d training rows: %s", len(rows), self.shares(rows))
        return rows


def to_grpo_rows(samples: Iterable[Sample], style: Style | None = None) -> list[dict[str, Any]]:
    """Return samples as unperturbed training rows in TRL's conversational format for images.

    Args:
        samples: samples with unique ids.
        style: style of the prompts; None = the default style.

    Returns:
        Rows with the columns that `Augment` describes.

    Example:
        >>> from vlmrobust import demo
        >>> [row] = to_grpo_rows(demo.samples(1))
        >>> sorted(row)
        ['condition', 'images', 'options', 'prefill', 'prompt', 'question', 'solution']
    """
    rows: list[dict[str, Any]] = Augment((), style=style or Style())(samples)
    return rows


def paper_mixture(
    stage: Literal[1, 2] = 2,
    sources: Mapping[str, Source] | None = None,
    *,
    augment: bool | Mapping[Perturbation, float] = False,
    limit: int | None = None,
    seed: int = 0,
    style: Style | None = None,
    download_urls: bool = False,
) -> "Dataset":
    """Return the paper's training data as rows for TRL, shuffled.

    The first stage is SAT-2 (32,000 rows) and PixMo-Count (15,000), the second adds Geometry3K (all 2,101). The choice
    of rows from a larger source, the order of rows and options, the options around counts and the augmentation depend
    only on the seed and the samples' ids. Needs the extra `train`.

    Args:
        stage: 1 or 2.
        sources: for "sat2", "pixmo-count" and "geometry3k", what `load_benchmark` takes as `source`, or samples of your
            own; None or missing = the hub. "sat2" has to be given: the hub has it as an archive.
        augment: True = a correct caption, a wrong caption, a correct thought and a wrong thought with a probability of
            0.1 each, as in the paper; a mapping = these perturbations with these probabilities, as for `Augment`.
        limit: total number of rows, in the same proportions; None = as many as in the paper.
        seed: seeds every draw.
        style: style of the prompts; None = the default style.
        download_urls: download the images of PixMo-Count; needed if its rows hold only URLs.

    Returns:
        A `datasets.Dataset` with the columns that `Augment` describes and `source`. Images are stored as files and
        decoded whenever a row is read. A warning is issued if a source has fewer samples than requested.

    Raises:
        ValueError: the stage, a name in `sources` or the limit is invalid, `datasets` is not installed, or a source
            cannot be read, see `load_benchmark`.

    Example:
        >>> from vlmrobust import demo
        >>> samples = demo.samples(40)
        >>> rows = paper_mixture(1, {"sat2": samples, "pixmo-count": samples}, augment=True, limit=40)
        >>> Augment.shares(rows, "source")
        {'pixmo-count': 0.325, 'sat2': 0.675}
        >>> Augment.shares(rows)
        {'base': 0.55, 'correct_caption': 0.1, 'correct_think': 0.125, 'wrong_caption': 0.05, 'wrong_think': 0.175}

    Source: arXiv:2602.12506.
    """
    counts = _counts(stage, limit)
    by_name = dict(sources or {})
    if unknown := sorted(by_name.keys() - _STAGES[2].keys()):
        raise ValueError(f"sources: expected names among {', '.join(_STAGES[2])}, got {', '.join(unknown)}")
    samples: list[Sample] = []
    for name, count in counts.items():
        drawn = _samples(name, by_name.get(name), count, seed, download_urls)
        if len(drawn) < count:
            warnings.warn(f"{name}: got {len(drawn)} of {count} requested samples", stacklevel=2)
        samples += drawn
    chosen_style = style or Style()
    augmented = Augment(AUGMENTATION if augment is True else augment or {}, seed, style=chosen_style)
    prompts = augmented.prompts(subset(samples, len(samples), seed, attrgetter("id")))
    converted = (
        row_of(prompt, chosen_style, decode=False) | {"source": prompt.sample.id.partition("/")[0]}
        for prompt in prompts
    )
    rows = dataset_of(converted, features("source"))
    shares = augmented.shares(rows, "source") | augmented.shares(rows)
    logger.info("%d training rows of stage %d: %s", len(rows), stage, shares)
    return rows


def _counts(stage: int, limit: int | None) -> dict[str, int]:
    """Return the number of rows per source, by the largest remainder method."""
    if stage not in _STAGES:
        raise ValueError(f"expected stage 1 or 2, got {stage!r}")
    counts = _STAGES[stage]
    if limit is None:
        return counts
    if limit < 1:
        raise ValueError(f"expected a limit of at least 1, got {limit}")
    total = sum(counts.values())
    scaled = {name: limit * count // total for name, count in counts.items()}
    by_remainder = sorted(counts, key=lambda name: limit * counts[name] % total, reverse=True)
    for name in by_remainder[: limit - sum(scaled.values())]:
        scaled[name] += 1
    return {name: count for name, count in scaled.items() if count}


def _samples(name: str, source: Source, count: int, seed: int, download_urls: bool) -> list[Sample]:
    """Draw `count` samples of a source, with the source's name in their ids."""
    if source is None or isinstance(source, str | Path):
        drawn: list[Sample] = load_benchmark(name, source=source, drawn=count, seed=seed, download_urls=download_urls)
    else:
        drawn = subset(source, count, seed, attrgetter("id"))
    return [sample.replace(id=f"{name}/{sample.id}") for sample in drawn if not _lacks_images(sample)]


def _lacks_images(sample: Sample) -> bool:
    """Return whether an image file is missing: an evaluation records an error, but training would stop."""
    return any(isinstance(image, str | Path) and not Path(image).is_file() for image in sample.images)
