"""Change the list of options: add one, reorder them, or change their letters.

Conditions that reorder or re-letter are not applicable if an option refers to others ("Both A and B", "None of the
above"), or if the options' texts begin with letters of their own ("A. red").
"""

import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from ..prompting import without_labels
from ..types import Prompt
from ..types.sample import Letters
from .base import NotApplicable, Perturbation

__all__ = ["AbstainOption", "AnswerFirst", "OptionLetters", "RotatedOptions", "ShuffledOptions", "rotations"]


class AbstainOption(Perturbation):
    """Add an option with which the model can abstain.

    Choosing it gives the status `abstained`, which is neither right nor wrong.

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


def _check_unlabelled(prompt: Prompt) -> None:
    """Raise if the options' own texts begin with their letters, which would contradict those shown before them."""
    if without_labels(prompt.sample.options) != prompt.sample.options:
        first = prompt.sample.options[0]
        raise NotApplicable(
            f"the options begin with letters of their own, such as {first!r}, which would not stay true"
        )


def _names_letters(option: str, letters: str) -> bool:
    """Return whether an option's text refers to others by letter: "Both A and B", "Option C only"."""
    named = ({letter.upper() for letter in match.groups() if letter} for match in _LETTERS_NAMED.finditer(option))
    return any(group <= set(letters) for group in named)


def _reordered(prompt: Prompt, order: Sequence[int]) -> Prompt:
    """Return the prompt with the sample's own options as shown in another order; added options keep their positions.

    Raises:
        NotApplicable: an option refers to others by letter or position, or begins with its letter, which reordering
            would change.
    """
    _check_unlabelled(prompt)
    positions = _own_positions(prompt)
    letters = prompt.style.letters[: len(prompt.options)]
    for option in (prompt.options[position] for position in positions):
        if _names_letters(option, letters) or _PLACE_NAMED.search(option):
            raise NotApplicable(f"the option {option!r} speaks of others by letter or place, and would not stay true")
    moved = dict(zip(positions, (positions[index] for index in order), strict=True))
    source = [moved.get(position, position) for position in range(len(prompt.order))]
    return prompt.replace(
        options=[prompt.options[position] for position in source], order=[prompt.order[position] for position in source]
    )


def _own_positions(prompt: Prompt) -> list[int]:
    return [position for position, option in enumerate(prompt.order) if option is not None]


class RotatedOptions(Perturbation):
    """Rotate the options, with the first ones moved to the end; all rotations together give "circular" scoring.

    Attributes:
        by: the number of positions. A sample with at most this many options is `NotApplicable`, since a rotation by
            its number of options would change nothing.

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
        """`rotated_options_` and the number of positions, unless a name was given."""
        return self.name or f"rotated_options_{self.by}"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Rotate the options."""
        count = len(_own_positions(prompt))
        if self.by >= count:
            raise NotApplicable(f"a rotation by {self.by} needs more than {count} options")
        return _reordered(prompt, [*range(self.by, count), *range(self.by)])


def rotations(options: int) -> tuple[RotatedOptions, ...]:
    """Return the conditions that, with `base`, show every rotation of up to `options` options; see `Report.circular`.

    Args:
        options: the largest number of options of a sample, at least 2; for a sample with fewer options, the excess
            rotations are `NotApplicable`.

    Raises:
        ValueError: `options` is less than 2.

    Example:
        >>> [rotation.condition for rotation in rotations(4)]
        ['rotated_options_1', 'rotated_options_2', 'rotated_options_3']
    """
    if options < 2:
        raise ValueError(f"expected at least 2 options to rotate, got {options}")
    return tuple(RotatedOptions(by=by) for by in range(1, options))


class ShuffledOptions(Perturbation):
    """Shuffle the options into a different random order.

    Source: Pezeshkpour and Hruschka, arXiv:2308.11483, on the order of options.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
        >>> ShuffledOptions()(Prompt.of(sample)).options
        ('blue', 'red')
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Shuffle the options."""
        count = len(_own_positions(prompt))
        if count < 2:
            raise NotApplicable(f"a shuffle needs 2 options, got {count}")
        order = list(range(count))
        while order == sorted(order):
            order = rng.permutation(count).tolist()
        return _reordered(prompt, order)


class AnswerFirst(Perturbation):
    """Move the correct option to the front, so that the answer is always A; the others keep their order.

    For a single question this only measures a preference for (or against) the first letter. In its source, the few-shot
    examples also have A as their answer, and the model picks up the pattern.

    Source: Turpin et al., arXiv:2305.04388, "answer is always A", without its examples.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue", "green"], answer=1)
        >>> AnswerFirst()(Prompt.of(sample)).options
        ('blue', 'red', 'green')
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Move the correct option."""
        shown = [prompt.order[position] for position in _own_positions(prompt)]
        if prompt.sample.answer not in shown:
            raise NotApplicable("the correct option is not shown")
        first = shown.index(prompt.sample.answer)
        return _reordered(prompt, [first, *(index for index in range(len(shown)) if index != first)])


class OptionLetters(Perturbation):
    """Use other letters for the options, in the same order.

    A model may prefer the token of a letter, whatever its option. Rotations and shuffles cannot separate that from a
    preference for a position. Texts that name letters are unchanged: a custom instruction, a given thought, a thought
    under base.

    Attributes:
        letters: the options' letters, in order: 2 to 26 different capitals from A to Z. A sample with more options than
            letters, or with these letters already, is `NotApplicable`.

    Raises:
        ValueError: the letters are invalid.

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
        """Change the letters."""
        count = len(prompt.options)
        if count > len(self.letters):
            raise NotApplicable(f"{count} options need as many letters, and {self.letters!r} are {len(self.letters)}")
        if self.letters[:count] == prompt.style.letters[:count]:
            raise NotApplicable(f"the options have the letters {self.letters[:count]!r} already")
        _check_unlabelled(prompt)
        for option in prompt.options:
            if _names_letters(option, prompt.style.letters[:count]):
                raise NotApplicable(f"the option {option!r} speaks of others by letter, and would not stay true")
        return prompt.replace(style=prompt.style.replace(letters=self.letters))
