"""Log-probabilities and entropies of given text from hidden states, without the logits of all tokens.

The logits of 4,096 tokens over a vocabulary of 152,000 take 2.5 GB in float32, `log_softmax` as much again. Here the
LM head is applied a tile at a time: some tokens × some of the vocabulary; what is kept per token are a running maximum
and two sums (the online softmax of Milakov & Gimelshein, arXiv:1805.02867).
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TokenScores", "score_tokens"]

_VOCABULARY_TILE = 8_192
_TILE_ELEMENTS = 2**22  # 16 MiB in float32: what a core's share of the cache and a GPU's L2 hold about


class TokenScores(NamedTuple):
    """What the distribution at each token says of the text.

    Attributes:
        logprobs: `(…)` float32, log-probability (nats) of the token that stands there.
        entropies: `(…)` float32, entropy (nats) of the distribution.
    """

    logprobs: Tensor
    entropies: Tensor


def score_tokens(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    cap: float | None = None,
    tile_elements: int = _TILE_ELEMENTS,
) -> TokenScores:
    r"""Score given tokens by teacher forcing, from the hidden states that predict them.

    With logits $z = W h + b$, and after scaling and soft-capping $z \leftarrow c \tanh(s z / c)$:
    $\log p_y = z_y - \mathrm{lse}(z)$ and $H = \mathrm{lse}(z) - \sum_v p_v z_v$, in nats.

    Logits are float32 whatever the inputs are; beside the result, memory is a few tiles and a float32 copy of a part of
    the head. Nothing is read back to the host. Not differentiable: it scores, it does not train.

    Args:
        hidden: `(…, D)`, the states before the LM head, at the places that predict `targets`.
        weight: `(V, D)`, the head's weight.
        targets: `(…)`, token ids; a negative id has no log-probability (NaN).
        bias: `(V,)`, the head's bias.
        scale: what logits are multiplied with.
        cap: the soft cap; None = none.
        tile_elements: elements of one tile of logits.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> hidden, weight = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> scores = score_tokens(hidden, weight, torch.tensor([0]))
        >>> scores.logprobs, scores.entropies
        (tensor([-0.3133]), tensor([0.5822]))
    """
    if hidden.shape[:-1] != targets.shape or hidden.shape[-1] != weight.shape[-1]:
        raise ValueError(
            "expected hidden (…, D), weight (V, D) and targets (…), "
            f"got {tuple(hidden.shape)}, {tuple(weight.shape)} and {tuple(targets.shape)}"
        )
    states = hidden.reshape(-1, hidden.shape[-1]).detach()
    wanted = targets.reshape(-1)
    count = len(states)
    largest = states.new_full((count,), -torch.inf, dtype=torch.float32)
    total = torch.zeros_like(largest)
    weighted = torch.zeros_like(largest)
    chosen = torch.full_like(largest, torch.nan)
    rows = max(1, tile_elements // min(_VOCABULARY_TILE, len(weight)))
    for start in range(0, len(weight), _VOCABULARY_TILE):
        part = weight[start : start + _VOCABULARY_TILE].detach().to(torch.float32)
        offset = None if bias is None else bias[start : start + _VOCABULARY_TILE].detach().float()
        for first in range(0, count, rows):
            place = slice(first, first + rows)
            logits = _logits(states[place].float(), part, offset, scale, cap)
            _choose(chosen[place], logits, wanted[place] - start)
            _add(largest[place], total[place], weighted[place], logits)
    normaliser = largest + total.log()
    entropies = (total.log() - weighted / total).clamp(min=0.0)
    shape = targets.shape
    return TokenScores((chosen - normaliser).reshape(shape), entropies.reshape(shape))


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, scale: float, cap: float | None) -> Tensor:
    logits = states @ weight.T if bias is None else torch.addmm(bias, states, weight.T)
    if scale != 1.0:
        logits *= scale
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _choose(chosen: Tensor, logits: Tensor, targets: Tensor) -> None:
    """Take the logits of those targets that stand in this part of the vocabulary."""
    here = (targets >= 0) & (targets < logits.shape[1])
    found = logits.gather(1, targets.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
    torch.where(here, found, chosen, out=chosen)


def _add(largest: Tensor, total: Tensor, weighted: Tensor, logits: Tensor) -> None:
    """Add a tile to the running maximum m, to Σ exp(z − m), and to Σ (z − m) exp(z − m)."""
    higher = torch.maximum(largest, logits.amax(1))
    shift = largest - higher
    shrunk = total * shift.exp()
    # (z − m′) = (z − m) + (m − m′): the old sum moves along with its maximum; at the first tile there is none.
    moved = (weighted * shift.exp() + shrunk * shift).nan_to_num_(0.0)
    logits -= higher[:, None]
    terms = logits.exp()
    total.copy_(shrunk + terms.sum(1))
    # A token that is ruled out (−∞) adds nothing; 0 · −∞ would be NaN.
    weighted.copy_(moved + (terms * logits.clamp_(min=-1e30)).sum(1))
    largest.copy_(higher)
