"""A completion read: where the thought is, which option was answered, and which character says so."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LETTERS", "Parsed", "parse_completion"]

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
    """Read an assistant's turn (prefill and completion together)."""
    (think_open, think_close), (answer_open, answer_close) = think_tags, answer_tags
    start = turn.find(think_open)
    close = turn.find(think_close)
    body = 0 if start < 0 else start + len(think_open)
    opened = start >= 0 and close < 0
    after = body if close < 0 else close + len(think_close)
    at = turn.find(answer_open, after)
    end = len(turn)
    if at >= 0:
        left = at + len(answer_open)
        end = turn.find(answer_close, left)
        end = len(turn) if end < 0 else end
    elif opened:
        return Parsed(think=(body, len(turn)), answer=None, letter=None, well_formed=False, open_thought=True)
    else:
        left = after
    said = turn[left:end]
    think = (body, close) if close >= 0 else (body, at) if start >= 0 and at >= 0 else None
    answer, letter = None, None
    core = said.strip(" \n\t.()[]*:")
    if len(core) == 1 and core.upper() in LETTERS[: len(options)]:
        answer = LETTERS.index(core.upper())
        letter = (left + said.index(core), left + said.index(core) + 1)
    elif said.strip().rstrip(".") in options:
        answer = list(options).index(said.strip().rstrip("."))
    pattern = (
        rf"\s*{re.escape(think_open)}.*{re.escape(think_close)}\s*{re.escape(answer_open)}.*{re.escape(answer_close)}\s*"
    )
    whole = said if mode == "direct" else turn
    well_formed = answer is not None and (mode == "direct" or re.fullmatch(pattern, whole, re.DOTALL) is not None)
    return Parsed(think=think, answer=answer, letter=letter, well_formed=well_formed, open_thought=opened)
