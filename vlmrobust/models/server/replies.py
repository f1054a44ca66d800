"""Read replies of an OpenAI-compatible server: text with its tags, tokens and token counts.

Servers do not show the text as generated: a parser separates the thought and drops its tags, some tokens are hidden,
and some servers repeat the prefill. The tokens hold the generated text, followed by those that ended the turn. The
visible text shows where the ending begins.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from math import inf
from typing import Any, Self

from ...types import Carrier, Prompt, Response
from ...types.response import parse_turn
from ..letter_tokens import letter_of
from ..response_building import shown_letters
from .tokens import PromptToken, Step, Steps, field_of

__all__ = ["FINISH_REASONS", "Reply", "after_prefix", "read_letters", "rebuild_text", "response_of", "token_at"]


_CONTROL = re.compile(rb"<[^<>]*>|\[[^\[\]]*\]")
FINISH_REASONS = {"max_tokens": "length", "model_length": "length"}
"""Other names of finish reasons: Mistral's for a text at the end of the context, and inspect's."""
# Finish reasons of a reply that the server broke off, with status 200 nevertheless: OpenRouter, vLLM and SGLang.
_BROKEN_OFF = ("error", "abort")


def rebuild_text(
    tokens: Sequence[bytes], shown: tuple[str, str], prefill: str, tags: Sequence[str], *, ended: bool
) -> str | None:
    """Return the generated text; None = the tokens do not contain the visible text.

    Args:
        tokens: all generated tokens, possibly with the one that ended the turn or those of a stop string.
        shown: the separated thought and the text, as the server shows them; either may be empty.
        prefill: the beginning of the assistant's turn.
        tags: the two tags of the thought, and those of the answer; a tag that a parser dropped at the end is restored.
        ended: the text ended by itself, not at the token limit.

    Example:
        >>> tokens = [b"It is", b"</think>", b"B", b"<|im_end|>"]
        >>> rebuild_text(tokens, ("", "It isB"), "<think>", ["<think>", "</think>"], ended=True)
        'It is</think>B'
    """
    joined = b"".join(tokens)
    end = _Untagged(tokens, tags).end_of(shown, prefill, tags)
    if end is None or not ended:
        return None if end is None else joined.decode(errors="replace")
    # None of the tags ends a turn; a server that hides tokens may have hidden a tag at the end.
    hidden = joined[end:]
    end += max((hidden.rfind(tag) + len(tag) for tag in map(str.encode, tags) if tag in hidden), default=0)
    if end == 0 and tokens:  # no visible text
        end = len(joined) - (len(tokens[-1]) if _CONTROL.fullmatch(tokens[-1]) else 0)
    return joined[:end].decode(errors="replace")


def token_at(tokens: Sequence[bytes], position: int) -> int | None:
    """Return the index of the token with character `position` of the joined text; None = out of range.

    Example:
        >>> token_at(["né".encode()[:2], "né".encode()[2:], b" B"], 1)
        0
    """
    joined, ends = b"".join(tokens), list(accumulate(map(len, tokens)))
    # Counts characters, not bytes; an incomplete character counts as one.
    found = bisect_right(ends, position, key=lambda end: len(joined[:end].decode(errors="replace")))
    return found if position >= 0 and found < len(ends) else None


def after_prefix(text: str, start: str) -> str | None:
    """Return the text after a prefix, ignoring leading spaces; None = the text does not begin with it."""
    start, shown = start.lstrip(), text.lstrip()
    return shown[len(start) :] if start and shown.startswith(start) else None


class _Untagged:
    """The generated tokens without tags, which a parser may have dropped, with a map back to the original bytes."""

    def __init__(self, tokens: Sequence[bytes], tags: Sequence[str]) -> None:
        self._tags = re.compile(b"|".join(re.escape(tag.encode()) for tag in tags))
        joined = b"".join(tokens)
        spans = [match.span() for match in self._tags.finditer(joined)]
        edges = [0, *(edge for span in spans for edge in span), len(joined)]
        self._origin = [position for a, b in zip(edges[::2], edges[1::2], strict=True) for position in range(a, b)]
        self._bytes = self._tags.sub(b"", joined)
        self._ends = [bisect_left(self._origin, end) for end in accumulate(map(len, tokens))]

    def end_of(self, shown: tuple[str, str], prefill: str, tags: Sequence[str]) -> int | None:
        """Return where the visible text ends in the tokens, tags included; None = not found.

        If the model itself repeated the prefill, the tokens contain the repetition; if the server did, they do not. So
        the whole text is looked up first, and then the text without the prefill.
        """
        begun, _, after = prefill.partition(tags[1])
        thoughts = [shown[0], *_without(shown[0], (begun, begun.lstrip().removeprefix(tags[0])))]
        texts = [shown[1], *_without(shown[1], (prefill, prefill.strip(), after))]
        for text, thought in product(map(self._plain, texts), map(self._plain, thoughts)):
            position = self._place(text, len(self._bytes))
            if position is None:
                continue
            above = self._place(thought, position[0] if text else len(self._bytes))
            if above is not None:
                end = position[1] if text else above[1]
                return self._origin[end - 1] + 1 if end else 0
        return None

    def _plain(self, text: str) -> bytes:
        # An incomplete character is shown as a replacement character, or not at all.
        return self._tags.sub(b"", text.rstrip("\ufffd").encode())

    def _place(self, wanted: bytes, limit: int) -> tuple[int, int] | None:
        """Return the last span of a text that ends by byte `limit`, contiguous or with hidden tokens in between."""
        if not wanted:
            return 0, 0
        ends = [end for end in self._ends if end <= limit]
        # Prefer ends of tokens, since a short text may also occur inside the token that ends the turn.
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
        if (rest := after_prefix(text, start)) is not None:
            yield rest


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion.

    Attributes:
        content: the text, without the thought that a server's parser separated.
        reasoning: that thought; None = none was separated.
        finish_reason: the server's: `stop`, `length`, `content_filter`, …
        steps: one per generated token; empty = the server returned no log-probabilities.
        prompt_tokens, cached_tokens, completion_tokens: the server's counts; None = not counted.
        model: the name of the model that the server reports; None = not reported.
        prompt: the prompt's tokens except the first; empty = the server does not return them.
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
            completion: as JSON, or as the client's type.
            exact: the log-probabilities are those of requested tokens, see `Step.of`.

        Raises:
            ValueError: it has no choice, the server broke it off, or it does not follow OpenAI's schema, which the
                client does not check.
        """
        if not (choices := field_of(completion, "choices")):
            raise ValueError(f"expected a chat completion with a choice, got {completion!r:.200}")
        try:
            reply = cls._read(completion, exact)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"expected a chat completion in OpenAI's schema, got {completion!r:.200}") from error
        if (reason := field_of(choices[0], "error")) or reply.finish_reason in _BROKEN_OFF:
            got = f"{reason or choices[0]!r:.200}"
            raise ValueError(f"expected a whole reply, got one that the server broke off: {got}")
        return reply

    @classmethod
    def _read(cls, completion: Any, exact: bool) -> Self:
        choice, usage = field_of(completion, "choices")[0], field_of(completion, "usage")
        finish_reason = field_of(choice, "finish_reason")
        if (message := field_of(choice, "message")) is None:
            raise ValueError("expected a choice with a message, got none")
        thought, text = _split(field_of(message, "content") or field_of(message, "refusal") or "")
        # vLLM has `reasoning` (formerly `reasoning_content`), other servers `reasoning_content`; one may be empty.
        apart = (*(field_of(message, name) for name in ("reasoning", "reasoning_content")), thought, _detailed(message))
        details = field_of(usage, "prompt_tokens_details")
        return cls(
            content=text,
            reasoning=max((each for each in apart if isinstance(each, str)), key=bool, default=None),
            finish_reason=FINISH_REASONS.get(finish_reason, finish_reason),
            steps=Steps(field_of(field_of(choice, "logprobs"), "content") or (), exact=exact),
            prompt_tokens=_count(usage, "prompt_tokens"),
            cached_tokens=_count(details, "cached_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            model=name if isinstance(name := field_of(completion, "model"), str) else None,
            prompt=tuple(map(PromptToken.of, (field_of(completion, "prompt_logprobs") or ())[1:])),
        )

    def turn(
        self,
        prefill: str,
        think_tags: tuple[str, str],
        answer_tags: tuple[str, str] | None = None,
        *,
        echoed: bool = True,
    ) -> str:
        """Return the generated text, from the tokens if possible, else from the visible text.

        Args:
            prefill: the beginning of the assistant's turn.
            think_tags: the thought's tags, which a parser may have dropped.
            answer_tags: the answer's tags.
            echoed: without tokens, treat a prefill at the beginning of the text as the server's repetition; False = the
                server is known not to repeat it, so the model wrote it again.
        """
        found = self.from_tokens(prefill, (*think_tags, *(answer_tags or ())))
        return self._visible_turn(prefill, think_tags, echoed) if found is None else found

    def from_tokens(self, prefill: str, tags: Sequence[str]) -> str | None:
        """Return `rebuild_text`, the generated text from the tokens; None if there are no tokens, too."""
        tokens = self.steps.tokens
        shown = (self.reasoning or "", self.content)
        return rebuild_text(tokens, shown, prefill, tags, ended=self.finish_reason != "length") if tokens else None

    def _visible_turn(self, prefill: str, think_tags: tuple[str, str], echoed: bool) -> str:
        """Return the visible text, with a separated thought back in its tags.

        After a prefill that closes the thought there is nothing left to separate; some parsers do so all the same, and
        some (that of `transformers serve`) show the prefill's thought together with the generated text.
        """
        think_open, think_close = think_tags
        thought, content = self.reasoning or "", self.content
        begun, closed, after = prefill.partition(think_open)[2].partition(think_close)
        if echoed and (rest := after_prefix(content, prefill)) is not None:
            content = rest
        elif echoed:
            thought = thought if (own := after_prefix(thought, begun)) is None else own
            content = content if (own := after_prefix(content, after)) is None else own
        if closed:
            return thought + content
        opener = "" if prefill.lstrip().startswith(think_open) else think_open
        # An empty thought counts only if the prefill opened it and the model closed it at once.
        if not thought and (opener or self.reasoning is None or think_close in content):
            return content
        return f"{opener}{thought}{think_close if content else ''}{content}"

    def step_at(self, turn: str, position: int) -> Step | None:
        """Return the step whose token has character `position` of `turn`, the result of `turn`; None = not found.

        The steps may hold more than the turn, or lack a part of it. If the visible text is not found in them, the
        result is None. Some servers (SGLang) decode each token alone, which loses characters of several tokens, and
        leading spaces; so the visible text is looked up by the characters that the tokens have.
        """
        tokens = self.steps.tokens
        written = b"".join(tokens).decode(errors="replace")
        if not written.startswith(turn):
            shown = self.content or self.reasoning or ""
            before = len(turn) - len(shown)
            if not turn.endswith(shown) or position < before:
                return None
            known = {char for char in written if char != "\ufffd" and not char.isspace()}
            places = [place for place, char in enumerate(written) if char in known]
            wanted = [char for char in shown if char in known]
            start = "".join(written[place] for place in places).rfind("".join(wanted))
            index = start + sum(char in known for char in turn[before:position])
            lost = len("".join(shown.split())) - len(wanted)
            if start < 0 or index >= len(places) or lost > written.count("\ufffd"):
                return None
            position = places[index]
        found = token_at(tokens, position)
        return None if found is None else self.steps[found]


def response_of(
    prompt: Prompt, reply: Reply, carrier: Carrier = "assistant_prefill", *, echoed: bool = True
) -> Response:
    """Parse a reply: its text, and the letters at the token of the answer letter.

    Args:
        prompt: the prompt, with the prefill of the assistant's turn.
        reply: the reply.
        carrier: how the condition was delivered.
        echoed: see `Reply.turn`.

    Raises:
        ValueError: the server did not return all letters' log-probabilities that were requested by token id.
    """
    style = prompt.style
    turn = reply.turn(prompt.prefill, style.think_tags, style.answer_tags, echoed=echoed)
    letter = parse_turn(prompt, turn).letter
    step = None
    if style.answer_by == "letter" and letter is not None and (position := letter[0] - len(prompt.prefill)) >= 0:
        step = reply.step_at(turn, position)
        # The letter may be part of a word, or of a token that reads as another letter.
        if step is not None and not (
            step.tells_letters and letter_of(step.token.decode(errors="replace")) == turn[position]
        ):
            step = None
    letters = None if step is None else read_letters(step, prompt)
    if letters is not None and max(letters) == -inf:  # the token has no log-probability
        step, letters = None, None
    return Response.parse(
        prompt,
        # `Response.parse` cuts off one repetition of the prefill; a repetition by the model itself stays.
        prompt.prefill.strip() + turn,
        finish_reason=reply.finish_reason,
        option_logprobs=letters,
        logprob_floor=None if step is None else step.floor,
        n_tokens=reply.completion_tokens,
        carrier=carrier,
    )


def read_letters(step: Step, prompt: Prompt) -> list[float]:
    """Return the log-probabilities of the prompt's letters.

    Raises:
        ValueError: they were requested by token id, and some are missing.
    """
    shown = prompt.style.letters[: len(prompt.options)]
    if step.exact and (missing := step.missing(shown)):
        raise ValueError(
            f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected the log-probabilities of the "
            f"letters {shown} where the answer is written, got none of {missing}"
        )
    return shown_letters(step.letters(), prompt)


def _split(content: Any) -> tuple[str | None, str]:
    """Return the thought and the text of a message's content, which some servers split into parts.

    Only Mistral's has a part for the thought, with parts of its own, of which references have no text.
    """
    if isinstance(content, str):
        return None, content
    thoughts: list[str] = []
    texts: list[str] = []
    for part in content:
        if (kind := field_of(part, "type")) == "thinking":
            thoughts.append(_split(field_of(part, "thinking"))[1])
        elif kind == "text":
            texts.append(field_of(part, "text"))
        elif kind != "reference":
            raise ValueError(f"expected content of type 'text' or 'thinking', got {kind!r}")
    return "".join(thoughts) if thoughts else None, "".join(texts)


def _detailed(message: Any) -> str | None:
    """Return the thought in `reasoning_details`: MiniMax has it only there, OpenRouter there too."""
    parts = field_of(message, "reasoning_details")
    texts = [field_of(part, "text") for part in (parts if isinstance(parts, list) else ())]
    return "".join(text for text in texts if isinstance(text, str)) or None


def _count(usage: Any, name: str) -> int | None:
    value = field_of(usage, name)
    return None if value is None else int(value)
