"""From the letters' log-probabilities to probability, entropy and mass.

`option_logprobs` is `(N, C)`: log-probabilities (nats) over the whole vocabulary of each option's letter, not
renormalised; -inf pads rows of fewer options. A row with a NaN is a row where no letter was read, and stays NaN.
Half-precision inputs are computed in float32.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "correct_log_odds",
    "correct_probability",
    "letter_divergence",
    "letter_entropy",
    "letter_mass",
    "letter_probabilities",
    "relative_letter_entropy",
]


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
    r"""Return letter entropy over its largest possible value, so that questions of 2 and of 26 options compare.

    $H / \ln k$, in [0, 1].

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        option_count: `(...)`, k, the number of options that are shown.

    Returns:
        `(...)`, NaN where the entropy is NaN, or for fewer than two options.

    Example:
        >>> relative_letter_entropy(torch.tensor([[-1.0, -1.0, -float("inf")]]), torch.tensor([2]))
        tensor([1.])
    """
    entropy = letter_entropy(option_logprobs)
    largest = option_count.to(entropy).log()
    # Rounding may carry a uniform row past 1 by one unit in the last place.
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
    return _at(letter_probabilities(option_logprobs), target)


def correct_log_odds(option_logprobs: Tensor, target: Tensor) -> Tensor:
    r"""Return the log-odds of the correct letter against all others of the sample.

    $l_t - \ln \sum_{j \ne t} e^{l_j}$; nats. Ranks like `correct_probability`, without its ties: float32 probabilities
    saturate at 1 where log-odds still differ.

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
    return _at(logprobs, target) - others.logsumexp(dim=-1)


def letter_divergence(first_logprobs: Tensor, second_logprobs: Tensor) -> Tensor:
    r"""Return the Jensen–Shannon divergence of two renormalised letter distributions over the same options.

    $\frac12 \sum_i p_i \ln \frac{2 p_i}{p_i + q_i} + \frac12 \sum_i q_i \ln \frac{2 q_i}{p_i + q_i}$; nats, in
    [0, ln 2], the same either way round.

    Args:
        first_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        second_logprobs: `(..., C)`, the same options in the same order.

    Returns:
        `(...)`, NaN where one of the rows has a NaN or no finite value.

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
    # Rounding may carry equal rows below 0 and disjoint ones past ln 2 by a unit in the last place.
    divergence: Tensor = ((parts[0] + parts[1]).sum(dim=-1) / 2).clamp(0.0, math.log(2))
    return divergence


def letter_mass(option_logprobs: Tensor, added_logprobs: Tensor | None = None) -> Tensor:
    r"""Return the probability of all shown letters together, $\sum_i e^{l_i}$, in [0, 1].

    A small mass says that the model was not about to write a letter, whatever the renormalised distribution looks like.

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
    # No column at all: not one letter was read in this batch, and an empty sum would say 0.
    return _at_least_float32(rows).new_full(rows.shape[:-1], math.nan)


def _at(rows: Tensor, index: Tensor) -> Tensor:
    width = rows.shape[-1]
    if width == 0:
        return _undefined(rows)
    values = rows.gather(-1, index.clamp(0, width - 1).unsqueeze(-1)).squeeze(-1)
    return torch.where((index >= 0) & (index < width), values, math.nan)
