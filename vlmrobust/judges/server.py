"""Judge thoughts with a language model behind an OpenAI-compatible server."""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, SecretStr
from torch import Tensor

from ..models.base import RefusedError
from ..models.server.attempts import Retrier
from ..models.server.client import make_client, secrets_of
from ..models.server.replies import Reply
from ..prompting import KNOWN_TOKENS, MARKS
from ..secrecy import Secrets, without_secrets
from ..types.frozen import Address, Settings, Told
from .base import MANY
from .letter_judge import LEFT_OUT, Case, LetterJudge, markup_pattern, neutralize, question_of

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["OpenAIJudge"]

_MARKUP = re.compile(f"{markup_pattern().pattern}|{KNOWN_TOKENS.pattern.pattern}")  # the server's vocabulary is unknown


class OpenAIJudge(LetterJudge, Told):
    """A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, …) that returns log-probabilities.

    Each request asks for one token with its `top_logprobs` most likely alternatives. Letters that are not returned
    count as probability 0, so that the mass is a lower bound. Needs `pip install vlmrobust[api]`.

    Attributes:
        model: the model's name on the server.
        base_url: the server's address; None = the client's default, or `OPENAI_BASE_URL`.
        api_key: None = `OPENAI_API_KEY`; it is neither shown nor part of `identity()`.
        top_logprobs: the number of tokens to return; most servers allow 20.
        max_thought_chars: the number of last characters shown of a longer thought, with a note.
        concurrency: the number of concurrent requests.
        max_retries: for temporary failures (no connection, 408, 409, 429, 5xx), after 1, 2, 4, 8, 16 … seconds, or
            after the delay that the server requests.
        timeout: seconds per attempt, from the first byte sent to the last one read.
        extra_body: further fields of the request, such as `{"chat_template_kwargs": {"enable_thinking": False}}`.
        min_mass, min_probability: as in `LetterJudge`.

    If a request fails permanently, its thought is unsure, with the error, and the others continue. After eight
    consecutive failures (or `concurrency`, if that is more), the remaining requests are not sent.

    Raises:
        RefusedError: the server rejects the key, the model or the address, or nothing could be judged.

    Example:
        >>> judge = OpenAIJudge(model="Qwen/Qwen3-32B", base_url="http://localhost:8000/v1", api_key="secret")
        >>> judge.identity()["name"]
        'Qwen/Qwen3-32B'
    """

    model: str
    base_url: Address | None = None
    api_key: Annotated[SecretStr | None, Field(repr=False, exclude=True)] = None
    top_logprobs: Annotated[int, Field(ge=1)] = 20
    max_thought_chars: Annotated[int, Field(ge=1)] = 8192
    concurrency: Annotated[int, Field(ge=1)] = 8
    max_retries: Annotated[int, Field(ge=0)] = 5
    timeout: Annotated[float, Field(gt=0)] = 60.0
    extra_body: Settings = Field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the verdicts: model name, request fields, prompt and thresholds."""
        return super().identity() | {
            "name": self.model,
            "top_logprobs": self.top_logprobs,
            "max_thought_chars": self.max_thought_chars,
            "extra_body": without_secrets(self.extra_body),
        }

    def letter_logprobs(self, cases: Sequence[Case]) -> Tensor:
        """Return the letters' log-probabilities as the first token of a reply, see `LetterJudge.letter_logprobs`.

        NaN for failed requests; `attempted` returns the reasons.
        """
        return self.attempted(cases)[0]

    def attempted(self, cases: Sequence[Case]) -> tuple[Tensor, Mapping[int, str]]:
        """Return `letter_logprobs`, and by position why cases failed."""
        error_text = self._secrets.error_text
        from openai import AuthenticationError, NotFoundError, OpenAIError

        letters = torch.full((len(cases), len(MARKS)), torch.nan)
        failures: dict[int, str] = {}
        limit, consecutive = max(self.concurrency, MANY), 0
        pool, waiting, sent = ThreadPoolExecutor(self.concurrency), iter(cases), deque[Future[list[float]]]()
        try:
            for index in range(len(cases)):
                if consecutive == limit:
                    message = f"not judged: the {limit} requests before it failed"
                    failures |= dict.fromkeys(range(index, len(cases)), message)
                    break
                # Twice the threads keep all of them busy; no more, since the server may refuse the next one.
                room = 2 * self.concurrency - len(sent)
                sent.extend(pool.submit(self._request, case) for case in islice(waiting, room))
                try:
                    letters[index] = torch.tensor(sent.popleft().result())
                    consecutive = 0
                except (AuthenticationError, NotFoundError) as error:
                    raise RefusedError(
                        f"judge {self.title!r}: expected a key, a model and a path that {self._client.base_url.host} "
                        f"knows, got {error_text(error)}"
                    ) from None
                except (OpenAIError, ValueError) as error:
                    failures[index] = error_text(error)
                    consecutive += 1
                    if len(failures) == index + 1 == limit:
                        raise RefusedError(
                            f"judge {self.title!r}: the first {len(failures)} of {len(cases)} requests failed, the "
                            f"first with {failures[0]}"
                        ) from None
        finally:
            pool.shutdown(cancel_futures=True)  # pending requests are not sent
        return letters, failures

    def _request(self, case: Case) -> list[float]:
        question, options, thought, letters = case
        if len(thought) > self.max_thought_chars:
            thought = LEFT_OUT + thought[-self.max_thought_chars :]
        question, *shown, thought = (neutralize(text, _MARKUP) for text in (question, *options, thought))
        reply = self._retries.run(
            lambda: self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": question_of(question, shown, thought, letters)}],
                max_tokens=1,
                temperature=0,
                logprobs=True,
                top_logprobs=self.top_logprobs,
                extra_body=dict(self.extra_body),
            )
        )
        steps = Reply.of(reply).steps
        if not steps:
            raise ValueError(
                f"judge {self.title!r}: expected log-probabilities from the server, got none from {self.model!r}"
            )
        return steps[0].letters()

    @cached_property
    def _client(self) -> "OpenAI":
        return make_client("OpenAIJudge", base_url=self.base_url, api_key=self.api_key, timeout=self.timeout)

    @cached_property
    def _retries(self) -> Retrier:
        # An unreachable server is reported when the first thoughts all fail.
        return Retrier(self.max_retries, self._client.base_url.host, self._secrets.error_text, ends_run=False)

    @cached_property
    def _secrets(self) -> Secrets:
        return secrets_of(self._client, self.extra_body)
