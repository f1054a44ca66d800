"""Define responses: a model's parsed answer to one prompt, with its log-probabilities."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import model_validator

from ..secrecy import error_text
from ..text import writable
from .frozen import Frozen
from .sample import Sample, Style

if TYPE_CHECKING:
    from ..prompting import Parsed

__all__ = ["Carrier", "PromptLike", "Readout", "Response", "Status"]

Status = Literal["answered", "abstained", "unparsed", "truncated", "not_applicable", "error"]
Readout = Literal[
    "own_thought",
    "fixed_prefix",
    "direct",
    "option_text",
    "option_text_fixed_prefix",
    "option_text_direct",
]
Carrier = Literal["assistant_prefill", "user_text"]

_ROUNDING = 1e-3  # rounding error of a sum of probabilities in half precision


class PromptLike(Protocol):
    """The part of `Prompt` that a response needs; a protocol, since a `Prompt` may itself hold a response."""

    @property
    def sample(self) -> Sample:
        """The sample."""

    @property
    def condition(self) -> str:
        """The name of the perturbation."""

    @property
    def draw(self) -> int:
        """The index of the draw among repeated answers."""

    @property
    def style(self) -> Style:
        """The style, which says how the answer is parsed."""

    @property
    def options(self) -> tuple[str, ...]:
        """The options as shown."""

    @property
    def order(self) -> tuple[int | None, ...]:
        """Their indices in `sample.options`; None = an added option."""

    @property
    def prefill(self) -> str:
        """The beginning of the assistant's turn."""

    def to_sample_order(self, values: Sequence[float], missing: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Split one value per shown option into values of the sample's options, in sample order, and of added ones."""


class Response(Frozen):
    """A model's response to one prompt.

    Attributes:
        sample_id, condition, draw: the key.
        text: the completion, without the prefill. Where the answer was read from the letters in one forward pass, the
            forced prefix and the most likely letter.
        think: the thought, injected and own text together.
        own_think: the part of the thought that the model wrote.
        answer: index in `sample.options`; None = none of them.
        status: `answered`, `abstained` (an added option was chosen), `unparsed` (text without a clear answer),
            `truncated` (token limit reached, or a thought never closed), `not_applicable` (the condition does not
            apply to the sample) or `error`.
        error: the reason, for the last two.
        well_formed: the whole turn is one tagged thought, then one tagged answer; None = not written by the model
            (forced read-out).
        option_logprobs: log-probability (nats) of each option's letter over the whole vocabulary, in `sample.options`
            order, not renormalised; -inf for an option that is not shown; None = no letter was read. Where answers are
            read as text: of the option's text and its end, summed over its tokens.
        added_logprobs: the same for added options.
        option_tokens: number of tokens summed for each option's text, 0 for an option that is not shown; None =
            letters were read, or nothing.
        readout: where the letters were read: after the model's `own_thought`, after a `fixed_prefix`, or `direct`ly;
            where texts were scored instead: `option_text`, `option_text_fixed_prefix` and `option_text_direct`; None =
            not read.
        carrier: how the condition was delivered: as `assistant_prefill`, or as `user_text` to servers without prefill.
        token_entropy: mean entropy (nats) of the next-token distribution over the generated tokens.
        n_tokens: number of generated tokens.
        finish_reason: `stop`, `length`, or `readout` where nothing was generated.
        logprob_floor: upper bound on unreturned letters, where a server returned only its top k.
    """

    sample_id: str
    condition: str
    draw: int = 0
    text: str = ""
    think: str = ""
    own_think: str = ""
    answer: int | None = None
    status: Status
    error: str | None = None
    well_formed: bool | None = None
    option_logprobs: tuple[float, ...] | None = None
    added_logprobs: tuple[float, ...] = ()
    option_tokens: tuple[int, ...] | None = None
    readout: Readout | None = None
    carrier: Carrier = "assistant_prefill"
    token_entropy: float | None = None
    n_tokens: int | None = None
    finish_reason: str | None = None
    logprob_floor: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _make_encodable(cls, data: Any) -> Any:
        # Texts of servers and exceptions are written to files; half a character must not end a run.
        if not isinstance(data, dict):
            return data
        texts = {name: value for name, value in data.items() if isinstance(value, str) and not value.isascii()}
        return {**data, **{name: writable(value) for name, value in texts.items()}} if texts else data

    @model_validator(mode="after")
    def _check_contract(self) -> "Response":
        if problem := _problem(self):
            raise ValueError(f"sample {self.sample_id!r}, condition {self.condition!r}, field {problem}")
        return self

    @property
    def key(self) -> tuple[str, str, int]:
        """The key (sample id, condition, draw)."""
        return self.sample_id, self.condition, self.draw

    @property
    def letter_mass(self) -> float:
        """Total probability of all shown letters (or texts), in [0, 1]; NaN if none was read."""
        if self.option_logprobs is None:
            return math.nan
        return min(1.0, math.fsum(math.exp(value) for value in (*self.option_logprobs, *self.added_logprobs)))

    @classmethod
    def parse(
        cls,
        prompt: PromptLike,
        completion: str,
        *,
        reasoning: str | None = None,
        finish_reason: str | None = None,
        option_logprobs: Sequence[float] | None = None,
        option_tokens: Sequence[int] | None = None,
        token_entropy: float | None = None,
        readout: Readout | None = None,
        carrier: Carrier = "assistant_prefill",
        n_tokens: int | None = None,
        logprob_floor: float | None = None,
    ) -> "Response":
        """Parse a completion.

        Args:
            prompt: the prompt.
            completion: the text that the model wrote after the prefill. A repeated prefill, as some servers return it,
                is removed.
            reasoning: the thought, where a server returns it separately; it is put back in its tags.
            finish_reason: `stop` or `length`.
            option_logprobs: one log-probability (nats) per *shown* letter, in the order of the options as shown (added
                ones included), over the whole vocabulary; NaN is rejected. Where the style answers by text, one per
                shown option's text.
            option_tokens: number of tokens summed for each of them, where they are of texts.
            token_entropy: mean entropy in nats of the generated tokens.
            readout: where the letters were read; `own_thought` (or `option_text`, by the style) if logprobs are given
                and this is not.
            carrier: how the condition was delivered.
            n_tokens: number of generated tokens.
            logprob_floor: the upper bound on letters that a server did not return.

        Raises:
            ValueError: `option_logprobs` has the wrong length or a NaN; the message names sample and condition.

        Example:
            >>> from vlmrobust.types import Prompt, Sample
            >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
            >>> response = Response.parse(Prompt.of(sample), "<think>It is blue.</think><answer>B</answer>")
            >>> response.answer, response.status, response.own_think
            (1, 'answered', 'It is blue.')
        """
        completion, reasoning = writable(completion), None if reasoning is None else writable(reasoning)
        if reasoning is not None:
            think_open, think_close = prompt.style.think_tags
            opener = "" if prompt.prefill.lstrip().startswith(think_open) else think_open
            completion = f"{opener}{reasoning}{think_close}{completion}"
        completion = _without_prefill(prompt, completion)
        parsed = parse_turn(prompt, completion)
        position = parsed.answer
        start, end = parsed.think or (0, 0)
        turn = prompt.prefill + completion
        if option_logprobs is None:
            options: dict[str, Any] = {"readout": readout}
        else:
            default: Readout = "own_thought" if prompt.style.answer_by == "letter" else "option_text"
            options = _option_fields(prompt, option_logprobs, readout or default, option_tokens)
        return cls(
            sample_id=prompt.sample.id,
            condition=prompt.condition,
            draw=prompt.draw,
            text=completion,
            think=turn[start:end].strip(),
            own_think=turn[max(start, len(prompt.prefill)) : end].strip(),
            answer=None if position is None else prompt.order[position],
            status=_status(prompt, parsed, finish_reason),
            well_formed=None if finish_reason == "readout" else parsed.well_formed,
            carrier=carrier,
            token_entropy=token_entropy,
            n_tokens=n_tokens,
            finish_reason=finish_reason,
            logprob_floor=logprob_floor,
            **options,
        )

    def with_options(
        self,
        prompt: PromptLike,
        option_logprobs: Sequence[float],
        *,
        readout: Readout,
        option_tokens: Sequence[int] | None = None,
    ) -> "Response":
        """Return a copy with the options' log-probabilities.

        Args:
            prompt: the prompt.
            option_logprobs: one (nats) per *shown* option, in the order shown.
            readout: where they were read.
            option_tokens: number of tokens summed for each of them, where they are of texts.

        Raises:
            ValueError: the number of values is wrong, or one is NaN; the message names sample and condition.
        """
        return self.replace(**_option_fields(prompt, option_logprobs, readout, option_tokens))

    @classmethod
    def failed(cls, prompt: PromptLike, error: BaseException | str, status: Status = "error") -> "Response":
        """Return the response to a prompt that got no answer; reports list it and never score it."""
        text = error if isinstance(error, str) else error_text(error)
        return cls(sample_id=prompt.sample.id, condition=prompt.condition, draw=prompt.draw, status=status, error=text)


def _option_fields(
    prompt: PromptLike, logprobs: Sequence[float], readout: Readout, tokens: Sequence[int] | None
) -> dict[str, Any]:
    """Return the fields of a response for its options' log-probabilities; see `Response.with_options`."""
    if any(map(math.isnan, logprobs)):
        raise ValueError(
            f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': "
            f"expected log-probabilities, got NaN in {tuple(logprobs)!r}"
        )
    own, added = prompt.to_sample_order(logprobs, missing=-math.inf)
    counts = None if tokens is None else prompt.to_sample_order(tokens, missing=0)[0]
    return {
        "option_logprobs": own,
        "added_logprobs": added,
        "option_tokens": None if counts is None else tuple(map(int, counts)),
        "readout": readout,
    }


def _problem(response: Response) -> str | None:
    """Return the first field that contradicts others, with what was expected; callers check for NaN themselves."""
    if response.status == "answered" and response.answer is None:
        return "'answer': expected an option's index with status 'answered', got None"
    if response.status != "answered" and response.answer is not None:
        return f"'answer': expected none with status {response.status!r}, got {response.answer!r}"
    if response.n_tokens is not None and response.n_tokens < 0:
        return f"'n_tokens': expected at least 0, got {response.n_tokens!r}"
    entropy, floor = response.token_entropy, response.logprob_floor
    if entropy is not None and not 0 <= entropy < math.inf:
        return f"'token_entropy': expected a finite entropy, at least 0, got {entropy!r}"
    if floor is not None and not floor <= _ROUNDING:
        return f"'logprob_floor': expected a log-probability, which is at most 0, got {floor!r}"
    for field in ("option_logprobs", "added_logprobs"):
        numbers = getattr(response, field) or ()
        if any(number > _ROUNDING for number in numbers):  # infinity as well
            return f"{field!r}: expected log-probabilities, which are at most 0, got {max(numbers)}"
    return None


def _without_prefill(prompt: PromptLike, completion: str) -> str:
    prefill = prompt.prefill.strip()
    stripped = completion.lstrip()
    return stripped[len(prefill) :] if prefill and stripped.startswith(prefill) else completion


def parse_turn(prompt: PromptLike, completion: str) -> "Parsed":
    """Parse the whole assistant turn (prefill and completion) by the prompt's style."""
    from ..prompting import parse_completion

    style = prompt.style
    return parse_completion(
        prompt.prefill + completion,
        options=prompt.options,
        letters=style.letters,
        think_tags=style.think_tags,
        answer_tags=style.answer_tags,
        answer_by=style.answer_by,
        mode=style.mode,
        written=len(prompt.prefill),
        opened=style.template_opens_thought,
    )


def _status(prompt: PromptLike, parsed: "Parsed", finish_reason: str | None) -> Status:
    if parsed.answer is not None:
        return "abstained" if prompt.order[parsed.answer] is None else "answered"
    return "truncated" if finish_reason == "length" or parsed.open_thought else "unparsed"
