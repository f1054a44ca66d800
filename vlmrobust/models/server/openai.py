"""Any OpenAI-compatible server."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from typing import Any, Literal, get_args

from pydantic import SecretStr

from ...prompting import KNOWN_TOKENS, SpecialTokens
from ...secrecy import without_secrets
from ...types import Prompt, Response
from ...types.prompt import made_of_images
from ..base import RefusedError
from ..reading import forced_text, shown_letters
from ..sampling import sampling_seed
from .client import make_client, secrets_of
from .continuation import Continuation
from .images import data_url
from .messages import Continuing, Way, messages_of, request_flags
from .replies import Reply, Step, response_of
from .usage import Price, Usage

__all__ = ["OpenAIModel"]

_SEED_BITS = 31  # some servers keep a seed in 32 bits
_OURS = ("model", "messages", "n", "stream", "logprobs", "top_logprobs")


class OpenAIModel:
    """A vision-language model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, a hosted one.

    Needs `pip install vlmrobust[api]`. Images go as data URLs. Decoding is greedy unless `generation` says otherwise.
    Letters are read from the log-probabilities at the token that holds the answer's letter, where the server returns
    them; it returns its top k, and `logprob_floor` bounds every other token. Token entropy, a sum over all tokens, is
    not known then and left out.

    A request that failed for good makes a row of status `error`, and the others go on. A wrong key (401), and a model
    or an address that is not there (404), end the run.

    Args:
        model: the model's name at the server.
        base_url: the server's address, such as `http://localhost:8000/v1`; None = `OPENAI_BASE_URL`, or OpenAI's.
        api_key: None = `OPENAI_API_KEY`. It is sent to the server and is nowhere else: neither shown, nor in errors,
            nor part of `identity()`.
        generation: what requests say about sampling, in the server's own words; default `max_tokens` 512 and
            `temperature` 0, and a value of None leaves one out. `seed` keys the seeds that are sent where the
            temperature is not 0, by sample, condition and draw; whether they are heeded is up to the server.
        extra_body: what else requests say, such as `{"chat_template_kwargs": {"enable_thinking": False}}`.
        top_logprobs: how many tokens are asked for at each place; most servers allow 20; None = none.
        prefill: how the assistant's turn is begun: `continue_final_message` (vLLM, SGLang, llama.cpp), `prefix`
            (DeepSeek), `last_message` (the message alone is enough), `user_text` (put into the user's text in
            words, where a server cannot), or `auto`: the first of `continue_final_message` and `last_message` that a
            test finds to work, or else `user_text`, with a warning.
        price: what a million tokens cost: `prompt`, `completion` and, if it differs, `cached`.
        concurrency: requests at a time.
        max_retries: of a request that failed in passing (no connection, 408, 409, 429, 5xx), after a growing wait, or
            after the one that the server asks for.
        timeout: seconds for one request.

    Raises:
        ValueError: `generation` holds what is decided here, or `prefill` is none of these.

    Example:
        >>> model = OpenAIModel("Qwen/Qwen2.5-VL-7B-Instruct", "http://localhost:8000/v1", api_key="secret")
        >>> model
        OpenAIModel('Qwen/Qwen2.5-VL-7B-Instruct')
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | SecretStr | None = None,
        *,
        generation: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        top_logprobs: int | None = 20,
        prefill: Way | Literal["auto"] = "auto",
        price: Mapping[str, float] | None = None,
        concurrency: int = 16,
        max_retries: int = 5,
        timeout: float = 300.0,
    ) -> None:
        given = dict(generation or {})
        self._limit = "max_completion_tokens" if "max_completion_tokens" in given else "max_tokens"
        self.generation: dict[str, Any] = {self._limit: 512, "temperature": 0, "seed": 0} | given
        self.extra_body = dict(extra_body or {})
        for field, names in (("generation", given), ("extra_body", self.extra_body)):
            for name in (*_OURS, *(self.generation if field == "extra_body" else ())):
                if name in names:
                    raise ValueError(f"field {field!r}: expected other names than {name!r}, which is set elsewhere")
        if prefill not in (ways := (*get_args(Way), "auto")):
            raise ValueError(f"field 'prefill': expected one of {', '.join(map(repr, ways))}, got {prefill!r}")
        if concurrency < 1:
            raise ValueError(f"field 'concurrency': expected at least 1, got {concurrency}")
        self.model = model
        self.prefill = prefill
        self.concurrency = concurrency
        self.top_logprobs = top_logprobs
        self._client = make_client(
            type(self).__name__, base_url=base_url, api_key=api_key, max_retries=max_retries, timeout=timeout
        )
        self._secrets = secrets_of(self._client, [self.generation, self.extra_body])
        self._continuation = Continuation(self._ask_greedily, prefill)
        self._price = None if price is None else Price(**price)
        self._usage = Usage()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    @property
    def usage(self) -> Usage:
        """Requests, tokens and cost so far, tests of the server included; what failed is not counted."""
        with self._lock:
            return self._usage

    @property
    def special_tokens(self) -> SpecialTokens:
        """Those of well-known families, which are made inert in what a prompt shows: the tokenizer is not at hand."""
        return KNOWN_TOKENS

    def identity(self) -> dict[str, Any]:
        """Return what decides the answers: the model's name and what it is told. A server may move."""
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": self.model,
            "generation": without_secrets(self.generation),
            "extra_body": without_secrets(self.extra_body),
            "top_logprobs": self.top_logprobs,
            "prefill": self.prefill,
        }

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, several at a time; see `Model.respond`.

        Raises:
            RefusedError: the server does not know the key, the model or the address.
        """
        prompts = [prompt.with_inert(self.special_tokens) for prompt in prompts]
        urls: dict[Any, str] = {}
        refusals: list[RefusedError] = []

        def answer(prompt: Prompt, images: Sequence[str]) -> Response:
            if refusals:
                raise refusals[0]  # what was refused to one is not asked by the next
            try:
                return self._answer(prompt, images)
            except RefusedError as error:
                refusals.append(error)
                raise

        with ThreadPoolExecutor(self.concurrency) as pool:

            def begin(prompt: Prompt) -> Future[Response] | Response:
                try:
                    return pool.submit(answer, prompt, made_of_images(prompt, data_url, urls))
                except (OSError, ValueError) as error:
                    return Response.failed(prompt, error)

            try:
                begun = [begin(prompt) for prompt in prompts]
                return [answer if isinstance(answer, Response) else answer.result() for answer in begun]
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what is not on its way yet is not sent
                raise

    def _answer(self, prompt: Prompt, images: Sequence[str]) -> Response:
        from openai import AuthenticationError, NotFoundError, OpenAIError

        try:
            way = self._continuation.way(prompt.style.think_tags) if prompt.prefill else "last_message"
            read = None if way == "user_text" else self._read(prompt, images, way)
            return read or self._write(prompt, images, way)
        except (AuthenticationError, NotFoundError) as error:
            host = self._client.base_url.host
            told = f"{self!r}: expected a key, a model and a path that {host} knows, got {self._told(error)}"
            raise RefusedError(told) from None
        except (OpenAIError, ValueError) as error:
            return Response.failed(prompt, self._told(error))

    def _write(self, prompt: Prompt, images: Sequence[str], way: Way) -> Response:
        """Let the model write, and read the letters where it wrote its answer's."""
        key = (prompt.sample.id, prompt.condition, prompt.draw)
        messages = messages_of(prompt, images, prompt.prefill, way)
        reply = self._ask(messages, way, self._sampling(key))
        # What was put into the user's words is no part of the assistant's turn.
        carried = prompt.replace(prefill="") if way == "user_text" else prompt
        return response_of(carried, reply, "user_text" if way == "user_text" else "assistant_prefill")

    def _read(self, prompt: Prompt, images: Sequence[str], way: Continuing) -> Response | None:
        """Read the letters where nothing is left to think; None = there is, or the server returns none of them."""
        forced = forced_text(prompt) if prompt.style.answer_by == "letter" else None
        if forced is None or self.top_logprobs is None:
            return None
        rest = self._continuation.mergeable(forced, prompt.style.think_tags, way)
        turn = prompt.prefill + forced.removesuffix(rest)

        def steps_after(assistant: str, count: int) -> tuple[Step, ...]:
            return self._ask_greedily(messages_of(prompt, images, assistant, way), way, count).steps

        first, *others = steps_after(turn, 2 if rest else 1) or (None,)
        if first is None:
            return None
        if rest and rest.encode() in first.logprobs:
            second = others if first.token == rest.encode() and others else steps_after(turn + rest, 1)
            if not second:
                return None
            letters, floor = first.letters_through(rest.encode(), second[0])
        else:
            letters, floor = first.letters(rest.encode()), first.floor
        shown = shown_letters(letters, prompt)
        if max(shown) == -inf:
            return None
        return Response.parse(
            prompt,
            f"{forced}{prompt.style.letters[shown.index(max(shown))]}",
            finish_reason="readout",
            option_logprobs=shown,
            readout="direct" if prompt.style.mode == "direct" else "fixed_prefix",
            n_tokens=0,
            logprob_floor=floor,
        )

    def _ask(self, messages: Sequence[Mapping[str, Any]], way: Way, said: Mapping[str, Any]) -> Reply:
        logprobs = {} if self.top_logprobs is None else {"logprobs": True, "top_logprobs": self.top_logprobs}
        body = {**self.extra_body, **logprobs, **said, **request_flags(messages, way)}
        sent: Any = list(messages)
        reply = Reply.of(self._client.chat.completions.create(model=self.model, messages=sent, extra_body=body))
        with self._lock:
            self._usage = self._usage.plus(reply, self._price)
        return reply

    def _ask_greedily(self, messages: Sequence[Mapping[str, Any]], way: Way, max_tokens: int) -> Reply:
        said = self._settings() | {self._limit: max_tokens}
        return self._ask(messages, way, said | ({"temperature": 0} if "temperature" in said else {}))

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in self.generation.items() if value is not None and name != "seed"}

    def _sampling(self, key: tuple[str, str, int]) -> dict[str, Any]:
        said, seed = self._settings(), self.generation["seed"]
        samples = said.get("temperature") != 0 and seed is not None
        return said | ({"seed": sampling_seed(seed, key, _SEED_BITS)} if samples else {})

    def _told(self, error: Exception) -> str:
        return self._secrets.error_text(error)
