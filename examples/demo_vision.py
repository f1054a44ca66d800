"""Train the demo model's vision tower: the first two stages of `train_demo.py`.

Trained from scratch through the language model alone, the tower learns nothing useful for a very long time. So it first
learns the contents of every cell, with two temporary classifiers. Then its output is fitted to the sum of the
embeddings of the words for that content, so that the language model finds words at the image's positions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from demo_language import one_cycle, step
from torch import nn
from torch.nn import functional

from vlmrobust.demo.scenes import COLOURS, NOTHING, SHAPES, Scene

COLOUR_WORDS = (*COLOURS, NOTHING)
SHAPE_WORDS = (*SHAPES, NOTHING)


@dataclass
class Pictures:
    """Processed images, and the contents of their cells."""

    pixels: torch.Tensor
    """(images, patches, values of a patch)"""
    grid: torch.Tensor
    """(3,), the same for every image: time, height and width in patches"""
    colour_ids: torch.Tensor
    """(images, cells), indices in `COLOUR_WORDS`"""
    shape_ids: torch.Tensor
    """(images, cells), indices in `SHAPE_WORDS`"""

    @classmethod
    def draw(cls, scenes: list[Scene], images: Iterable[Any], processor: Any) -> "Pictures":
        """Process images of scenes, a few at a time."""
        pixels, grids = [], []
        rest = iter(images)
        while some := list(islice(rest, 64)):
            batch = processor.image_processor(some, return_tensors="pt")
            pixels.append(batch["pixel_values"])
            grids.append(batch["image_grid_thw"])
        grid = torch.cat(grids)
        if (grid != grid[0]).any():
            raise ValueError("expected images of one size")
        words = [[(NOTHING, NOTHING) if thing is None else thing.words for thing in scene.cells] for scene in scenes]
        return cls(
            torch.cat(pixels).view(len(scenes), int(grid[0].prod()), -1),
            grid[0],
            torch.tensor([[COLOUR_WORDS.index(colour) for colour, _ in cells] for cells in words]),
            torch.tensor([[SHAPE_WORDS.index(shape) for _, shape in cells] for cells in words]),
        )

    def __len__(self) -> int:
        return len(self.pixels)


def hidden_features(tower: nn.Module, pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Return the inputs of the tower's last linear layer: (images, cells, features)."""
    found: list[torch.Tensor] = []
    hook = tower.merger.mlp[2].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        tower(pixels.flatten(0, 1), grid_thw=grid.expand(len(pixels), 3))
    finally:
        hook.remove()
    return found[0].view(len(pixels), -1, found[0].shape[-1])


def learn_to_see(tower: nn.Module, pictures: Pictures, steps: int, batch_size: int, rate: float) -> float:
    """Train the tower to predict colour and shape of every cell.

    Returns:
        The share of correctly named cells over the last tenth of the steps.
    """
    width = tower.merger.mlp[2].in_features
    heads = nn.Linear(width, len(COLOUR_WORDS) + len(SHAPE_WORDS))
    parameters = [*tower.parameters(), *heads.parameters()]
    optimizer, schedule = one_cycle(parameters, rate, steps, betas=(0.9, 0.999))
    right: list[float] = []
    for _ in range(steps):
        rows = torch.randint(len(pictures), (batch_size,))
        logits = heads(hidden_features(tower, pictures.pixels[rows], pictures.grid))
        colour, shape = logits.split([len(COLOUR_WORDS), len(SHAPE_WORDS)], dim=-1)
        loss = functional.cross_entropy(colour.flatten(0, 1), pictures.colour_ids[rows].flatten())
        loss = loss + functional.cross_entropy(shape.flatten(0, 1), pictures.shape_ids[rows].flatten())
        step(loss, optimizer, parameters, schedule)
        both = (colour.argmax(-1) == pictures.colour_ids[rows]) & (shape.argmax(-1) == pictures.shape_ids[rows])
        right.append(both.float().mean().item())
    last = right[-max(1, steps // 10) :]
    return sum(last) / len(last)


@torch.no_grad()
def features_of(tower: nn.Module, pictures: Pictures, batch_size: int = 128) -> torch.Tensor:
    """Return `hidden_features` of all pictures, without gradients."""
    batches = pictures.pixels.split(batch_size)
    return torch.cat([hidden_features(tower, pixels, pictures.grid) for pixels in batches])


@torch.no_grad()
def speak_words(model: Any, pictures: Pictures, features: torch.Tensor, tokenizer: Any) -> float:
    """Fit the tower's last layer to the word embeddings by least squares.

    Returns:
        The share of the embeddings' variance that the fit explains.
    """

    def embeddings(words: tuple[str, ...]) -> torch.Tensor:
        ids = [tokenizer.encode(f" {word}", add_special_tokens=False) for word in words]
        return model.get_input_embeddings().weight[torch.tensor(ids).squeeze(1)]

    target = (embeddings(COLOUR_WORDS)[pictures.colour_ids] + embeddings(SHAPE_WORDS)[pictures.shape_ids]).flatten(0, 1)
    inputs = functional.pad(features.flatten(0, 1), (0, 1), value=1.0)
    # Normal equations with a small ridge term, since features can be collinear.
    gram = inputs.T @ inputs / len(inputs) + 1e-4 * torch.eye(inputs.shape[1])
    solution = torch.linalg.solve(gram, inputs.T @ target / len(inputs))
    last = model.model.visual.merger.mlp[2]
    last.weight.copy_(solution[:-1].T)
    last.bias.copy_(solution[-1])
    residual = (inputs @ solution - target).pow(2).sum()
    return float(1 - residual / (target - target.mean(0)).pow(2).sum())
