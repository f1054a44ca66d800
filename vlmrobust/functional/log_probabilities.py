"""Compute probabilities, entropies and mass from log-probabilities of letters and tokens.

`option_logprobs` is `(N, C)`: log-probabilities (nats) over the whole vocabulary of each option's letter, not
renormalised; -inf pads rows with fewer options. A row with a NaN has no letter read-out and stays NaN. Half-precision
inputs are computed in float32.

`score_tokens` does not materialise the logits of all tokens: those of 4,096 tokens over a vocabulary of 152,000 take
2.5 GB in float32, and `log_softmax` as much again. It applies the LM head to one tile at a time (some tokens × a part
of the vocabulary) and keeps a running maximum and two sums per token (the online softmax of Milakov & Gimelshein,
arXiv:1805.02867).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "TokenScores",
    "correct_log_odds",
    "correct_probability",
    "letter_divergence",
    "letter_entropy",
    "letter_mass",
    "letter_probabilities",
    "mean_token_entropy",
    "relative_letter_entropy",
    "score_tokens",
    "token_entropy",
]

# float32 temporaries take a few times this many elements (64 MiB each), regardless of the shape of the logits; on a
# CPU they stay in its cache (2 MiB each), and the system does not have to allocate them anew each time.
_CHUNK_ELEMENTS = 2**24
_CPU_CHUNK_ELEMENTS = 2**19
_VOCABULARY_TILE = 8_192
_TILE_ELEMENTS = 2**22  # 16 MiB in float32: about a core's share of the cache, or a GPU's L2


def letter_probabilities(option_logprobs: Tensor) -> Tensor:
    r"""Renormalise the letters' probabilities over a sample's own options.

    $p_i = e^{l_i} / \sum_j e^{l_j}$, and 0 where $l_i$ is -inf.

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.

    Returns:
        `(..., C)`, each row in [0, 1] with sum 1; NaN in rows with a NaN or without any finite value.

    Example:
        >>> letter_probabilities(torch.tensor([[-1.0, -1.0, -float("inf")]]))
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    return torch.softmax(_at_least_float32(option_logprobs), dim=-1)


def letter_entropy(option_logprobs: Tensor) -> Tensor:
    r"""Return the entropy of the renormalised letter distribution.

    $H = -\sum_i p_i \ln p_i$ with $0 \ln 0 = 0$; nats, in [0, ln k] for k options.

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.

    Returns:
        `(...)`, NaN in rows with a NaN or without any finite value.

    Example:
        >>> letter_entropy(torch.tensor([[-1.0, -1.0], [-0.5, -float("inf")]]))
        tensor([0.6931, 0.0000])

    Source:
        Zhao et al., arXiv:2602.12506; the base of the logarithm is not stated there, nats are this library's choice.
    """
    if option_logprobs.shape[-1] == 0:
        return _undefined(option_logprobs)
    entropy: Tensor = torch.special.entr(letter_probabilities(option_logprobs)).sum(dim=-1)
    return entropy


def relative_letter_entropy(option_logprobs: Tensor, option_count: Tensor) -> Tensor:
    r"""Return letter entropy relative to its maximum, so that questions with 2 and with 26 options are comparable.

    $H / \ln k$, in [0, 1].

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        option_count: `(...)`, k, the number of options shown.

    Returns:
        `(...)`, NaN where the entropy is NaN, or for fewer than two options.

    Example:
        >>> relative_letter_entropy(torch.tensor([[-1.0, -1.0, -float("inf")]]), torch.tensor([2]))
        tensor([1.])
    """
    entropy = letter_entropy(option_logprobs)
    largest = option_count.to(entropy).log()
    # Rounding may exceed 1 by one unit in the last place for a uniform row.
    return torch.where(largest > 0, (entropy / largest).clamp(max=1.0), math.nan)


def correct_probability(option_logprobs: Tensor, target: Tensor) -> Tensor:
    """Return the renormalised probability of the correct letter, in [0, 1].

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        target: `(...)`, index of the correct option.

    Returns:
        `(...)`, NaN in rows with a NaN or without any finite value, and where `target` is no index of the row.

    Example:
        >>> correct_probability(torch.tensor([[-1.0, -1.0]]), torch.tensor([1]))
        tensor([0.5000])
    """
    return _gather(letter_probabilities(option_logprobs), target)


def correct_log_odds(option_logprobs: Tensor, target: Tensor) -> Tensor:
    r"""Return the log-odds of the correct letter against all other letters of the sample.

    $l_t - \ln \sum_{j \ne t} e^{l_j}$; nats. It ranks like `correct_probability`, but without its ties: float32
    probabilities saturate at 1 where log-odds still differ.

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        target: `(...)`, index of the correct option.

    Returns:
        `(...)`, in [-inf, inf]; NaN in rows with a NaN or without any finite value, and where `target` is no index of
        the row.

    Example:
        >>> correct_log_odds(torch.tensor([[0.0, -30.0], [0.0, -40.0]]), torch.tensor([0, 0]))
        tensor([30., 40.])
        >>> correct_probability(torch.tensor([[0.0, -30.0], [0.0, -40.0]]), torch.tensor([0, 0]))
        tensor([1., 1.])
    """
    logprobs = _at_least_float32(option_logprobs)
    if logprobs.shape[-1] == 0:
        return _undefined(logprobs)
    columns = torch.arange(logprobs.shape[-1], device=logprobs.device)
    others = logprobs.masked_fill(columns == target.unsqueeze(-1), -math.inf)
    return _gather(logprobs, target) - others.logsumexp(dim=-1)


def letter_divergence(first_logprobs: Tensor, second_logprobs: Tensor) -> Tensor:
    r"""Return the Jensen–Shannon divergence of two renormalised letter distributions over the same options.

    $\frac12 \sum_i p_i \ln \frac{2 p_i}{p_i + q_i} + \frac12 \sum_i q_i \ln \frac{2 q_i}{p_i + q_i}$; nats, in
    [0, ln 2], symmetric.

    Args:
        first_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        second_logprobs: `(..., C)`, the same options in the same order.

    Returns:
        `(...)`, NaN where either row has a NaN or no finite value.

    Example:
        >>> certain = torch.tensor([0.0, -float("inf")])
        >>> letter_divergence(certain, certain), letter_divergence(certain, certain.flip(0))
        (tensor(0.), tensor(0.6931))

    Source:
        Lin, IEEE Transactions on Information Theory 37 (1991).
    """
    if first_logprobs.shape[-1] == 0:
        return _undefined(first_logprobs)
    p, q = letter_probabilities(first_logprobs), letter_probabilities(second_logprobs)
    middle = (p + q) / 2
    parts = [torch.where(side == 0, 0.0, side * (side / middle).log()) for side in (p, q)]
    # Rounding may fall below 0 for equal rows, or exceed ln 2 for disjoint ones, by one unit in the last place.
    divergence: Tensor = ((parts[0] + parts[1]).sum(dim=-1) / 2).clamp(0.0, math.log(2))
    return divergence


def letter_mass(option_logprobs: Tensor, added_logprobs: Tensor | None = None) -> Tensor:
    r"""Return the total probability of all shown letters, $\sum_i e^{l_i}$, in [0, 1].

    A small mass means that the model was not about to write a letter, whatever the renormalised distribution.

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        added_logprobs: `(..., A)`, the same for added options such as "I'm not sure".

    Returns:
        `(...)`, NaN in rows with a NaN.

    Example:
        >>> letter_mass(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-3.0]]))
        tensor([0.5530])
    """
    if option_logprobs.shape[-1] == 0:
        return _undefined(option_logprobs)
    mass = _at_least_float32(option_logprobs).exp().sum(dim=-1)
    if added_logprobs is not None:
        mass = mass + added_logprobs.to(mass).exp().sum(dim=-1)
    return mass.clamp(max=1.0)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _undefined(rows: Tensor) -> Tensor:
    # Without columns no letter was read in this batch, but an empty sum would be 0.
    return _at_least_float32(rows).new_full(rows.shape[:-1], math.nan)


def _gather(rows: Tensor, index: Tensor) -> Tensor:
    width = rows.shape[-1]
    if width == 0:
        return _undefined(rows)
    values = rows.gather(-1, index.clamp(0, width - 1).unsqueeze(-1)).squeeze(-1)
    return torch.where((index >= 0) & (index < width), values, math.nan)


def token_entropy(logits: Tensor) -> Tensor:
    r"""Return the entropy of next-token distributions.

    $H = -\sum_v p_v \ln p_v$ with $p = \mathrm{softmax}(\mathrm{logits})$; nats, in [0, ln V]. A logit of -inf (a token
    that is ruled out) adds nothing. Computed in float32 (or float64, if given) by chunks of rows; differentiable.

    Args:
        logits: `(..., V)`, any floating dtype.

    Returns:
        `(...)`, NaN in rows with a NaN or a +inf, or without any finite value.

    Raises:
        ValueError: there is no vocabulary (`V = 0`, or no dimension at all).

    Example:
        >>> token_entropy(torch.tensor([[0.0, 0.0], [5.0, -float("inf")]]))
        tensor([0.6931, 0.0000])
    """
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"expected logits of shape (..., V) with V >= 1, got {tuple(logits.shape)}")
    rows = logits.reshape(-1, logits.shape[-1])
    elements = _CPU_CHUNK_ELEMENTS if rows.device.type == "cpu" else _CHUNK_ELEMENTS
    pieces = [_row_entropy(piece) for piece in rows.split(max(1, elements // rows.shape[-1]))]
    return torch.cat(pieces).reshape(logits.shape[:-1])


def mean_token_entropy(entropies: Tensor, mask: Tensor) -> Tensor:
    """Return the mean entropy over the generated tokens of each sequence.

    Args:
        entropies: `(..., T)`, nats.
        mask: `(..., T)`, true at generated tokens; other values, including NaN, are ignored.

    Returns:
        `(...)` in nats, NaN where nothing was generated.

    Example:
        >>> mean_token_entropy(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]))
        tensor([2.])
    """
    kept = mask.bool()
    values = _at_least_float32(entropies)
    total = torch.where(kept, values, 0.0).sum(dim=-1)
    return total / kept.sum(dim=-1)


def _row_entropy(logits: Tensor) -> Tensor:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p = torch.log_softmax(logits, dim=-1, dtype=dtype)
    # 0 · -inf would be NaN; the lowest finite number gives 0 with a gradient of 0.
    surprise = log_p.clamp(min=torch.finfo(dtype).min).neg()
    return (log_p.exp() * surprise).sum(dim=-1)


class TokenScores(NamedTuple):
    """Scores of given tokens under the model's next-token distributions.

    Attributes:
        logprobs: `(…)` float32, log-probability (nats) of each token.
        entropies: `(…)` float32, entropy (nats) of each distribution.
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
    r"""Score given tokens with teacher forcing, from the hidden states that predict them.

    With logits $z = W h + b$, and after scaling and soft-capping $z \leftarrow c \tanh(s z / c)$:
    $\log p_y = z_y - \mathrm{lse}(z)$ and $H = \mathrm{lse}(z) - \sum_v p_v z_v$, in nats.

    Logits are float32 for all input types. Besides the result, memory holds a few tiles and a float32 copy of a part of
    the head. There is no synchronisation with the host. Not differentiable.

    Args:
        hidden: `(…, D)`, the states before the LM head, at the positions that predict `targets`.
        weight: `(V, D)`, the head's weight.
        targets: `(…)`, token ids; a negative id has no log-probability (NaN).
        bias: `(V,)`, the head's bias.
        scale: factor of the logits.
        cap: the soft cap; None = none.
        tile_elements: number of elements in a tile of logits.

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
            _pick_targets(chosen[place], logits, wanted[place] - start)
            _accumulate(largest[place], total[place], weighted[place], logits)
    normaliser = largest + total.log()
    entropies = (total.log() - weighted / total).clamp(min=0.0)
    shape = targets.shape
    return TokenScores((chosen - normaliser).reshape(shape), entropies.reshape(shape))


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, scale: float, cap: float | None) -> Tensor:
    logits = states @ weight.T if bias is None else torch.addmm(bias, states, weight.T)
    if scale != 1.0:
        logits *= scale
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _pick_targets(chosen: Tensor, logits: Tensor, targets: Tensor) -> None:
    """Copy the logits of the targets in this part of the vocabulary."""
    in_tile = (targets >= 0) & (targets < logits.shape[1])
    values = logits.gather(1, targets.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
    torch.where(in_tile, values, chosen, out=chosen)


def _accumulate(largest: Tensor, total: Tensor, weighted: Tensor, logits: Tensor) -> None:
    """Add a tile to the running maximum m, to Σ exp(z − m), and to Σ (z − m) exp(z − m)."""
    higher = torch.maximum(largest, logits.amax(1))
    shift = largest - higher
    shrunk = total * shift.exp()
    # (z − m′) = (z − m) + (m − m′): shift the old sum to the new maximum; the first tile has no old sum.
    moved = (weighted * shift.exp() + shrunk * shift).nan_to_num_(0.0)
    logits -= higher[:, None]
    terms = logits.exp()
    total.copy_(shrunk + terms.sum(1))
    # A token that is ruled out (−∞) adds nothing; 0 · −∞ would be NaN.
    weighted.copy_(moved + (terms * logits.clamp_(min=-1e30)).sum(1))
    largest.copy_(higher)
