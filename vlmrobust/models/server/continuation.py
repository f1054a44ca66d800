"""Find out how a server accepts a prefill, and whether it continues it.

A server that takes the last message for a finished turn, or drops the thought in it, still answers, but to another
prompt. The test works for any model: under greedy decoding, if the beginning of a model's own text is prefilled, the
model continues with the rest of that text. A server that repeats the prefill in its reply continues it all the same,
which shows, since the prefilled thought has more words than tokens may be generated.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from .attempts import UNSUPPORTED
from .client import Memo
from .messages import ContinuationMode, PrefillMode, continued
from .replies import Reply, after_prefix

__all__ = ["Ask", "Continuation", "echoes_prefill", "rejection_reason"]

logger = logging.getLogger(__name__)

Ask = Callable[[Sequence[Mapping[str, Any]], PrefillMode, int], Reply]
"""Sends messages for greedy decoding of some tokens, at most, and returns the reply."""

_QUESTION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Describe a walk through a park in a few sentences."}]}
]
_THOUGHT = (
    "The question is about a walk through a park, so I should say what one sees there, and in which order: first the "
    "gate and the path, then the trees, the pond and the people."
)
_TOKENS = 24  # fewer than the words of the thought
_CHARACTERS = 4  # unlikely to agree by chance


class Continuation:
    """How one server accepts a prefill, tested on first use.

    Args:
        ask: sends messages.
        requested: how to send a prefill; "auto" = find out.
    """

    def __init__(self, ask: Ask, requested: PrefillMode | Literal["auto"]) -> None:
        self._ask = ask
        self._requested: PrefillMode | Literal["auto"] = requested
        self._known = Memo()

    def mode(self, think_tags: tuple[str, str], *, closed: bool) -> PrefillMode:
        """Return how to send a prefilled thought.

        Args:
            think_tags: its opening and closing tag.
            closed: it is complete; some templates remove complete thoughts only.
        """
        if self._requested != "auto":
            return self._requested
        return self._known.get((think_tags, closed), lambda: self._first_that_works(think_tags, closed))

    def echoes(self, think_tags: tuple[str, str], mode: ContinuationMode) -> bool:
        """Return whether the server repeats the prefill in front of the generated text."""

        def find() -> bool:
            prefill = f"{think_tags[0]}{_THOUGHT}"
            return echoes_prefill(self._ask(continued(_QUESTION, prefill, mode), mode, 1), prefill, think_tags)

        return self._known.get(("echo", mode), find)

    def mergeable(self, forced: str, think_tags: tuple[str, str], mode: ContinuationMode) -> str:
        """Return the end of a forced prefix that a letter's token may begin with (`LetterVocabulary.forced_prefix`).

        The server's vocabulary is unknown. If the last character (the `>` of a tag) is a token of its own, which the
        prompt's token count without it shows, `>A` may be a token too; if it is not, nothing merges with it.
        """
        if not forced.endswith(">"):
            return ""

        def find() -> str:
            text = "".join(think_tags) + forced
            whole, shorter = (
                self._ask(continued(_QUESTION, part, mode), mode, 1).prompt_tokens for part in (text, text[:-1])
            )
            own = whole is not None and shorter is not None and whole == shorter + 1
            return forced[-1] if own else ""

        return self._known.get((forced, think_tags, mode), find)

    def _first_that_works(self, think_tags: tuple[str, str], closed: bool) -> PrefillMode:
        from openai import APIStatusError

        baseline = self._known.get("baseline", lambda: self._ask(_QUESTION, "last_message", 1).prompt_tokens)
        prefill = f"{think_tags[0]}{_THOUGHT}{think_tags[1] if closed else ''}"
        reasons = []
        candidates: tuple[ContinuationMode, ...] = ("continue_final_message", "last_message")
        for mode in candidates:
            try:
                reason = rejection_reason(self._ask, mode, prefill, think_tags, baseline)
            except APIStatusError as error:
                if error.status_code not in UNSUPPORTED:
                    raise
                reason = f"status {error.status_code}"
            if reason is None:
                return mode
            reasons.append(f"{mode}: {reason}")
        logger.warning(
            "the server does not continue a turn with %s thought (%s); such thoughts go into the user's message, which "
            "is a different experiment and is reported separately",
            "a complete" if closed else "an open",
            "; ".join(reasons),
        )
        return "user_text"


def rejection_reason(
    ask: Ask, mode: ContinuationMode, prefill: str, think_tags: tuple[str, str], baseline: int | None
) -> str | None:
    """Return why a prefilled thought would not be continued; None = it is. Sends two requests.

    `prefill` is the thought in its tags, open or closed, with more words than tokens are generated; `baseline` is the
    number of the prompt's tokens without it, as the server counts them.
    """

    def turn(prefill: str) -> tuple[str, int | None]:
        reply = ask(continued(_QUESTION, prefill, mode), mode, _TOKENS)
        return reply.turn(prefill, think_tags), reply.prompt_tokens

    first, tokens = turn(prefill)
    if tokens is None or baseline is None:
        return "the server does not count prompt tokens, so that a dropped prefill would not show"
    # A word is at least one token; of a dropped thought, a few control tokens remain.
    if tokens - baseline < len(_THOUGHT.split()) // 2:
        return f"the prompt has {tokens} tokens with the prefilled thought and {baseline} without"
    cut = _middle(first)
    rest = first[cut:].rstrip()
    # Compare half of the rest only: half precision may decide a tie differently.
    expected = rest[: -(-len(rest) // 2)]
    if len(expected) < _CHARACTERS or first.startswith(expected):
        return f"the reply after the prefill is too short or too uniform for the test, {first!r}"
    second, _ = turn(prefill + first[:cut])
    if not second.startswith(expected):
        return f"expected the reply to continue with {rest!r} after its own beginning, got {second!r:.120}"
    return None


def echoes_prefill(reply: Reply, prefill: str, think_tags: tuple[str, str]) -> bool:
    """Return whether a reply repeats a prefill that is too long to have been generated, or the thought in it."""
    thought = prefill.strip().removeprefix(think_tags[0]).partition(think_tags[1])[0]
    return after_prefix(reply.content, prefill) is not None or after_prefix(reply.reasoning or "", thought) is not None


def _middle(text: str) -> int:
    """Return where to split a text: before a space or after a tag, where a token is rarely split."""
    middle = len(text) // 2
    return max(text.rfind(" ", 1, middle + 1), text.rfind(">", 0, middle) + 1, 0) or middle
