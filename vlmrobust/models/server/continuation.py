"""How a server begins the assistant's turn, and whether it goes on from there: asked, not assumed.

A server that takes the last message for a finished turn, drops the thought in it or repeats it gives answers all the
same, to another prompt. What shows the difference whatever the model: under greedy decoding, the beginning of a model's
own text put in front of it is continued by the rest of that text.
"""

import logging
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, Protocol

from .messages import Continuing, Way, continued
from .replies import Reply

__all__ = ["Ask", "Continuation", "refusal"]

logger = logging.getLogger(__name__)

_QUESTION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Describe a walk through a park in a few sentences."}]}
]
_THOUGHT = "The question is about a walk through a park, so I should say what one sees there, and in which order."
_TOKENS = 24
_CHARACTERS = 4  # so many do not agree by chance
_NOT_UNDERSTOOD = (400, 422, 500, 501)  # a template that raises is a 500 with some servers


class Ask(Protocol):
    """Sends messages, to be answered greedily, and returns the reply."""

    def __call__(self, messages: Sequence[Mapping[str, Any]], way: Way, max_tokens: int) -> Reply:
        """Ask once."""


class Continuation:
    """How one server carries a prefill; what has to be found out is asked once, when it is first needed.

    Args:
        ask: sends messages.
        wanted: how a prefill is to be carried; "auto" = as the server can.
    """

    def __init__(self, ask: Ask, wanted: Way | Literal["auto"]) -> None:
        self._ask = ask
        self._wanted: Way | Literal["auto"] = wanted
        self._lock = threading.Lock()
        self._known: dict[Hashable, Any] = {}

    def way(self, think_tags: tuple[str, str]) -> Way:
        """Return how a prefilled thought is carried."""
        if self._wanted != "auto":
            return self._wanted
        with self._lock:
            if think_tags not in self._known:
                self._known[think_tags] = self._first_that_works(think_tags)
            way: Way = self._known[think_tags]
            return way

    def mergeable(self, forced: str, think_tags: tuple[str, str], way: Continuing) -> str:
        """Return the end of a forced prefix that a letter's token may begin with (`LetterVocabulary.forced_prefix`).

        The server's vocabulary is not known. If the last character (the `>` of a tag) is a token of its own, which
        shows in how many tokens a prompt has without it, `>A` may be one too; if it is not, nothing merges with it.
        """
        if not forced.endswith(">"):
            return ""
        with self._lock:
            key = (forced, think_tags, way)
            if key not in self._known:
                text = "".join(think_tags) + forced
                whole, shorter = (
                    self._ask(continued(_QUESTION, part, way), way, 1).prompt_tokens for part in (text, text[:-1])
                )
                own = whole is not None and shorter is not None and whole == shorter + 1
                self._known[key] = forced[-1] if own else ""
            return str(self._known[key])

    def _first_that_works(self, think_tags: tuple[str, str]) -> Way:
        from openai import APIStatusError

        plain = self._ask(_QUESTION, "last_message", 1).prompt_tokens
        reasons = []
        candidates: tuple[Continuing, ...] = ("continue_final_message", "last_message")
        for way in candidates:
            try:
                reason = refusal(self._ask, way, think_tags, plain)
            except APIStatusError as error:
                if error.status_code not in _NOT_UNDERSTOOD:
                    raise
                reason = f"status {error.status_code}"
            if reason is None:
                return way
            reasons.append(f"{way}: {reason}")
        logger.warning(
            "the server does not go on from a begun turn (%s); prefilled thoughts are put into the user's text, which "
            "is another experiment and stands apart in the report",
            "; ".join(reasons),
        )
        return "user_text"


def refusal(ask: Ask, way: Continuing, think_tags: tuple[str, str], plain: int | None) -> str | None:
    """Return why prefilled thoughts would not be continued; None = they are.

    Asked four times: twice after an open, and twice after a closed thought.

    Args:
        ask: sends messages.
        way: how the thought is prefilled.
        think_tags: opening and closing tag.
        plain: the tokens of the same prompt without a prefill, as the server counts them.
    """
    think_open, think_close = think_tags
    for prefill in (f"{think_open}{_THOUGHT}", f"{think_open}{_THOUGHT}{think_close}"):

        def turn(prefill: str) -> tuple[str, int | None]:
            reply = ask(continued(_QUESTION, prefill, way), way, _TOKENS)
            return reply.turn(prefill, think_tags), reply.prompt_tokens

        first, tokens = turn(prefill)
        if first.startswith(prefill):
            return "the reply repeats the prefill"
        if tokens is None or plain is None:
            return "the server does not count prompt tokens, so that a dropped prefill would not show"
        # A word is a token at least; where the thought is dropped, a few control tokens are left.
        if tokens - plain < len(_THOUGHT.split()) // 2:
            return f"the prompt has {tokens} tokens with the prefilled thought and {plain} without"
        cut = _middle(first)
        rest = first[cut:].rstrip()
        # Half of the rest is enough: half precision may take another turn at a tie.
        expected = rest[: -(-len(rest) // 2)]
        if len(expected) < _CHARACTERS or first.startswith(expected):
            return f"the reply after the prefill is too short or too uniform to tell, {first!r}"
        second, _ = turn(prefill + first[:cut])
        if not second.startswith(expected):
            return f"expected the reply to go on with {rest!r} after its own beginning, got {second!r:.120}"
    return None


def _middle(text: str) -> int:
    """Return where to cut a text in two: in front of a space or behind a tag, where a token is hardly cut."""
    middle = len(text) // 2
    return max(text.rfind(" ", 1, middle + 1), text.rfind(">", 0, middle) + 1, 0) or middle
