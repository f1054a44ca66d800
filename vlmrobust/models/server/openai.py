"""Any OpenAI-compatible server."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from math import inf
from typing import Any, Literal, get_args

from pydantic import SecretStr

from ...prompting import SpecialTokens
from ...secrecy import without_secrets
from ...types import Prompt, Response, Style
from ..base import RefusedError
from ..reading import forced_text, shown_letters
from .chat import Chat, Price, Usage
from .check import ServerCheck, check_server
from .client import Pool, make_client
from .continuation import Continuation
from .letter_readout import Letters
from .messages import Continuing, SharedUrls, Way, data_url, messages_of
from .option_texts import FIELD, Forced, OptionTexts
from .replies import response_of
from .steps import Step

__all__ = ["OpenAIModel"]

logger = logging.getLogger(__name__)

_LONG_RUN = 64  # prompts, from which on a run is worth a check of the server
_NOT_UP = (502, 503, 504)  # what stands before a server says so for it
_OURS = ("model", "messages", "n", "stream", "logprobs", "top_logprobs", "logprob_token_ids")


class OpenAIModel:
    """A vision-language model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, a hosted one.

    Needs `pip install vlmrobust[api]`. Images go as data URLs. Decoding is greedy unless `generation` says otherwise.
    Letters are read from the log-probabilities at the token that holds the answer's letter: exactly, where the server
    returns those of tokens that it is told (vLLM), or else from its top k, and `logprob_floor` bounds all others. Token
    entropy, a sum over all tokens, is not known and left out.

    A request that failed for good makes a row of status `error`, and the others go on. A wrong key (401), a model or an
    address that is not there (404), and a server to which again and again no connection comes about end the run.

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
        tokenizer: the checkpoint's, as a name, a folder, a tokenizer or a processor, to know all tokens of the letters,
            and the special ones, which are made inert in data; None = the server's `/tokenize` is asked for the former,
            and the latter are those of well-known families.
        price: what a million tokens cost: `prompt`, `completion` and, if it differs, `cached`.
        concurrency: requests at a time: many, for an engine that batches by itself. Where a server has fewer places
            (llama.cpp's slots) or limits rates, as many as it has or allows.
        max_retries: of a request that failed in passing (no connection, 408, 409, 429, 5xx), after 1, 2, 4, 8, 16 …
            seconds, or after as many as the server asks for (`Retry-After`).
        timeout: seconds for one attempt, from the first byte sent to the last one read.

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
        tokenizer: Any = None,
        price: Mapping[str, float] | None = None,
        concurrency: int = 64,
        max_retries: int = 5,
        timeout: float = 300.0,
    ) -> None:
        given = dict(generation or {})
        limit = {} if "max_completion_tokens" in given else {"max_tokens": 512}
        self.generation: dict[str, Any] = {**limit, "temperature": 0, "seed": 0, **given}
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
        self._client = make_client(type(self).__name__, base_url=base_url, api_key=api_key, timeout=timeout)
        self._chat = Chat(
            self._client,
            model,
            generation=self.generation,
            extra_body=self.extra_body,
            top_logprobs=top_logprobs,
            price=None if price is None else Price(**price),
            max_retries=max_retries,
        )
        self._continuation = Continuation(self._chat.probe, prefill)
        self._letters = Letters(self._chat, tokenizer)
        self._texts = OptionTexts(self._chat)
        self._pool: Pool[Response] = Pool(concurrency)
        self._urls = SharedUrls(data_url)
        self._refusals: list[RefusedError] = []
        self._checking = threading.Lock()
        self._unchecked: Style | None = None
        self._is_checked = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    @property
    def usage(self) -> Usage:
        """Requests, tokens and cost so far, tests of the server included; what failed is not counted."""
        return self._chat.usage

    @property
    def special_tokens(self) -> SpecialTokens:
        """Those of the tokenizer that was given, or else of well-known families: made inert in what a prompt shows."""
        return self._letters.special_tokens

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

    def check(self, style: Style | None = None) -> ServerCheck:
        """Ask the server what it can do, in some twenty short requests, and return what was found out.

        Before a long run this happens of itself, once, and is logged in a line (`expect`).

        Args:
            style: whose tags are looked for; None = the default style.

        Raises:
            RefusedError: it does not answer, or its tokens are not those of the tokenizer that was given.
        """
        from openai import OpenAIError

        try:
            return check_server(self._chat, self._continuation, self._letters, style or Style())
        except (OpenAIError, ValueError) as error:
            host = self._client.base_url.host
            raise RefusedError(f"{self!r}: {host} could not be checked: {self._chat.told(error)}") from None

    def expect(self, prompts: int, style: Style) -> None:
        """Prepare for so many prompts: before the first of many the server is checked, once; see `Model`."""
        if prompts >= _LONG_RUN and not self._is_checked:
            self._unchecked = style

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, `concurrency` at a time; see `Model.respond`.

        Raises:
            RefusedError: the server does not know the key, the model or the address, nobody is there, or its tokens are
                not those of the tokenizer that was given.
        """
        asked = [self.ask(prompt) for prompt in prompts]
        try:
            return [future.result() for future in asked]
        except BaseException:
            for future in asked:
                future.cancel()  # what is not on its way yet is not sent
            raise

    def ask(self, prompt: Prompt) -> Future[Response]:
        """Take a prompt, to be answered when its turn comes; see `ConcurrentModel.ask`.

        Where the server refuses one prompt, what was asked until then is refused too, without being sent.
        """
        prompt = prompt.with_inert(self.special_tokens)
        urls, refusals = self._urls.of(prompt), self._refusals

        def answer() -> Response:
            if refusals:
                raise refusals[0]
            try:
                images = urls()
            except (OSError, ValueError) as error:
                return Response.failed(prompt, error)
            try:
                return self._answer(prompt, images)
            except RefusedError as error:
                refusals.append(error)
                self._refusals = []  # what is asked from now on finds out for itself
                raise

        return self._pool.submit(answer)

    def _answer(self, prompt: Prompt, images: Sequence[str]) -> Response:
        from openai import AuthenticationError, NotFoundError, OpenAIError

        try:
            self._check_first()
            way = self._way(prompt)
            read = None if way == "user_text" else self._read(prompt, images, way)
            return read or self._with_texts(prompt, images, self._write(prompt, images, way))
        except (AuthenticationError, NotFoundError) as error:
            host = self._client.base_url.host
            told = f"{self!r}: expected a key, a model and a path that {host} knows, got {self._chat.told(error)}"
            raise RefusedError(told) from None
        except (OpenAIError, ValueError) as error:
            return Response.failed(prompt, self._chat.told(error))

    def _check_first(self) -> None:
        """Check the server if that is still to be done; all that is asked waits for it.

        Raises:
            RefusedError: the server is not up, or its tokens are not those of the tokenizer that was given.
        """
        from openai import APIStatusError, OpenAIError

        with self._checking:
            if self._unchecked is None:
                return
            style, self._unchecked, self._is_checked = self._unchecked, None, True
            try:
                found = check_server(self._chat, self._continuation, self._letters, style)
            except (OpenAIError, ValueError) as error:
                if isinstance(error, APIStatusError) and error.status_code in _NOT_UP:
                    host = self._client.base_url.host
                    raise RefusedError(f"{self!r}: {host} could not be checked: {self._chat.told(error)}") from None
                # What else is wrong with the server, the rows say.
                logger.warning("%r: the server could not be checked: %s", self, self._chat.told(error))
                return
            logger.info("%r: %s", self, found.summary())
            for warning in found.warnings:
                logger.warning("%r: %s", self, warning)

    def _way(self, prompt: Prompt) -> Way:
        """Return how the prefill is carried, or what is forced where there is none."""
        if not prompt.prefill:
            return "last_message"
        tags = prompt.style.think_tags
        return self._continuation.way(tags, closed=tags[1] in prompt.prefill + (forced_text(prompt) or ""))

    def _write(self, prompt: Prompt, images: Sequence[str], way: Way) -> Response:
        """Let the model write, and read the letters where it wrote its answer's."""
        key = (prompt.sample.id, prompt.condition, prompt.draw)
        messages = messages_of(prompt, images, prompt.prefill, way)
        reply = self._chat.ask(messages, way, self._chat.sampling(key) | self._letters.said(prompt))
        if way == "user_text":
            # What was put into the user's words is no part of the assistant's turn.
            return response_of(prompt.replace(prefill=""), reply, "user_text")
        # Where there are no tokens to tell, the server itself says whether it shows the prefill once more.
        unknown = bool(prompt.prefill) and not reply.steps
        echoed = unknown and self._continuation.echoes(prompt.style.think_tags, way)
        return response_of(prompt, reply, "assistant_prefill", echoed=echoed)

    def _with_texts(self, prompt: Prompt, images: Sequence[str], response: Response) -> Response:
        """Score the options' texts where the model wrote its answer in words."""
        way = self._texts_way(prompt) if response.carrier == "assistant_prefill" else None
        return response if way is None else self._texts.completed(prompt, response, self._forced(prompt, images, way))

    def _texts_way(self, prompt: Prompt) -> Continuing | None:
        """Return how a turn is begun whose tokens' log-probabilities come back; None = they do not."""
        style = prompt.style
        if style.answer_by != "text" or not style.answer_closer or not self._texts.is_offered():
            return None
        way = self._continuation.way(style.think_tags, closed=True)
        return None if way == "user_text" else way

    def _forced(self, prompt: Prompt, images: Sequence[str], way: Continuing) -> Forced:
        return lambda turn: self._chat.ask_greedily(messages_of(prompt, images, turn, way), way, 1, FIELD).prompt

    def _read(self, prompt: Prompt, images: Sequence[str], way: Continuing) -> Response | None:
        """Read the letters where nothing is left to think; None = there is, or the server returns none of them."""
        if prompt.style.answer_by == "text":
            scores = self._texts_way(prompt)
            return None if scores is None else self._texts.read(prompt, self._forced(prompt, images, scores))
        forced = forced_text(prompt)
        if forced is None or self.top_logprobs is None:
            return None

        def steps_after(assistant: str, count: int, said: Mapping[str, Any]) -> Sequence[Step]:
            return self._chat.ask_greedily(messages_of(prompt, images, assistant, way), way, count, said).steps

        read = self._letters.read(
            prompt, forced, steps_after, lambda: self._continuation.mergeable(forced, prompt.style.think_tags, way)
        )
        if read is None:
            return None
        letters, floor = read
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
