"""Option texts scored by teacher forcing at a server that returns the log-probabilities of its prompt (vLLM).

As in process (`models.options`): log P(option) is that of writing its text and what ends it, summed from where the
options' tokens first differ. The server cuts the text into tokens; which they are its own reply says. A chat keeps its
images; completions would answer without them.

Where nothing ends an answer but the end of the turn (`answer_tags=None`, direct answers), texts are not scored: which
tokens end a turn is not known.
"""

from collections.abc import Callable, Sequence

from ...types import Prompt, Response
from ..option_texts import Frame, own_frame
from ..reading import forced_text
from .chat import Chat
from .client import Shared
from .replies import PromptToken

__all__ = ["Forced", "OptionTexts", "sum_of_texts"]

Forced = Callable[[str], Sequence[PromptToken]]
"""Begins the assistant's turn with a text, and returns the tokens of the whole prompt."""

FIELD = {"prompt_logprobs": 0}
"""What a request says to get the log-probabilities of its prompt's own tokens."""


class OptionTexts:
    """Scores the options' texts of prompts whose answers are read as text.

    Args:
        chat: asks the server.
    """

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._known = Shared()

    def is_offered(self) -> bool:
        """Return whether the server returns its prompt's log-probabilities; asked once."""
        if self._chat.top_logprobs is None:
            return False
        question = [{"role": "user", "content": [{"type": "text", "text": "Say yes."}]}]
        return self._known.of("offered", lambda: bool(self._chat.tried(question, FIELD, lambda reply: reply.prompt)))

    def read(self, prompt: Prompt, forced: Forced) -> Response | None:
        """Return the response of a prompt in which nothing is left to think: the likeliest option; None = there is.

        Args:
            prompt: what is asked.
            forced: see `Forced`.
        """
        opener, style = forced_text(prompt), prompt.style
        if opener is None or style.mode == "direct" or not style.answer_closer:
            return None
        frame = Frame(opener, style.answer_closer)
        logprobs, counts = self._scored(prompt, frame, forced)
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
        answer = prompt.order[likeliest]  # whatever a parser makes of an option such as "B or C"
        return response.replace(answer=answer, status="abstained" if answer is None else "answered")

    def completed(self, prompt: Prompt, response: Response, forced: Forced) -> Response:
        """Return a response with the options' log-probabilities, where the model wrote its answer in tags."""
        frame = own_frame(prompt, response)
        if frame is None or not frame.after:
            return response
        logprobs, counts = self._scored(prompt, frame, forced)
        return response.with_options(prompt, logprobs, readout="option_text", option_tokens=counts)

    def _scored(self, prompt: Prompt, frame: Frame, forced: Forced) -> tuple[list[float], list[int]]:
        before = prompt.prefill + frame.before
        alone = forced(before)
        texts = [forced(before + option + frame.after) for option in prompt.options]
        return sum_of_texts(alone, texts, frame.after)


def sum_of_texts(
    alone: Sequence[PromptToken], texts: Sequence[Sequence[PromptToken]], after: str
) -> tuple[list[float], list[int]]:
    """Return the log-probability (nats) of each text after what stands before all of them, and over how many tokens.

    Args:
        alone: the tokens of what stands before.
        texts: the same with each text and what ends it.
        after: what ends a text, a tag. Its last token is left out where it may merge with what follows (">").

    Raises:
        ValueError: a token has no log-probability.
    """
    shared = min(_common(alone, one) for one in texts)
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
