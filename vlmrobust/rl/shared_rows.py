"""Compute rollouts and log-probabilities, sharing the computation of common prefixes between completions.

Completions of one prompt share the prompt with its images, and the tokens in which they do not differ yet:

    prompts, one row each ──► prefixes, one row for each distinct text so far ──► the requested completions

Sampling draws a token for each completion independently, from the logits of its row; if two completions draw different
tokens, the row splits (`sample`). For log-probabilities, each distinct completion runs once on top of its prompt's
cache, with gradients through both (`scores`).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.caches import Branches, Forward, allows_gaps, seen_positions
from ..models.loading import running_model
from ..models.probe import tolerance
from ..models.processing import FAULTS

__all__ = ["PaddedPrompts", "SharedRows", "unique_rows"]

Choose = Callable[[Tensor, Tensor], Tensor]


def unique_rows(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Return the first row with each distinct key, and for each row the position of its key's first row among these.

    Example:
        >>> unique_rows(["a", "b", "a"])
        ([0, 1], [0, 1, 0])
    """
    firsts: dict[Hashable, int] = {}
    for row, key in enumerate(keys):
        firsts.setdefault(key, row)
    places = {key: place for place, key in enumerate(firsts)}
    return list(firsts.values()), [places[key] for key in keys]


@dataclass(frozen=True)
class PaddedPrompts:
    """Model inputs of prompts, padded on the left.

    Attributes:
        tokens: `(B, P)`.
        mask: `(B, P)`.
        types: `(B, P)`, token types that mark image tokens; None = the model has no such input.
        pixels: each prompt's patches, `(patches, …)`; None = there are no images.
        grids: each prompt's `image_grid_thw`, `(images, 3)`.
    """

    tokens: Tensor
    mask: Tensor
    types: Tensor | None = None
    pixels: Sequence[Tensor] | None = None
    grids: Sequence[Tensor] | None = None

    def keys(self) -> list[Hashable]:
        """Return keys that identify prompts: their tokens, and the bytes of their images."""
        tokens = [tuple(row[mask.bool()].tolist()) for row, mask in zip(self.tokens, self.mask, strict=True)]
        if self.pixels is None or self.grids is None:
            return list(tokens)
        images = [
            (pixels.detach().float().cpu().numpy().tobytes(), tuple(grid.flatten().tolist()))
            for pixels, grid in zip(self.pixels, self.grids, strict=True)
        ]
        return list(zip(tokens, images, strict=True))

    def select(self, rows: Sequence[int]) -> "PaddedPrompts":
        """Return some of the prompts, without columns that are padding in all of them."""
        at = torch.tensor(rows, device=self.tokens.device)
        mask = self.mask[at]
        first = int(mask.any(0).int().argmax())
        return PaddedPrompts(
            self.tokens[at][:, first:],
            mask[:, first:],
            None if self.types is None else self.types[at][:, first:],
            None if self.pixels is None else [self.pixels[row] for row in rows],
            None if self.grids is None else [self.grids[row] for row in rows],
        )

    def split_last(self) -> tuple["PaddedPrompts", Tensor]:
        """Return the prompts without their last tokens, and the last tokens, `(B, 1)`."""
        types = None if self.types is None else self.types[:, :-1]
        shortened = PaddedPrompts(self.tokens[:, :-1], self.mask[:, :-1], types, self.pixels, self.grids)
        return shortened, self.tokens[:, -1:]

    def inputs(self) -> dict[str, Tensor]:
        """Return the arguments of the model's forward pass."""
        inputs = {"input_ids": self.tokens, "attention_mask": self.mask}
        if self.types is not None:
            inputs["mm_token_type_ids"] = self.types
        if self.pixels is not None and self.grids is not None:
            inputs |= {"pixel_values": torch.cat(list(self.pixels)), "image_grid_thw": torch.cat(list(self.grids))}
        return inputs


class SharedRows:
    """Samples and scores completions, computing common prefixes once.

    Args:
        model: a Hugging Face model whose cache grows by concatenation; or a PEFT model of one.
    """

    def __init__(self, model: Any) -> None:
        self._model = running_model(model)
        self._forward = Forward(self._model)
        self.row_steps = 0

    def fits(self, length: int) -> bool:
        """Return whether padding between prompt and completion is harmless in rows of `length` tokens."""
        return allows_gaps(self._model.config.get_text_config(), length)

    def _prefill(self, prompts: PaddedPrompts) -> tuple[Branches, Tensor]:
        """Run the prompts through the model; return their cache and next-token logits, `(B, V)`."""
        with seen_positions(self._model) as positions:
            output = self._model(**prompts.inputs(), use_cache=True, logits_to_keep=1, return_dict=True)
        if not positions or positions[0] is None:
            raise TypeError(f"expected a model that passes positions to its decoder, got {type(self._model).__name__}")
        last = positions[0][..., -1:]
        last = last.expand(*last.shape[:-2], len(prompts.mask), 1)
        return Branches(getattr(output, self._forward.cache_name), prompts.mask, last, None), output.logits[:, -1]

    @torch.no_grad()
    def sharing_error(self, prompts: PaddedPrompts) -> str | None:
        """Return why this model cannot share prefixes, or None: log-probabilities with and without have to agree."""
        whole = self._model(**prompts.inputs(), logits_to_keep=1, return_dict=True).logits[:, -1]
        try:
            before, last = prompts.split_last()
            branches, _ = self._prefill(before)
            parts = self._forward(branches, last, torch.ones_like(last)).logits[:, -1]
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"
        both = [logits.float().log_softmax(-1) for logits in (whole, parts)]
        difference = float((both[0] - both[1]).abs().max())
        if difference <= tolerance(self._model):
            return None
        return f"its log-probabilities with a cache differ by {difference:.2g} from those without"

    @torch.no_grad()
    def sample(
        self, prompts: PaddedPrompts, prompt_rows: Sequence[int], choose: Choose, stops: Sequence[int], limit: int
    ) -> list[list[int]]:
        """Sample completions, with one row for each distinct text so far.

        Args:
            prompts: distinct prompts.
            prompt_rows: for each completion, the row of its prompt.
            choose: maps logits `(R, V)` and, for each unfinished completion, its row `(B,)` to tokens `(B,)`.
            stops: tokens that end a completion.
            limit: maximum number of tokens per completion.

        Returns:
            The completions' tokens, including the final stop token.
        """
        branches, logits = self._prefill(prompts)
        ends = torch.tensor(list(stops), device=logits.device)
        rows = torch.tensor(prompt_rows, device=logits.device)  # of each unfinished completion
        unfinished = torch.arange(len(prompt_rows), device=logits.device)
        completions: list[list[int]] = [[] for _ in prompt_rows]
        for step in range(limit):
            tokens = choose(logits, rows)
            for completion, token in zip(unfinished.tolist(), tokens.tolist(), strict=True):
                completions[completion].append(token)
            continues = ~torch.isin(tokens, ends)
            if step + 1 == limit or not continues.any():
                break
            unfinished = unfinished[continues]
            split, rows = (rows[continues] * logits.shape[-1] + tokens[continues]).unique(return_inverse=True)
            parents, tokens = split // logits.shape[-1], split % logits.shape[-1]
            if parents.tolist() != list(range(len(logits))):
                branches.select(parents)
            tokens = tokens[:, None]
            logits = self._forward(branches, tokens, torch.ones_like(tokens)).logits[:, -1]
            self.row_steps += len(tokens)
        return completions

    def scores(
        self, prompts: PaddedPrompts, prompt_rows: Sequence[int], completions: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies of the completions' tokens, `(B, C)`, 0 where there is no token.

        Requires a model with TRL's fused LM head, which sets the temperature.

        Args:
            prompts: distinct prompts.
            prompt_rows: for each completion, the row of its prompt.
            completions: `(B, C)` distinct completions, padded on the right.
            mask: `(B, C)`.
        """
        width = max(1, int(mask.sum(1).max()))  # truncated completions may be fully masked
        before, last = prompts.split_last()
        branches, _ = self._prefill(before)
        at = torch.tensor(prompt_rows, device=mask.device)
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
    """Split patches and grids, `(images, 3)`, of all images by prompt, given each prompt's number of images."""
    own = grids.split(list(counts))
    return list(pixels.split([int(grid.prod(-1).sum()) for grid in own])), list(own)


def repeat_rows(encoded: Mapping[str, Any], counts: Sequence[int], inverse: Sequence[int]) -> dict[str, Any]:
    """Repeat a processor's output for distinct prompts so that every row has its own.

    Args:
        encoded: the processor's output, a list or tensor with one row per prompt, except for images.
        counts: number of images of each prompt.
        inverse: for each row, the index of its prompt.
    """
    rows = {
        name: value[torch.tensor(inverse)] if isinstance(value, Tensor) else [value[prompt] for prompt in inverse]
        for name, value in encoded.items()
        if name not in ("pixel_values", "image_grid_thw")
    }
    if "pixel_values" in encoded:
        pixels, grids = split_images(encoded["pixel_values"], encoded["image_grid_thw"], counts)
        rows["pixel_values"] = torch.cat([pixels[prompt] for prompt in inverse])
        rows["image_grid_thw"] = torch.cat([grids[prompt] for prompt in inverse])
    return rows
