"""Compute rollouts and log-probabilities of rows, and what they have in common only once.

Completions of one prompt share the prompt, image and all; and as long as they say the same, they share what they say.

    prompts, one row each ──► texts, one row for each *different* text so far ──► as many completions as were asked for

Sampling draws for every completion by itself, from the row that it stands in: where two draw different tokens, the row
splits in two (`sample`). Log-probabilities go through the model once for each different completion, behind its prompt's
cache, with gradients through both (`scores`).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.branches import Branches, Forward, bears_gaps, seen_positions
from ..models.processing import FAULTS
from ..models.unwrapping import running_model, tolerance

__all__ = ["Different", "Prompts", "SharedRows", "different"]

Choose = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Different:
    """Which rows are different.

    Attributes:
        firsts: the first row of each kind.
        kinds: each row's kind, a position in `firsts`.
    """

    firsts: list[int]
    kinds: list[int]


def different(keys: Sequence[Hashable]) -> Different:
    """Return which rows are different, by their keys.

    Example:
        >>> different(["a", "b", "a"])
        Different(firsts=[0, 1], kinds=[0, 1, 0])
    """
    firsts: dict[Hashable, int] = {}
    for row, key in enumerate(keys):
        firsts.setdefault(key, row)
    place = {key: kind for kind, key in enumerate(firsts)}
    return Different(list(firsts.values()), [place[key] for key in keys])


@dataclass(frozen=True)
class Prompts:
    """Prompts as a model is given them, padded on the left.

    Attributes:
        tokens: `(B, P)`.
        mask: `(B, P)`.
        types: `(B, P)`, which tokens stand for an image; None = the model is not told.
        pixels: each prompt's patches, `(patches, …)`; None = there are no images.
        grids: each prompt's `image_grid_thw`, `(images, 3)`.
    """

    tokens: Tensor
    mask: Tensor
    types: Tensor | None = None
    pixels: Sequence[Tensor] | None = None
    grids: Sequence[Tensor] | None = None

    def keys(self) -> list[Hashable]:
        """Return what tells prompts apart: their tokens, and their images bit by bit."""
        tokens = [tuple(row[mask.bool()].tolist()) for row, mask in zip(self.tokens, self.mask, strict=True)]
        if self.pixels is None or self.grids is None:
            return list(tokens)
        images = [
            (pixels.detach().float().cpu().numpy().tobytes(), tuple(grid.flatten().tolist()))
            for pixels, grid in zip(self.pixels, self.grids, strict=True)
        ]
        return list(zip(tokens, images, strict=True))

    def selected(self, rows: Sequence[int]) -> "Prompts":
        """Return some of the prompts, without columns that none of them fills."""
        at = torch.tensor(rows, device=self.tokens.device)
        mask = self.mask[at]
        first = int(mask.any(0).int().argmax())
        return Prompts(
            self.tokens[at][:, first:],
            mask[:, first:],
            None if self.types is None else self.types[at][:, first:],
            None if self.pixels is None else [self.pixels[row] for row in rows],
            None if self.grids is None else [self.grids[row] for row in rows],
        )

    def shortened(self) -> tuple["Prompts", Tensor]:
        """Return the prompts without their last tokens, and these, `(B, 1)`."""
        types = None if self.types is None else self.types[:, :-1]
        return Prompts(self.tokens[:, :-1], self.mask[:, :-1], types, self.pixels, self.grids), self.tokens[:, -1:]

    def inputs(self) -> dict[str, Tensor]:
        """Return what the model's forward pass takes."""
        given = {"input_ids": self.tokens, "attention_mask": self.mask}
        if self.types is not None:
            given["mm_token_type_ids"] = self.types
        if self.pixels is not None and self.grids is not None:
            given |= {"pixel_values": torch.cat(list(self.pixels)), "image_grid_thw": torch.cat(list(self.grids))}
        return given


class SharedRows:
    """Samples and scores completions of a model whose rows share what they have in common.

    Args:
        model: a Hugging Face model whose cache grows by concatenation; or a PEFT model of one.
    """

    def __init__(self, model: Any) -> None:
        self._model = running_model(model)
        self._forward = Forward(self._model)
        self.row_steps = 0

    def fits(self, length: int) -> bool:
        """Return whether padding between prompt and completion changes nothing, for rows of so many tokens."""
        return bears_gaps(self._model.config.get_text_config(), length)

    def _begun(self, prompts: Prompts) -> tuple[Branches, Tensor]:
        """Run prompts through the model; return their cache, and the logits that follow each, `(B, V)`."""
        with seen_positions(self._model) as positions:
            output = self._model(**prompts.inputs(), use_cache=True, logits_to_keep=1, return_dict=True)
        if not positions or positions[0] is None:
            raise TypeError(f"expected a model that gives its decoder positions, got {type(self._model).__name__}")
        last = positions[0][..., -1:]
        last = last.expand(*last.shape[:-2], len(prompts.mask), 1)
        return Branches(getattr(output, self._forward.cache_name), prompts.mask, last, None), output.logits[:, -1]

    @torch.no_grad()
    def refusal(self, prompts: Prompts) -> str | None:
        """Return why this model cannot share, None if it can: some prompts are read both ways, and have to agree."""
        whole = self._model(**prompts.inputs(), logits_to_keep=1, return_dict=True).logits[:, -1]
        try:
            before, last = prompts.shortened()
            branches, _ = self._begun(before)
            parts = self._forward(branches, last, torch.ones_like(last)).logits[:, -1]
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"
        both = [logits.float().log_softmax(-1) for logits in (whole, parts)]
        difference = float((both[0] - both[1]).abs().max())
        if difference <= tolerance(self._model):
            return None
        return f"its log-probabilities behind a cache differ by {difference:.2g} from those without"

    @torch.no_grad()
    def sample(
        self, prompts: Prompts, owners: Sequence[int], choose: Choose, stops: Sequence[int], limit: int
    ) -> list[list[int]]:
        """Decode completions, a row for each different text so far.

        Args:
            prompts: different prompts.
            owners: for each completion, its prompt.
            choose: is given `(R, V)` logits, and for each completion that goes on the row that it stands in, `(B,)`;
                returns tokens `(B,)`.
            stops: tokens that end a completion.
            limit: the most tokens of a completion.

        Returns:
            The completions' tokens, with the one that ends them.
        """
        branches, logits = self._begun(prompts)
        ends = torch.tensor(list(stops), device=logits.device)
        rows = torch.tensor(owners, device=logits.device)  # of each completion that goes on
        going = torch.arange(len(owners), device=logits.device)
        written: list[list[int]] = [[] for _ in owners]
        for step in range(limit):
            tokens = choose(logits, rows)
            for completion, token in zip(going.tolist(), tokens.tolist(), strict=True):
                written[completion].append(token)
            on = ~torch.isin(tokens, ends)
            if step + 1 == limit or not on.any():
                break
            going = going[on]
            split, rows = (rows[on] * logits.shape[-1] + tokens[on]).unique(return_inverse=True)
            parents, tokens = split // logits.shape[-1], split % logits.shape[-1]
            if parents.tolist() != list(range(len(logits))):
                branches.select(parents)
            tokens = tokens[:, None]
            logits = self._forward(branches, tokens, torch.ones_like(tokens)).logits[:, -1]
            self.row_steps += len(tokens)
        return written

    def scores(
        self, prompts: Prompts, owners: Sequence[int], completions: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return each completion's log-probabilities and entropies, `(B, C)`, 0 where there is no token.

        Takes a model with TRL's fused LM head, which sets the temperature.

        Args:
            prompts: different prompts.
            owners: for each completion, its prompt.
            completions: `(B, C)` different completions, padded on the right.
            mask: `(B, C)`.
        """
        width = max(1, int(mask.sum(1).max()))  # truncated completions may be masked as a whole
        before, last = prompts.shortened()
        branches, _ = self._begun(before)
        at = torch.tensor(owners, device=mask.device)
        branches.select(at)
        tokens = torch.cat([last[at], completions[:, : width - 1]], dim=1)
        output = self._forward(
            branches,
            tokens,
            mask[:, :width],
            shift_labels=completions[:, :width].masked_fill(mask[:, :width] == 0, -100),
            fused_lm_head=True,
        )
        rest = (0, completions.shape[1] - width)
        return torch.nn.functional.pad(output.log_probs, rest), torch.nn.functional.pad(output.entropy, rest)


def split_images(pixels: Tensor, grids: Tensor, counts: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Split what a processor makes of all images by prompt.

    Args:
        pixels: patches of all images, one after the other.
        grids: `(images, 3)`.
        counts: how many images each prompt has.
    """
    own = grids.split(list(counts))
    return list(pixels.split([int(grid.prod(-1).sum()) for grid in own])), list(own)


def expanded(encoded: Mapping[str, Any], counts: Sequence[int], kinds: Sequence[int]) -> dict[str, Any]:
    """Repeat what a processor made of different prompts for all rows.

    Args:
        encoded: what the processor made, with one row (a list or a tensor) per prompt, but for images.
        counts: how many images each prompt has.
        kinds: for each row, its prompt.
    """
    found: dict[str, Any] = {}
    for name, value in encoded.items():
        if name in ("pixel_values", "image_grid_thw"):
            continue
        found[name] = value[torch.tensor(kinds)] if isinstance(value, Tensor) else [value[kind] for kind in kinds]
    if "pixel_values" in encoded:
        pixels, grids = split_images(encoded["pixel_values"], encoded["image_grid_thw"], counts)
        found["pixel_values"] = torch.cat([pixels[kind] for kind in kinds])
        found["image_grid_thw"] = torch.cat([grids[kind] for kind in kinds])
    return found
