"""The last stages of training the demo model: the language model learns to look words up, describe, and conclude."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vlmrobust.demo import questions, shapes
from vlmrobust.demo.pointers import Finder, offsets_loss, pointers_loss
from vlmrobust.demo.processor import IMAGE_TOKENS
from vlmrobust.prompting import LETTERS
from vlmrobust.types import Prompt, Sample, Style

IMAGE_MARK = "<|image_pad|>"
DESCRIPTION, CONCLUSION, LETTER = 1, 2, 3
Drawn = tuple[shapes.Scene, questions.Question, Sample]


def start_copying(model: Any, scale: float = 2.0) -> None:
    """Starts every attention head from equal queries and keys, so that words attend to the same words.

    Looking a word up elsewhere in the text is most of what this model does; from independent queries and keys that
    takes very long to emerge. (The idea is called mimetic initialisation.)
    """
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.mul_(scale)
            attention.q_proj.weight.copy_(attention.k_proj.weight)
            attention.o_proj.weight.mul_(0.5)
            layer.mlp.down_proj.weight.mul_(0.5)


@dataclass
class Episodes:
    """Prompts with the answers to learn, as tokens."""

    ids: torch.Tensor
    """(episodes, tokens), padded on the right"""
    roles: torch.Tensor
    """(episodes, tokens): 0 where nothing is learnt, else ``DESCRIPTION``, ``CONCLUSION`` or ``LETTER``"""
    pointers: torch.Tensor
    """(pointers, 5): episode, layer, head, token that looks, token that it should look at"""

    @classmethod
    def write(
        cls, drawn: list[Drawn], processor: Any, *, captioned: float = 0.0, style: Style | None = None, seed: int = 0
    ) -> Episodes:
        """Renders samples through the library itself, exactly as they are asked later.

        Args:
            drawn: What to ask.
            processor: Renders and tokenizes.
            captioned: The share of prompts that carry a true caption.
            style: How to ask; ``None`` is the library's default.
            seed: Chooses which prompts carry a caption.
        """
        rng = np.random.default_rng([3, seed])
        prompts, answers = [], []
        for _, _, sample in drawn:
            prompt = Prompt.of(sample, style=style)
            if rng.random() < captioned:
                prompt = prompt.replace(context=sample.texts["correct_caption"])
            prompts.append(prompt.render(processor).replace(IMAGE_MARK, IMAGE_MARK * IMAGE_TOKENS))
            thought, letter = sample.texts["correct_think"], LETTERS[sample.answer]
            answers.append(f"<think>{thought}</think><answer>{letter}</answer><|im_end|>")
        asked = processor.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        wanted = processor.tokenizer(answers, add_special_tokens=False)["input_ids"]
        length = max(len(prompt) + len(answer) for prompt, answer in zip(asked, wanted, strict=True))
        ids = torch.full((len(drawn), length), processor.tokenizer.pad_token_id)
        roles = torch.zeros(len(drawn), length, dtype=torch.long)
        found = Finder(processor.tokenizer)
        pointers: list[tuple[int, ...]] = []
        for row, (prompt_ids, answer_ids) in enumerate(zip(asked, wanted, strict=True)):
            end = len(prompt_ids) + len(answer_ids)
            ids[row, :end] = torch.tensor(prompt_ids + answer_ids)
            roles[row, len(prompt_ids) : end] = DESCRIPTION
            # … is|red|.|</think>|<answer>|B|</answer>|<|im_end|>
            roles[row, end - 7], roles[row, end - 3] = CONCLUSION, LETTER
            scene, question, _ = drawn[row]
            pointers += [(row, *p) for p in found.pointers(scene, question, prompt_ids, prompt_ids + answer_ids)]
        return cls(ids, roles, torch.tensor(pointers))


class Reader:
    """Runs the language model over episodes whose images were encoded beforehand."""

    def __init__(self, model: Any, processor: Any, grid: torch.Tensor) -> None:
        self.model = model
        self.image_id = processor.tokenizer.convert_tokens_to_ids(IMAGE_MARK)
        self.grid = grid
        self.last_layer: nn.Linear = model.model.visual.merger.mlp[2]
        visual = {id(parameter) for parameter in model.model.visual.parameters()}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in visual]
        self.parameters: list[nn.Parameter] = [*rest, *self.last_layer.parameters()]

    def positions(self, ids: torch.Tensor) -> torch.Tensor:
        """M-RoPE's positions; the image stands at the same place in all episodes, so those of one serve for all."""
        one = ids[:1]
        marks = (one == self.image_id).int()
        found, _ = self.model.model.get_rope_index(one, mm_token_type_ids=marks, image_grid_thw=self.grid[None])
        return found.expand(3, len(ids), ids.shape[1])  # type: ignore[no-any-return]

    def read(
        self, ids: torch.Tensor, chosen: torch.Tensor, features: torch.Tensor, *, attentions: bool = False
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Predicts the chosen tokens, (episodes, tokens - 1), from what stands before them.

        Returns:
            Their logits; and for each layer the attention, (episodes, heads, tokens, tokens), if it is asked for.
        """
        language_model = self.model.model.language_model
        language_model.set_attn_implementation("eager" if attentions else "sdpa")
        embedded = self.model.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter((ids == self.image_id)[..., None], self.last_layer(features))
        output = language_model(
            inputs_embeds=embedded, position_ids=self.positions(ids), use_cache=False, output_attentions=attentions
        )
        return self.model.lm_head(output.last_hidden_state[:, :-1][chosen]), output.attentions or ()


def _step(loss: torch.Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def _batches(count: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Endless batches of rows, in a new order each time round."""
    while True:
        yield from torch.randperm(count).split(batch_size)


def learn_to_answer(
    reader: Reader,
    stages: list[tuple[Episodes, int, float]],
    features: torch.Tensor,
    batch_size: int,
    rate: float,
    weight: float,
    watch: Callable[[int, float], None],
) -> None:
    """Describe every cell, conclude, give the letter.

    Args:
        reader: Runs the model.
        stages: Episodes, the number of steps on them, and how much it counts where attention goes; one after the
            other under one learning-rate schedule.
        features: Of the episodes' images.
        batch_size: Episodes per step.
        rate: The highest learning rate.
        weight: How much more the conclusion and the letter count than other tokens.
        watch: Called with the step and its loss.
    """
    total = sum(steps for _, steps, _ in stages)
    optimizer = torch.optim.AdamW(reader.parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total, pct_start=0.1)
    done = 0
    for episodes, steps, guidance in stages:
        batches = _batches(len(episodes.ids), batch_size)
        for _ in range(steps):
            rows = next(batches)
            roles = episodes.roles[rows]
            length = int((roles > 0).any(0).nonzero().max()) + 1
            ids, roles = episodes.ids[rows, :length], roles[:, 1:length]
            logits, attentions = reader.read(ids, roles > 0, features[rows], attentions=guidance > 0)
            chosen = roles[roles > 0]
            weights = torch.where(chosen == DESCRIPTION, 1.0, weight)
            losses = functional.cross_entropy(logits, ids[:, 1:][roles > 0], reduction="none")
            loss = (losses * weights).sum() / weights.sum()
            guided = loss
            if guidance > 0:
                looks = pointers_loss(attentions, episodes.pointers, rows)
                guided = loss + guidance * (looks + offsets_loss(attentions))
            _step(guided, optimizer, reader.parameters)
            schedule.step()
            done += 1
            watch(done, loss.item())
