"""Random weights that make a tiny model's next-token distribution differ clearly from token to token."""

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["favour", "redraw"]


@torch.no_grad()
def redraw(model: Any, seed: int = 0) -> None:
    """Draw a model's weights anew, scaled to their inputs; norms keep theirs.

    The LM head's are three times as large, and those of attention twice, so that what stands far back matters.
    """
    generator = torch.Generator().manual_seed(seed)
    head = model.get_output_embeddings()
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            fan_in = 1 if id(parameter) in tables else parameter[0].numel()
            if "experts" in name and parameter.ndim == 3:  # (experts, …, …)
                fan_in = parameter.shape[-1]
            scale = 2.0 if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")) else 1.0
            parameter.normal_(std=scale * fan_in**-0.5, generator=generator)
        elif parameter.numel() == 1:
            parameter.fill_(0.5)  # Mllama's gates: at zero it would not see the image
    if head is not None:
        head.weight *= 3


@torch.no_grad()
def favour(model: Any, amounts: Mapping[int, float]) -> None:
    """Raise the logits of some tokens by about so much, whatever the prompt.

    One dimension of the residual stream is made the same for all tokens, and no layer writes to it, so that a column
    of the LM head acts as a bias; most heads have none.
    """
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    embeddings[:, 0] = 8.0 * embeddings.std()
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")) and len(parameter) == embeddings.shape[1]:
            parameter[0] = 0.0
    states = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, arguments: states.append(arguments[0]))
    model(input_ids=torch.arange(10, 60)[None])
    hook.remove()
    head[:, 0] = 0.0
    for token, amount in amounts.items():
        head[token, 0] = amount / states[0][..., 0].mean()
