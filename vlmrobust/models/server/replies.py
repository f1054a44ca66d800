"""What an OpenAI-compatible server returns: a text, what it cost, and the likeliest tokens at each place.

Of the vocabulary a server returns its top k. A letter's probability is the sum over those of its tokens that were
returned ("A", " A", "(A"), over the whole vocabulary and not renormalised: a lower bound. A token that was not returned
is at most as likely as the least likely one that was; all of them together have what is missing to 1.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from ...prompting import MARKS
from ...types import Carrier, Prompt, Response
from ...types.response import parse_turn
from ..reading import shown_letters
from ..vocabulary import letter_of

__all__ = ["Reply", "Step", "response_of"]


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token, and what might have stood in its place.

    Attributes:
        token: its text in UTF-8; a token may be a part of a character.
        logprobs: log-probabilities (nats) of the tokens that were returned, by their text.
        floor: the smallest of the top k, which no token that was not returned exceeds; None = none were returned.
    """

    token: bytes
    logprobs: Mapping[bytes, float]
    floor: float | None

    @classmethod
    def of(cls, entry: Any) -> Self:
        """Read one entry of `logprobs.content`, in OpenAI's schema."""
        # The token itself need not be among the top k when it was sampled.
        own, top = _known([entry]), _known(getattr(entry, "top_logprobs", None) or ())
        return cls(_text(entry), dict(own) | _summed(top), min((logprob for _, logprob in top), default=None))

    def letters(self, rest: bytes = b"") -> list[float]:
        """Return the log-probability of each letter and digit, -inf where no token of it was returned.

        Args:
            rest: what a token has to begin with before its letter, such as `>` after `<answer`.
        """
        found: dict[str, list[float]] = {}
        for token, logprob in self.logprobs.items():
            if token.startswith(rest) and (letter := letter_of(token[len(rest) :].decode(errors="replace"))):
                found.setdefault(letter, []).append(logprob)
        return [_logsumexp(found.get(letter, ())) for letter in MARKS]

    def letters_through(self, rest: bytes, after: "Step") -> tuple[list[float], float | None]:
        """Return the letters' log-probabilities and their floor, by both ways to write `rest` and then a letter.

        P(A) = P(">A") + P(">") · P("A" after ">").

        Args:
            rest: a token that may also be the beginning of a longer one.
            after: the step behind it.
        """
        through = self.logprobs[rest]
        ways = zip(self.letters(rest), after.letters(), strict=True)
        letters = [_logsumexp((merged, through + alone)) for merged, alone in ways]
        floors = [self.floor, None if after.floor is None else through + after.floor]
        return letters, max((floor for floor in floors if floor is not None), default=None)


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion.

    Attributes:
        content: the text, without what a server's parser took for the thought.
        reasoning: that thought; None = none was set apart.
        finish_reason: as the server says it: `stop`, `length`, `content_filter`, …
        steps: one per generated token; empty = the server returned no log-probabilities.
        prompt_tokens, cached_tokens, completion_tokens: as the server counted them; None = it did not.
    """

    content: str
    reasoning: str | None
    finish_reason: str | None
    steps: tuple[Step, ...]
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None

    @classmethod
    def of(cls, completion: Any) -> Self:
        """Read a chat completion.

        Raises:
            ValueError: there is no choice in it, or it is not in OpenAI's schema, which the client does not check.
        """
        if not getattr(completion, "choices", None):
            raise ValueError(f"expected a chat completion with a choice, got {completion!r:.200}")
        try:
            return cls._read(completion)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"expected a chat completion in OpenAI's schema, got {completion!r:.200}") from error

    @classmethod
    def _read(cls, completion: Any) -> Self:
        choice = completion.choices[0]
        message, usage = choice.message, completion.usage
        # vLLM says `reasoning` (once `reasoning_content`), others `reasoning_content`.
        apart = (getattr(message, name, None) for name in ("reasoning", "reasoning_content"))
        details = getattr(usage, "prompt_tokens_details", None)
        return cls(
            content=_joined(message.content or getattr(message, "refusal", None) or ""),
            reasoning=next((thought for thought in apart if isinstance(thought, str)), None),
            finish_reason=choice.finish_reason,
            steps=tuple(Step.of(entry) for entry in getattr(choice.logprobs, "content", None) or ()),
            prompt_tokens=_count(usage, "prompt_tokens"),
            cached_tokens=_count(details, "cached_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
        )

    def turn(self, prefill: str, think_tags: tuple[str, str]) -> str:
        """Return what was generated as one text, a thought that was set apart back in its tags.

        After a prefill that closes the thought there is none left to set apart; some parsers do it all the same, and
        some (that of `transformers serve`) show what the prefill began together with what was generated.
        """
        think_open, think_close = think_tags
        begun, closed, after = prefill.partition(think_open)[2].partition(think_close)
        thought, content = self._without(self.reasoning or "", begun), self._without(self.content, after)
        if closed:
            return thought + content
        opener = "" if prefill.lstrip().startswith(think_open) else think_open
        # An empty thought is none, unless it was the prefill's that was closed at once.
        if not thought and (opener or self.reasoning is None or think_close in content):
            return content
        return f"{opener}{thought}{think_close if content else ''}{content}"

    def _without(self, text: str, begun: str) -> str:
        """Return a text without the beginning that the prefill made, unless the model has written that once more."""
        start = begun.lstrip()
        shown = text.lstrip()
        if not start or not shown.startswith(start) or start.encode() in b"".join(step.token for step in self.steps):
            return text
        return shown[len(start) :]

    def step_at(self, turn: str, place: int) -> Step | None:
        """Return the step whose token holds character `place` of the turn; None = it is not to be found.

        The steps may hold more than the text that is returned: a thought that was set apart, the token that ends the
        turn. So the text is looked for in them, and where it is not found, nothing is guessed.

        Args:
            turn: what `turn` returned.
            place: an index of it.
        """
        shown = self.content or self.reasoning or ""
        offset = place - (len(turn) - len(shown))
        start = b"".join(step.token for step in self.steps).rfind(shown.encode())
        if offset < 0 or start < 0 or not turn.endswith(shown):
            return None
        ends = list(accumulate(len(step.token) for step in self.steps))
        return self.steps[bisect_right(ends, start + len(shown[:offset].encode()))]


def response_of(prompt: Prompt, reply: Reply, carrier: Carrier = "assistant_prefill") -> Response:
    """Read a reply: its text, and the letters where the answer's was written.

    Args:
        prompt: what was asked, with the prefill that the assistant's turn began with.
        reply: what came back.
        carrier: how the condition was carried.
    """
    turn = reply.turn(prompt.prefill, prompt.style.think_tags)
    letter = parse_turn(prompt, turn).letter
    step = None if letter is None else reply.step_at(turn, letter[0] - len(prompt.prefill))
    # Without a top k nothing is known of the other letters; and a letter may be written as a part of a word.
    if step is not None and (step.floor is None or letter_of(step.token.decode(errors="replace")) is None):
        step = None
    return Response.parse(
        prompt,
        turn,
        finish_reason=reply.finish_reason,
        option_logprobs=None if step is None else shown_letters(step.letters(), prompt),
        logprob_floor=None if step is None else step.floor,
        n_tokens=reply.completion_tokens,
        carrier=carrier,
    )


def _joined(content: Any) -> str:
    """Return a message's text, which some servers send in parts."""
    if isinstance(content, str):
        return content
    for part in content:
        if part["type"] != "text":
            raise ValueError(f"expected content of type 'text', got {part['type']!r}")
    return "".join(part["text"] for part in content)


def _count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return None if value is None else int(value)


def _known(entries: Iterable[Any]) -> list[tuple[bytes, float]]:
    """Return texts and log-probabilities; JSON has no -inf, and some servers send null in its place."""
    return [(_text(entry), float(entry.logprob)) for entry in entries if entry.logprob is not None]


def _text(entry: Any) -> bytes:
    # `token` cannot show a part of a character; `bytes` can, where a server gives it.
    return bytes(entry.bytes) if entry.bytes else str(entry.token).encode()


def _summed(tokens: Iterable[tuple[bytes, float]]) -> dict[bytes, float]:
    """Return log-probabilities by text: different tokens may read alike."""
    found: dict[bytes, list[float]] = {}
    for text, logprob in tokens:
        found.setdefault(text, []).append(logprob)
    return {text: _logsumexp(values) for text, values in found.items()}


def _logsumexp(values: Sequence[float]) -> float:
    largest = max(values, default=-math.inf)
    if math.isinf(largest):
        return largest
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))
