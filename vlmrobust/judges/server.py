"""A judge that is a language model behind an OpenAI-compatible server."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
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
from .letter_judge import LEFT_OUT, Case, LetterJudge, defanged, fangs, question_of

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["OpenAIJudge"]

_FANGS = re.compile(f"{fangs().pattern}|{KNOWN_TOKENS.pattern.pattern}")  # the server's vocabulary is not known


class OpenAIJudge(LetterJudge, Told):
    """A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, …) that returns log-probabilities.

    It is asked for one token and for the likeliest `top_logprobs` of it. A letter that is not among these counts as
    probability 0, so that the mass is a lower bound. Needs `pip install vlmrobust[api]`.

    Attributes:
        model: the model's name at the server.
        base_url: the server's address; None = the client's default, or `OPENAI_BASE_URL`.
        api_key: None = `OPENAI_API_KEY`; it is neither shown, nor part of `identity()`.
        top_logprobs: how many tokens are asked for; most servers allow 20.
        max_thought_chars: of a longer thought the last characters are shown, with a note.
        concurrency: requests at a time.
        max_retries: of a request that failed in passing (no connection, 408, 409, 429, 5xx), after 1, 2, 4, 8, 16 …
            seconds, or after as many as the server asks for.
        timeout: seconds for one attempt, from the first byte sent to the last one read.
        extra_body: what else the server is told, such as `{"chat_template_kwargs": {"enable_thinking": False}}`.
        min_mass, min_probability: as in `LetterJudge`.

    A request that fails for good leaves its thought unsure, with the error, and the others go on. After eight that fail
    one after the other (or `concurrency`, if that is more), the rest is not sent.

    Raises:
        RefusedError: the server does not know the key, the model or the address, or nothing could be judged.

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
        """Return what decides the verdicts: the model's name, what it is told, prompt and thresholds."""
        return super().identity() | {
            "name": self.model,
            "top_logprobs": self.top_logprobs,
            "max_thought_chars": self.max_thought_chars,
            "extra_body": without_secrets(self.extra_body),
        }

    def letter_logprobs(self, cases: Sequence[Case]) -> Tensor:
        """Return the letters' log-probabilities as the first token of a reply, see `LetterJudge.letter_logprobs`.

        NaN for a request that failed; `attempted` says why.
        """
        return self.attempted(cases)[0]

    def attempted(self, cases: Sequence[Case]) -> tuple[Tensor, Mapping[int, str]]:
        """Return `letter_logprobs`, and by the positions of the cases that failed why."""
        told = self._secrets.error_text
        from openai import AuthenticationError, NotFoundError, OpenAIError

        letters = torch.full((len(cases), len(MARKS)), torch.nan)
        failures: dict[int, str] = {}
        many, lost = max(self.concurrency, MANY), 0
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for place, reply in enumerate([pool.submit(self._ask, case) for case in cases]):
                if lost == many:
                    failures |= dict.fromkeys(range(place, len(cases)), f"not asked: {many} requests before it failed")
                    break
                try:
                    letters[place] = torch.tensor(reply.result())
                    lost = 0
                except (AuthenticationError, NotFoundError) as error:
                    raise RefusedError(
                        f"judge {self.title!r}: expected a key, a model and a path that {self._client.base_url.host} "
                        f"knows, got {told(error)}"
                    ) from None
                except (OpenAIError, ValueError) as error:
                    failures[place] = told(error)
                    lost += 1
                    if len(failures) == place + 1 == many:
                        raise RefusedError(
                            f"judge {self.title!r}: the first {len(failures)} of {len(cases)} requests failed, the "
                            f"first with {failures[0]}"
                        ) from None
        finally:
            pool.shutdown(cancel_futures=True)  # what is not on its way yet is not sent
        return letters, failures

    def _ask(self, case: Case) -> list[float]:
        question, options, thought, letters = case
        if len(thought) > self.max_thought_chars:
            thought = LEFT_OUT + thought[-self.max_thought_chars :]
        question, *shown, thought = (defanged(text, _FANGS) for text in (question, *options, thought))
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
        return make_client(
            "OpenAIJudge",
            base_url=self.base_url,
            api_key=self.api_key,
            timeout=self.timeout,
        )

    @cached_property
    def _retries(self) -> Retrier:
        # That nobody is there is told by the first thoughts, all of which fail.
        return Retrier(self.max_retries, self._client.base_url.host, self._secrets.error_text, ends_run=False)

    @cached_property
    def _secrets(self) -> Secrets:
        return secrets_of(self._client, self.extra_body)
