"""Adversarial augmentation: some of the training prompts get a perturbation, so that inverting it does not pay."""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, SerializeAsAny, model_validator

from ..data import samples_from
from ..keyed import generator
from ..perturbations import Base, NotApplicable, Perturbation, expand
from ..perturbations.conditions import check_conditions
from ..types import Prompt, Sample, Style, check_samples
from ..types.validated import Frozen
from .arrow import features
from .columns import row_of

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Augment", "to_grpo_rows"]

logger = logging.getLogger(__name__)


class Augment(Frozen):
    """Puts each perturbation into a prompt with its probability; at most one per prompt.

    Which sample gets which is keyed by the seed and the sample's id, whatever the order or the worker. A perturbation
    that does not fit a sample leaves it as it is.

    Attributes:
        probabilities: pairs of a perturbation and its probability in [0, 1]; a mapping is taken as well. What is
            missing to 1 stays unperturbed.
        seed: keys every draw, together with the sample's id.
        style: how questions are put.

    Raises:
        ValueError: the probabilities add up to more than 1, or two perturbations have one name.

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
        made = expand(checked, [], seed=self.seed, style=self.style)
        prompts = []
        for sample in checked:
            try:
                prompts.append(made.make(sample, self._drawn(sample)))
            except NotApplicable:
                prompts.append(made.make(sample, Base()))
        return prompts

    def __call__(
        self,
        data: "Iterable[Sample] | Iterable[Mapping[str, Any]] | Dataset",
        columns: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return training rows in TRL's conversational format for images.

        Args:
            data: samples; rows as `samples_from` takes them; or a `datasets.Dataset` of such rows, which is mapped row
                by row and numbered where it has no column `id`.
            columns: which column holds a field, as for `samples_from`.

        Returns:
            Rows with `prompt`, `images`, `solution` (the correct letter), `question`, `options`, `condition` and
            `prefill`, as a list with decoded images, or as a `datasets.Dataset` if one was given.

        Raises:
            ValueError: a row makes no sample, or a perturbation adds options or changes the style.
        """
        if "datasets" in sys.modules and isinstance(data, sys.modules["datasets"].Dataset):
            return self._mapped(data, columns)
        items = list(data)
        if not all(isinstance(item, Sample) for item in items):
            items = list(samples_from(items, columns))
        rows = [row_of(prompt, self.style) for prompt in self.prompts(items)]
        logger.info("%d training rows: %s", len(rows), self.shares(rows))
        return rows

    @staticmethod
    def shares(rows: Any, column: str = "condition") -> dict[str, float]:
        """Return the share of rows under each condition, in [0, 1].

        Args:
            rows: what calling this returned, a list or a `datasets.Dataset`.
            column: what is counted; "source" = where the rows of `paper_mixture` come from.
        """
        counts = Counter([row[column] for row in rows] if isinstance(rows, list) else rows[column])
        total = sum(counts.values())
        return {value: count / total for value, count in sorted(counts.items())}

    def _drawn(self, sample: Sample) -> Perturbation:
        point = float(generator(self.seed, sample.id, "augment").random())
        for perturbation, probability in self.probabilities:
            point -= probability
            if point < 0:
                return perturbation
        return Base()

    def _mapped(self, data: "Dataset", columns: Mapping[str, Any] | None) -> "Dataset":
        named = columns or {}
        identity = named.get("id", "id")

        def augmented(row: dict[str, Any], index: int) -> dict[str, Any]:
            numbered = row if identity in data.column_names else {**row, "id": str(index)}
            [prompt] = self.prompts(samples_from([numbered], named))
            return row_of(prompt, self.style)

        rows = data.map(augmented, with_indices=True, remove_columns=data.column_names, features=features())
        logger.info("%d training rows: %s", len(rows), self.shares(rows))
        return rows


def to_grpo_rows(samples: Iterable[Sample], style: Style | None = None) -> list[dict[str, Any]]:
    """Return samples as training rows in TRL's conversational format for images, none of them perturbed.

    Args:
        samples: with ids that differ.
        style: how questions are put; None = the default style.

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
