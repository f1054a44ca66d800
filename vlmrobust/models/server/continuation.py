"""How a server begins the assistant's turn, and whether it goes on from there: asked, not assumed.

A server that takes the last message for a finished turn, or drops the thought in it, gives answers all the same, to
another prompt. What shows the difference whatever the model: under greedy decoding, the beginning of a model's own text
put in front of it is continued by the rest of that text.

A server that shows the prefill once more goes on from it all the same. The test knows a repetition when it sees one:
the thought that it begins with has more words than tokens may be generated.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from .chat import NOT_UNDERSTOOD
from .client import Shared
from .messages import Continuing, Way, continued
from .replies import Reply, begun_by

__all__ = ["Ask", "Continuation", "refusal", "repeats"]

logger = logging.getLogger(__name__)

_QUESTION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Describe a walk through a park in a few sentences."}]}
]
_THOUGHT = (
    "The question is about a walk through a park, so I should say what one sees there, and in which order: first the "
    "gate and the path, then the trees, the pond and the people."
)
_TOKENS = 24  # fewer than the thought has words
_CHARACTERS = 4  # so many do not agree by chance


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
        self._known = Shared()

    def way(self, think_tags: tuple[str, str], *, closed: bool) -> Way:
        """Return how a prefilled thought is carried.

        Args:
            think_tags: its opening and closing tag.
            closed: it is complete; some templates cut complete thoughts out, and leave others in.
        """
        if self._wanted != "auto":
            return self._wanted
        return self._known.of((think_tags, closed), lambda: self._first_that_works(think_tags, closed))

    def echoes(self, think_tags: tuple[str, str], way: Continuing) -> bool:
        """Return whether the server shows the prefill once more in front of what was generated."""

        def find() -> bool:
            prefill = f"{think_tags[0]}{_THOUGHT}"
            return repeats(self._ask(continued(_QUESTION, prefill, way), way, 1), prefill, think_tags)

        return self._known.of(("echo", way), find)

    def mergeable(self, forced: str, think_tags: tuple[str, str], way: Continuing) -> str:
        """Return the end of a forced prefix that a letter's token may begin with (`LetterVocabulary.forced_prefix`).

        The server's vocabulary is not known. If the last character (the `>` of a tag) is a token of its own, which
        shows in how many tokens a prompt has without it, `>A` may be one too; if it is not, nothing merges with it.
        """
        if not forced.endswith(">"):
            return ""

        def find() -> str:
            text = "".join(think_tags) + forced
            whole, shorter = (
                self._ask(continued(_QUESTION, part, way), way, 1).prompt_tokens for part in (text, text[:-1])
            )
            own = whole is not None and shorter is not None and whole == shorter + 1
            return forced[-1] if own else ""

        return self._known.of((forced, think_tags, way), find)

    def _first_that_works(self, think_tags: tuple[str, str], closed: bool) -> Way:
        from openai import APIStatusError

        plain = self._known.of("plain", lambda: self._ask(_QUESTION, "last_message", 1).prompt_tokens)
        prefill = f"{think_tags[0]}{_THOUGHT}{think_tags[1] if closed else ''}"
        reasons = []
        candidates: tuple[Continuing, ...] = ("continue_final_message", "last_message")
        for way in candidates:
            try:
                reason = refusal(self._ask, way, prefill, think_tags, plain)
            except APIStatusError as error:
                if error.status_code not in NOT_UNDERSTOOD:
                    raise
                reason = f"status {error.status_code}"
            if reason is None:
                return way
            reasons.append(f"{way}: {reason}")
        logger.warning(
            "the server does not go on from a turn with %s thought (%s); such thoughts are put into the user's text, "
            "which is another experiment and stands apart in the report",
            "a complete" if closed else "an open",
            "; ".join(reasons),
        )
        return "user_text"


def refusal(ask: Ask, way: Continuing, prefill: str, think_tags: tuple[str, str], plain: int | None) -> str | None:
    """Return why a prefilled thought would not be continued; None = it is. Asked twice.

    Args:
        ask: sends messages.
        way: how the thought is prefilled.
        prefill: the thought in its tags, open or closed, with more words than tokens are generated.
        think_tags: opening and closing tag.
        plain: the tokens of the same prompt without a prefill, as the server counts them.
    """

    def turn(prefill: str) -> tuple[str, int | None]:
        reply = ask(continued(_QUESTION, prefill, way), way, _TOKENS)
        return reply.turn(prefill, think_tags), reply.prompt_tokens

    first, tokens = turn(prefill)
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


def repeats(reply: Reply, prefill: str, think_tags: tuple[str, str]) -> bool:
    """Return whether a reply shows a prefill that is too long to have been generated, or the thought in it."""
    thought = prefill.strip().removeprefix(think_tags[0]).partition(think_tags[1])[0]
    return begun_by(reply.content, prefill) is not None or begun_by(reply.reasoning or "", thought) is not None


def _middle(text: str) -> int:
    """Return where to cut a text in two: in front of a space or behind a tag, where a token is hardly cut."""
    middle = len(text) // 2
    return max(text.rfind(" ", 1, middle + 1), text.rfind(">", 0, middle) + 1, 0) or middle
