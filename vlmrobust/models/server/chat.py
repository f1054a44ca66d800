"""The requests to one model at one server: what they say, who answered, and what they cost."""

import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field
from pydantic_core import from_json

from ...types.frozen import Frozen
from ..sampling import sampling_seed
from .attempts import Attempts
from .client import secrets_of
from .messages import Way, request_flags
from .replies import Reply

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["EXACT", "NOT_UNDERSTOOD", "Chat", "Price", "Usage", "same_model"]


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


logger = logging.getLogger(__name__)

_SEED_BITS = 31  # some servers keep a seed in 32 bits
EXACT = "logprob_token_ids"
"""The field of a request that names the tokens whose log-probabilities come back."""

NOT_UNDERSTOOD = (400, 422, 500, 501)
"""How servers say that they do not understand a request; a template that raises is a 500 with some."""

_NO_SUCH_PATH = range(500, 600)  # a server that knows no better says so in this way, too

Found = TypeVar("Found")


class Chat:
    """Asks one model at one server.

    Args:
        client: the client.
        model: the model's name at the server.
        generation: what requests say about sampling; what is None is left out.
        extra_body: what else they say.
        top_logprobs: how many tokens are asked for at each place; None = none.
        price: what tokens cost.
        max_retries: how often a request is sent again.
    """

    def __init__(
        self,
        client: "OpenAI",
        model: str,
        *,
        generation: Mapping[str, Any],
        extra_body: Mapping[str, Any],
        top_logprobs: int | None,
        price: Price | None,
        max_retries: int,
    ) -> None:
        self.client = client
        self.model = model
        self.top_logprobs = top_logprobs
        self.limit = "max_completion_tokens" if "max_completion_tokens" in generation else "max_tokens"
        self._generation = generation
        self._extra_body = extra_body
        self._price = price
        self._usage = Usage()
        self._answered_as: set[str] = set()
        self._lock = threading.Lock()
        self.secrets = secrets_of(client, [generation, extra_body])
        self._attempts = Attempts(max_retries, client.base_url.host, self.told)

    @property
    def usage(self) -> Usage:
        """What was answered so far."""
        with self._lock:
            return self._usage

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        way: Way,
        said: Mapping[str, Any],
        doubtful: Collection[int] = (),
    ) -> Reply:
        """Ask until there is a reply.

        Args:
            messages: the chat.
            way: how its last message is continued.
            said: what the request says besides; with `EXACT` in it, steps are read accordingly.
            doubtful: see `Attempts.of`.
        """
        reply = Reply.of(self._complete(messages, way, said, doubtful), exact=EXACT in said)
        with self._lock:
            self._usage = self._usage.plus(reply, self._price)
        self._compare_names(reply.model)
        return reply

    def tried(
        self, messages: Sequence[Mapping[str, Any]], said: Mapping[str, Any], found: Callable[[Reply], Found]
    ) -> Found | None:
        """Return what is found in the first token's reply to a request that a server may not understand, else None."""
        from openai import APIStatusError

        try:
            return found(self.ask(messages, "last_message", self._greedy(1) | dict(said), NOT_UNDERSTOOD))
        except APIStatusError as error:
            if error.status_code not in NOT_UNDERSTOOD:
                raise
            return None

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a body to a path at the root of the server, and return its reply; None = it has no such path.

        By the client, so that its key, headers and timeouts are the same.
        """
        return self._elsewhere(path, body)

    def get(self, path: str) -> Any:
        """Return what stands at a path at the root of the server; None = nothing."""
        return self._elsewhere(path, None)

    def _elsewhere(self, path: str, body: Mapping[str, Any] | None) -> Any:
        from openai import APIStatusError

        base = self.client.base_url
        url = str(base.copy_with(raw_path=(base.path.rstrip("/").removesuffix("/v1") + path).encode()))

        def send() -> Any:
            if body is None:
                return self.client.get(url, cast_to=object)
            return self.client.post(url, cast_to=object, body=dict(body))

        try:
            return self._attempts.of(send, _NO_SUCH_PATH)
        except APIStatusError:
            return None

    def _complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        way: Way,
        said: Mapping[str, Any],
        doubtful: Collection[int],
    ) -> Any:
        logprobs = {} if self.top_logprobs is None else {"logprobs": True, "top_logprobs": self.top_logprobs}
        named = {"model": self.model, "messages": list(messages)}
        body = {**named, **self._extra_body, **logprobs, **said, **request_flags(messages, way)}
        # As text: the client's own types, of requests and replies, take longer than all the rest.
        reply = self._attempts.of(lambda: self.client.post("/chat/completions", cast_to=str, body=body), doubtful)
        try:
            return from_json(reply)
        except ValueError as error:
            raise ValueError(f"expected a chat completion as JSON, got {reply[:200]!r}") from error

    def ask_greedily(
        self, messages: Sequence[Mapping[str, Any]], way: Way, max_tokens: int, said: Mapping[str, Any] | None = None
    ) -> Reply:
        """Ask for the likeliest tokens."""
        return self.ask(messages, way, self._greedy(max_tokens) | dict(said or {}))

    def probe(self, messages: Sequence[Mapping[str, Any]], way: Way, max_tokens: int) -> Reply:
        """Ask likewise what the server may not understand."""
        return self.ask(messages, way, self._greedy(max_tokens), NOT_UNDERSTOOD)

    def _greedy(self, max_tokens: int) -> dict[str, Any]:
        settings = self.settings() | {self.limit: max_tokens}
        return settings | ({"temperature": 0} if "temperature" in settings else {})

    def settings(self) -> dict[str, Any]:
        """Return what requests say about sampling, without a seed."""
        return {name: value for name, value in self._generation.items() if value is not None and name != "seed"}

    def sampling(self, key: tuple[str, str, int]) -> dict[str, Any]:
        """Return the same with the seed of a sample, condition and draw, where one is of use."""
        said, seed = self.settings(), self._generation["seed"]
        samples = said.get("temperature") != 0 and seed is not None
        return said | ({"seed": sampling_seed(seed, key, _SEED_BITS)} if samples else {})

    def told(self, error: Exception) -> str:
        """Return an error as a text, with its cause and without what is secret."""
        return self.secrets.error_text(error)

    def _compare_names(self, answered_as: str | None) -> None:
        if answered_as is None or same_model(self.model, answered_as):
            return
        with self._lock:
            if answered_as in self._answered_as:
                return
            self._answered_as.add(answered_as)
        logger.warning(
            "asked for the model %r, the server answers as %r; some servers answer whatever name they are asked for",
            self.model,
            answered_as,
        )


def same_model(asked: str, answered: str) -> bool:
    """Return whether two names may be of one model: folders and file types apart, one may say more than the other.

    Example:
        >>> same_model("Qwen/Qwen2.5-VL-7B-Instruct", "/models/qwen2.5-vl-7b-instruct-q4_k_m.gguf")
        True
        >>> same_model("gpt-x", "gpt-x-2025-01-01"), same_model("gpt-x-mini", "gpt-x")
        (True, False)
    """
    wanted, found = _plain_name(asked), _plain_name(answered)
    return wanted == found or re.match(rf"{re.escape(wanted)}[^a-z0-9]", found) is not None


def _plain_name(name: str) -> str:
    last = re.split(r"[/\\]", name.strip().rstrip("/\\").lower())[-1]
    # Routers mark a variant (":free", "@latest"); "-latest" stands for a date.
    return re.sub(r"(?:[:@][^:@]*|-latest|\.gguf)$", "", last)
