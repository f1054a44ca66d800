"""Send one model's chat requests to a server, and count tokens and cost."""

import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field
from pydantic_core import from_json

from ...types.frozen import Frozen
from ..generation import sampling_seed
from .attempts import UNSUPPORTED, Retrier
from .client import secrets_of
from .messages import PrefillMode, request_flags
from .replies import Reply

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["EXACT", "Chat", "Price", "Usage", "same_model"]


logger = logging.getLogger(__name__)

_Amount = Annotated[float, Field(ge=0)]


class Price(Frozen):
    """Cost of a million tokens, in any one currency.

    Attributes:
        prompt, completion: of prompt tokens and of generated tokens.
        cached: of prompt tokens in the server's cache; None = the same as `prompt`.
    """

    prompt: _Amount
    completion: _Amount
    cached: _Amount | None = None


class Usage(Frozen):
    """Tokens as the server counted them; None = never counted.

    Attributes:
        requests: requests that were answered.
        prompt_tokens: tokens sent, images included.
        cached_tokens: those of them in the server's cache; some servers report them only if there are any, so a reply
            without the number adds none.
        completion_tokens: tokens generated.
        cost: in the currency of the prices, cached tokens at full price if their number is unknown; None = no prices
            were given, or a reply did not count its tokens.

    Example:
        >>> print(Usage(requests=2, prompt_tokens=5200, cached_tokens=4000, completion_tokens=310, cost=0.0123))
        2 requests, 5,200 prompt tokens (4,000 cached), 310 generated, cost 0.0123
        >>> print(Usage(requests=2, prompt_tokens=5200, completion_tokens=310))
        2 requests, 5,200 prompt tokens (cached: unknown), 310 generated
    """

    requests: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None

    def plus(self, reply: Reply, price: Price | None) -> "Usage":
        """Return this and one more reply."""
        return Usage(
            requests=self.requests + 1,
            prompt_tokens=_sum(self.prompt_tokens, reply.prompt_tokens),
            cached_tokens=_sum(self.cached_tokens, reply.cached_tokens),
            completion_tokens=_sum(self.completion_tokens, reply.completion_tokens),
            cost=self.cost if price is None else self._cost_with(reply, price),
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
        cached = "cached: unknown" if self.cached_tokens is None else f"{self.cached_tokens:,} cached"
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


_SEED_BITS = 31  # some servers keep a seed in 32 bits
EXACT = "logprob_token_ids"
"""The request field with the ids of the tokens whose log-probabilities to return."""

_NO_SUCH_PATH = range(500, 600)  # sent by some servers for unknown paths

Found = TypeVar("Found")


class Chat:
    """Sends chat requests for one model to one server.

    Args:
        client: the client.
        model: the model's name at the server.
        generation: sampling parameters; those that are None are left out.
        extra_body: other fields of each request.
        top_logprobs: alternatives to request per position; None = none.
        price: token prices.
        max_retries: maximum number of retries per request.

    Attributes:
        usage: usage so far.
        limit: name of the field that limits the number of generated tokens.
        secrets, error_text: what is hidden; an error and its cause as text without it.
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
        self.usage = Usage()
        self._answered_as: set[str] = set()
        self._lock = threading.Lock()
        self.secrets = secrets_of(client, [generation, extra_body])
        self.error_text = self.secrets.error_text
        self._retries = Retrier(max_retries, client.base_url.host, self.error_text)

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        mode: PrefillMode,
        fields: Mapping[str, Any],
        unsupported: Collection[int] = (),
    ) -> Reply:
        """Send a request, with retries, and return the reply.

        Args:
            messages: the chat.
            mode: how its last message is continued.
            fields: other fields of the request; with `EXACT` among them, steps are read accordingly.
            unsupported: see `Retrier.run`.
        """
        logprobs = {} if self.top_logprobs is None else {"logprobs": True, "top_logprobs": self.top_logprobs}
        target = {"model": self.model, "messages": list(messages)}
        body = {**target, **self._extra_body, **logprobs, **fields, **request_flags(messages, mode)}
        # Read as text, since the client's own request and reply types take longer than everything else.
        text = self._retries.run(lambda: self.client.post("/chat/completions", cast_to=str, body=body), unsupported)
        try:
            completion = from_json(text)
        except ValueError as error:
            raise ValueError(f"expected a chat completion as JSON, got {text[:200]!r}") from error
        reply = Reply.of(completion, exact=EXACT in fields)
        with self._lock:
            self.usage = self.usage.plus(reply, self._price)
        self._compare_names(reply.model)
        return reply

    def try_request(
        self, messages: Sequence[Mapping[str, Any]], fields: Mapping[str, Any], find: Callable[[Reply], Found]
    ) -> Found | None:
        """Return `find(reply)` for a one-token reply; None = the server does not support the request."""
        from openai import APIStatusError

        try:
            return find(self.ask_greedily(messages, "last_message", 1, fields, UNSUPPORTED))
        except APIStatusError as error:
            if error.status_code not in UNSUPPORTED:
                raise
            return None

    def fetch(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the content of a path at the server's root, after posting a body if given; None = no such path.

        The official client sends it, with its key, headers and timeouts.
        """
        from openai import APIStatusError

        base = self.client.base_url
        url = str(base.copy_with(raw_path=(base.path.rstrip("/").removesuffix("/v1") + path).encode()))

        def send() -> Any:
            if body is None:
                return self.client.get(url, cast_to=object)
            return self.client.post(url, cast_to=object, body=dict(body))

        try:
            return self._retries.run(send, _NO_SUCH_PATH)
        except APIStatusError:
            return None

    def ask_greedily(
        self,
        messages: Sequence[Mapping[str, Any]],
        mode: PrefillMode,
        max_tokens: int,
        fields: Mapping[str, Any] | None = None,
        unsupported: Collection[int] = (),
    ) -> Reply:
        """Request greedy decoding; see `ask`."""
        settings = self.settings() | {self.limit: max_tokens}
        greedy = {"temperature": 0} if "temperature" in settings else {}
        return self.ask(messages, mode, settings | greedy | dict(fields or {}), unsupported)

    def settings(self) -> dict[str, Any]:
        """Return the sampling parameters without the seed."""
        return {name: value for name, value in self._generation.items() if value is not None and name != "seed"}

    def sampling(self, key: tuple[str, str, int]) -> dict[str, Any]:
        """Return the sampling parameters with the seed of a sample, condition and draw, if decoding samples."""
        settings, seed = self.settings(), self._generation["seed"]
        samples = settings.get("temperature") != 0 and seed is not None
        return settings | ({"seed": sampling_seed(seed, key, _SEED_BITS)} if samples else {})

    def _compare_names(self, answered_as: str | None) -> None:
        if answered_as is None or same_model(self.model, answered_as):
            return
        with self._lock:
            if answered_as in self._answered_as:
                return
            self._answered_as.add(answered_as)
        logger.warning(
            "requested the model %r, the server answers as %r; some servers answer to any name",
            self.model,
            answered_as,
        )


def same_model(requested: str, reported: str) -> bool:
    """Return whether two names may be of one model: without folders and file types, the second may extend the first.

    Example:
        >>> same_model("Qwen/Qwen2.5-VL-7B-Instruct", "/models/qwen2.5-vl-7b-instruct-q4_k_m.gguf")
        True
        >>> same_model("gpt-x", "gpt-x-2025-01-01"), same_model("gpt-x-mini", "gpt-x")
        (True, False)
    """
    wanted, found = _plain_name(requested), _plain_name(reported)
    return wanted == found or re.match(rf"{re.escape(wanted)}[^a-z0-9]", found) is not None


def _plain_name(name: str) -> str:
    last = re.split(r"[/\\]", name.strip().rstrip("/\\").lower())[-1]
    # Routers mark a variant (":free", "@latest"); "-latest" stands for a date.
    return re.sub(r"(?:[:@][^:@]*|-latest|\.gguf)$", "", last)
