"""Store responses as a struct of arrays, for vectorised metrics; each text is in memory once."""

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
    """A sequence of texts, built on access as `before + longer[start:] + after`; it compares like a tuple.

    Attributes:
        before: the prefix of each text.
        longer: the shared texts that contain the middle parts.
        start: the offsets in `longer` where the middle parts begin; these extend to the end.
        after: the suffix of each text.

    Example:
        >>> texts = Texts(("<think>",), ("I was told: red. It is red.",), np.array([17]), ("</think>",))
        >>> texts[0], texts == ("<think>It is red.</think>",)
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

    __hash__ = None  # type: ignore[assignment]  # equal tuples would have another hash

    def __add__(self, other: Sequence[str]) -> tuple[str, ...]:
        return (*self, *other)

    def __radd__(self, other: Sequence[str]) -> tuple[str, ...]:
        return (*other, *self)

    def __repr__(self) -> str:
        return repr(tuple(self))

    def taken(self, rows: Sequence[int]) -> Self:
        """Return the texts at some positions, in that order."""
        columns = (tuple(map(column.__getitem__, rows)) for column in (self.before, self.longer, self.after))
        before, longer, after = columns
        return type(self)(before, longer, self.start[np.asarray(rows, dtype=np.int64)], after)

    @classmethod
    def joined(cls, parts: Sequence["Texts"]) -> Self:
        """Concatenate the texts of all parts."""
        before, longer, after = (
            tuple(chain.from_iterable(getattr(part, name) for part in parts)) for name in ("before", "longer", "after")
        )
        return cls(before, longer, np.concatenate([part.start for part in parts]), after)


def within_thoughts(thoughts: tuple[str, ...], own: Sequence[str], texts: Sequence[str]) -> tuple[Texts, Texts]:
    """Return own thoughts and completions that share their text with the thoughts.

    Args:
        thoughts: the whole thoughts.
        own: the part of each that the model wrote. If it is not the end of the thought, it is stored as it is.
        texts: the completions, which contain the own thoughts.
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
        position = text.find(part) if part and is_end else -1
        starts_within[row] = length if position < 0 else length - len(part)
        prefix, suffix = (text, "") if position < 0 else (text[:position], text[position + len(part) :])
        before.append(known.setdefault(prefix, prefix))
        after.append(known.setdefault(suffix, suffix))
    empty = ("",) * len(thoughts)
    return Texts(tuple(before_own), thoughts, starts, empty), Texts(
        tuple(before), thoughts, starts_within, tuple(after)
    )


Derived = TypeVar("Derived")
Value = TypeVar("Value")

_CHUNK = 10_000  # number of prompts and responses in memory as objects


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """N responses as tensors and tuples of length N; C is the largest number of options among them.

    Attributes:
        sample_id, condition, draw, group: the keys; `group` defaults to the sample's id.
        option_logprobs: `(N, C)` float32, letter log-probabilities (nats) over the vocabulary, in `sample.options`
            order, padded with -inf; a row of NaN = no letter was read.
        added_logprobs: `(N, A)` float32, the same for added options, padded with -inf.
        option_count: `(N,)` int64, the number of the sample's own options.
        target, choice, distractor, asserted: `(N,)` int64, indices in `sample.options`, -1 = none.
        token_entropy: `(N,)` float32, nats, NaN = not measured.
        n_tokens: `(N,)` int64, -1 = not counted.
        well_formed: `(N,)` float32, 1 or 0, NaN = the text was not written by the model.
        context: the text before the question, such as a caption.
        question: the question as shown.
        options, order: the options as shown, and their indices in `sample.options` (None = added).
        letters: the letters of the options as shown; there may be more letters than options.
        think, own_think, text: the thought, the model's own part of it, the completion. The last two are tuples or
            `Texts`, which behave like tuples and keep each text in memory once.
        prefill: the beginning of the assistant's turn.
        status, readout, option_tokens, carrier, error: as in `Response`.
        metadata: that of the sample.
        history: the turns after the question in multi-turn prompts: pairs of role and text. `()` = empty for all.
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
    history: tuple[tuple[tuple[str, str], ...], ...] = ()  # last, since pickles of earlier versions lack it

    def __post_init__(self) -> None:
        if not self.history:
            object.__setattr__(self, "history", ((),) * len(self))

    def __setstate__(self, state: Sequence[Any]) -> None:
        for item, value in zip(fields(self), (*state, ()), strict=False):  # a state without `history` gets none
            object.__setattr__(self, item.name, value)
        self.__post_init__()

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[Prompt, Response]]) -> Self:
        """Convert prompts and their responses to arrays in chunks; objects use far more memory.

        Raises:
            ValueError: prompt and response of a pair do not match; the message says where.
        """
        remaining, chunks, start = iter(pairs), [], 0
        while chunk := list(islice(remaining, _CHUNK)):
            prompts, responses = zip(*chunk, strict=True)
            chunks.append(cls._of_chunk(prompts, responses, start))
            start += len(chunk)
            del chunk, prompts, responses
        return cls.concatenated(chunks) if chunks else cls._of_chunk((), (), 0)

    @classmethod
    def of(cls, prompts: Sequence[Prompt], responses: Sequence[Response]) -> Self:
        """Convert responses to arrays.

        Args:
            prompts: the prompts.
            responses: their responses, in the same order.

        Raises:
            ValueError: prompts and responses do not match; the message says where.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"expected one response per prompt ({len(prompts)}), got {len(responses)}")
        return cls._of_chunk(prompts, responses, 0)

    @classmethod
    def _of_chunk(cls, prompts: Sequence[Prompt], responses: Sequence[Response], start: int) -> Self:
        for position, (prompt, response) in enumerate(zip(prompts, responses, strict=True), start=start):
            if response.key != prompt.key:
                raise ValueError(f"expected the response to {prompt.key} at position {position}, got {response.key}")
            if response.option_logprobs is not None and len(response.option_logprobs) != len(prompt.sample.options):
                raise ValueError(
                    f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': expected "
                    f"{len(prompt.sample.options)} values, got {len(response.option_logprobs)}"
                )
        samples = [prompt.sample for prompt in prompts]
        counts = [len(sample.options) for sample in samples]
        thoughts = tuple(response.think for response in responses)
        own_thoughts, texts = within_thoughts(
            thoughts, [response.own_think for response in responses], [response.text for response in responses]
        )
        return cls(
            sample_id=tuple(sample.id for sample in samples),
            condition=_shared(prompt.condition for prompt in prompts),
            draw=_integers([response.draw for response in responses]),
            group=tuple(sample.id if sample.group is None else sample.group for sample in samples),
            option_logprobs=_ragged([response.option_logprobs for response in responses], max(counts, default=0)),
            added_logprobs=_ragged(
                [response.added_logprobs for response in responses],
                max((len(response.added_logprobs) for response in responses), default=0),
            ),
            option_count=_integers(counts),
            target=_integers([sample.answer for sample in samples]),
            choice=_integers([response.answer for response in responses]),
            distractor=_integers([prompt.distractor for prompt in prompts]),
            asserted=_integers([prompt.asserted for prompt in prompts]),
            token_entropy=_floats([response.token_entropy for response in responses]),
            n_tokens=_integers([response.n_tokens for response in responses]),
            well_formed=_floats([response.well_formed for response in responses]),
            context=_shared(prompt.context for prompt in prompts),
            question=_shared(prompt.question for prompt in prompts),
            options=_shared(prompt.options for prompt in prompts),
            order=_shared(prompt.order for prompt in prompts),
            letters=_shared(prompt.style.letters for prompt in prompts),
            think=thoughts,
            own_think=own_thoughts,
            text=texts,
            prefill=_shared(prompt.prefill for prompt in prompts),
            status=_shared(response.status for response in responses),
            readout=_shared(response.readout for response in responses),
            option_tokens=_shared(response.option_tokens for response in responses),
            carrier=_shared(response.carrier for response in responses),
            error=_shared(response.error for response in responses),
            metadata=tuple(sample.metadata for sample in samples),
            history=_shared(tuple((turn.role, turn.text) for turn in prompt.history) for prompt in prompts),
        )

    def __len__(self) -> int:
        return len(self.sample_id)

    def copied(self) -> Self:
        """Return a copy with cloned tensors, for code that may modify them in place; the derived values are shared."""
        columns = self._columns()
        clones = {name: column.clone() for name, column in columns.items() if isinstance(column, Tensor)}
        copy = type(self)(**columns | clones)
        object.__setattr__(copy, "_derived", self._derived)
        return copy

    def select(self, positions: Sequence[int]) -> Self:
        """Return the responses at `positions`, in that order."""
        index = torch.as_tensor(positions, dtype=torch.long)
        rows = index.tolist()

        def taken(column: Any) -> Any:
            if isinstance(column, Tensor):
                return column[index]
            return column.taken(rows) if isinstance(column, Texts) else tuple(map(column.__getitem__, rows))

        return type(self)(**{name: taken(column) for name, column in self._columns().items()})

    def _columns(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self) if item.init}

    @classmethod
    def joined(cls, first: Self, second: Self) -> Self:
        """Concatenate `first` and `second`; letters are padded to one width."""
        return cls.concatenated((first, second))

    @classmethod
    def concatenated(cls, parts: Sequence[Self]) -> Self:
        """Concatenate at least one part, in order; letters are padded to one width."""
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
        """Return an `(N,)` mask of the responses whose injected text asserts a wrong option."""
        return (self.asserted >= 0) & (self.asserted != self.target)

    def derive(self, key: object, compute: Callable[[Self], Derived]) -> Derived:
        """Return `compute(self)`, cached by key for the lifetime of these responses.

        Metrics share costly values this way: a judge runs once, however many columns use its verdicts.

        Args:
            key: identifies the value; keys are compared by `==`, so that equal judges share one result.
            compute: called if the key is not cached.
        """
        for known, value in self._derived:
            if known == key:
                found: Derived = value
                return found
        computed = compute(self)
        self._derived.append((key, computed))
        return computed


def _shared(values: Iterable[Value]) -> tuple[Value, ...]:
    """Return the values with equal ones replaced by one shared object."""
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
