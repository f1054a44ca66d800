"""Read letters and score option texts at a server, exactly by token id, or letters from its top k.

Exact readout needs a server that returns the log-probabilities of requested token ids (vLLM). This is tested, since
servers ignore fields that they do not know.

As in process (`models.option_texts`), log P(option) covers the option's text and the closing tag, summed from where the
options' tokens first differ. The server tokenises the text and returns its prompt's log-probabilities (vLLM). Only chat
requests are used, since completion requests have no images. Texts that only the end of the turn closes
(`answer_tags=None`, direct answers) are not scored, since the tokens that end a turn are unknown.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from ...prompting import KNOWN_TOKENS, SpecialTokens
from ...types import Prompt, Response
from ..base import RefusedError, common_length
from ..letter_tokens import letter_of
from ..option_texts import Frame, own_frame
from ..response_building import forced_text
from .chat import EXACT, Chat
from .client import Memo
from .tokens import (
    CheckpointTokens,
    LetterPosition,
    LetterTokens,
    PromptToken,
    ServedTokens,
    Step,
    logsumexp,
)

__all__ = ["MOST", "PROMPT_LOGPROBS", "LetterReadout", "OptionTexts", "PromptScorer", "option_logprobs"]

MOST = 128
"""Maximum number of token ids in a request."""

_QUESTION: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "Say one letter."}]}]
_TESTED_LETTERS = "ABCDEFGH"

GenerateSteps = Callable[[str, int, Mapping[str, Any]], Sequence[Step]]


class LetterReadout:
    """Chooses the token ids that requests name, and reads the letters from the replies.

    Args:
        chat: sends the requests.
        tokenizer: the checkpoint's: a name, a folder, a tokenizer or a processor; None = ask the server for the
            letters' tokens.
    """

    def __init__(self, chat: Chat, tokenizer: Any = None) -> None:
        self._chat = chat
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._known = Memo()

    @property
    def tokens(self) -> LetterTokens | None:
        """The letters' tokens if the server returns log-probabilities of requested token ids, else None.

        Raises:
            RefusedError: it does, and its tokens differ from the given tokenizer's.
        """
        return self._known.get("tokens", self._find)

    @property
    def special_tokens(self) -> SpecialTokens:
        """Special tokens of the given tokenizer, or of well-known families."""
        if self._tokenizer is None:
            return KNOWN_TOKENS
        return self._known.get("special", lambda: SpecialTokens.of(_loaded(self._tokenizer)))

    def processor(self) -> Any:
        """Return the checkpoint's processor; None = not given."""
        if self._tokenizer is None or hasattr(self._tokenizer, "image_processor"):
            return self._tokenizer
        if not isinstance(self._tokenizer, str | PathLike):
            return None  # a tokenizer alone
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self._tokenizer)

    def request_fields(self, prompt: Prompt) -> dict[str, Any]:
        """Return the request fields for reading the letters wherever the answer is generated."""
        if prompt.style.answer_by != "letter":
            return {}
        # The text before the letter decides how some vocabularies tokenise it.
        return self._exact_fields(self._positions(prompt.style.answer_opener, prompt)[-1:])

    def read(
        self, prompt: Prompt, forced: str, generate: GenerateSteps, mergeable: Callable[[], str]
    ) -> tuple[list[float], float | None] | None:
        """Return the log-probabilities of all letters after a forced text, and their floor; None = none returned.

        P sums over the positions at which the letter's token may begin: P(A) = P(">A") + P(">") · P("A" after ">").

        Args:
            prompt: the prompt.
            forced: the text after the prefill.
            generate: prefills the assistant's turn with a text, generates some tokens and returns their steps; the last
                argument holds other fields of the request.
            mergeable: the end of the forced text that a letter's token may begin with, if the tokens are unknown.
        """
        positions = self._positions(prompt.prefill + forced, prompt)
        if not positions:
            rest = mergeable()
            positions = (LetterPosition(rest, rest), LetterPosition("", ""))[0 if rest else 1 :]
        fields = self._exact_fields(positions)
        turn = (prompt.prefill + forced).removesuffix(positions[0].remainder)
        path_logprob = 0.0
        by_position: list[list[float]] = []
        floors: list[float] = []
        ahead: list[Step] = []
        for number, position in enumerate(positions):
            ahead = ahead or list(generate(turn, len(positions) - number, fields))
            if not ahead or not ahead[0].tells_letters:
                return None
            step, *ahead = ahead
            onward = position.onward.encode()
            if not position.remainder:
                missing = step.missing(_shown(prompt))
            else:
                missing = "" if onward in step.logprobs else position.onward
            if step.exact and missing:
                raise ValueError(
                    f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected the log-probabilities of "
                    f"the letters {_shown(prompt)} after {turn[-40:]!r}, got none of {missing}"
                )
            by_position.append([path_logprob + letter for letter in step.letters(position.remainder.encode())])
            floors += [] if step.floor is None else [path_logprob + step.floor]
            if onward not in step.logprobs:
                break  # the last position, or a token too unlikely to be in the top k
            path_logprob += step.logprobs[onward]
            turn += position.onward
            ahead = ahead if step.token == onward else []
        return [logsumexp(values) for values in zip(*by_position, strict=True)], max(floors, default=None)

    def _positions(self, text: str, prompt: Prompt) -> tuple[LetterPosition, ...]:
        tokens = self.tokens
        with self._lock:
            return () if tokens is None else tokens.positions(text, _shown(prompt))

    def _exact_fields(self, positions: Sequence[LetterPosition]) -> dict[str, Any]:
        # The likeliest forms of every position come first.
        ids = dict.fromkeys(
            token
            for rank in range(max((len(position.ids) for position in positions), default=0))
            for position in positions
            for token in position.ids[rank : rank + 1]
        )
        return {EXACT: list(ids)[:MOST]} if ids else {}

    def _find(self) -> LetterTokens | None:
        if self._chat.top_logprobs is None or not self._returned(range(4)):
            return None
        if self._tokenizer is None:
            served = ServedTokens(self._chat.fetch, self._chat.model)
            tokens: LetterTokens | None = served if served.is_offered() else None
        else:
            tokens = CheckpointTokens(_loaded(self._tokenizer))
        if tokens is not None:
            self._compare(tokens)
        return tokens

    def _compare(self, tokens: LetterTokens) -> None:
        """Raise if tokens have other texts at the server."""
        ids = [token for position in tokens.positions("", _TESTED_LETTERS) for token in position.ids][:MOST]
        returned = self._returned(ids)
        read = [letter_of(text.decode(errors="replace")) for text in returned]
        for token in ids:
            letter = letter_of(tokens.text_of(token))
            if letter not in read:
                shown = ", ".join(repr(text.decode(errors="replace")) for text in list(returned)[:8])
                raise RefusedError(
                    f"the tokenizer does not fit the server's: requested the letters' tokens, such as {token} for "
                    f"{tokens.text_of(token)!r}, the server returned {shown or 'none'}"
                )
            read.remove(letter)

    def _returned(self, ids: Sequence[int]) -> list[bytes]:
        """Return the texts of the tokens returned for requested ids; empty = the server ignores the request."""
        fields = {EXACT: list(ids), "top_logprobs": 1}
        returned = self._chat.try_request(
            _QUESTION, fields, lambda reply: [t for s in reply.steps[:1] for t in s.returned]
        )
        return returned if returned is not None and len(returned) >= len(ids) else []


def _shown(prompt: Prompt) -> str:
    return prompt.style.letters[: len(prompt.options)]


def _loaded(tokenizer: Any) -> Any:
    if not isinstance(tokenizer, str | PathLike):
        return tokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer)


PromptScorer = Callable[[str], Sequence[PromptToken]]
"""Prefills the assistant's turn with a text and returns the tokens of the whole prompt."""

PROMPT_LOGPROBS = {"prompt_logprobs": 0}
"""The request field for the log-probabilities of the prompt's own tokens."""


class OptionTexts:
    """Scores the options' texts of prompts with text answers."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._known = Memo()

    def is_offered(self) -> bool:
        """Return whether the server returns its prompt's log-probabilities; tested once."""
        if self._chat.top_logprobs is None:
            return False
        question = [{"role": "user", "content": [{"type": "text", "text": "Say yes."}]}]
        return self._known.get(
            "offered", lambda: bool(self._chat.try_request(question, PROMPT_LOGPROBS, lambda reply: reply.prompt))
        )

    def read(self, prompt: Prompt, score: PromptScorer) -> Response | None:
        """Return the likeliest option as the response, if nothing is left to decode, else None."""
        opener, style = forced_text(prompt), prompt.style
        if opener is None or style.mode == "direct" or not style.answer_closer:
            return None
        frame = Frame(opener, style.answer_closer)
        logprobs, counts = self._scored(prompt, frame, score)
        likeliest = max(range(len(logprobs)), key=logprobs.__getitem__)
        response = Response.parse(
            prompt,
            frame.before + prompt.options[likeliest] + frame.after,
            finish_reason="readout",
            option_logprobs=logprobs,
            option_tokens=counts,
            readout="option_text_fixed_prefix",
            n_tokens=0,
        )
        answer = prompt.order[likeliest]  # a parser could misread an option such as "B or C"
        return response.replace(answer=answer, status="abstained" if answer is None else "answered")

    def with_logprobs(self, prompt: Prompt, response: Response, score: PromptScorer) -> Response:
        """Return a response with the options' log-probabilities, if its answer is in tags."""
        frame = own_frame(prompt, response)
        if frame is None or not frame.after:
            return response
        logprobs, counts = self._scored(prompt, frame, score)
        return response.with_options(prompt, logprobs, readout="option_text", option_tokens=counts)

    def _scored(self, prompt: Prompt, frame: Frame, score: PromptScorer) -> tuple[list[float], list[int]]:
        before = prompt.prefill + frame.before
        prefix = score(before)
        texts = [score(before + option + frame.after) for option in prompt.options]
        return option_logprobs(prefix, texts, frame.after)


def option_logprobs(
    prefix: Sequence[PromptToken], texts: Sequence[Sequence[PromptToken]], after: str
) -> tuple[list[float], list[int]]:
    """Return each text's log-probability (nats) given the common prefix, and its number of tokens.

    Args:
        prefix: the tokens of the prefix alone.
        texts: the tokens of the prefix with each text and its closing tag.
        after: the closing tag. Its last token is left out if it may merge with what follows (">").

    Raises:
        ValueError: a token has no log-probability.
    """
    known = [token.id for token in prefix]
    shared = min(common_length(known, [token.id for token in one]) for one in texts)
    sums, counts = [], []
    for one in texts:
        scored = one[shared : len(one) - _open_end(one, after)]
        values = [token.logprob for token in scored]
        if not values or None in values:
            raise ValueError(
                f"expected the log-probabilities of the prompt's tokens {[t.text for t in scored]}, got {values}"
            )
        sums.append(sum(value for value in values if value is not None))
        counts.append(len(values))
    return sums, counts


def _open_end(tokens: Sequence[PromptToken], after: str) -> int:
    closing, length = 0, 0
    while length < len(after) and closing < len(tokens):
        closing += 1
        length += len(tokens[-closing].text)
    return int(closing > 1)
