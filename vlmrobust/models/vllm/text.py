"""vLLM in this process, asked in text alone and for one letter, as a judge asks."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

from ..encoding import EncodingError
from ..identity import WeightFiles, template_digest, tokenizer_digest
from ..loading import SHARED, check_name
from ..vocabulary import ForcedPrefix
from .answering import letters_at, logprobs_after, places_of
from .engine import Flow, Request, VLLMEngine
from .starting import Failures, check_installed, check_options, deciding, dtype_of, start, weights_of

__all__ = ["VLLMText"]

Asked = tuple[Sequence[int], ForcedPrefix, Sequence[int]]
"""A text's tokens, the last of them with which a letter may merge, and which letters are read, by their rows."""


class VLLMText:
    """A language model on vLLM in this process; a vision-language model will do.

    Args:
        engine: runs it, and maybe a `VLLMModel` besides; it is held, and answers both.
        tokenizer: the checkpoint's.
        size: how many tokens the engine's vocabulary has.
        weights: the files of its weights.
        settings: what else decides its letters, by name.

    Attributes:
        tokenizer: the same.
    """

    def __init__(
        self, engine: VLLMEngine, tokenizer: Any, *, size: int, weights: WeightFiles, settings: Mapping[str, Any]
    ) -> None:
        self.tokenizer = tokenizer
        self._engine, self._size, self._weights, self._settings = engine, size, weights, dict(settings)

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: str = "auto", **engine: Any) -> Self:
        """Start an engine.

        Args:
            name: the checkpoint's name or folder.
            dtype: a torch dtype's name; "auto" = the checkpoint's own.
            **engine: whatever else vLLM's `LLM` takes.

        Raises:
            ImportError, FileNotFoundError, ValueError, UnfitError: as `VLLMModel`.
        """
        check_installed()
        check_options(engine)
        check_name(name)
        from transformers import AutoConfig, AutoTokenizer

        shared = {key: engine[key] for key in SHARED if key in engine}
        config = AutoConfig.from_pretrained(name, **shared)
        tokenizer = AutoTokenizer.from_pretrained(name, **shared)
        failures = Failures(engine)
        llm = start(name, {"dtype": dtype_of(dtype, config), **engine}, None, failures)
        model, scheduler = llm.llm_engine.model_config, llm.llm_engine.vllm_config.scheduler_config
        own = {"name": name, "dtype": str(model.dtype).removeprefix("torch.")}
        return cls(
            VLLMEngine(llm, None, failures, int(scheduler.max_num_seqs)),
            tokenizer,
            size=int(model.get_vocab_size()),
            weights=WeightFiles(weights_of(name, shared)),
            settings=own | ({"engine_options": options} if (options := deciding(engine)) else {}),
        )

    def identity(self) -> dict[str, Any]:
        """Return what decides the letters: checkpoint, a digest of its weights, dtype, tokenizer, settings."""
        return self._settings | {
            "engine": "vllm",
            "weights": self._weights.few(),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "chat_template": template_digest(self.tokenizer),
        }

    def letters(self, asked: Sequence[Asked]) -> list[list[float] | EncodingError]:
        """Return the log-probabilities (nats) of all letters and digits after texts, or why vLLM refused one.

        -inf for those that are not read. All texts are in the engine's queue at once, beside whatever else is there.

        Raises:
            RefusedError: the engine died, or was closed.
        """
        futures = [self._engine.submit(partial(self._flow, *one)) for one in asked]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def close(self) -> None:
        """Shut the engine down; this happens by itself where nobody holds it."""
        self._engine.close()

    def _flow(
        self, tokens: Sequence[int], prefix: ForcedPrefix, rows: Sequence[int]
    ) -> Flow[list[float] | EncodingError]:
        places = places_of(tokens, prefix.tokens, prefix.capitals, rows, self._size)
        try:
            steps = yield from logprobs_after(_request, places)
        except EncodingError as error:
            return error
        return letters_at(steps, prefix.tokens, prefix.capitals, rows)


def _request(tokens: Sequence[int], sampling: Mapping[str, Any]) -> Request:
    return Request(tokens, (), (), sampling)
