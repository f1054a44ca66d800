"""Read letters after texts with vLLM in this process, for judges."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

from ..encoding import EncodingError
from ..identity import WeightFiles, template_digest, tokenizer_digest
from ..letter_tokens import ForcedPrefix
from ..loading import SHARED, check_name
from .answering import letter_positions, letters_at, logprobs_after
from .engine import Flow, Request, VLLMEngine
from .starting import ErrorLog, check_installed, check_options, decisive_options, dtype_of, start_engine, weights_of

__all__ = ["VLLMText"]

LetterQuery = tuple[Sequence[int], ForcedPrefix, Sequence[int]]
"""A text's tokens, their end with which a letter may merge, and the rows of the letters to read."""


class VLLMText:
    """A language model, or the language part of a vision-language model, on vLLM in this process.

    Args:
        engine: the engine, which a `VLLMModel` may share; kept alive.
        tokenizer: the checkpoint's.
        size: the size of the engine's vocabulary.
        weights: the checkpoint's weight files.
        settings: other settings that determine its letters, by name.

    Attributes:
        tokenizer: the checkpoint's.
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
            **engine: other options of vLLM's `LLM`.

        Raises:
            ImportError, FileNotFoundError, ValueError, UnfitError: as for `VLLMModel`.
        """
        check_installed()
        check_options(engine)
        check_name(name)
        from transformers import AutoConfig, AutoTokenizer

        shared = {key: engine[key] for key in SHARED if key in engine}
        config = AutoConfig.from_pretrained(name, **shared)
        tokenizer = AutoTokenizer.from_pretrained(name, **shared)
        failures = ErrorLog(engine)
        llm = start_engine(name, {"dtype": dtype_of(dtype, config), **engine}, None, failures)
        model, scheduler = llm.llm_engine.model_config, llm.llm_engine.vllm_config.scheduler_config
        own = {"name": name, "dtype": str(model.dtype).removeprefix("torch.")}
        return cls(
            VLLMEngine(llm, None, failures, int(scheduler.max_num_seqs)),
            tokenizer,
            size=int(model.get_vocab_size()),
            weights=WeightFiles(weights_of(name, shared)),
            settings=own | ({"engine_options": options} if (options := decisive_options(engine)) else {}),
        )

    def identity(self) -> dict[str, Any]:
        """Return what determines the letters: checkpoint, a digest of its weights, dtype, tokenizer, settings."""
        return self._settings | {
            "engine": "vllm",
            "weights": self._weights.few(),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "chat_template": template_digest(self.tokenizer),
        }

    def letters(self, asked: Sequence[LetterQuery]) -> list[list[float] | EncodingError]:
        """Return the log-probabilities (nats) of all letters and digits after texts, or vLLM's refusal of one.

        Letters that are not requested are -inf. All texts enter the engine's queue at once, along with other work.

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
        """Shut the engine down; also happens when it is garbage-collected."""
        self._engine.close()

    def _flow(
        self, tokens: Sequence[int], prefix: ForcedPrefix, rows: Sequence[int]
    ) -> Flow[list[float] | EncodingError]:
        positions = letter_positions(tokens, prefix.tokens, prefix.capitals, rows, self._size)
        try:
            steps = yield from logprobs_after(_request, positions)
        except EncodingError as error:
            return error
        return letters_at(steps, prefix.tokens, prefix.capitals, rows)


def _request(tokens: Sequence[int], sampling: Mapping[str, Any]) -> Request:
    return Request(tokens, (), (), sampling)
