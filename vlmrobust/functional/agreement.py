"""Measure whether raters, or several draws of one prompt, say the same, and what a vote of the draws says.

`ratings` is `(N, R)`, what R raters say of N items; `answers` is `(N, D)`, what D draws say to N prompts. Equal values
are one category or one answer; NaN is a rating that was not given or a draw that was not made.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "answer_entropy",
    "draw_agreement",
    "fleiss_kappa",
    "majority_correct",
    "majority_share",
    "pairwise_agreement",
    "pass_at_k",
    "strict_agreement",
]


def strict_agreement(ratings: Tensor) -> float:
    """Return the share of items of which all raters say the same, in [0, 1].

    Args:
        ratings: `(N, R)`; items that a rater says nothing of are left out.

    Returns:
        NaN if no item is rated by all.

    Raises:
        ValueError: not two-dimensional, or fewer than two raters.

    Example:
        >>> strict_agreement(torch.tensor([[1, 1, 1], [1, 0, 1]]))
        0.5
    """
    complete = _complete(ratings)
    return float((complete == complete[:, :1]).all(dim=1).double().mean())


def pairwise_agreement(ratings: Tensor) -> Tensor:
    """Return for every two raters the share of items of which they say the same.

    Args:
        ratings: `(N, R)`; for each pair the items count of which both say something.

    Returns:
        `(R, R)` float64 in [0, 1], symmetric; NaN for a pair without an item, on the diagonal as well.

    Raises:
        ValueError: as `strict_agreement`.

    Example:
        >>> pairwise_agreement(torch.tensor([[1, 1, 1], [1, 0, 1]]))[0]
        tensor([1.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    checked = _checked(ratings)
    one, other = checked[:, :, None], checked[:, None, :]
    both = (~one.isnan() & ~other.isnan()).double().sum(dim=0)
    return (one == other).double().sum(dim=0) / both


def fleiss_kappa(ratings: Tensor) -> float:
    r"""Return Fleiss' κ: agreement beyond what the raters' common preferences alone would give.

    With $n_{ij}$ raters who put item i into category j: $P_i = \sum_j n_{ij} (n_{ij} - 1) / (R (R - 1))$,
    $p_j = \sum_i n_{ij} / (N R)$, $\kappa = (\bar P - \sum_j p_j^2) / (1 - \sum_j p_j^2)$; at most 1, 0 = as by chance.

    Args:
        ratings: `(N, R)`; items that a rater says nothing of are left out.

    Returns:
        NaN if no item is rated by all, or if all ratings are the same: then chance alone agrees.

    Raises:
        ValueError: as `strict_agreement`.

    Example:
        >>> round(fleiss_kappa(torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0]])), 3)
        0.55

    Source:
        Fleiss (1971), Measuring nominal scale agreement among many raters.
    """
    complete = _complete(ratings)
    if not len(complete):
        return math.nan
    raters = complete.shape[1]
    categories, codes = complete.unique(return_inverse=True)
    counts = torch.nn.functional.one_hot(codes, len(categories)).sum(dim=1).double()
    observed = (counts * (counts - 1)).sum(dim=1).mean() / (raters * (raters - 1))
    chance = (counts.mean(dim=0) / raters).square().sum()
    return float((observed - chance) / (1 - chance)) if len(categories) > 1 else math.nan


def _complete(ratings: Tensor) -> Tensor:
    checked = _checked(ratings)
    return checked[~checked.isnan().any(dim=1)]


def _checked(ratings: Tensor) -> Tensor:
    if ratings.ndim != 2 or ratings.shape[1] < 2:
        raise ValueError(f"expected ratings (N, R) of at least two raters, got shape {tuple(ratings.shape)}")
    return ratings.double()


def pass_at_k(correct: Tensor, draws: Tensor, k: int) -> Tensor:
    r"""Return the chance that at least one of k draws is right, estimated without bias from n ≥ k draws.

    $1 - \binom{n - c}{k} / \binom{n}{k}$, with c of n draws right: the share of all subsets of k draws that hold a
    right one. It is computed as $1 - \prod_{j<k} (1 - c / (n - j))$ in logarithms, so that neither a large n overflows
    nor a small chance is rounded away.

    Args:
        correct: `(...)`, c, how many draws are right, in 0 … n.
        draws: `(...)`, n, how many there are.
        k: how many draws count as one attempt, at least 1.

    Returns:
        `(...)` float64 in [0, 1], NaN where n < k.

    Raises:
        ValueError: `k` is below 1, or c is not in 0 … n.

    Example:
        >>> pass_at_k(torch.tensor([0, 1, 4]), torch.tensor([4, 4, 4]), k=2)
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)

    Source:
        Chen et al., arXiv:2107.03374, equation 1.
    """
    if k < 1:
        raise ValueError(f"expected 'k' of at least 1, got {k}")
    right, made = correct.double(), draws.double()
    if bool(((right < 0) | (right > made)).any()):
        raise ValueError("expected 'correct' between 0 and 'draws'")
    missed = torch.zeros_like(right + made)
    for drawn in range(k):
        missed = missed + (-right / (made - drawn)).clamp(min=-1.0).log1p()
    return torch.where(made < k, math.nan, 0.0 - missed.expm1())


def majority_correct(answers: Tensor, target: Tensor) -> Tensor:
    """Return whether the answer that most draws give is the correct one.

    Where several answers are tied for the most votes, the value is what picking one of them at random is right on
    average: 1 / (number of tied answers) if the correct one is among them, else 0.

    Args:
        answers: `(N, D)`; no answer is a vote as well: give it a value of its own, such as -1.
        target: `(N,)`, the correct answer.

    Returns:
        `(N,)` float64 in [0, 1], NaN without a draw.

    Example:
        >>> majority_correct(torch.tensor([[2, 2, 0], [2, 0, 1]]), torch.tensor([2, 2]))
        tensor([1.0000, 0.3333], dtype=torch.float64)

    Source:
        Wang et al., arXiv:2203.11171 (self-consistency); the value of a tie is ours.
    """
    votes = _votes(answers)
    most = votes.amax(1, keepdim=True) if answers.shape[1] else votes
    leads = (votes == most) & (votes > 0)
    shares = torch.where(leads, 1 / votes, 0.0)
    tied = shares.sum(1)
    hits = (shares * (answers == target[:, None])).sum(1)
    return hits / tied


def majority_share(answers: Tensor) -> Tensor:
    """Return the share of draws that give the most frequent answer.

    Args:
        answers: `(N, D)`.

    Returns:
        `(N,)` float64 in [1/D, 1], NaN without a draw. Few draws agree by themselves: it falls with D.

    Example:
        >>> majority_share(torch.tensor([[2, 2, 0, 1], [1, 1, 1, 1]]))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    votes = _votes(answers)
    most = votes.amax(1) if answers.shape[1] else votes.sum(1)
    return most / _made(answers)


def draw_agreement(answers: Tensor) -> Tensor:
    """Return the share of pairs of draws that give the same answer: the chance that asking twice says the same.

    Unlike `majority_share` it does not depend on the number of draws on average.

    Args:
        answers: `(N, D)`.

    Returns:
        `(N,)` float64 in [0, 1], NaN with fewer than two draws.

    Example:
        >>> draw_agreement(torch.tensor([[2, 2, 0, 1], [1, 1, 1, 1]]))
        tensor([0.1667, 1.0000], dtype=torch.float64)
    """
    made = _made(answers)
    # Fewer than two draws: 0 / 0.
    return (_votes(answers).sum(1) - made) / (made * (made - 1))


def answer_entropy(answers: Tensor) -> Tensor:
    r"""Return the entropy of the answers' frequencies, $-\sum_a p_a \log p_a$, in nats.

    Args:
        answers: `(N, D)`.

    Returns:
        `(N,)` float64 in [0, log D], 0 where all draws agree, NaN without a draw. Few draws make it too small on
        average.

    Example:
        >>> answer_entropy(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]))
        tensor([0.6931, 0.0000], dtype=torch.float64)
    """
    votes, made = _votes(answers), _made(answers)
    surprise = torch.where(votes > 0, (made[:, None] / votes).log(), 0.0)
    return surprise.sum(1) / made


def _votes(answers: Tensor) -> Tensor:
    """Return `(N, D)`, how many draws give the answer of each; 0 for one that was not made."""
    if answers.ndim != 2:
        raise ValueError(f"expected answers (N, D) of D draws, got shape {tuple(answers.shape)}")
    votes = torch.zeros(answers.shape, dtype=torch.float64)
    for draw in answers.T:  # not all pairs at once, which would take D times the memory
        votes += (answers == draw[:, None]).double()
    return votes


def _made(answers: Tensor) -> Tensor:
    return (~answers.isnan()).double().sum(1)
