"""Responses as a struct of arrays, for metrics that work on all of them at once; each text is held once."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from typing import Any, Self, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .prompt import Prompt
from .response import Response

__all__ = ["Responses", "Texts", "within_thoughts"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Texts(Sequence[str]):
    """Texts as a tuple has them, each made when it is asked for: the end of a longer one between two short ones.

    Attributes:
        before: what each begins with.
        longer: the texts whose ends they hold.
        start: where each of these ends begins.
        after: what each ends with.

    Example:
        >>> said = Texts(("<think>",), ("I was told: red. It is red.",), np.array([17]), ("</think>",))
        >>> said[0], said == ("<think>It is red.</think>",)
        ('<think>It is red.</think>', True)
    """

    before: tuple[str, ...]
    longer: tuple[str, ...]
    start: NDArray[np.int32]
    after: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.longer)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self.taken(range(*index.indices(len(self)))))
        return self.before[index] + self.longer[index][self.start[index] :] + self.after[index]

    def __iter__(self) -> Iterator[str]:
        rows = zip(self.before, self.longer, self.start.tolist(), self.after, strict=True)
        return (before + longer[start:] + after for before, longer, start, after in rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Texts | tuple):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as what is equal to it may be hashed otherwise

    def __add__(self, other: Sequence[str]) -> tuple[str, ...]:
        return (*self, *other)

    def __radd__(self, other: Sequence[str]) -> tuple[str, ...]:
        return (*other, *self)

    def __repr__(self) -> str:
        return repr(tuple(self))

    def taken(self, rows: Sequence[int]) -> Self:
        """Return those at some positions, in that order."""
        columns = (tuple(map(column.__getitem__, rows)) for column in (self.before, self.longer, self.after))
        before, longer, after = columns
        return type(self)(before, longer, self.start[np.asarray(rows, dtype=np.int64)], after)

    @classmethod
    def joined(cls, parts: Sequence["Texts"]) -> Self:
        """Return those of all parts, in their order."""
        before, longer, after = (
            tuple(chain.from_iterable(getattr(part, name) for part in parts)) for name in ("before", "longer", "after")
        )
        return cls(before, longer, np.concatenate([part.start for part in parts]), after)


def within_thoughts(thoughts: tuple[str, ...], own: Sequence[str], texts: Sequence[str]) -> tuple[Texts, Texts]:
    """Return own thoughts and texts that hold no copy of what is in the thoughts.

    Args:
        thoughts: the whole ones.
        own: the part of each that the model wrote, which is its end; any other text is taken as it is.
        texts: what the model wrote, the own thought within.
    """
    known: dict[str, str] = {}
    starts = np.zeros(len(thoughts), np.int32)
    starts_within = np.zeros(len(thoughts), np.int32)
    before_own, before, after = [], [], []
    for row, (thought, part, text) in enumerate(zip(thoughts, own, texts, strict=True)):
        length = len(thought)
        is_end = thought.endswith(part)
        starts[row] = length - len(part) if is_end else length
        before_own.append("" if is_end else part)
        place = text.find(part) if part and is_end else -1
        starts_within[row] = length if place < 0 else length - len(part)
        begun, ended = (text, "") if place < 0 else (text[:place], text[place + len(part) :])
        before.append(known.setdefault(begun, begun))
        after.append(known.setdefault(ended, ended))
    nothing = ("",) * len(thoughts)
    return Texts(tuple(before_own), thoughts, starts, nothing), Texts(
        tuple(before), thoughts, starts_within, tuple(after)
    )


Derived = TypeVar("Derived")
Value = TypeVar("Value")

_PART = 10_000  # prompts and responses that are in memory as objects


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """N responses as tensors and tuples of length N; C is the largest number of options among them.

    Attributes:
        sample_id, condition, draw, group: the keys; `group` is the sample's own id where it has none.
        option_logprobs: `(N, C)` float32, letter log-probabilities (nats) over the vocabulary, in `sample.options`
            order, padded with -inf; a row of NaN = no letter was read.
        added_logprobs: `(N, A)` float32, the same for added options, padded with -inf.
        option_count: `(N,)` int64, the number of the sample's own options.
        target, choice, distractor, asserted: `(N,)` int64, indices in `sample.options`, -1 = none.
        token_entropy: `(N,)` float32, nats, NaN = not measured.
        n_tokens: `(N,)` int64, -1 = not counted.
        well_formed: `(N,)` float32, 1 or 0, NaN = the model did not write the text.
        context: what stood before the question, such as a caption.
        question: what was asked, as shown.
        options, order: the options as shown, and their indices in `sample.options` (None = added).
        letters: the letters that these options were given, in their order; there may be more letters than options.
        think, own_think, text: the thought, the model's own part of it, the completion. The last two are tuples or, so
            that no text is in memory three times, what is used like one (`Texts`).
        prefill: what the assistant's turn began with.
        status, readout, option_tokens, carrier, error: as in `Response`.
        metadata: the sample's own.
        history: what was said since the question, where the model was asked once more: pairs of role and text. Given as
            `()`, it is empty for all.
    """

    sample_id: tuple[str, ...]
    condition: tuple[str, ...]
    draw: Tensor
    group: tuple[str, ...]
    option_logprobs: Tensor
    added_logprobs: Tensor
    option_count: Tensor
    target: Tensor
    choice: Tensor
    distractor: Tensor
    asserted: Tensor
    token_entropy: Tensor
    n_tokens: Tensor
    well_formed: Tensor
    context: tuple[str, ...]
    question: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]
    order: tuple[tuple[int | None, ...], ...]
    letters: tuple[str, ...]
    think: tuple[str, ...]
    own_think: Sequence[str]
    text: Sequence[str]
    prefill: tuple[str, ...]
    status: tuple[str, ...]
    readout: tuple[str | None, ...]
    option_tokens: tuple[tuple[int, ...] | None, ...]
    carrier: tuple[str, ...]
    error: tuple[str | None, ...]
    metadata: tuple[Any, ...]
    _derived: list[tuple[object, Any]] = field(default_factory=list, init=False, repr=False)
    history: tuple[tuple[tuple[str, str], ...], ...] = ()  # last, as pickles of earlier versions end before it

    def __post_init__(self) -> None:
        if not self.history:
            object.__setattr__(self, "history", ((),) * len(self))

    def __setstate__(self, state: Sequence[Any]) -> None:
        for item, value in zip(fields(self), state, strict=False):
            object.__setattr__(self, item.name, value)
        if len(state) < len(fields(self)):
            object.__setattr__(self, "history", ((),) * len(self))

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[Prompt, Response]]) -> Self:
        """Put prompts and their responses into arrays, a part at a time: as objects they take many times the memory.

        Raises:
            ValueError: the two of a pair do not belong together; the message says where.
        """
        rest, parts, begin = iter(pairs), [], 0
        while part := list(islice(rest, _PART)):
            prompts, responses = zip(*part, strict=True)
            parts.append(cls._of_part(prompts, responses, begin))
            begin += len(part)
            del part, prompts, responses
        return cls.concatenated(parts) if parts else cls._of_part((), (), 0)

    @classmethod
    def of(cls, prompts: Sequence[Prompt], responses: Sequence[Response]) -> Self:
        """Put responses into arrays.

        Args:
            prompts: what was asked.
            responses: what was said, in the same order.

        Raises:
            ValueError: the two do not belong together; the message says where.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"expected one response per prompt ({len(prompts)}), got {len(responses)}")
        return cls._of_part(prompts, responses, 0)

    @classmethod
    def _of_part(cls, prompts: Sequence[Prompt], responses: Sequence[Response], begin: int) -> Self:
        pairs = list(zip(prompts, responses, strict=True))
        for position, (prompt, response) in enumerate(pairs, start=begin):
            expected = (prompt.sample.id, prompt.condition, prompt.draw)
            if response.key != expected:
                raise ValueError(f"expected the response to {expected} at position {position}, got {response.key}")
            if response.option_logprobs is not None and len(response.option_logprobs) != len(prompt.sample.options):
                raise ValueError(
                    f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': expected "
                    f"{len(prompt.sample.options)} values, got {len(response.option_logprobs)}"
                )
        said = [response for _, response in pairs]
        asked = [prompt for prompt, _ in pairs]
        samples = [prompt.sample for prompt in asked]
        counts = [len(sample.options) for sample in samples]
        thoughts = tuple(response.think for response in said)
        own_thoughts, texts = within_thoughts(
            thoughts, [response.own_think for response in said], [response.text for response in said]
        )
        return cls(
            sample_id=tuple(sample.id for sample in samples),
            condition=_shared(prompt.condition for prompt in asked),
            draw=_integers([response.draw for response in said]),
            group=tuple(sample.id if sample.group is None else sample.group for sample in samples),
            option_logprobs=_ragged([response.option_logprobs for response in said], max(counts, default=0)),
            added_logprobs=_ragged(
                [response.added_logprobs for response in said],
                max((len(response.added_logprobs) for response in said), default=0),
            ),
            option_count=_integers(counts),
            target=_integers([sample.answer for sample in samples]),
            choice=_integers([response.answer for response in said]),
            distractor=_integers([prompt.distractor for prompt in asked]),
            asserted=_integers([prompt.asserted for prompt in asked]),
            token_entropy=_floats([response.token_entropy for response in said]),
            n_tokens=_integers([response.n_tokens for response in said]),
            well_formed=_floats([response.well_formed for response in said]),
            context=_shared(prompt.context for prompt in asked),
            question=_shared(prompt.question for prompt in asked),
            options=_shared(prompt.options for prompt in asked),
            order=_shared(prompt.order for prompt in asked),
            letters=_shared(prompt.style.letters for prompt in asked),
            think=thoughts,
            own_think=own_thoughts,
            text=texts,
            prefill=_shared(prompt.prefill for prompt in asked),
            status=_shared(response.status for response in said),
            readout=_shared(response.readout for response in said),
            option_tokens=_shared(response.option_tokens for response in said),
            carrier=_shared(response.carrier for response in said),
            error=_shared(response.error for response in said),
            metadata=tuple(sample.metadata for sample in samples),
            history=_shared(tuple((turn.role, turn.text) for turn in prompt.history) for prompt in asked),
        )

    def __len__(self) -> int:
        return len(self.sample_id)

    def copied(self) -> Self:
        """Return a copy whose tensors are its own, for code that may work in place; what was derived is shared."""
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        own = {name: value.clone() for name, value in values.items() if isinstance(value, Tensor)}
        copy = type(self)(**values | own)
        object.__setattr__(copy, "_derived", self._derived)
        return copy

    def select(self, positions: Sequence[int]) -> Self:
        """Return the responses at `positions`, in that order."""
        index = torch.as_tensor(positions, dtype=torch.long)
        places = index.tolist()
        chosen: dict[str, Any] = {}
        for name in (item.name for item in fields(self) if item.init):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                chosen[name] = value[index]
            elif isinstance(value, Texts):
                chosen[name] = value.taken(places)
            else:
                chosen[name] = tuple(map(value.__getitem__, places))
        return type(self)(**chosen)

    @classmethod
    def joined(cls, first: Self, second: Self) -> Self:
        """Return the responses of both, those of `first` before those of `second`; letters are padded to one width."""
        return cls.concatenated((first, second))

    @classmethod
    def concatenated(cls, parts: Sequence[Self]) -> Self:
        """Return the responses of at least one part, in their order; letters are padded to one width."""
        if len(parts) == 1:
            return parts[0]
        whole: dict[str, Any] = {}
        for name in (item.name for item in fields(cls) if item.init):
            values = [getattr(part, name) for part in parts]
            if all(isinstance(value, Texts) for value in values):
                whole[name] = Texts.joined(values)
                continue
            if not isinstance(values[0], Tensor):
                whole[name] = tuple(chain.from_iterable(values))
                continue
            if values[0].ndim == 2:
                width = max(value.shape[1] for value in values)
                values = [value if value.shape[1] == width else _padded(value, width) for value in values]
            whole[name] = torch.cat(values)
        return cls(**whole)

    def option_mean_logprobs(self) -> Tensor:
        """Return `(N, C)` float32, the mean log-probability (nats) of the tokens of each option's text.

        -inf for an option that is not shown; a row of NaN where no texts were scored.
        """
        width = self.option_logprobs.shape[1]
        counts = [
            (math.nan,) * width if tokens is None else tokens + (0,) * (width - len(tokens))
            for tokens in self.option_tokens
        ]
        tokens = torch.tensor(counts, dtype=torch.float32).reshape(len(self), width)
        return torch.where(tokens == 0, -math.inf, self.option_logprobs / tokens)

    def has_status(self, *statuses: str) -> Tensor:
        """Return an `(N,)` mask of the responses whose status is one of `statuses`."""
        return torch.tensor([status in statuses for status in self.status], dtype=torch.bool)

    def is_misled(self) -> Tensor:
        """Return an `(N,)` mask of the responses whose text asserts a wrong option."""
        return (self.asserted >= 0) & (self.asserted != self.target)

    def derive(self, key: object, compute: Callable[[Self], Derived]) -> Derived:
        """Return `compute(self)`, computed for a key once and kept as long as these responses.

        What several metrics need is paid for once: a judge is asked once, though many columns come from its verdicts.

        Args:
            key: what is computed; keys are compared by `==`, so that two equal judges are asked once.
            compute: how; it is not called where the key is known.
        """
        for known, value in self._derived:
            if known == key:
                found: Derived = value
                return found
        computed = compute(self)
        self._derived.append((key, computed))
        return computed


def _shared(values: Iterable[Value]) -> tuple[Value, ...]:
    """Return values, of which those that are equal are one object."""
    known: dict[Value, Value] = {}
    return tuple(known.setdefault(value, value) for value in values)


def _integers(values: Sequence[int | None]) -> Tensor:
    return torch.tensor([-1 if value is None else value for value in values], dtype=torch.int64)


def _floats(values: Sequence[float | bool | None]) -> Tensor:
    return torch.tensor([float("nan") if value is None else float(value) for value in values], dtype=torch.float32)


def _ragged(rows: Sequence[tuple[float, ...] | None], width: int) -> Tensor:
    missing = (float("nan"),) * width
    padded = [missing if row is None else row + (-float("inf"),) * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.float32).reshape(len(rows), width)


def _padded(rows: Tensor, width: int) -> Tensor:
    wide = torch.nn.functional.pad(rows, (0, width - rows.shape[1]), value=-float("inf"))
    return wide.masked_fill(rows.isnan().any(dim=1, keepdim=True), float("nan"))
