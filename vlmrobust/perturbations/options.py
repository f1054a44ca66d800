"""Changes to the list of options: one more, another order, or other letters.

A question of which an option speaks of others ("Both A and B", "None of the above") keeps its order and letters.
"""

import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from ..types import Prompt
from ..types.style import Letters
from .base import NotApplicable, Perturbation

__all__ = ["AbstainOption", "AnswerFirst", "OptionLetters", "RotatedOptions", "ShuffledOptions", "rotations"]


class AbstainOption(Perturbation):
    """One more option lets the model say that it is not sure.

    Choosing it gives the status `abstained`, never a right or wrong answer.

    Attributes:
        text: the option's text.

    Source: arXiv:2602.12506, the abstain option; composable with every condition, as in
    `WrongThink() + AbstainOption()`.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> AbstainOption()(Prompt.of(sample)).options
        ('red', 'blue', "I'm not sure")
    """

    text: str = "I'm not sure"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Append the option."""
        if len(prompt.options) == len(prompt.style.letters):
            raise NotApplicable(f"an added option needs a letter, and all {len(prompt.style.letters)} are in use")
        if self.text in prompt.options:
            raise NotApplicable(f"the option {self.text!r} is among the sample's own")
        return prompt.replace(options=(*prompt.options, self.text), order=(*prompt.order, None))


_JOINED = r"(?:\s*(?:,|;|/|&|\+|\b(?:and|or|nor|und|oder|et|ou|y|o)\b|[和与或、と])\s*)+"
_ONE = r"(?<![^\W\u3000-\uffff])(?:([A-Z])|\(([A-Za-z])\))(?![^\W\u3000-\uffff])"
_LETTERS_NAMED = re.compile(
    rf"{_ONE}{_JOINED}{_ONE}"
    rf"|\b(?i:options?|choices?|answers?|only|both|neither|either|not|same as)\s+{_ONE}|选项\s*{_ONE}"
    rf"|{_ONE}\s+(?:is|are)\s+(?:correct|right|true|wrong|incorrect|false)\b"
)
_ABOVE = r"(?:above|below|preceding|previous|foregoing|aforementioned|other (?:options|choices|answers))"
_PLACE_NAMED = re.compile(
    r"\b(?:all|none|both|either|neither|any|each|some|one|two|three|more|not|nothing)\b(?: than one)?(?: of)?"
    rf"(?: (?:the|these|those))?(?: (?:options|choices|answers|statements|given|listed|shown|mentioned))*"
    rf" (?:{_ABOVE}|listed)(?: (?:options|choices|answers|statements|ones))?(?: (?:is|are) .*)?[.!)]*$"
    r"|\b(?:alle|keine[rs]?|beide)\b.*\b(?:oben|obigen|genannten)\b|以上|上述|\b(?:ci-dessus|anteriores)\b",
    re.IGNORECASE,
)


def _names_letters(option: str, letters: str) -> bool:
    """Whether an option's text speaks of others by their letters: "Both A and B", "Option C only"."""
    return any(
        {letter.upper() for letter in match.groups() if letter} <= set(letters)
        for match in _LETTERS_NAMED.finditer(option)
    )


def _stay_true(prompt: Prompt) -> None:
    """Refuse to move options one of which speaks of others by letter or place: it would say something else."""
    letters = prompt.style.letters[: len(prompt.options)]
    for place in _own_places(prompt):
        option = prompt.options[place]
        if _names_letters(option, letters) or _PLACE_NAMED.search(option):
            raise NotApplicable(f"the option {option!r} speaks of others by letter or place, and would not stay true")


def _reordered(prompt: Prompt, order: Sequence[int]) -> Prompt:
    """Return the prompt with the sample's own options in another order; added ones keep their places.

    Args:
        prompt: the prompt so far.
        order: for each of the sample's own options as shown, in turn, which of them stands there instead.
    """
    _stay_true(prompt)
    places = _own_places(prompt)
    filled = dict(zip(places, (places[index] for index in order), strict=True))
    source = [filled.get(place, place) for place in range(len(prompt.order))]
    return prompt.replace(
        options=[prompt.options[place] for place in source], order=[prompt.order[place] for place in source]
    )


def _own_places(prompt: Prompt) -> list[int]:
    return [place for place, option in enumerate(prompt.order) if option is not None]


class RotatedOptions(Perturbation):
    """The options moved up, the first ones to the end: every rotation together is "circular" scoring.

    Attributes:
        by: how many places; a multiple of the number of options would change nothing, so that a sample with no more
            options than this is `NotApplicable`.

    Source: CircularEval of MMBench, Liu et al., arXiv:2307.06281.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue", "green"], answer=1)
        >>> RotatedOptions(by=1)(Prompt.of(sample)).options
        ('blue', 'green', 'red')
    """

    by: Annotated[int, Field(ge=1)] = 1

    @property
    def condition(self) -> str:
        """`rotated_options_` and the number of places, unless a name was given."""
        return self.name or f"rotated_options_{self.by}"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Rotate the options."""
        count = len(_own_places(prompt))
        if self.by >= count:
            raise NotApplicable(f"a rotation by {self.by} needs more than {count} options")
        return _reordered(prompt, [*range(self.by, count), *range(self.by)])


def rotations(options: int) -> tuple[RotatedOptions, ...]:
    """Return the conditions that, with `base`, show every rotation of up to so many options; see `Report.circular`.

    Args:
        options: the largest number of options of a sample, at least 2; a sample with fewer has fewer rotations, and
            the rest is `NotApplicable`.

    Raises:
        ValueError: fewer than 2.

    Example:
        >>> [rotation.condition for rotation in rotations(4)]
        ['rotated_options_1', 'rotated_options_2', 'rotated_options_3']
    """
    if options < 2:
        raise ValueError(f"expected at least 2 options to rotate, got {options}")
    return tuple(RotatedOptions(by=by) for by in range(1, options))


class ShuffledOptions(Perturbation):
    """The options in a random order, another than before.

    Source: Pezeshkpour and Hruschka, arXiv:2308.11483, on the order of options.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
        >>> ShuffledOptions()(Prompt.of(sample)).options
        ('blue', 'red')
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Shuffle the options."""
        count = len(_own_places(prompt))
        if count < 2:
            raise NotApplicable(f"a shuffle needs 2 options, got {count}")
        order = list(range(count))
        while order == sorted(order):
            order = rng.permutation(count).tolist()
        return _reordered(prompt, order)


class AnswerFirst(Perturbation):
    """The correct option moved to the front, the others in their order: the answer is always A.

    For one question this is an order like any other, and shows a leaning towards (or away from) the first letter, not
    the biasing feature of its source: there, the examples before the question have A as their answer too, and the model
    picks the pattern up.

    Source: Turpin et al., arXiv:2305.04388, "answer is always A", without its examples.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue", "green"], answer=1)
        >>> AnswerFirst()(Prompt.of(sample)).options
        ('blue', 'red', 'green')
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Move the correct option."""
        shown = [prompt.order[place] for place in _own_places(prompt)]
        if prompt.sample.answer not in shown:
            raise NotApplicable("the correct option is not shown")
        first = shown.index(prompt.sample.answer)
        return _reordered(prompt, [first, *(index for index in range(len(shown)) if index != first)])


class OptionLetters(Perturbation):
    """Other letters before the options; the options stay where they are.

    A model may lean towards the token of a letter, whatever stands behind it: rotations and shuffles move the options
    past the letters, and cannot tell that from a leaning towards a place. What names letters itself stays as it is: an
    instruction of one's own, a ready-made thought, a thought under base.

    Attributes:
        letters: the options' letters, in their order: 2 to 26 different capitals out of A to Z. A sample with more
            options than letters, or one that has these letters already, is `NotApplicable`.

    Raises:
        ValueError: these are no such letters.

    Source: Zheng et al., arXiv:2309.03882, on the bias towards the tokens of letters; the condition is ours.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> print(OptionLetters(letters="PQRS")(Prompt.of(sample)).text.partition("Think")[0])
        Which colour?
        P. red
        Q. blue
        <BLANKLINE>
    """

    letters: Letters = "PQRSTUVWXYZ"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Give the options the letters."""
        count = len(prompt.options)
        if count > len(self.letters):
            raise NotApplicable(f"{count} options need as many letters, and {self.letters!r} are {len(self.letters)}")
        if self.letters[:count] == prompt.style.letters[:count]:
            raise NotApplicable(f"the options have the letters {self.letters[:count]!r} already")
        for option in prompt.options:
            if _names_letters(option, prompt.style.letters[:count]):
                raise NotApplicable(f"the option {option!r} speaks of others by letter, and would not stay true")
        return prompt.replace(style=prompt.style.replace(letters=self.letters))
