"""Score option texts by teacher forcing, for styles with text answers.

The log-probability of an option is that of its text and its end, given everything before:

    log P(option) = Σ_t log p(token_t | everything before token_t)

The end is included: without one, "red" would include "red cube". With it the options are exclusive events whose
probabilities sum to at most 1. If a tag closes an answer, it is the end, without its last token where that may merge
with what follows (">" with a line break); otherwise any token that ends the turn.

Tokens merge across both edges of a text, so the whole continuation is tokenised, and scored from where it first differs
from the context's own tokens or from another option's: P is conditional on the tokens before that position, which are
the same for all options. Other tokenisations of the same text are not summed; a model hardly ever generates them.

Text that the model generated before its answer is tokenised again, as in a full forward pass over it.

The options of a prompt are rows of one family (see `prefix`): the model runs prompt and thought once, the cache is
branched, and one batched pass runs the options.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..types import Prompt, Readout, Response
from ..types.response import parse_turn
from .base import common_length
from .encoding import Encoder, Rendered, ScoredText
from .engine import BatchEngine
from .letter_tokens import TAIL
from .response_building import not_finite

__all__ = ["Frame", "OptionReader", "forced_frame", "option_response", "own_frame", "scored_texts"]


@dataclass(frozen=True, slots=True)
class Frame:
    """The text around an option in the assistant's turn, without the prefill.

    Attributes:
        before: the text before it.
        after: the text that ends it; empty = the turn ends there.
    """

    before: str
    after: str


def forced_frame(item: Rendered) -> Frame:
    """Return the frame of a prompt with no thought left to decode."""
    style = item.prompt.style
    return Frame(item.forced or "", "" if style.mode == "direct" else style.answer_closer)


def own_frame(prompt: Prompt, response: Response) -> Frame | None:
    """Return the frame of the model's own answer, line breaks included; None = no answer in tags."""
    if prompt.style.answer_by != "text" or response.status not in ("answered", "abstained"):
        return None
    turn, tagged = prompt.prefill + response.text, parse_turn(prompt, response.text).tagged
    if tagged is None:
        return None
    inside = turn[tagged[0] : tagged[1]]
    start = tagged[0] + len(inside) - len(inside.lstrip())
    if start < len(prompt.prefill):
        return None
    return Frame(turn[len(prompt.prefill) : start], inside[len(inside.rstrip()) :] + prompt.style.answer_closer)


class OptionReader:
    """Scores the options' texts of prompts with text answers.

    Args:
        engine: runs the texts.
        stop_tokens: the tokens that end a turn.
    """

    def __init__(self, engine: BatchEngine, stop_tokens: Sequence[int]) -> None:
        self._engine = engine
        self._stop_tokens = tuple(stop_tokens)

    def responses(self, framed: Mapping[int, tuple[Rendered, Frame]]) -> dict[int, Response]:
        """Return the responses of prompts, with their options' log-probabilities, by position.

        If the model generated an answer (`Rendered.written`), it stays; else the answer is the likeliest option.
        """
        rows: list[Rendered] = []
        places: dict[int, range] = {}
        scored: dict[int, list[ScoredText]] = {}
        for position, (item, frame) in framed.items():
            scored[position] = scored_texts(self._engine.runner.encoder, item, frame, self._stop_tokens)
            start = len(rows)
            for option, text in zip(item.prompt.options, scored[position], strict=True):
                written = "" if text.answer else option + frame.after
                rows.append(replace(item, forced=frame.before + written, scored=text))
            places[position] = range(start, len(rows))
        outcomes = self._engine.run(dict(enumerate(rows)), rows_per_prompt=max(map(len, places.values()), default=1))
        responses = {}
        for position, (item, frame) in framed.items():
            found = [outcomes[place] for place in places[position]]
            failed = next((outcome for outcome in found if isinstance(outcome, Response)), None)
            values = [outcome for outcome in found if not isinstance(outcome, Response)]
            counts = [text.count for text in scored[position]]
            responses[position] = failed or self._response(item, frame, values, counts)
        return responses

    def _response(
        self, item: Rendered, frame: Frame, values: Sequence[Sequence[float]], counts: Sequence[int]
    ) -> Response:
        prompt = item.prompt
        logprobs, normalisers = zip(*values, strict=True)
        if any(map(math.isnan, logprobs)):
            return Response.failed(prompt, not_finite(prompt, "log-probabilities of the options' texts"))
        if max(normalisers) - min(normalisers) > self._engine.runner.tolerance:
            return Response.failed(
                prompt,
                f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected logits before the options that "
                f"do not depend on them, got log-normalisers from {min(normalisers):.4g} to {max(normalisers):.4g}; "
                "this model attends to later tokens and has no option_text readout with this version of transformers",
            )
        return option_response(item, frame, logprobs, counts)


def scored_texts(encoder: Encoder, item: Rendered, frame: Frame, stop_tokens: Sequence[int]) -> list[ScoredText]:
    """Return the tokens to score for each option of a prompt.

    Args:
        encoder: encodes the model's prompts.
        item: the prompt.
        frame: the text around the options.
        stop_tokens: the tokens that end a turn.
    """
    tokens, apart = encoder.tokens, encoder.takes_answers
    tail = "" if apart else (item.turns + frame.before)[-TAIL:]
    answers = [option + frame.after for option in item.prompt.options]
    cut = [tokens(tail + answer) for answer in answers]
    shared = min(common_length(tokens(tail), one) for one in cut)
    found = []
    for option, answer, one in zip(item.prompt.options, answers, cut, strict=True):
        closing = len(one) - common_length(tokens(tail + option), one)
        rest = int(closing > 1 and one[-1] not in encoder.added_tokens)
        text = ScoredText(
            tokens=tuple(one[shared : len(one) - rest]),
            rest=rest + apart,  # the processor adds a token that ends the turn
            ends=() if frame.after else tuple(stop_tokens),
            answer=answer if apart else "",
        )
        found.append(text)
    return found


def option_response(item: Rendered, frame: Frame, logprobs: Sequence[float], counts: Sequence[int]) -> Response:
    """Return the response to a prompt from its options' log-probabilities.

    If the model generated an answer (`Rendered.written`), it stays; else the answer is the likeliest option.

    Args:
        item: the prompt.
        frame: the text around the options.
        logprobs: one per option of the prompt (nats).
        counts: number of tokens summed per option.
    """
    prompt, written = item.prompt, item.written
    if written is not None and written.status in ("answered", "abstained"):
        return written.with_options(prompt, logprobs, readout="option_text", option_tokens=counts)
    likeliest = max(range(len(logprobs)), key=logprobs.__getitem__)
    readout: Readout = "option_text_direct" if prompt.style.mode == "direct" else "option_text_fixed_prefix"
    response = Response.parse(
        prompt,
        frame.before + prompt.options[likeliest] + frame.after,
        finish_reason="readout" if written is None else written.finish_reason,
        option_logprobs=logprobs,
        option_tokens=counts,
        readout=readout,
        token_entropy=None if written is None else written.token_entropy,
        n_tokens=0 if written is None else written.n_tokens,
    )
    answer = prompt.order[likeliest]  # a parser could misread an option such as "B or C"
    return response.replace(answer=answer, status="abstained" if answer is None else "answered")
