"""A prompt as a flow of requests: its text, its letters, and the texts of its options.

Letters are read as in process (`models.vocabulary`): the log-probabilities of all tokens that read as a letter, over
the whole vocabulary, where the letter stands (`letters`). Where a text is still to be written, few tokens are asked for
at every step; many would cost more than one request more, which reads them at the one step that counts, of a prompt
that lies in the cache already. What a letter goes on to is not looked at: capitals count in full, small letters that
could be words not at all, unless the model wrote one.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...prompting import letter_columns
from ...types import Prompt, Response
from ...types.image import image_digest
from ...types.prompt import made_of_images
from ...types.response import parse_turn
from ..encoding import Encoder, EncodingError
from ..options import Frame, forced_frame, option_response, own_frame, scored_texts
from ..reading import closed, decoded_text, forced_text, not_finite, read_response, shown_letters, step_of
from ..rendered import Rendered, ScoredText
from ..server.steps import logsumexp
from ..vocabulary import LetterVocabulary
from .engine import Output, Request
from .letters import Asking, by_token, letter_tokens, letters_at, logprobs_after, one_token, places_of
from .sampling import Sampling

__all__ = ["Answering"]

logger = logging.getLogger(__name__)

_ALONG = 16  # tokens that are asked for at every step of a text, at most


@dataclass(slots=True)
class _Shown:
    """The images of one sample's prompts, each decoded and hashed once while its prompts follow one another.

    Attributes:
        sample: which.
        prompts: which hold on to their images, so that these stay what they are known by.
        opened, hashes: what was made of them.
    """

    sample: str = ""
    prompts: list[Prompt] = field(default_factory=list)
    opened: dict[Any, Any] = field(default_factory=dict)
    hashes: dict[Any, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rendered prompt, and what its requests have in common."""

    item: Rendered
    hashes: tuple[str, ...]

    def request(self, tokens: Sequence[int], sampling: Mapping[str, Any]) -> Request:
        return Request(tokens, self.item.images, self.hashes, sampling)


class Answering:
    """Makes requests of prompts, and responses of what comes of them.

    Args:
        encoder: renders prompts.
        vocabulary: which tokens read as which letter.
        sampling: how texts are decoded.
        size: how many tokens the engine's vocabulary has.
        force_answer: see `HFModel`.
    """

    def __init__(
        self, encoder: Encoder, vocabulary: LetterVocabulary, sampling: Sampling, *, size: int, force_answer: bool
    ) -> None:
        self._encoder, self._vocabulary, self._sampling = encoder, vocabulary, sampling
        self._size = size
        self._force_answer = force_answer
        self._shown = _Shown()
        self._is_compared = False

    def flow(self, prompt: Prompt) -> Asking:
        """Answer a prompt; see `engine.Flow`."""
        try:
            return (yield from self._answer(prompt))
        except (OSError, EncodingError) as error:
            where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: "
            return Response.failed(prompt, error if isinstance(error, OSError) else f"{where}{error}")
        except ValueError as error:
            return Response.failed(prompt, error)

    def _answer(self, prompt: Prompt) -> Asking:
        asked = self._rendered(prompt)
        prompt, forced = asked.item.prompt, asked.item.forced
        if forced is not None:
            if prompt.style.answer_by == "text":
                return (yield from self._scored(asked, forced_frame(asked.item)))
            return (yield from self._read(asked))
        response = yield from self._write(asked)
        if self._force_answer and response.status == "truncated" and self._is_text(prompt, response.text):
            item = replace(asked.item, forced=closed(prompt, response.text), written=response)
            asked = replace(asked, item=item)
            if prompt.style.answer_by == "text":
                return (yield from self._scored(asked, forced_frame(item)))
            return (yield from self._read(asked))
        frame = own_frame(prompt, response)
        if frame is not None and self._is_text(prompt, frame.before):
            item = replace(asked.item, written=response)
            return (yield from self._scored(replace(asked, item=item), frame))
        return response

    def _rendered(self, prompt: Prompt) -> _Asked:
        shown = self._shown
        if shown.sample != prompt.sample.id:
            shown = self._shown = _Shown(prompt.sample.id)
        shown.prompts.append(prompt)
        rendered = self._encoder.render(prompt, shown.opened)
        hashes = made_of_images(prompt, image_digest, shown.hashes)
        return _Asked(replace(rendered, forced=forced_text(rendered.prompt)), tuple(hashes))

    def _is_text(self, prompt: Prompt, written: str) -> bool:
        tags = (*prompt.style.think_tags, *(prompt.style.answer_tags or ()))
        return not self._encoder.holds_control_tokens(written, tags)

    def _write(self, asked: _Asked) -> Asking:
        """Let the model write, and read the letters where it wrote its answer's."""
        item = asked.item
        prompt, tokens = item.prompt, self._encoder.tokens(item.text)
        told = self._sampling.of((prompt.sample.id, prompt.condition, prompt.draw))
        family, rows = self._vocabulary.either, self._rows(prompt)
        along = letter_tokens(family, rows, self._size) if prompt.style.answer_by == "letter" else []
        if 0 < len(along) <= _ALONG:
            told |= {"logprob_token_ids": along, "flat_logprobs": True}
        [output] = yield [asked.request(tokens, told)]
        self._compare(item, output)
        written, count = self._sampling.cut(output.tokens)
        text = decoded_text(self._encoder.tokenizer, written)
        shown = None
        letter = parse_turn(prompt, text).letter if along else None
        if letter is not None and (place := letter[0] - len(prompt.prefill)) >= 0:
            step = step_of(self._encoder.tokenizer, written, place)
            if output.logprobs:
                steps = [by_token(output.logprobs[step])]
            elif self._encoder.image_tokens.isdisjoint(written[:step]):
                steps = yield from logprobs_after(asked.request, [([*tokens, *written[:step]], along)])
            else:  # it would be taken for an image that is not there
                steps = []
            if steps:
                small = self._vocabulary.is_small(written[step])
                letters = letters_at(steps, (), [family], rows, small=small)
                shown = shown_letters(letters, prompt)
        if any(map(math.isnan, shown or ())):
            return Response.failed(prompt, not_finite(prompt, "letter log-probabilities"))
        finish_reason = "stop" if output.stopped else "length"
        return Response.parse(prompt, text, finish_reason=finish_reason, option_logprobs=shown, n_tokens=count)

    def _read(self, asked: _Asked) -> Asking:
        """Read the letters where nothing is left to think; see `LetterVocabulary.forced_prefix`."""
        item = asked.item
        tokens, prefix = self._encoder.tokens(item.text), self._vocabulary.forced_prefix(item.text)
        path, families, rows = prefix.tokens, prefix.either, self._rows(item.prompt)
        steps = yield from logprobs_after(asked.request, places_of(tokens, path, families, rows, self._size))
        return read_response(item, letters_at(steps, path, families, rows))

    def _rows(self, prompt: Prompt) -> list[int]:
        return letter_columns(prompt.style.letters[: len(prompt.options)])

    def _scored(self, asked: _Asked, frame: Frame) -> Asking:
        """Score the options' texts, see `models.options`."""
        item = asked.item
        texts = scored_texts(self._encoder, item, frame, self._sampling.stop_tokens)
        turns = [item.turns + frame.before + option + frame.after for option in item.prompt.options]
        requests = [
            asked.request(self._encoder.tokens(turn), one_token(text.ends) | {"prompt_logprobs": 0})
            for turn, text in zip(turns, texts, strict=True)
        ]
        outputs = yield requests
        logprobs = [_sum_of(output, text) for output, text in zip(outputs, texts, strict=True)]
        if any(map(math.isnan, logprobs)):
            return Response.failed(item.prompt, not_finite(item.prompt, "log-probabilities of the options' texts"))
        return option_response(item, frame, logprobs, [text.count for text in texts])

    def _compare(self, item: Rendered, output: Output) -> None:
        """Say, once, if what the engine makes of a prompt with images is not what the processor makes of it."""
        if self._is_compared or not item.images:
            return
        self._is_compared = True
        own = self._encoder.encode([item.text], [item.images])["input_ids"][0].tolist()
        if own != list(output.prompt):
            logger.warning(
                "vLLM's prompt of %d tokens is not the processor's own of %d: the same pictures and texts may be read "
                "otherwise than in HFModel",
                len(output.prompt),
                len(own),
            )


def _sum_of(output: Output, text: ScoredText) -> float:
    start = len(output.prompt) - len(text.tokens) - text.rest
    values = []
    for place, token in enumerate(text.tokens, start):
        found = output.prompt_logprobs[place]
        if found is None or token not in found:
            raise ValueError(f"expected the log-probability of token {token} in the prompt, got none")
        values.append(float(found[token].logprob))
    if text.ends:
        following = by_token(output.logprobs[0])
        values.append(logsumexp([following[token] for token in text.ends]))
    return math.fsum(values)
