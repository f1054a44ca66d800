"""What a server was asked for, counted and priced."""

from typing import Annotated

from pydantic import Field

from ...types.validated import Frozen
from .replies import Reply

__all__ = ["Price", "Usage"]

_Amount = Annotated[float, Field(ge=0)]


class Price(Frozen):
    """What a million tokens cost, in any one currency.

    Attributes:
        prompt, completion: of what is sent and of what is generated.
        cached: of what is sent and in the server's cache already; None = as much as any other.
    """

    prompt: _Amount
    completion: _Amount
    cached: _Amount | None = None


class Usage(Frozen):
    """Tokens as the server counted them.

    Attributes:
        requests: that were answered.
        prompt_tokens: sent, images included.
        cached_tokens: those of them that were in the server's cache.
        completion_tokens: generated.
        cost: in the currency of the prices; None = no prices were given.

    Example:
        >>> print(Usage(requests=2, prompt_tokens=5200, cached_tokens=4000, completion_tokens=310, cost=0.0123))
        2 requests, 5,200 prompt tokens (4,000 of them cached), 310 generated, cost 0.0123
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def plus(self, reply: Reply, price: Price | None) -> "Usage":
        """Return this and one more reply."""
        prompt, cached = reply.prompt_tokens or 0, reply.cached_tokens or 0
        completion = reply.completion_tokens or 0
        cost = self.cost
        if price is not None:
            for_cached = price.prompt if price.cached is None else price.cached
            added = (prompt - cached) * price.prompt + cached * for_cached + completion * price.completion
            cost = (cost or 0.0) + added / 1e6
        return Usage(
            requests=self.requests + 1,
            prompt_tokens=self.prompt_tokens + prompt,
            cached_tokens=self.cached_tokens + cached,
            completion_tokens=self.completion_tokens + completion,
            cost=cost,
        )

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", cost {self.cost:,.4f}"
        return (
            f"{self.requests:,} requests, {self.prompt_tokens:,} prompt tokens "
            f"({self.cached_tokens:,} of them cached), {self.completion_tokens:,} generated{cost}"
        )
