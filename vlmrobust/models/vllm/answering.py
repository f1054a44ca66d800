"""A prompt as a flow of requests: its text, its letters, and the texts of its options.

Letters are read as in process (`models.vocabulary`): the log-probabilities of all tokens that read as a letter, over
the whole vocabulary, where the letter stands. Where a text is still to be written, few tokens are asked for at every
step; many would cost more than one request more, which reads them at the one step that counts, of a prompt that lies in
the cache already. What a letter goes on to is not looked at: capitals count in full, small letters that could be words
not at all, unless the model wrote one.

vLLM returns the log-probabilities of up to 128 tokens that it is told, at one step; where several tokens stand before a
letter with which it may merge, each place at which the letter's token may begin is a request of its own.
"""

import logging
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...prompting import MARKS, letter_columns
from ...types import Prompt, Response
from ...types.image import image_digest
from ...types.prompt import made_of_images
from ...types.response import parse_turn
from ..encoding import Encoder, EncodingError
from ..generation import check_options
from ..option_texts import Frame, forced_frame, option_response, own_frame, scored_texts
from ..reading import closed, decoded_text, forced_text, not_finite, read_response, shown_letters, step_of
from ..rendered import Rendered, ScoredText
from ..sampling import sampling_seed
from ..server.steps import logsumexp
from ..vocabulary import LetterFamily, LetterVocabulary
from .engine import Output, Request

__all__ = [
    "Answering",
    "Asking",
    "Requesting",
    "Sampling",
    "by_token",
    "letter_tokens",
    "letters_at",
    "logprobs_after",
    "one_token",
    "places_of",
]


_WORDS = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "repetition_penalty": "repetition_penalty",
    "stop_strings": "stop",
}
_DRAWN = ("temperature", "top_k", "top_p", "min_p")
_READ = ("do_sample", "eos_token_id", "pad_token_id", "seed")

logger = logging.getLogger(__name__)


class Sampling:
    """Greedy decoding without penalties, unless the options say otherwise; see `HFModel`.

    Args:
        options: as `HFModel` takes them; `seed` keys the seeds of texts.
        own: the checkpoint's generation config, of which the tokens that end a text are kept.
        tokenizer: its tokenizer, whose end token is taken where the config names none.

    Attributes:
        options: what was given, with the defaults.
        stop_tokens: the tokens that end a text.

    Raises:
        ValueError: an option is none of `HFModel`'s, or one that vLLM has not.
    """

    def __init__(self, options: Mapping[str, Any], own: Any, tokenizer: Any) -> None:
        check_options(options, own)
        for name, value in options.items():
            if value is not None and name not in (*_WORDS, *_DRAWN, *_READ):
                known = ", ".join(sorted((*_WORDS, *_DRAWN, "do_sample", "eos_token_id", "seed")))
                raise ValueError(f"field 'generation': expected options that vLLM knows ({known}), got {name!r}")
        self.options: dict[str, Any] = {"max_new_tokens": 512} | dict(options)
        ends = self.options.get("eos_token_id")
        for fallback in (own.eos_token_id, tokenizer.eos_token_id):
            ends = fallback if ends is None else ends
        self.stop_tokens = tuple([ends] if isinstance(ends, int) else ends or ())

    def of(self, key: tuple[str, str, int]) -> dict[str, Any]:
        """Return what `SamplingParams` is told for one text.

        Args:
            key: (sample id, condition, draw), by which the seed is drawn.
        """
        given = {name: value for name, value in self.options.items() if value is not None}
        told = {word: given[name] for name, word in _WORDS.items() if name in given}
        # The tokens alone end a text, whatever vLLM's own reading of the checkpoint is.
        told |= {"ignore_eos": True, "stop_token_ids": list(self.stop_tokens), "detokenize": "stop" in told}
        if "stop" in told:
            told["skip_special_tokens"] = False
        if not given.get("do_sample"):
            return {"temperature": 0.0} | told
        drawn = {"temperature": 1.0} | {name: given[name] for name in _DRAWN if name in given}
        return drawn | told | {"seed": sampling_seed(int(given.get("seed", 0)), key)}

    def cut(self, tokens: list[int]) -> tuple[list[int], int]:
        """Return a text's tokens without the one that ended it, and how many were generated."""
        end = next((place for place, token in enumerate(tokens) if token in self.stop_tokens), len(tokens))
        return tokens[:end], min(end + 1, len(tokens))


_MOST = 128  # tokens that a request may name

Asking = Generator[Sequence[Request], Sequence[Output], Any]
Requesting = Callable[[Sequence[int], Mapping[str, Any]], Request]
"""Returns a request for tokens and sampling."""


def one_token(ids: Sequence[int]) -> dict[str, Any]:
    """Return what is told to get the log-probabilities of some tokens as the next one."""
    told = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "detokenize": False}
    return told | ({"logprob_token_ids": list(ids), "flat_logprobs": True} if ids else {})


def by_token(logprobs: Mapping[int, Any]) -> dict[int, float]:
    """Return log-probabilities (nats) by token."""
    return {token: float(found.logprob) for token, found in logprobs.items()}


def letter_tokens(family: LetterFamily, rows: Sequence[int], size: int) -> list[int]:
    """Return the tokens that may read as a letter.

    Args:
        family: of a place.
        rows: which letters.
        size: how many tokens the engine's vocabulary has.
    """
    found = (token for row in rows for token in family.tokens[row].tolist())
    return list(dict.fromkeys(token for token in found if 0 <= token < size))


def places_of(
    tokens: Sequence[int], path: Sequence[int], families: Sequence[LetterFamily], rows: Sequence[int], size: int
) -> list[tuple[Sequence[int], list[int]]]:
    """Return, for each place at which a letter's token may begin, what stands before and which tokens are asked for.

    Args:
        tokens: all that stands before the letter.
        path: the last of them, with which the letter may merge.
        families: of each place, one more than there are tokens in the path.
        rows: which letters.
        size: how many tokens the engine's vocabulary has.
    """
    begin = len(tokens) - len(path)
    return [
        (tokens[: begin + place], [*path[place : place + 1], *letter_tokens(family, rows, size)])
        for place, family in enumerate(families)
    ]


def logprobs_after(request: Requesting, places: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Asking:
    """Ask for the log-probabilities of some tokens after others, and return them by token for each place.

    Args:
        request: makes requests.
        places: what stands before, and which tokens.
    """
    asked = [
        (place, request(tokens, one_token(ids[start : start + _MOST])))
        for place, (tokens, ids) in enumerate(places)
        for start in range(0, len(ids), _MOST)
    ]
    outputs = yield [each for _, each in asked]
    found: list[dict[int, float]] = [{} for _ in places]
    for (place, _), output in zip(asked, outputs, strict=True):
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
    """Return the log-probabilities of all letters and digits, summed over all places, -inf for those not in `rows`.

    Args:
        steps: log-probabilities by token at each place.
        path: the tokens that lead from one place to the next.
        families: of each place.
        rows: which letters.
        small: count the small letters that could be words as well.
    """
    letters: list[list[float]] = [[] for _ in MARKS]
    reached = 0.0
    for place, (found, family) in enumerate(zip(steps, families, strict=True)):
        for row in rows:
            cells = zip(family.tokens[row].tolist(), family.counted[row].tolist(), strict=True)
            letters[row] += [
                reached + found[token] for token, counted in cells if token in found and (small or counted == 0.0)
            ]
        if place < len(path):
            reached += found[path[place]]
    return [logsumexp(values) for values in letters]


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
