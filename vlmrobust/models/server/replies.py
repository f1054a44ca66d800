"""What an OpenAI-compatible server returns: its text, tags and all, what it cost, and its tokens.

What a server shows is a view: a parser sets the thought apart and drops its tags, some tokens are not shown at all, and
some servers show the prefill once more. The tokens hold what was generated, and behind it what ended the turn. Where
that begins, what is shown tells.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from math import inf
from typing import Any, Self

from ...types import Carrier, Prompt, Response
from ...types.response import parse_turn
from ..reading import shown_letters
from ..vocabulary import letter_of
from .steps import Step, Steps, field_of

__all__ = ["PromptToken", "Reply", "begun_by", "read_letters", "rebuilt", "response_of", "token_at"]


_CONTROL = re.compile(rb"<[^<>]*>|\[[^\[\]]*\]")


def rebuilt(
    tokens: Sequence[bytes], shown: tuple[str, str], prefill: str, tags: Sequence[str], *, ended: bool
) -> str | None:
    """Return the generated text; None = the tokens do not hold what is shown.

    Args:
        tokens: all generated tokens, and maybe the one that ended the turn, or those of a stop string.
        shown: the thought that was set apart and the text, as the server shows them; either may be empty.
        prefill: what the assistant's turn began with.
        tags: the thought's two tags, and the answer's; what a parser may have dropped at the end is one of them.
        ended: the text ended of itself, not at the token limit.

    Example:
        >>> tokens = [b"It is", b"</think>", b"B", b"<|im_end|>"]
        >>> rebuilt(tokens, ("", "It isB"), "<think>", ["<think>", "</think>"], ended=True)
        'It is</think>B'
    """
    joined = b"".join(tokens)
    end = _Untagged(tokens, tags).end_of(shown, prefill, tags)
    if end is None or not ended:
        return None if end is None else joined.decode(errors="replace")
    # Nobody ends a turn with one of these tags; a server that leaves tokens out may have left out the last one, too.
    hidden = joined[end:]
    end += max((hidden.rfind(tag) + len(tag) for tag in map(str.encode, tags) if tag in hidden), default=0)
    if end == 0 and tokens:  # nothing is shown
        end = len(joined) - (len(tokens[-1]) if _CONTROL.fullmatch(tokens[-1]) else 0)
    return joined[:end].decode(errors="replace")


def token_at(tokens: Sequence[bytes], place: int) -> int | None:
    """Return which token holds character `place` of the text that all of them make; None = none does.

    Example:
        >>> token_at(["né".encode()[:2], "né".encode()[2:], b" B"], 1)
        0
    """
    joined = b"".join(tokens)
    ends = list(accumulate(map(len, tokens)))
    low, high = 0, len(ends)
    while low < high:  # characters, not bytes: a broken character is one, too
        middle = (low + high) // 2
        if len(joined[: ends[middle]].decode(errors="replace")) > place:
            high = middle
        else:
            low = middle + 1
    return low if place >= 0 and low < len(ends) else None


def begun_by(text: str, start: str) -> str | None:
    """Return what follows in a text that begins as the prefill does, spaces in front apart; None = it does not."""
    start, shown = start.lstrip(), text.lstrip()
    return shown[len(start) :] if start and shown.startswith(start) else None


class _Untagged:
    """The generated tokens without the tags in them, which a parser may have dropped, wherever tokens are cut."""

    def __init__(self, tokens: Sequence[bytes], tags: Sequence[str]) -> None:
        self._tags = re.compile(b"|".join(re.escape(tag.encode()) for tag in tags))
        joined = b"".join(tokens)
        spans = [match.span() for match in self._tags.finditer(joined)]
        edges = [0, *(edge for span in spans for edge in span), len(joined)]
        self._origin = [place for a, b in zip(edges[::2], edges[1::2], strict=True) for place in range(a, b)]
        self._bytes = self._tags.sub(b"", joined)
        self._ends = [bisect_left(self._origin, end) for end in accumulate(map(len, tokens))]

    def end_of(self, shown: tuple[str, str], prefill: str, tags: Sequence[str]) -> int | None:
        """Return where the text that is shown ends among the tokens, tags included; None = it is not there.

        What the model wrote once more is among the tokens, what the server shows once more is not: so the whole is
        looked for first, and what is left without the prefill after that.
        """
        begun, _, after = prefill.partition(tags[1])
        thoughts = [shown[0], *_without(shown[0], (begun, begun.lstrip().removeprefix(tags[0])))]
        texts = [shown[1], *_without(shown[1], (prefill, prefill.strip(), after))]
        for text, thought in product(map(self._plain, texts), map(self._plain, thoughts)):
            place = self._place(text, len(self._bytes))
            if place is None:
                continue
            above = self._place(thought, place[0] if text else len(self._bytes))
            if above is not None:
                end = place[1] if text else above[1]
                return self._origin[end - 1] + 1 if end else 0
        return None

    def _plain(self, text: str) -> bytes:
        # A character that was cut through is shown as a mark, or not at all.
        return self._tags.sub(b"", text.rstrip("\ufffd").encode())

    def _place(self, wanted: bytes, limit: int) -> tuple[int, int] | None:
        """Return where a text stands last, before byte `limit`: whole, or with tokens left out that are not shown."""
        if not wanted:
            return 0, 0
        ends = [end for end in self._ends if end <= limit]
        # At the end of a token first: a short text may stand within the token that ends the turn.
        for end in reversed(ends):
            if self._bytes.endswith(wanted, 0, end):
                return end - len(wanted), end
        if (start := self._bytes.rfind(wanted, 0, limit)) >= 0:
            return start, start + len(wanted)
        left, last = len(wanted), 0
        for start, end in reversed(list(pairwise([0, *ends]))):
            token = self._bytes[start:end]
            if token and wanted.endswith(token, 0, left):
                left, last = left - len(token), last or end
                if left == 0:
                    return start, last
        return None


def _without(text: str, starts: Sequence[str]) -> Iterator[str]:
    for start in starts:
        if (rest := begun_by(text, start)) is not None:
            yield rest


@dataclass(frozen=True, slots=True)
class PromptToken:
    """A token of the prompt.

    Attributes:
        id: its number.
        text: how it reads.
        logprob: its log-probability (nats) after what stands before it; None = not known.
    """

    id: int
    text: str
    logprob: float | None


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion.

    Attributes:
        content: the text, without what a server's parser took for the thought.
        reasoning: that thought; None = none was set apart.
        finish_reason: as the server says it: `stop`, `length`, `content_filter`, …
        steps: one per generated token; empty = the server returned no log-probabilities.
        prompt_tokens, cached_tokens, completion_tokens: as the server counted them; None = it did not.
        model: the name of the model that answered, as the server says it; None = it does not.
        prompt: the prompt's tokens, but for the first; empty = the server does not return them.
    """

    content: str
    reasoning: str | None
    finish_reason: str | None
    steps: Steps
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    model: str | None = None
    prompt: tuple[PromptToken, ...] = ()

    @classmethod
    def of(cls, completion: Any, *, exact: bool = False) -> Self:
        """Read a chat completion.

        Args:
            completion: as JSON has it, or as the client returns it.
            exact: the log-probabilities are of the tokens that were asked for, see `Step.of`.

        Raises:
            ValueError: there is no choice in it, or it is not in OpenAI's schema, which the client does not check.
        """
        if not field_of(completion, "choices"):
            raise ValueError(f"expected a chat completion with a choice, got {completion!r:.200}")
        try:
            return cls._read(completion, exact)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"expected a chat completion in OpenAI's schema, got {completion!r:.200}") from error

    @classmethod
    def _read(cls, completion: Any, exact: bool) -> Self:
        choice, usage = field_of(completion, "choices")[0], field_of(completion, "usage")
        if (message := field_of(choice, "message")) is None:
            raise ValueError("expected a choice with a message, got none")
        # vLLM says `reasoning` (once `reasoning_content`), others `reasoning_content`.
        apart = (field_of(message, name) for name in ("reasoning", "reasoning_content"))
        details = field_of(usage, "prompt_tokens_details")
        return cls(
            content=_joined(field_of(message, "content") or field_of(message, "refusal") or ""),
            reasoning=next((thought for thought in apart if isinstance(thought, str)), None),
            finish_reason=field_of(choice, "finish_reason"),
            steps=Steps(field_of(field_of(choice, "logprobs"), "content") or (), exact=exact),
            prompt_tokens=_count(usage, "prompt_tokens"),
            cached_tokens=_count(details, "cached_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            model=name if isinstance(name := field_of(completion, "model"), str) else None,
            prompt=tuple(map(_prompt_token, (field_of(completion, "prompt_logprobs") or ())[1:])),
        )

    def turn(
        self,
        prefill: str,
        think_tags: tuple[str, str],
        answer_tags: tuple[str, str] | None = None,
        *,
        echoed: bool = True,
    ) -> str:
        """Return what was generated as one text: from its tokens, or else from what the server shows.

        Args:
            prefill: what the assistant's turn began with.
            think_tags: the thought's tags, which a parser may have dropped.
            answer_tags: the answer's.
            echoed: where there are no tokens, take a text that begins with the prefill for one that shows it once more;
                False = the server is known not to, so that the model wrote it again.
        """
        found = self.from_tokens(prefill, (*think_tags, *(answer_tags or ())))
        return self._shown(prefill, think_tags, echoed) if found is None else found

    def from_tokens(self, prefill: str, tags: Sequence[str]) -> str | None:
        """Return what was generated, from its tokens; None = there are none, or they are not those of what is shown.

        Args:
            prefill: what the assistant's turn began with.
            tags: see `turns.rebuilt`.
        """
        tokens = self.steps.tokens
        shown = (self.reasoning or "", self.content)
        return rebuilt(tokens, shown, prefill, tags, ended=self.finish_reason != "length") if tokens else None

    def _shown(self, prefill: str, think_tags: tuple[str, str], echoed: bool) -> str:
        """Return the text that is shown, a thought that was set apart back in its tags.

        After a prefill that closes the thought there is none left to set apart; some parsers do it all the same, and
        some (that of `transformers serve`) show what the prefill began together with what was generated.
        """
        think_open, think_close = think_tags
        thought, content = self.reasoning or "", self.content
        begun, closed, after = prefill.partition(think_open)[2].partition(think_close)
        if echoed and (rest := begun_by(content, prefill)) is not None:
            content = rest
        elif echoed:
            thought = thought if (own := begun_by(thought, begun)) is None else own
            content = content if (own := begun_by(content, after)) is None else own
        if closed:
            return thought + content
        opener = "" if prefill.lstrip().startswith(think_open) else think_open
        # An empty thought is none, unless it was the prefill's that was closed at once.
        if not thought and (opener or self.reasoning is None or think_close in content):
            return content
        return f"{opener}{thought}{think_close if content else ''}{content}"

    def step_at(self, turn: str, place: int) -> Step | None:
        """Return the step whose token holds character `place` of the turn; None = it is not to be found.

        The steps may hold more than the turn, and without having all of it: where the text that is shown is not found
        in them, nothing is guessed.

        Args:
            turn: what `turn` returned.
            place: an index of it.
        """
        tokens = self.steps.tokens
        written = b"".join(tokens).decode(errors="replace")
        if not written.startswith(turn):
            shown = self.content or self.reasoning or ""
            start = written.rfind(shown)
            if start < 0 or not turn.endswith(shown) or place < len(turn) - len(shown):
                return None
            place += start - (len(turn) - len(shown))
        found = token_at(tokens, place)
        return None if found is None else self.steps[found]


def response_of(
    prompt: Prompt, reply: Reply, carrier: Carrier = "assistant_prefill", *, echoed: bool = True
) -> Response:
    """Read a reply: its text, and the letters where the answer's was written.

    Args:
        prompt: what was asked, with the prefill that the assistant's turn began with.
        reply: what came back.
        carrier: how the condition was carried.
        echoed: see `Reply.turn`.

    Raises:
        ValueError: letters whose log-probabilities were asked for one by one are not among what came back.
    """
    style = prompt.style
    turn = reply.turn(prompt.prefill, style.think_tags, style.answer_tags, echoed=echoed)
    letter = parse_turn(prompt, turn).letter
    step = None
    if style.answer_by == "letter" and letter is not None and (place := letter[0] - len(prompt.prefill)) >= 0:
        step = reply.step_at(turn, place)
        # A letter may be written as a part of a word, or in a token that reads as another.
        if step is not None and not (
            step.tells_letters and letter_of(step.token.decode(errors="replace")) == turn[place]
        ):
            step = None
    letters = None if step is None else read_letters(step, prompt)
    if letters is not None and max(letters) == -inf:  # the token came without a log-probability
        step, letters = None, None
    return Response.parse(
        prompt,
        # One prefill in front is taken for a server's and cut off: what the model wrote itself stays.
        prompt.prefill.strip() + turn,
        finish_reason=reply.finish_reason,
        option_logprobs=letters,
        logprob_floor=None if step is None else step.floor,
        n_tokens=reply.completion_tokens,
        carrier=carrier,
    )


def read_letters(step: Step, prompt: Prompt) -> list[float]:
    """Return the log-probabilities of the letters that a prompt shows.

    Raises:
        ValueError: they were asked for one by one, and some are not there.
    """
    shown = prompt.style.letters[: len(prompt.options)]
    if step.exact and (missing := step.missing(shown)):
        raise ValueError(
            f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected the log-probabilities of the "
            f"letters {shown} where the answer is written, got none of {missing}"
        )
    return shown_letters(step.letters(), prompt)


def _joined(content: Any) -> str:
    """Return a message's text, which some servers send in parts."""
    if isinstance(content, str):
        return content
    for part in content:
        if (kind := field_of(part, "type")) != "text":
            raise ValueError(f"expected content of type 'text', got {kind!r}")
    return "".join(field_of(part, "text") for part in content)


def _prompt_token(entry: Any) -> PromptToken:
    # By number; where there are several, the prompt's own token is the first.
    number, told = next(iter(entry.items()))
    logprob = field_of(told, "logprob")
    return PromptToken(int(number), str(told["decoded_token"]), None if logprob is None else float(logprob))


def _count(usage: Any, name: str) -> int | None:
    value = field_of(usage, name)
    return None if value is None else int(value)
