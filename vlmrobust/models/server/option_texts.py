"""Score option texts by teacher forcing at a server that returns its prompt's log-probabilities (vLLM).

As in process (`models.option_texts`), log P(option) covers the option's text and the closing tag, summed from where the
options' tokens first differ. The server tokenises the text; its reply holds the tokens. Only chat requests are used,
since completion requests have no images.

Texts that only the end of the turn closes (`answer_tags=None`, direct answers) are not scored, since the tokens that
end a turn are unknown.
"""

from collections.abc import Callable, Sequence

from ...types import Prompt, Response
from ..option_texts import Frame, own_frame
from ..response_building import forced_text
from .chat import Chat
from .client import Memo
from .replies import PromptToken

__all__ = ["PROMPT_LOGPROBS", "OptionTexts", "PromptScorer", "option_logprobs"]

PromptScorer = Callable[[str], Sequence[PromptToken]]
"""Prefills the assistant's turn with a text and returns the tokens of the whole prompt."""

PROMPT_LOGPROBS = {"prompt_logprobs": 0}
"""The request field for the log-probabilities of the prompt's own tokens."""


class OptionTexts:
    """Scores the options' texts of prompts with text answers.

    Args:
        chat: sends the requests.
    """

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
        """Return the likeliest option as the response, if nothing is left to decode, else None.

        Args:
            prompt: the prompt.
            score: see `PromptScorer`.
        """
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
    shared = min(_common(prefix, one) for one in texts)
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


def _common(tokens: Sequence[PromptToken], others: Sequence[PromptToken]) -> int:
    pairs = zip(tokens, others, strict=False)
    return next(
        (place for place, (one, other) in enumerate(pairs) if one.id != other.id), min(len(tokens), len(others))
    )
