"""A completion read: where the thought is, which option was answered, and which character says so."""

import string
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LETTERS", "Parsed"]

LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was found in an assistant's turn; all positions are character offsets into it.

    Attributes:
        think: (start, end) of the thought's text, without its tags; None = no thought.
        answer: index of the shown option that was answered; None = no answer, or an ambiguous one.
        letter: (start, end) of the one letter that names the answer; None = the option's text was written instead.
        well_formed: the turn is exactly one thought in its tags, then one answer in its tags (in "direct" mode: the
            answer alone).
        open_thought: a thought was opened and never closed.
    """

    think: tuple[int, int] | None
    answer: int | None
    letter: tuple[int, int] | None
    well_formed: bool
    open_thought: bool


def parse_completion(
    turn: str,
    *,
    options: Sequence[str],
    think_tags: tuple[str, str] = ("<think>", "</think>"),
    answer_tags: tuple[str, str] = ("<answer>", "</answer>"),
    answer_by: str = "letter",
    mode: str = "think",
) -> Parsed:
    """Being written."""
    raise NotImplementedError
