"""Conditions by the names that the command line knows, the one table of them, or by where one's own class is."""

from collections.abc import Callable, Sequence
from functools import partial

from .naming import made_at, unknown_name
from .perturbations import (
    AbstainOption,
    AddedMistake,
    AnswerFirst,
    AreYouSure,
    Base,
    BlankImage,
    BlurredImage,
    Casing,
    Compose,
    CorrectCaption,
    CorrectThink,
    EarlyAnswer,
    FillerThought,
    IrrelevantCaption,
    LowContrastImage,
    NeutralCaption,
    NeutralSecondTurn,
    NeutralThink,
    NoisyImage,
    OptionLetters,
    Perturbation,
    RemovedImage,
    RotatedOptions,
    ShuffledOptions,
    Spacing,
    StopThink,
    SuggestedAnswer,
    SuggestedSecondTurn,
    SwappedImage,
    Typos,
    WrongCaption,
    WrongThink,
)
from .types import Sample

__all__ = ["CONDITIONS", "FROM_SAMPLES", "conditions_named", "parts_of"]

CONDITIONS: dict[str, Callable[[], Perturbation]] = {
    "base": Base,
    "stop_think": StopThink,
    "wrong_think": WrongThink,
    "wrong_think_but": lambda: WrongThink(hedge="but I think"),
    "wrong_caption": WrongCaption,
    "wrong_caption_disclaimer": lambda: WrongCaption(disclaimer="but I could be wrong"),
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
"""Conditions that show something of other samples, which are their `pool`."""


def parts_of(names: Sequence[str]) -> list[list[str]]:
    """Return the names that are joined with `+` in each of some names.

    Raises:
        ValueError: a name is not known (the message has the nearest, and lists all), or one's own class is not there.

    Example:
        >>> parts_of(["base", "wrong_caption+abstain_option"])
        [['base'], ['wrong_caption', 'abstain_option']]
    """
    parts = [[part.strip() for part in name.split("+")] for name in names]
    known = (*CONDITIONS, *FROM_SAMPLES)
    for part in (part for joined in parts for part in joined if part not in known):
        if ":" not in part:
            raise ValueError(
                f"expected a condition, or several joined with +, {unknown_name(part, known)}; one of your own is "
                "module:Class or file.py:Class"
            )
        made_at(part, (Perturbation,), "condition")
    return parts


def conditions_named(names: Sequence[str], samples: Sequence[Sample] = ()) -> list[Perturbation]:
    """Return the conditions of some names, each from the tables or one's own, or several of them joined with `+`.

    Args:
        names: of conditions; `module:Class` or `file.py:Class` of one's own, whose module is imported, which runs its
            code.
        samples: for conditions that show something of other samples.

    Raises:
        ValueError: a name is not known (the message has the nearest, and lists all), or one's own class is not there.

    Example:
        >>> [condition.condition for condition in conditions_named(["base", "wrong_caption+abstain_option"])]
        ['base', 'wrong_caption+abstain_option']
    """
    conditions: list[Perturbation] = []
    for parts in parts_of(names):
        made = [_made(part, samples) for part in parts]
        conditions.append(made[0] if len(made) == 1 else Compose(*made))
    return conditions


def _made(part: str, samples: Sequence[Sample]) -> Perturbation:
    if part in CONDITIONS:
        return CONDITIONS[part]()
    if part in FROM_SAMPLES:
        return FROM_SAMPLES[part](pool=samples)
    own: Perturbation = made_at(part, (Perturbation,), "condition")
    return own
