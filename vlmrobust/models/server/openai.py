"""Run vision-language models behind an OpenAI-compatible server."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from math import inf
from typing import Any, Literal, get_args

from pydantic import SecretStr

from ...prompting import SpecialTokens
from ...secrecy import without_secrets
from ...types import Prompt, Response, Style
from ..base import RefusedError, results_of
from ..response_building import forced_text, shown_letters
from .attempts import UNSUPPORTED
from .capabilities import ServerCheck, check_server
from .chat import Chat, Price, Usage
from .client import Pool, make_client
from .continuation import Continuation
from .messages import ContinuationMode, PrefillMode, SharedUrls, data_url, messages_of
from .readout import PROMPT_LOGPROBS, LetterReadout, OptionTexts, PromptScorer
from .replies import response_of
from .tokens import Step

__all__ = ["OpenAIModel"]

logger = logging.getLogger(__name__)

_LONG_RUN = 64  # prompts from which a run is worth a check of the server
_UNAVAILABLE = (502, 503, 504)  # sent by proxies in front of a server that is not up
_RESERVED = ("model", "messages", "n", "stream", "logprobs", "top_logprobs", "logprob_token_ids")


class OpenAIModel:
    """A vision-language model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp or a hosted service.

    Needs `pip install vlmrobust[api]`. Images are sent as data URLs. Decoding is greedy unless `generation` sets
    otherwise. Letter probabilities come from the log-probabilities of the token that contains the answer letter: exact
    where the server returns the log-probabilities of requested token ids (vLLM), else from its top k, and then
    `logprob_floor` bounds all other tokens. Token entropy needs the whole vocabulary and is not available.

    A request that fails for good becomes a row with status `error`, and the run continues. A wrong key (401), an
    unknown model or path (404) and repeated connection failures end the run.

    Args:
        model: the model's name at the server.
        base_url: the server's address, such as `http://localhost:8000/v1`; None = `OPENAI_BASE_URL`, or OpenAI's.
        api_key: None = `OPENAI_API_KEY`. It is only sent to the server: never printed, put in errors or in
            `identity()`.
        generation: sampling parameters, under the server's names; default `max_tokens` 512 and `temperature` 0; None
            omits one. `seed` keys the seeds by sample, condition and draw, sent if the temperature is not 0; servers
            may ignore them.
        extra_body: other fields of each request, such as `{"chat_template_kwargs": {"enable_thinking": False}}`.
        top_logprobs: tokens to request per position; most servers allow 20; None = none.
        prefill: how to prefill the assistant's turn: `continue_final_message` (vLLM, SGLang, llama.cpp), `prefix`
            (DeepSeek), `last_message` (an assistant message alone), `user_text` (quoted in the user's message, for
            servers without prefill), or `auto`: the first of `continue_final_message` and `last_message` that passes a
            test, else `user_text` with a warning.
        tokenizer: the checkpoint's (name, folder, tokenizer or processor). It gives all tokens of the letters, and the
            special tokens that are made inert in data. None = the letters' tokens come from the server's `/tokenize`,
            and the special tokens are those of well-known families.
        price: cost of a million tokens: `prompt`, `completion` and, if it differs, `cached`.
        concurrency: simultaneous requests. Choose many for an engine that batches; for a server with fewer slots
            (llama.cpp) or a rate limit, as many as it allows.
        max_retries: retries of a request that failed temporarily (no connection, 408, 409, 429, 5xx), after 1, 2, 4,
            8, 16 … seconds, or after the server's `Retry-After`.
        timeout: seconds per attempt, from the first byte sent to the last byte read.

    Raises:
        ValueError: `generation` or `extra_body` sets a reserved field, or `prefill` or `concurrency` is invalid.

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
        prefill: PrefillMode | Literal["auto"] = "auto",
        tokenizer: Any = None,
        price: Mapping[str, float] | None = None,
        concurrency: int = 64,
        max_retries: int = 5,
        timeout: float = 300.0,
    ) -> None:
        settings = dict(generation or {})
        limit = {} if "max_completion_tokens" in settings else {"max_tokens": 512}
        self.generation: dict[str, Any] = {**limit, "temperature": 0, "seed": 0, **settings}
        self.extra_body = dict(extra_body or {})
        for field, names in (("generation", settings), ("extra_body", self.extra_body)):
            for name in (*_RESERVED, *(self.generation if field == "extra_body" else ())):
                if name in names:
                    raise ValueError(f"field {field!r}: {name!r} is reserved or set elsewhere; remove it")
        if prefill not in (modes := (*get_args(PrefillMode), "auto")):
            raise ValueError(f"field 'prefill': expected one of {', '.join(map(repr, modes))}, got {prefill!r}")
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
        self._continuation = Continuation(partial(self._chat.ask_greedily, unsupported=UNSUPPORTED), prefill)
        self._letters = LetterReadout(self._chat, tokenizer)
        self._option_texts = OptionTexts(self._chat)
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
        """Requests, tokens and cost so far, including the server check; failed requests are not counted."""
        return self._chat.usage

    @property
    def special_tokens(self) -> SpecialTokens:
        """Special tokens of the given tokenizer, or of well-known families; made inert in prompts."""
        return self._letters.special_tokens

    def identity(self) -> dict[str, Any]:
        """Return what determines the responses: model name and settings, but not the server's address."""
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": self.model,
            "generation": without_secrets(self.generation),
            "extra_body": without_secrets(self.extra_body),
            "top_logprobs": self.top_logprobs,
            "prefill": self.prefill,
        }

    def check(self, style: Style | None = None) -> ServerCheck:
        """Probe the server's capabilities with about twenty short requests and return the result.

        A long run does this once before its first prompt and logs a one-line summary (`expect`).

        Args:
            style: style whose tags to look for; None = the default style.

        Raises:
            RefusedError: the server does not answer, or its tokens differ from the given tokenizer's.
        """
        from openai import OpenAIError

        try:
            return check_server(self._chat, self._continuation, self._letters, style or Style())
        except (OpenAIError, ValueError) as error:
            raise self._uncheckable(error) from None

    def expect(self, prompts: int, style: Style) -> None:
        """Announce the number of prompts; a long run checks the server once before its first prompt; see `Model`."""
        if prompts >= _LONG_RUN and not self._is_checked:
            self._unchecked = style

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, `concurrency` at a time; see `Model.respond`.

        Raises:
            RefusedError: the server rejects the key, model or address, cannot be reached, or its tokens differ from the
                given tokenizer's.
        """
        return results_of(map(self.ask, prompts))

    def ask(self, prompt: Prompt) -> Future[Response]:
        """Queue a prompt; see `ConcurrentModel.ask`.

        If the server refuses one prompt, all prompts queued so far are refused without being sent.
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
                self._refusals = []  # later prompts try again
                raise

        return self._pool.submit(answer)

    def _answer(self, prompt: Prompt, images: Sequence[str]) -> Response:
        from openai import AuthenticationError, NotFoundError, OpenAIError

        try:
            self._check_first()
            mode = self._mode(prompt)
            read = None if mode == "user_text" else self._read(prompt, images, mode)
            return read or self._with_option_texts(prompt, images, self._write(prompt, images, mode))
        except (AuthenticationError, NotFoundError) as error:
            host = self._client.base_url.host
            raise RefusedError(
                f"{self!r}: expected a key, a model and a path that {host} knows, got {self._chat.error_text(error)}"
            ) from None
        except (OpenAIError, ValueError) as error:
            return Response.failed(prompt, self._chat.error_text(error))

    def _check_first(self) -> None:
        """Check the server if a check is pending; all other requests wait for it.

        Raises:
            RefusedError: the server is not up, or its tokens differ from the given tokenizer's.
        """
        from openai import APIStatusError, OpenAIError

        with self._checking:
            if self._unchecked is None:
                return
            style, self._unchecked, self._is_checked = self._unchecked, None, True
            try:
                found = check_server(self._chat, self._continuation, self._letters, style)
            except (OpenAIError, ValueError) as error:
                if isinstance(error, APIStatusError) and error.status_code in _UNAVAILABLE:
                    raise self._uncheckable(error) from None
                # Any other fault shows in the rows.
                logger.warning("%r: the server could not be checked: %s", self, self._chat.error_text(error))
                return
            logger.info("%r: %s", self, found.summary())
            for warning in found.warnings:
                logger.warning("%r: %s", self, warning)

    def _uncheckable(self, error: Exception) -> RefusedError:
        host = self._client.base_url.host
        return RefusedError(f"{self!r}: {host} could not be checked: {self._chat.error_text(error)}")

    def _mode(self, prompt: Prompt) -> PrefillMode:
        """Return how to send the prefill, or the forced text if there is no prefill."""
        if not prompt.prefill:
            return "last_message"
        tags = prompt.style.think_tags
        return self._continuation.mode(tags, closed=tags[1] in prompt.prefill + (forced_text(prompt) or ""))

    def _write(self, prompt: Prompt, images: Sequence[str], mode: PrefillMode) -> Response:
        """Let the model generate, and read the letters at the token of its answer letter."""
        key = (prompt.sample.id, prompt.condition, prompt.draw)
        messages = messages_of(prompt, images, prompt.prefill, mode)
        reply = self._chat.ask(messages, mode, self._chat.sampling(key) | self._letters.request_fields(prompt))
        if mode == "user_text":
            # Text in the user's message is no part of the assistant's turn.
            return response_of(prompt.replace(prefill=""), reply, "user_text")
        # Without tokens, ask whether the server repeats the prefill in its reply.
        unknown = bool(prompt.prefill) and not reply.steps
        echoed = unknown and self._continuation.echoes(prompt.style.think_tags, mode)
        return response_of(prompt, reply, "assistant_prefill", echoed=echoed)

    def _with_option_texts(self, prompt: Prompt, images: Sequence[str], response: Response) -> Response:
        """Score the options' texts if the model answered with text."""
        mode = self._scoring_mode(prompt) if response.carrier == "assistant_prefill" else None
        if mode is None:
            return response
        return self._option_texts.with_logprobs(prompt, response, self._prompt_scorer(prompt, images, mode))

    def _scoring_mode(self, prompt: Prompt) -> ContinuationMode | None:
        """Return the prefill mode for scoring texts; None = the server cannot score them."""
        style = prompt.style
        if style.answer_by != "text" or not style.answer_closer or not self._option_texts.is_offered():
            return None
        mode = self._continuation.mode(style.think_tags, closed=True)
        return None if mode == "user_text" else mode

    def _prompt_scorer(self, prompt: Prompt, images: Sequence[str], mode: ContinuationMode) -> PromptScorer:
        return lambda turn: (
            self._chat.ask_greedily(messages_of(prompt, images, turn, mode), mode, 1, PROMPT_LOGPROBS).prompt
        )

    def _read(self, prompt: Prompt, images: Sequence[str], mode: ContinuationMode) -> Response | None:
        """Read the letters without decoding; None = decoding is needed, or the server returns no letter."""
        if prompt.style.answer_by == "text":
            scoring = self._scoring_mode(prompt)
            if scoring is None:
                return None
            return self._option_texts.read(prompt, self._prompt_scorer(prompt, images, scoring))
        forced = forced_text(prompt)
        if forced is None or self.top_logprobs is None:
            return None

        def steps_after(assistant: str, count: int, fields: Mapping[str, Any]) -> Sequence[Step]:
            return self._chat.ask_greedily(messages_of(prompt, images, assistant, mode), mode, count, fields).steps

        read = self._letters.read(
            prompt, forced, steps_after, lambda: self._continuation.mergeable(forced, prompt.style.think_tags, mode)
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
