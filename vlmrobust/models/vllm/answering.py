"""Answer prompts by requests to the engine: generate text, read letters and score option texts.

Letters are read as in process (`models.letter_tokens`): the log-probabilities of all tokens that read as a letter, over
the whole vocabulary, at the letter's position. During generation few tokens are requested at every step; many would
cost more than a second request for the one step that counts, whose prompt is in the cache. Continuations of a letter
are not examined: capitals count in full, and small letters that could be words only if the model generated one.

vLLM returns the log-probabilities of up to 128 requested tokens at one step. If a letter may merge with the tokens
before it, each position at which its token may begin is a separate request.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...prompting import MARKS, letter_columns
from ...types import Prompt, Response
from ...types.image import image_digest
from ...types.prompt import made_of_images
from ...types.response import parse_turn
from ..encoding import Encoder, EncodingError, Rendered, ScoredText
from ..generation import check_options, decoded_text, sampling_seed
from ..letter_tokens import LetterFamily, LetterVocabulary
from ..option_texts import Frame, forced_frame, option_response, own_frame, scored_texts
from ..response_building import closed, forced_text, not_finite, read_response, shown_letters, step_of
from ..server.tokens import logsumexp
from .engine import Flow, Output, Request

__all__ = [
    "Answering",
    "MakeRequest",
    "Sampling",
    "by_token",
    "letter_positions",
    "letter_tokens",
    "letters_at",
    "logprobs_after",
    "one_token_params",
]


_RENAMED = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "repetition_penalty": "repetition_penalty",
    "stop_strings": "stop",
}
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")
_HANDLED = ("do_sample", "eos_token_id", "pad_token_id", "seed")
_MAX_REQUESTED = 128  # token ids per request
_MAX_INLINE = 16  # most letter tokens to request at every step of a text

logger = logging.getLogger(__name__)


class Sampling:
    """Decoding parameters: greedy without penalties, unless the options set otherwise; see `HFModel`.

    Args:
        options: as in `HFModel`; `seed` keys the seeds of texts.
        own: the checkpoint's generation config, of which only the stop tokens are used.
        tokenizer: its tokenizer, whose end token is the fallback.

    Attributes:
        options: the options with defaults.
        stop_tokens: the tokens that end a text.

    Raises:
        ValueError: an option is unknown to `HFModel`, or not supported by vLLM.
    """

    def __init__(self, options: Mapping[str, Any], own: Any, tokenizer: Any) -> None:
        check_options(options, own)
        for name, value in options.items():
            if value is not None and name not in (*_RENAMED, *_SAMPLING, *_HANDLED):
                known = ", ".join(sorted((*_RENAMED, *_SAMPLING, "do_sample", "eos_token_id", "seed")))
                raise ValueError(f"field 'generation': expected options that vLLM knows ({known}), got {name!r}")
        self.options: dict[str, Any] = {"max_new_tokens": 512} | dict(options)
        ends = self.options.get("eos_token_id")
        for fallback in (own.eos_token_id, tokenizer.eos_token_id):
            ends = fallback if ends is None else ends
        self.stop_tokens = tuple([ends] if isinstance(ends, int) else ends or ())

    def params(self, key: tuple[str, str, int]) -> dict[str, Any]:
        """Return the arguments of `SamplingParams` for one text.

        Args:
            key: (sample id, condition, draw), which keys the seed.
        """
        options = {name: value for name, value in self.options.items() if value is not None}
        params = {param: options[name] for name, param in _RENAMED.items() if name in options}
        # Only these tokens end a text, not those that vLLM reads from the checkpoint.
        params |= {"ignore_eos": True, "stop_token_ids": list(self.stop_tokens), "detokenize": "stop" in params}
        if "stop" in params:
            params["skip_special_tokens"] = False
        if not options.get("do_sample"):
            return {"temperature": 0.0} | params
        sampling = {"temperature": 1.0} | {name: options[name] for name in _SAMPLING if name in options}
        return sampling | params | {"seed": sampling_seed(int(options.get("seed", 0)), key)}

    def strip_end(self, tokens: list[int]) -> tuple[list[int], int]:
        """Return a text's tokens without the stop token, and the number of generated tokens."""
        end = next((place for place, token in enumerate(tokens) if token in self.stop_tokens), len(tokens))
        return tokens[:end], min(end + 1, len(tokens))


MakeRequest = Callable[[Sequence[int], Mapping[str, Any]], Request]
"""Returns a request for tokens and sampling parameters."""


def one_token_params(ids: Sequence[int]) -> dict[str, Any]:
    """Return the sampling parameters for the log-probabilities of some tokens as the next one."""
    params = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "detokenize": False}
    return params | ({"logprob_token_ids": list(ids), "flat_logprobs": True} if ids else {})


def by_token(logprobs: Mapping[int, Any]) -> dict[int, float]:
    """Return log-probabilities (nats) by token."""
    return {token: float(found.logprob) for token, found in logprobs.items()}


def letter_tokens(family: LetterFamily, rows: Sequence[int], size: int) -> list[int]:
    """Return the tokens that may read as one of the letters in `rows`, in a vocabulary of some size."""
    found = (token for row in rows for token in family.tokens[row].tolist())
    return list(dict.fromkeys(token for token in found if 0 <= token < size))


def letter_positions(
    tokens: Sequence[int], path: Sequence[int], families: Sequence[LetterFamily], rows: Sequence[int], size: int
) -> list[tuple[Sequence[int], list[int]]]:
    """Return, for each position at which a letter's token may begin, the tokens before it and those to request.

    `path` is the end of `tokens`, with which the letter may merge; there is one family more than tokens in it.
    """
    begin = len(tokens) - len(path)
    return [
        (tokens[: begin + place], [*path[place : place + 1], *letter_tokens(family, rows, size)])
        for place, family in enumerate(families)
    ]


def logprobs_after(request: MakeRequest, positions: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Flow[Any]:
    """Request the log-probabilities of tokens at positions (tokens before, tokens to request); return them by token."""
    requests = [
        (place, request(tokens, one_token_params(ids[start : start + _MAX_REQUESTED])))
        for place, (tokens, ids) in enumerate(positions)
        for start in range(0, len(ids), _MAX_REQUESTED)
    ]
    outputs = yield [each for _, each in requests]
    found: list[dict[int, float]] = [{} for _ in positions]
    for (place, _), output in zip(requests, outputs, strict=True):
        found[place] |= by_token(output.logprobs[0])
    return found


def letters_at(
    steps: Sequence[Mapping[int, float]],
    path: Sequence[int],
    families: Sequence[LetterFamily],
    rows: Sequence[int],
    *,
    small: bool = False,
) -> list[float]:
    """Return the log-probabilities of all letters and digits, summed over positions, -inf for those not in `rows`.

    Args:
        steps: log-probabilities by token at each position.
        path: the tokens that lead from one position to the next.
        families: the letters' tokens, one family per position.
        rows: rows of the letters to read.
        small: also count the small letters that could be words.
    """
    letters: list[list[float]] = [[] for _ in MARKS]
    path_logprob = 0.0
    for place, (found, family) in enumerate(zip(steps, families, strict=True)):
        for row in rows:
            cells = zip(family.tokens[row].tolist(), family.counted[row].tolist(), strict=True)
            letters[row] += [
                path_logprob + found[token] for token, counted in cells if token in found and (small or counted == 0.0)
            ]
        if place < len(path):
            path_logprob += found[path[place]]
    return [logsumexp(values) for values in letters]


@dataclass(slots=True)
class _ImageCache:
    """The images of one sample, decoded and hashed once for its consecutive prompts."""

    sample: str = ""
    prompts: list[Prompt] = field(default_factory=list)  # keep the images alive, by whose identity the caches are keyed
    opened: dict[Any, Any] = field(default_factory=dict)
    hashes: dict[Any, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _PreparedPrompt:
    """A rendered prompt and what its requests share."""

    item: Rendered
    hashes: tuple[str, ...]

    def request(self, tokens: Sequence[int], sampling: Mapping[str, Any]) -> Request:
        return Request(tokens, self.item.images, self.hashes, sampling)


class Answering:
    """Answers prompts by flows of requests.

    Args:
        encoder: renders prompts.
        vocabulary: the letters' tokens.
        sampling: decoding parameters.
        size: the size of the engine's vocabulary.
        force_answer: see `HFModel`.
    """

    def __init__(
        self, encoder: Encoder, vocabulary: LetterVocabulary, sampling: Sampling, *, size: int, force_answer: bool
    ) -> None:
        self._encoder, self._vocabulary, self._sampling = encoder, vocabulary, sampling
        self._size = size
        self._force_answer = force_answer
        self._images = _ImageCache()
        self._is_compared = False

    def flow(self, prompt: Prompt) -> Flow[Any]:
        """Answer a prompt; see `engine.Flow`."""
        try:
            return (yield from self._answer(prompt))
        except (OSError, EncodingError) as error:
            where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: "
            return Response.failed(prompt, error if isinstance(error, OSError) else f"{where}{error}")
        except ValueError as error:
            return Response.failed(prompt, error)

    def _answer(self, prompt: Prompt) -> Flow[Any]:
        prepared = self._prepare(prompt)
        item, prompt = prepared.item, prepared.item.prompt
        if item.forced is None:
            response = yield from self._write(prepared)
            if self._force_answer and response.status == "truncated" and self._is_text(prompt, response.text):
                item = replace(item, forced=closed(prompt, response.text), written=response)
            else:
                frame = own_frame(prompt, response)
                if frame is None or not self._is_text(prompt, frame.before):
                    return response
                written = replace(prepared, item=replace(item, written=response))
                return (yield from self._scored(written, frame))
            prepared = replace(prepared, item=item)
        if prompt.style.answer_by == "text":
            return (yield from self._scored(prepared, forced_frame(item)))
        return (yield from self._read(prepared))

    def _prepare(self, prompt: Prompt) -> _PreparedPrompt:
        images = self._images
        if images.sample != prompt.sample.id:
            images = self._images = _ImageCache(prompt.sample.id)
        images.prompts.append(prompt)
        rendered = self._encoder.render(prompt, images.opened)
        hashes = made_of_images(prompt, image_digest, images.hashes)
        return _PreparedPrompt(replace(rendered, forced=forced_text(rendered.prompt)), tuple(hashes))

    def _is_text(self, prompt: Prompt, written: str) -> bool:
        tags = (*prompt.style.think_tags, *(prompt.style.answer_tags or ()))
        return not self._encoder.holds_control_tokens(written, tags)

    def _write(self, prepared: _PreparedPrompt) -> Flow[Any]:
        """Let the model generate, and read the letters at the token of its answer letter."""
        item = prepared.item
        prompt, tokens = item.prompt, self._encoder.tokens(item.text)
        params = self._sampling.params((prompt.sample.id, prompt.condition, prompt.draw))
        family, rows = self._vocabulary.either, self._rows(prompt)
        ids = letter_tokens(family, rows, self._size) if prompt.style.answer_by == "letter" else []
        if 0 < len(ids) <= _MAX_INLINE:
            params |= {"logprob_token_ids": ids, "flat_logprobs": True}
        [output] = yield [prepared.request(tokens, params)]
        self._compare(item, output)
        written, count = self._sampling.strip_end(output.tokens)
        text = decoded_text(self._encoder.tokenizer, written)
        shown = None
        letter = parse_turn(prompt, text).letter if ids else None
        if letter is not None and (place := letter[0] - len(prompt.prefill)) >= 0:
            step = step_of(self._encoder.tokenizer, written, place)
            if output.logprobs:
                steps = [by_token(output.logprobs[step])]
            elif self._encoder.image_tokens.isdisjoint(written[:step]):
                steps = yield from logprobs_after(prepared.request, [([*tokens, *written[:step]], ids)])
            else:  # the prompt would have a placeholder without an image
                steps = []
            if steps:
                small = self._vocabulary.is_small(written[step])
                letters = letters_at(steps, (), [family], rows, small=small)
                shown = shown_letters(letters, prompt)
        if any(map(math.isnan, shown or ())):
            return Response.failed(prompt, not_finite(prompt, "letter log-probabilities"))
        finish_reason = "stop" if output.stopped else "length"
        return Response.parse(prompt, text, finish_reason=finish_reason, option_logprobs=shown, n_tokens=count)

    def _read(self, prepared: _PreparedPrompt) -> Flow[Any]:
        """Read the letters without decoding; see `LetterVocabulary.forced_prefix`."""
        item = prepared.item
        tokens, prefix = self._encoder.tokens(item.text), self._vocabulary.forced_prefix(item.text)
        path, families, rows = prefix.tokens, prefix.either, self._rows(item.prompt)
        steps = yield from logprobs_after(prepared.request, letter_positions(tokens, path, families, rows, self._size))
        return read_response(item, letters_at(steps, path, families, rows))

    def _rows(self, prompt: Prompt) -> list[int]:
        return letter_columns(prompt.style.letters[: len(prompt.options)])

    def _scored(self, prepared: _PreparedPrompt, frame: Frame) -> Flow[Any]:
        """Score the options' texts; see `models.option_texts`."""
        item = prepared.item
        texts = scored_texts(self._encoder, item, frame, self._sampling.stop_tokens)
        turns = [item.turns + frame.before + option + frame.after for option in item.prompt.options]
        requests = [
            prepared.request(self._encoder.tokens(turn), one_token_params(text.ends) | {"prompt_logprobs": 0})
            for turn, text in zip(turns, texts, strict=True)
        ]
        outputs = yield requests
        logprobs = [_sum_of(output, text) for output, text in zip(outputs, texts, strict=True)]
        if any(map(math.isnan, logprobs)):
            return Response.failed(item.prompt, not_finite(item.prompt, "log-probabilities of the options' texts"))
        return option_response(item, frame, logprobs, [text.count for text in texts])

    def _compare(self, item: Rendered, output: Output) -> None:
        """Warn once if the engine's tokens of a prompt with images differ from the processor's."""
        if self._is_compared or not item.images:
            return
        self._is_compared = True
        own = self._encoder.encode([item.text], [item.images])["input_ids"][0].tolist()
        if own != list(output.prompt):
            logger.warning(
                "vLLM's prompt has %d tokens, the processor's %d: images and texts may be processed differently from "
                "HFModel",
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
