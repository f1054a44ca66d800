"""The paper's training data in its two stages, as rows for a trainer."""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..data import load_benchmark
from ..keyed import subset
from ..perturbations import CorrectCaption, CorrectThink, Perturbation, WrongCaption, WrongThink
from ..types import Prompt, Sample, Style
from .arrow import dataset_of, features
from .augment import Augment
from .columns import row_of

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["AUGMENTATION", "paper_mixture"]

logger = logging.getLogger(__name__)

Source: TypeAlias = str | Path | Iterable[Sample] | None

_FIRST = {"sat2": 32_000, "pixmo-count": 15_000}
_STAGES: dict[int, dict[str, int]] = {1: _FIRST, 2: _FIRST | {"geometry3k": 2_101}}
AUGMENTATION: Mapping[Perturbation, float] = dict.fromkeys(
    (CorrectCaption(), WrongCaption(), CorrectThink(), WrongThink()), 0.1
)
"""What the paper augments its rows with, and how often."""


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

    The first stage is SAT-2 (32,000 rows) and PixMo-Count (15,000), the second these and Geometry3K (all 2,101). Which
    rows of a larger source are taken, the order of rows and options, the options around counts and what is augmented
    are keyed by the seed and the samples' ids. Needs the extra `train`.

    Args:
        stage: 1 or 2.
        sources: for "sat2", "pixmo-count" and "geometry3k", what `load_benchmark` takes as `source`, or samples of
            yours; None, or none given = the hub. "sat2" needs one: it is an archive there.
        augment: True = a correct caption, a wrong caption, a correct thought and a wrong thought with a probability of
            0.1 each, as in the paper; a mapping = these perturbations with these probabilities, as for `Augment`.
        limit: so many rows in all, in the same shares; None = as many as in the paper.
        seed: for everything that is drawn.
        style: how questions are put; None = the default style.
        download_urls: fetch the images of PixMo-Count; needed where its rows have addresses alone.

    Returns:
        A `datasets.Dataset` with the columns that `Augment` describes and `source`. Images are kept as files and
        decoded whenever a row is read. A warning tells where a source has fewer samples than are asked for.

    Raises:
        ValueError: the stage, a name in `sources` or the limit is not right, `datasets` is not installed, or a source
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
    given = dict(sources or {})
    if unknown := sorted(given.keys() - _STAGES[2].keys()):
        raise ValueError(f"sources: expected names among {', '.join(_STAGES[2])}, got {', '.join(unknown)}")
    samples: list[Sample] = []
    for name, count in counts.items():
        found = _samples(name, given.get(name), count, seed, download_urls)
        if len(found) < count:
            warnings.warn(f"{name}: {len(found)} samples of {count} that were asked for", stacklevel=2)
        samples += found
    shown = style or Style()
    augmented = Augment(AUGMENTATION if augment is True else augment or {}, seed, style=shown)
    rows = _dataset(augmented.prompts(subset(samples, len(samples), seed, _name)), shown)
    shares = augmented.shares(rows, "source") | augmented.shares(rows)
    logger.info("%d training rows of stage %d: %s", len(rows), stage, shares)
    return rows


def _counts(stage: int, limit: int | None) -> dict[str, int]:
    """Return how many rows of each source there shall be; what division leaves goes to the largest remainders."""
    if stage not in _STAGES:
        raise ValueError(f"expected stage 1 or 2, got {stage!r}")
    counts = _STAGES[stage]
    if limit is None:
        return counts
    if limit < 1:
        raise ValueError(f"expected a limit of at least 1, got {limit}")
    total = sum(counts.values())
    shared = {name: limit * count // total for name, count in counts.items()}
    by_remainder = sorted(counts, key=lambda name: limit * counts[name] % total, reverse=True)
    for name in by_remainder[: limit - sum(shared.values())]:
        shared[name] += 1
    return {name: count for name, count in shared.items() if count}


def _samples(name: str, source: Source, count: int, seed: int, download_urls: bool) -> list[Sample]:
    """Return so many samples of a source, drawn by key, with ids that differ from those of other sources."""
    if source is None or isinstance(source, str | Path):
        drawn: list[Sample] = load_benchmark(name, source=source, drawn=count, seed=seed, download_urls=download_urls)
    else:
        drawn = subset(source, count, seed, _name)
    return [sample.replace(id=f"{name}/{sample.id}") for sample in drawn if not _lacks_images(sample)]


def _name(sample: Sample) -> str:
    return sample.id


def _lacks_images(sample: Sample) -> bool:
    """Whether an image file is not there: an evaluation lists it as an error, but a training would end at it."""
    return any(isinstance(image, str | Path) and not Path(image).is_file() for image in sample.images)


def _dataset(prompts: Sequence[Prompt], style: Style) -> "Dataset":
    rows = (row_of(prompt, style, decode=False) | {"source": prompt.sample.id.partition("/")[0]} for prompt in prompts)
    return dataset_of(rows, features("source"))
