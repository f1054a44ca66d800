"""Look up conditions by name, and custom ones by `module:Class`: the one table of their names."""

from collections.abc import Callable, Sequence
from functools import partial

from ..naming import made_at, unknown_name
from ..types import Sample
from .base import Compose, Perturbation
from .caption import CAPTION_HEDGE, CorrectCaption, IrrelevantCaption, NeutralCaption, WrongCaption
from .expansion import Base
from .image import BlankImage, BlurredImage, LowContrastImage, NoisyImage, RemovedImage, SwappedImage
from .options import AbstainOption, AnswerFirst, OptionLetters, RotatedOptions, ShuffledOptions
from .question import AreYouSure, Casing, NeutralSecondTurn, Spacing, SuggestedAnswer, SuggestedSecondTurn, Typos
from .think import (
    THINK_HEDGE,
    AddedMistake,
    CorrectThink,
    EarlyAnswer,
    FillerThought,
    NeutralThink,
    StopThink,
    WrongThink,
)

__all__ = ["CONDITIONS", "FROM_SAMPLES", "conditions_named", "parts_of"]

CONDITIONS: dict[str, Callable[[], Perturbation]] = {
    "base": Base,
    "stop_think": StopThink,
    "wrong_think": WrongThink,
    "wrong_think_but": lambda: WrongThink(hedge=THINK_HEDGE),
    "wrong_caption": WrongCaption,
    "wrong_caption_disclaimer": lambda: WrongCaption(disclaimer=CAPTION_HEDGE),
    "correct_caption": CorrectCaption,
    "correct_think": CorrectThink,
    "abstain_option": AbstainOption,
    "neutral_caption": NeutralCaption,
    "irrelevant_caption": IrrelevantCaption,
    "neutral_think": NeutralThink,
    "blank_image": BlankImage,
    "removed_image": RemovedImage,
    **{f"noisy_image_{severity}": partial(NoisyImage, severity=severity) for severity in range(1, 6)},
    **{f"blurred_image_{severity}": partial(BlurredImage, severity=severity) for severity in range(1, 6)},
    **{f"low_contrast_image_{severity}": partial(LowContrastImage, severity=severity) for severity in range(1, 6)},
    **{f"typos_{severity}": partial(Typos, severity=severity) for severity in range(1, 6)},
    "casing": Casing,
    "spacing": Spacing,
    "suggested_answer": SuggestedAnswer,
    "suggested_answer_expert": lambda: SuggestedAnswer(by="expert"),
    **{f"rotated_options_{by}": partial(RotatedOptions, by=by) for by in range(1, 6)},
    "shuffled_options": ShuffledOptions,
    "answer_first": AnswerFirst,
    "option_letters": OptionLetters,
    **{f"early_answer_{percent}": partial(EarlyAnswer, fraction=percent / 100) for percent in (0, 25, 50, 75, 100)},
    "added_mistake": AddedMistake,
    "filler_thought": FillerThought,
    "are_you_sure": AreYouSure,
    "suggested_second_turn": SuggestedSecondTurn,
    "neutral_second_turn": NeutralSecondTurn,
}

FROM_SAMPLES: dict[str, Callable[..., Perturbation]] = {"swapped_image": SwappedImage}
"""Conditions that use other samples, their `pool`."""


def parts_of(names: Sequence[str]) -> list[list[str]]:
    """Split each name into the names joined with `+`.

    Raises:
        ValueError: a name is unknown (the message suggests the closest and lists all), or a custom class is missing.

    Example:
        >>> parts_of(["base", "wrong_caption+abstain_option"])
        [['base'], ['wrong_caption', 'abstain_option']]
    """
    parts = [[part.strip() for part in name.split("+")] for name in names]
    known = (*CONDITIONS, *FROM_SAMPLES)
    for part in (part for joined in parts for part in joined if part not in known):
        if ":" not in part:
            raise ValueError(
                f"expected a condition, or several joined with +, {unknown_name(part, known)}; name a custom one as "
                "module:Class or file.py:Class"
            )
        made_at(part, (Perturbation,), "condition")
    return parts


def conditions_named(names: Sequence[str], samples: Sequence[Sample] = ()) -> list[Perturbation]:
    """Return conditions by name; `+` joins several into one.

    Args:
        names: names of conditions; `module:Class` or `file.py:Class` for custom ones, whose module is imported, which
            runs its code.
        samples: for conditions that use other samples.

    Raises:
        ValueError: a name is unknown (the message suggests the closest and lists all), or a custom class is missing.

    Example:
        >>> [condition.condition for condition in conditions_named(["base", "wrong_caption+abstain_option"])]
        ['base', 'wrong_caption+abstain_option']
    """
    conditions: list[Perturbation] = []
    for parts in parts_of(names):
        created = [_create(part, samples) for part in parts]
        conditions.append(created[0] if len(created) == 1 else Compose(*created))
    return conditions


def _create(part: str, samples: Sequence[Sample]) -> Perturbation:
    if part in CONDITIONS:
        return CONDITIONS[part]()
    if part in FROM_SAMPLES:
        return FROM_SAMPLES[part](pool=samples)
    custom: Perturbation = made_at(part, (Perturbation,), "condition")
    return custom
