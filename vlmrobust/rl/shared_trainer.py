"""Extend TRL's GRPO trainer to compute prompts and common prefixes of completions only once."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer

from ..models.generation import is_default, warpers
from .shared_rows import PaddedPrompts, SharedRows, repeat_rows, split_images, unique_rows

__all__ = ["SharedGRPOTrainer"]

logger = logging.getLogger(__name__)

_Trainer: Any = GRPOTrainer  # few of TRL's methods are annotated
_OF_TOKENS = {"input_ids", "attention_mask"}
_SAMPLED = ("temperature", "top_k", "top_p", "min_p")
# Entries of a model's generation config that do not act on TRL's rollouts.
_INERT = {"bos_token_id", "decoder_start_token_id", "max_length", "transformers_version", "_from_model_config"}


class SharedGRPOTrainer(_Trainer):  # type: ignore[misc]
    """`trl.GRPOTrainer` with cheaper steps and the same loss and gradient.

    Computed only once: a prompt and its images, for all of its completions, by the processor and the model; the common
    prefix of completions during sampling; identical completions in the loss. Completions with advantage 0 run without a
    gradient if nothing else in the loss depends on them.

    Everything else is TRL's. TRL also runs steps that do not use transformers' own generation, a processor that returns
    `image_grid_thw` (Qwen's) or no images, and full attention, or that use gradient checkpointing, tools or
    environments, and samples where the model's generation config adds options to TRL's (`min_p`, `bad_words_ids`). A
    few prompts are tried first; if the model's output changes with a cache, TRL runs everything.

    Args:
        *args: see `trl.GRPOTrainer`.
        **kwargs: the same.

    Raises:
        ValueError: there are several processes.

    Example:
        >>> from vlmrobust import rl
        >>> rl.SharedGRPOTrainer.__mro__[1].__name__
        'GRPOTrainer'
    """

    train_dataset: Any
    processing_class: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.accelerator.num_processes > 1:
            raise ValueError(
                f"expected one process, got {self.accelerator.num_processes}; for several, use trl.GRPOTrainer"
            )
        if self._is_vlm:
            # TRL pads prompts on the left itself, but takes the kinds of their tokens as the processor pads them.
            self._tokenizer.padding_side = "left"
        self._zero_advantage: Tensor | None = None
        self._shares: bool | None = None
        self._shared = SharedRows(self.accelerator.unwrap_model(self.model))

    # --- rows and the processor ---------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """Return TRL's data loader, which reads a row once per completion, on a data set that reads it once."""
        own = self.train_dataset
        if isinstance(own, Dataset) and not self.args.remove_unused_columns:
            self.train_dataset = _DistinctRows(own)
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = own

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        own = self.processing_class
        if self._is_plain() and self._is_vlm:
            self.processing_class = _DistinctPrompts(own)
        try:
            return super()._generate_and_score_completions(inputs)  # type: ignore[no-any-return]
        finally:
            self.processing_class = own

    def _is_plain(self) -> bool:
        others = self.use_vllm, self.use_transformers_continuous_batching, self.tools, self.rollout_func
        return not any(others) and self.environment_factories is None

    def _may_share(self, prompts: PaddedPrompts, completion: int) -> bool:
        """Return whether prompts can be shared, which the first ones decide for the model."""
        if not self._shared.fits(prompts.tokens.shape[1] + completion):
            return False
        if self._shares is None:
            with self.accelerator.autocast():
                reason = self._shared.sharing_error(prompts.select(unique_rows(prompts.keys())[0][:4]))
            self._shares = reason is None
            if reason is not None:
                logger.warning("%s: prefixes are not shared, as %s", type(self.model).__name__, reason)
        return self._shares

    # --- rollouts -----------------------------------------------------------------------------------------------------

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,
        multimodal_fields: Mapping[str, Any],
        num_generations: int,
        **further: Any,
    ) -> tuple[list[list[int]], Any]:
        prompts = None
        if self._is_plain() and self._samples_plainly() and _has_known_images(multimodal_fields):
            prompts = self._prompts(prompt_ids, images, multimodal_fields)
        if prompts is None or not self._may_share(prompts, self.max_completion_length):
            return super()._generate_single_turn(  # type: ignore[no-any-return]
                prompt_ids, images, multimodal_fields, num_generations, **further
            )
        options = {name: value for name, value in self.generation_config.to_dict().items() if name in _SAMPLED}
        suppressed = self.generation_config.suppress_tokens or []
        processors = warpers(options)

        def choose(logits: Tensor, rows: Tensor) -> Tensor:
            scores = logits.float()
            scores[:, suppressed] = -torch.inf
            for warper in processors:
                scores = warper(None, scores)
            # Inverse transform sampling.
            cumulative = scores.double().softmax(-1).cumsum(-1)
            points = torch.rand(len(rows), 1, dtype=cumulative.dtype, device=cumulative.device)
            found = torch.searchsorted(cumulative[rows], points * cumulative[rows, -1:], right=True)
            return found[:, 0].clamp(max=cumulative.shape[-1] - 1)

        firsts, inverse = unique_rows(prompts.keys())
        completions = self._shared.sample(
            prompts.select(firsts), inverse, choose, self.eos_token_ids, self.max_completion_length
        )
        return completions, None

    def _samples_plainly(self) -> bool:
        """Return whether TRL's own options alone decide how tokens are sampled, without penalties.

        `generate` adds the options of the model's generation config that TRL leaves open, such as `min_p`.
        """
        own = self.accelerator.unwrap_model(self.model).generation_config.to_diff_dict()
        acting = {name for name, value in own.items() if not is_default(name, value)} - _INERT
        is_added = any(getattr(self.generation_config, name, None) is None for name in acting)
        return self.repetition_penalty in (None, 1.0) and not self.args.generation_kwargs and not is_added

    def _prompts(self, prompt_ids: list[list[int]], images: Any, fields: Mapping[str, Any]) -> PaddedPrompts:
        width = max(map(len, prompt_ids))

        def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
            filled = [[value] * (width - len(row)) + list(row) for row in rows]
            return torch.tensor(filled, device=self.accelerator.device)

        tokens = padded(prompt_ids, self._tokenizer.pad_token_id)
        mask = padded([[1] * len(row) for row in prompt_ids], 0)
        if "pixel_values" not in fields:
            return PaddedPrompts(tokens, mask)
        counts = [len(group or ()) for group in images]
        device = self.accelerator.device
        all_grids = torch.as_tensor(fields["image_grid_thw"], device=device)
        pixels, grids = split_images(torch.as_tensor(fields["pixel_values"], device=device), all_grids, counts)
        types = fields.get("mm_token_type_ids")
        return PaddedPrompts(tokens, mask, None if types is None else padded(types, 0), pixels, grids)

    # --- the loss -----------------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        only_advantages = self.beta == 0.0 and not self._entropy_bonus_enabled and not self.aux_loss_enabled
        advantages = inputs["advantages"]
        self._zero_advantage = advantages == 0 if only_advantages and advantages.dim() == 1 else None
        try:
            return super()._compute_loss(model, inputs)  # type: ignore[no-any-return]
        finally:
            self._zero_advantage = None

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        present = {name: value for name, value in fields.items() if value is not None}
        at = input_ids.shape[1] - logits_to_keep
        types = present.get("mm_token_type_ids")
        prompts = None
        if (
            not compute_aux_loss
            and self.accelerator.unwrap_model(model) is self.accelerator.unwrap_model(self.model)
            and not self.args.gradient_checkpointing
            and _has_known_images(present)
            and not (types is not None and bool(types[:, at - 1 :].any()))
        ):
            pixels = grids = None
            if "pixel_values" in present:
                pixels, grids = split_images(present["pixel_values"], present["image_grid_thw"], present["num_images"])
            prompt_types = None if types is None else types[:, :at]
            prompts = PaddedPrompts(input_ids[:, :at], attention_mask[:, :at], prompt_types, pixels, grids)
        if prompts is None or not self._may_share(prompts, logits_to_keep):
            return super()._get_per_token_logps_and_entropies(  # type: ignore[no-any-return]
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **fields,
            )
        with self.accelerator.autocast():
            logps, entropies = self._scores(prompts, input_ids[:, at:], attention_mask[:, at:])
        return logps, entropies if compute_entropy else None, None

    def _scores(self, prompts: PaddedPrompts, completions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Score each distinct completion once, without a gradient where its advantage is 0."""
        prompt_keys = prompts.keys()
        completion_keys = [tuple(row[kept.bool()].tolist()) for row, kept in zip(completions, mask, strict=True)]
        inert = [False] * len(prompt_keys) if self._zero_advantage is None else self._zero_advantage.tolist()
        if all(inert):
            inert[0] = False  # the loss is 0, but `backward` still needs a graph
        scores: list[tuple[Tensor, Tensor]] = []
        places = [0] * len(prompt_keys)
        for without_gradient in (False, True):
            rows = [row for row, is_inert in enumerate(inert) if is_inert == without_gradient]
            if not rows:
                continue
            unique, inverse = unique_rows([(prompt_keys[row], completion_keys[row]) for row in rows])
            firsts = [rows[first] for first in unique]
            unique_prompts, prompt_rows = unique_rows([prompt_keys[row] for row in firsts])
            selected = prompts.select([firsts[first] for first in unique_prompts])
            offset = sum(len(logps) for logps, _ in scores)
            with torch.set_grad_enabled(torch.is_grad_enabled() and not without_gradient):
                scores.append(self._shared.scores(selected, prompt_rows, completions[firsts], mask[firsts]))
            for row, place in zip(rows, inverse, strict=True):
                places[row] = offset + place
        at = torch.tensor(places, device=mask.device)
        logps, entropies = (torch.cat(parts)[at] for parts in zip(*scores, strict=True))
        return logps, entropies


class _DistinctRows:
    """Wraps a data set to read repeated rows of a batch, and decode their images, once."""

    def __init__(self, rows: Dataset) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, places: list[int]) -> list[dict[str, Any]]:
        firsts, inverse = unique_rows(places)
        distinct = self._rows.__getitems__([places[first] for first in firsts])
        return [dict(distinct[place]) for place in inverse]


class _DistinctPrompts:
    """Wraps a processor to process each distinct prompt once and repeat the result for its rows."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:
        if not isinstance(text, list) or images is None:
            return self._processor(images=images, text=text, **options)
        # TRL gives the chat template's text, to which a tokenizer would add a second BOS: the kinds of tokens would be
        # one longer than the prompt, whose tokens are the template's own.
        bos = self._processor.tokenizer.bos_token
        if bos and all(prompt.startswith(bos) for prompt in text):
            options = {"add_special_tokens": False, **options}
        if any(len(group or ()) == 0 for group in images):
            return self._processor(images=images, text=text, **options)
        firsts, inverse = unique_rows([(prompt, *map(_key, group)) for prompt, group in zip(text, images, strict=True)])
        encoded = self._processor(
            images=[images[first] for first in firsts], text=[text[first] for first in firsts], **options
        )
        if not _has_known_images(encoded.keys() - _OF_TOKENS):
            return self._processor(images=images, text=text, **options)
        return repeat_rows(encoded, [len(images[first]) for first in firsts], inverse)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        if not options.get("return_dict") or not isinstance(conversation[0], list):
            return self._processor.apply_chat_template(conversation, **options)
        firsts, inverse = unique_rows([_key(turns) for turns in conversation])
        distinct = [conversation[first] for first in firsts]
        encoded = self._processor.apply_chat_template(distinct, **options)
        if not _has_known_images(encoded.keys() - _OF_TOKENS):
            return self._processor.apply_chat_template(conversation, **options)
        return repeat_rows(encoded, [len(_images_of(turns)) for turns in distinct], inverse)


def _images_of(turns: Any) -> list[Any]:
    parts = [part for turn in turns if isinstance(turn["content"], list) for part in turn["content"]]
    return [part["image"] for part in parts if part["type"] == "image"]


def _key(value: Any) -> Any:
    """Return a key of a conversation or a part of it: whatever a template may read, and the bytes of images."""
    if isinstance(value, Mapping):
        return tuple((name, _key(part)) for name, part in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    if hasattr(value, "getpalette"):
        # The bytes of a palette image are indices, equal under different palettes.
        return value.mode, value.size, value.tobytes(), tuple(value.getpalette() or ())
    return value if isinstance(value, str | int | float | None) else id(value)


def _has_known_images(fields: Collection[str]) -> bool:
    """Return whether the fields describe images as Qwen's processors do, or no images."""
    known = {"pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images"}
    return set(fields) <= known and ("pixel_values" in fields) == ("image_grid_thw" in fields)
