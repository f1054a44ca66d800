"""Read hidden states at letters, and the entropy of every step, from a model during decoding.

A hook before the LM head captures the hidden state. Letters are computed from it in float32, since bf16 logits near 20
have a step of 1/8, which causes false ties and distorts entropy. Only rows of steps whose token reads as a letter are
kept, never the logits of all steps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..functional import token_entropy
from .base import UnfitError
from .offloading import device_of, value_of

__all__ = [
    "Capture",
    "DecodingLog",
    "GenerationProbe",
    "Head",
    "autocast_dtype",
    "captured",
    "compute_dtypes",
    "largest_difference",
    "note",
    "tolerance",
]

_VOCABULARY_CHUNK = 16_384
_ROW_ELEMENTS = 2**26
# Largest difference of letter log-probabilities (nats) from the plain path by rounding, per dtype.
_TOLERANCE = {torch.float64: 2e-4, torch.float32: 2e-4, torch.float16: 0.05, torch.bfloat16: 0.25}


class Head:
    """A model's LM head, computed in float32 from hidden states, including bias, scale and soft-capping.

    The first use compares it with the model's own logits (`check`); for a model that computes logits differently, its
    own logits are kept instead of hidden states.

    Args:
        model: a Hugging Face model with an LM head.

    Raises:
        ValueError: the model has no output embeddings.
    """

    def __init__(self, model: Any) -> None:
        module = _output_embeddings(model)
        if module is None:
            raise ValueError(f"expected a model with an LM head, got {type(model).__name__} without output embeddings")
        self.module: nn.Linear = module  # or a quantised replacement
        config = model.config.get_text_config()
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        scale = getattr(config, "logit_scale", None)
        divisor = getattr(config, "logits_scaling", None)
        self._scale: float = 1.0 if not isinstance(scale, int | float) else float(scale)
        self._scale /= 1.0 if not isinstance(divisor, int | float) else float(divisor)
        # An adapter at the head, or a trained copy of it, exposes the weight of the original.
        adapted = hasattr(module, "base_layer") or hasattr(module, "original_module")
        weight: Any = getattr(module, "weight", None)
        # Tensors of other classes are quantised, and so are numbers of one byte, with a scale elsewhere.
        is_whole = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point() and weight.itemsize > 1
        self._dense = is_whole and not adapted
        self._width: int | None = None
        self._inner_autocast: torch.dtype | None = None
        self.exact: bool | None = None

    def check(self, hidden: Tensor, logits: Tensor) -> None:
        """Compare with the model's own logits, once; use those if the difference exceeds their dtype's rounding.

        Args:
            hidden: `(N, D)`, the head's input.
            logits: `(N, V)`, the model's logits.
        """
        if self.exact is not None:
            return
        self._width = logits.shape[-1]  # some heads are wider: their last rows are padding
        theirs = logits.float()
        ours = self._float32_logits(hidden) if self._dense else theirs[..., :0]
        if ours.shape != theirs.shape:
            self.exact = False
            return
        largest = theirs.abs().amax().clamp(min=1.0)
        tolerance = 8 * self._rounding(hidden, logits) * largest
        self.exact = bool(((ours - theirs).abs() <= tolerance).all())

    def _rounding(self, hidden: Tensor, logits: Tensor) -> float:
        """Return the relative rounding error of the model's own logits: that of the coarsest dtype involved."""
        kinds = {hidden.dtype, logits.dtype, self.module.weight.dtype}
        kinds |= {kind for kind in (self._inner_autocast, autocast_dtype(hidden)) if kind is not None}
        return max(torch.finfo(kind).eps for kind in kinds)

    def runs_on(self, hidden: Tensor) -> None:
        """Record, inside the model's forward pass, an autocast that is active only there, such as accelerate's."""
        self._inner_autocast = autocast_dtype(hidden)

    def rows(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """Return the rows to keep for computing the logits of some positions later."""
        return hidden if self.exact else logits

    def rows_at_once(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """Return the rows for positions read before the next pass; float32 logits of the model are used as they are."""
        # Some models compute in half precision and return float32.
        whole = self._dense and self._rounding(hidden, logits) <= torch.finfo(torch.float32).eps
        is_read = whole and logits.dtype == torch.float32 and logits.shape[-1] != hidden.shape[-1]
        return logits if is_read else self.rows(hidden, logits)

    def logits(self, rows: Tensor) -> Tensor:
        """Return `(N, V)` float32 logits of kept rows."""
        is_hidden = self.exact and rows.shape[-1] == self.module.weight.shape[-1]
        return self._float32_logits(rows) if is_hidden else rows.float()

    def logits_of(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the `(n, V)` float32 logits of each part of kept rows, computed together as memory allows."""
        start = 0
        while start < len(parts):
            end, rows = start + 1, len(parts[start])
            while end < len(parts) and rows + len(parts[end]) <= self.row_chunk():
                rows += len(parts[end])
                end += 1
            group = list(parts[start:end])
            yield from self.logits(torch.cat(group)).split([len(part) for part in group])
            start = end

    def vocabulary_size(self) -> int:
        """Return the number of logits, padding of the vocabulary included."""
        # Wrappers of a head, such as PEFT's for single tokens, expose its weight but not always its size.
        size = getattr(self.module, "out_features", None) or len(self.module.weight)
        return int(size) if self._width is None else self._width

    def row_chunk(self) -> int:
        """Return the maximum number of rows of logits to compute at a time, which bounds memory."""
        return max(1, _ROW_ELEMENTS // self.vocabulary_size())

    def _float32_logits(self, hidden: Tensor) -> Tensor:
        place = self.module.weight.device
        place = hidden.device if place.type == "meta" else place
        weight, states = value_of(self.module, "weight"), hidden.to(place, torch.float32)
        with torch.autocast(place.type, enabled=False):
            # Cast the weight in chunks: a float32 copy of a large vocabulary's head would take gigabytes.
            pieces = [
                states @ part.to(place, torch.float32).T for part in weight[: self._width].split(_VOCABULARY_CHUNK)
            ]
            logits = torch.cat(pieces, dim=-1)
            if getattr(self.module, "bias", None) is not None:
                logits += value_of(self.module, "bias")[: self._width].to(place, torch.float32)
            logits *= self._scale
            return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap


def autocast_dtype(placed: Any) -> torch.dtype | None:
    """Return the dtype of the autocast that is on for a model's or tensor's device; None = it is off."""
    kind = device_of(placed).type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _output_embeddings(model: Any) -> Any:
    """Return the LM head: the model's own, or that of its first part with one."""
    for part in model.modules():
        find = getattr(part, "get_output_embeddings", None)
        if find is not None and (head := find()) is not None:
            return head
    return None


@dataclass(slots=True)
class Capture:
    """The last forward pass: `(B, T, D)` before the LM head, `(B, T, V)` after the model."""

    wanted: Tensor | None = None
    hidden: Tensor | None = None
    logits: Tensor | None = None
    model: str = "the model"  # class names, for errors
    head: str = "none"

    def last(self, places: int) -> tuple[Tensor, Tensor]:
        """Return and forget the last positions; some models return all positions, even if fewer are requested.

        Raises:
            UnfitError: nothing was captured, since the model computes its logits differently.
        """
        hidden, logits = self.hidden, self.logits
        if logits is None:
            raise UnfitError(
                f"expected {self.model} to return logits at every step, got none; it does not decode token by token or "
                "wraps the model that really runs: pass that one"
            )
        if hidden is None:
            raise UnfitError(
                f"expected {self.model} to compute its logits with its LM head ({self.head}), got logits without it; "
                "the model's `get_output_embeddings` returns another layer: make it return the one that computes logits"
            )
        self.hidden = self.logits = None
        return hidden[:, -places:], logits[:, -places:]


@contextmanager
def captured(model: Any, head: Head, wanted: Tensor | None = None) -> Iterator[Capture]:
    """Capture the LM head's input and the logits of the last forward pass.

    Args:
        model: a Hugging Face model.
        head: its LM head.
        wanted: `(B, P)`, positions of each row; the head gets only these, so that only their logits are computed.
    """
    seen = Capture(wanted, model=type(model).__name__, head=type(head.module).__name__)

    def before_head(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = arguments[0]
        head.runs_on(hidden)
        if seen.wanted is not None:
            hidden = hidden[torch.arange(len(hidden), device=hidden.device)[:, None], seen.wanted]
        seen.hidden = hidden
        return (hidden,)

    def after_model(module: nn.Module, arguments: Any, output: Any) -> None:
        seen.logits = output.logits

    handles = [head.module.register_forward_pre_hook(before_head), model.register_forward_hook(after_model)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@dataclass(slots=True)
class DecodingLog:
    """Values read from one text during decoding.

    Attributes:
        tokens: its tokens so far.
        entropies: the entropy (nats) of the raw logits at each step, before any logits processor.
        kept: by step, `(1, …)` for `Head.logits`: of steps that generated a letter, and of the steps after them, which
            show whether it ended.
    """

    tokens: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    kept: dict[int, Tensor] = field(default_factory=dict)
    _wrote: bool = False

    def note(self, token: int, entropy: float, *, is_letter: bool) -> bool:
        """Log a step, and return whether its logits should be kept."""
        self.tokens.append(token)
        self.entropies.append(entropy)
        keeps, self._wrote = is_letter or self._wrote, is_letter
        return keeps


@dataclass(slots=True)
class GenerationProbe:
    """Reads values during `generate`: a stopping criterion that never stops, called after every token.

    Attributes:
        head: the model's LM head.
        seen: the last forward pass, see `captured`.
        letter_tokens: `(V,)` bool, tokens that read as an option letter.
        logs: one per row of the batch.
    """

    head: Head
    seen: Capture
    letter_tokens: Tensor
    logs: Sequence[DecodingLog]

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Log the last token."""
        hidden, logits = (tensor[:, -1] for tensor in self.seen.last(1))
        self.head.check(hidden, logits)
        note(self.logs, input_ids[:, -1], hidden, logits, self.head, self.letter_tokens)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def note(
    logs: Sequence[DecodingLog], tokens: Tensor, hidden: Tensor, logits: Tensor, head: Head, letter_tokens: Tensor
) -> None:
    """Log one step of a batch.

    Args:
        logs: one per row.
        tokens: `(B,)`, the chosen tokens.
        hidden: `(B, D)`, the head's input.
        logits: `(B, V)`, the model's logits.
        head: the model's LM head.
        letter_tokens: `(V,)` bool, tokens that read as an option letter.
    """
    # One transfer to the CPU for all columns; float64 represents every token.
    columns = [tokens.double(), token_entropy(logits).double(), letter_tokens[tokens].double()]
    steps = torch.stack(columns, dim=1).tolist()
    keeping = [
        row
        for row, (log, (token, entropy, letter)) in enumerate(zip(logs, steps, strict=True))
        if log.note(int(token), entropy, is_letter=bool(letter))
    ]
    if keeping:
        rows = torch.tensor(keeping, device=hidden.device)
        for row, kept in zip(keeping, head.rows(hidden[rows], logits[rows]).split(1), strict=True):
            logs[row].kept[len(logs[row].tokens) - 1] = kept


def compute_dtypes(model: Any) -> set[torch.dtype]:
    """Return the dtypes a model computes in: its own, and autocast's if it is on."""
    autocast = autocast_dtype(model)
    kinds = {model.dtype} if autocast is None else {model.dtype, autocast}
    if "_original_forward" in vars(model):  # accelerate's autocast, to a half precision that it does not expose
        kinds.add(torch.bfloat16)
    return kinds


def tolerance(model: Any) -> float:
    """Return how far a model's letter log-probabilities (nats) may differ from the plain path by rounding."""
    return max(_TOLERANCE.get(kind, _TOLERANCE[torch.float32]) for kind in compute_dtypes(model))


def largest_difference(letters: Tensor, others: Tensor) -> float:
    """Return the largest difference (nats) of log-probabilities of letters, those without tokens left out."""
    return float((letters - others).abs().nan_to_num(0.0).max())
