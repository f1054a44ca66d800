"""Compare answers with the correct and the asserted option, with the other draws of a prompt, and between raters.

`ratings` is `(N, R)`, the ratings of N items by R raters; `answers` is `(N, D)`, the answers of D draws to N prompts.
Equal values are the same category or answer; NaN is a missing rating or draw.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "QUADRANTS",
    "accuracy",
    "answer_entropy",
    "draw_agreement",
    "fleiss_kappa",
    "follow",
    "majority_correct",
    "majority_share",
    "pairwise_agreement",
    "pass_at_k",
    "poisson_binomial_tail",
    "quadrants",
    "strict_agreement",
]


QUADRANTS = ("consistent_correct", "consistent_incorrect", "inconsistent_correct", "inconsistent_incorrect")
"""The names of the codes that `quadrants` returns."""


def accuracy(choice: Tensor, target: Tensor, defined: Tensor) -> Tensor:
    """Return 1 where the correct option was chosen, else 0.

    Args:
        choice: `(N,)`, index of the chosen option, -1 = none of them.
        target: `(N,)`, index of the correct option, -1 = unknown.
        defined: `(N,)` bool, the responses to score; an answer that cannot be parsed is scored (0), a failed call is
            not.

    Returns:
        `(N,)` float32, NaN where undefined or where no option is correct.

    Example:
        >>> accuracy(torch.tensor([1, -1, 0]), torch.tensor([1, 1, 1]), torch.tensor([True, True, False]))
        tensor([1., 0., nan])
    """
    # Otherwise a response without an answer (-1) would match an option of -1.
    return torch.where(defined & (target >= 0), (choice == target).float(), math.nan)


def follow(choice: Tensor, asserted: Tensor, defined: Tensor) -> Tensor:
    """Return 1 where the asserted option was chosen, else 0.

    Args:
        choice: `(N,)`, index of the chosen option, -1 = none of them.
        asserted: `(N,)`, index of the option that the misleading text asserts, -1 = none.
        defined: `(N,)` bool, the responses to score.

    Returns:
        `(N,)` float32, NaN where undefined or where nothing is asserted.

    Example:
        >>> follow(torch.tensor([2, 1, 0]), torch.tensor([2, 2, -1]), torch.tensor([True, True, True]))
        tensor([1., 0., nan])
    """
    return accuracy(choice, asserted, defined)


def quadrants(consistent: Tensor, correct: Tensor) -> Tensor:
    """Return the quadrant {consistent, inconsistent} × {correct, incorrect} of each response.

    Args:
        consistent: `(N,)`, 1 where the thought asserts the answer, 0 where it asserts something else, NaN = undefined.
        correct: `(N,)`, 1 where the answer is correct, else 0, NaN = undefined.

    Returns:
        `(N,)` int64, an index into `QUADRANTS`, -1 = undefined.

    Example:
        >>> quadrants(torch.tensor([1.0, 0.0, float("nan")]), torch.tensor([1.0, 0.0, 1.0]))
        tensor([ 0,  3, -1])
    """
    undefined = consistent.isnan() | correct.isnan()
    codes = 2 * (consistent != 1).long() + (correct != 1).long()
    return codes.masked_fill(undefined, -1)


def poisson_binomial_tail(probabilities: Tensor) -> Tensor:
    r"""Return the probability that at least k of K independent events happen, for k = 0 … K.

    $P(\sum_i X_i \ge k)$ with $X_i \sim \mathrm{Bernoulli}(p_i)$, computed by convolving one event at a time. With
    equal $p_i$ it is a binomial tail.

    Args:
        probabilities: `(..., K)`, the events' probabilities, in [0, 1].

    Returns:
        `(..., K + 1)` float64 in [0, 1], decreasing from 1 at k = 0; NaN where a probability is NaN.

    Raises:
        ValueError: a probability is below 0 or above 1.

    Example:
        >>> poisson_binomial_tail(torch.tensor([0.5, 0.5]))
        tensor([1.0000, 0.7500, 0.2500], dtype=torch.float64)

    Source:
        Hong, Computational Statistics & Data Analysis 59 (2013), on its computation.
    """
    chances = probabilities.double()
    if bool(((chances < 0) | (chances > 1)).any()):
        raise ValueError(f"expected probabilities between 0 and 1, got {chances.min():g} to {chances.max():g}")
    exactly = torch.zeros(*chances.shape[:-1], chances.shape[-1] + 1, dtype=torch.float64, device=chances.device)
    exactly[..., 0] = 1
    for chance in chances.unbind(-1):
        happened = torch.nn.functional.pad(exactly[..., :-1] * chance[..., None], (1, 0))
        exactly = exactly * (1 - chance[..., None]) + happened
    # Sum from the far end, so that small probabilities are not lost.
    return exactly.flip(-1).cumsum(-1).flip(-1).clamp(max=1.0)


def strict_agreement(ratings: Tensor) -> float:
    """Return the share of items with the same rating by all raters, in [0, 1].

    Args:
        ratings: `(N, R)`; items with a missing rating are left out.

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
    """Return for each pair of raters the share of items with the same rating.

    Args:
        ratings: `(N, R)`; each pair is compared on the items rated by both.

    Returns:
        `(R, R)` float64 in [0, 1], symmetric; NaN for a pair without an item, also on the diagonal.

    Raises:
        ValueError: as `strict_agreement`.

    Example:
        >>> pairwise_agreement(torch.tensor([[1, 1, 1], [1, 0, 1]]))[0]
        tensor([1.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    ratings = _checked(ratings)
    first, second = ratings[:, :, None], ratings[:, None, :]
    rated = (~first.isnan() & ~second.isnan()).double().sum(dim=0)
    return (first == second).double().sum(dim=0) / rated


def fleiss_kappa(ratings: Tensor) -> float:
    r"""Return Fleiss' κ: agreement beyond chance, given the raters' pooled category frequencies.

    With $n_{ij}$ raters who put item i into category j: $P_i = \sum_j n_{ij} (n_{ij} - 1) / (R (R - 1))$,
    $p_j = \sum_i n_{ij} / (N R)$, $\kappa = (\bar P - \sum_j p_j^2) / (1 - \sum_j p_j^2)$; at most 1, 0 = as by chance.

    Args:
        ratings: `(N, R)`; items with a missing rating are left out.

    Returns:
        NaN if no item is rated by all, or if all ratings are equal, as chance agreement is then 1.

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
    ratings = _checked(ratings)
    return ratings[~ratings.isnan().any(dim=1)]


def _checked(ratings: Tensor) -> Tensor:
    if ratings.ndim != 2 or ratings.shape[1] < 2:
        raise ValueError(f"expected ratings (N, R) of at least two raters, got shape {tuple(ratings.shape)}")
    return ratings.double()


def pass_at_k(correct: Tensor, draws: Tensor, k: int) -> Tensor:
    r"""Return the unbiased estimate of the probability that at least one of k draws is correct, from n ≥ k draws.

    $1 - \binom{n - c}{k} / \binom{n}{k}$, with c of n draws correct: the share of all subsets of k draws that contain a
    correct one. It is computed as $1 - \prod_{j<k} (1 - c / (n - j))$ in logarithms, which neither overflows for large
    n nor rounds small probabilities to 0.

    Args:
        correct: `(...)`, c, the number of correct draws, in 0 … n.
        draws: `(...)`, n, the number of draws.
        k: number of draws per attempt, at least 1.

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
    c, n = correct.double(), draws.double()
    if bool(((c < 0) | (c > n)).any()):
        raise ValueError("expected 'correct' between 0 and 'draws'")
    log_failure = torch.zeros_like(c + n)
    for j in range(k):
        log_failure = log_failure + (-c / (n - j)).clamp(min=-1.0).log1p()
    return torch.where(n < k, math.nan, 0.0 - log_failure.expm1())


def majority_correct(answers: Tensor, target: Tensor) -> Tensor:
    """Return whether the most frequent answer of the draws is correct.

    If several answers are tied, the value is the expected accuracy of picking one of them at random: 1 / (number of
    tied answers) if the correct one is among them, else 0.

    Args:
        answers: `(N, D)`; a missing answer is also a vote: give it a value of its own, such as -1.
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
    weights = torch.where(leads, 1 / votes, 0.0)  # each tied answer has a total weight of 1
    hits = (weights * (answers == target[:, None])).sum(1)
    return hits / weights.sum(1)


def majority_share(answers: Tensor) -> Tensor:
    """Return the share of draws with the most frequent answer.

    Args:
        answers: `(N, D)`.

    Returns:
        `(N,)` float64 in [1/D, 1], NaN without a draw. It is biased upwards for few draws and falls with D.

    Example:
        >>> majority_share(torch.tensor([[2, 2, 0, 1], [1, 1, 1, 1]]))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    votes = _votes(answers)
    most = votes.amax(1) if answers.shape[1] else votes.sum(1)
    return most / _draw_counts(answers)


def draw_agreement(answers: Tensor) -> Tensor:
    """Return the share of pairs of draws with the same answer: the probability that two draws agree.

    Unlike `majority_share`, its expectation does not depend on the number of draws.

    Args:
        answers: `(N, D)`.

    Returns:
        `(N,)` float64 in [0, 1], NaN with fewer than two draws.

    Example:
        >>> draw_agreement(torch.tensor([[2, 2, 0, 1], [1, 1, 1, 1]]))
        tensor([0.1667, 1.0000], dtype=torch.float64)
    """
    draws = _draw_counts(answers)
    # 0 / 0 for fewer than two draws.
    return (_votes(answers).sum(1) - draws) / (draws * (draws - 1))


def answer_entropy(answers: Tensor) -> Tensor:
    r"""Return the entropy of the answers' frequencies, $-\sum_a p_a \log p_a$, in nats.

    Args:
        answers: `(N, D)`.

    Returns:
        `(N,)` float64 in [0, log D], 0 where all draws agree, NaN without a draw. It is biased downwards for few draws.

    Example:
        >>> answer_entropy(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]))
        tensor([0.6931, 0.0000], dtype=torch.float64)
    """
    votes, draws = _votes(answers), _draw_counts(answers)
    surprisal = torch.where(votes > 0, (draws[:, None] / votes).log(), 0.0)
    return surprisal.sum(1) / draws


def _votes(answers: Tensor) -> Tensor:
    """Return `(N, D)`, the number of draws with the same answer as each draw; 0 for a missing draw."""
    if answers.ndim != 2:
        raise ValueError(f"expected answers (N, D) of D draws, got shape {tuple(answers.shape)}")
    votes = torch.zeros(answers.shape, dtype=torch.float64)
    for draw in answers.T:  # all pairs at once would take D times the memory
        votes += (answers == draw[:, None]).double()
    return votes


def _draw_counts(answers: Tensor) -> Tensor:
    return (~answers.isnan()).double().sum(1)
