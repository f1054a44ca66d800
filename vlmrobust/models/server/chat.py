"""The requests to one model at one server: what they say, what they cost, and who answered."""

import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import from_json

from ..sampling import sampling_seed
from .attempts import Attempts
from .client import secrets_of
from .messages import Way, request_flags
from .replies import Reply
from .usage import Price, Usage

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["EXACT", "NOT_UNDERSTOOD", "Chat", "same_model"]

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
