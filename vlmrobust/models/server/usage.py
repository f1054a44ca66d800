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
    """Tokens as the server counted them; what it never counted is None.

    Attributes:
        requests: that were answered.
        prompt_tokens: sent, images included.
        cached_tokens: those of them that were in the server's cache; some servers say so only where there are any, so
            that a reply without the number adds none.
        completion_tokens: generated.
        cost: in the currency of the prices, cached tokens at the full price where they are not known; None = no prices
            were given, or a reply did not count its tokens.

    Example:
        >>> print(Usage(requests=2, prompt_tokens=5200, cached_tokens=4000, completion_tokens=310, cost=0.0123))
        2 requests, 5,200 prompt tokens (4,000 of them cached), 310 generated, cost 0.0123
        >>> print(Usage(requests=2, prompt_tokens=5200, completion_tokens=310))
        2 requests, 5,200 prompt tokens (how many of them cached is not known), 310 generated
    """

    requests: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None

    def plus(self, reply: Reply, price: Price | None) -> "Usage":
        """Return this and one more reply."""
        cost = self.cost if price is None else self._cost_with(reply, price)
        return Usage(
            requests=self.requests + 1,
            prompt_tokens=_sum(self.prompt_tokens, reply.prompt_tokens),
            cached_tokens=_sum(self.cached_tokens, reply.cached_tokens),
            completion_tokens=_sum(self.completion_tokens, reply.completion_tokens),
            cost=cost,
        )

    def _cost_with(self, reply: Reply, price: Price) -> float | None:
        so_far = 0.0 if self.requests == 0 else self.cost
        if so_far is None or reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        cached = reply.cached_tokens or 0
        for_cached = price.prompt if price.cached is None else price.cached
        sent = (reply.prompt_tokens - cached) * price.prompt + cached * for_cached
        return so_far + (sent + reply.completion_tokens * price.completion) / 1e6

    def __str__(self) -> str:
        cached = "how many of them cached is not known"
        if self.cached_tokens is not None:
            cached = f"{self.cached_tokens:,} of them cached"
        cost = "" if self.cost is None else f", cost {self.cost:,.4f}"
        if self.prompt_tokens is None and self.completion_tokens is None:
            return f"{self.requests:,} requests" + (", tokens not counted" if self.requests else "") + cost
        return f"{self.requests:,} requests, {_shown(self.prompt_tokens)} prompt tokens ({cached}), " + (
            f"{_shown(self.completion_tokens)} generated{cost}"
        )


def _sum(known: int | None, new: int | None) -> int | None:
    return known if new is None else (known or 0) + new


def _shown(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"
