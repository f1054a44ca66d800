"""Judge thoughts with a local language model: any Hugging Face causal LM, on transformers or vLLM."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from ..models.identity import weights_digest
from ..models.letter_tokens import ForcedPrefix, LetterVocabulary, forced_letter_logprobs
from ..models.loading import SHARED, check_name, named
from ..models.probe import Head, captured
from ..models.vllm import VLLMText
from ..naming import check_device, check_dtype
from ..prompting import LETTERS, MARKS, letter_columns
from ..secrecy import error_text
from .letter_judge import LEFT_OUT, Case, LetterJudge, markup_pattern, neutralize, offered, question_of

if TYPE_CHECKING:
    from ..models import HFModel, VLLMModel

__all__ = ["LMJudge"]

_REPLY = "Answer:"
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"


class LMJudge(LetterJudge):
    """A Hugging Face causal language model that judges which option a thought asserts.

    The letter of the reply is read in one forward pass per batch, after "Answer:", in float32 from the hidden state,
    summed over all tokens that represent the letter, as `HFModel` reads answers; there is no decoding. Thinking is
    disabled if the chat template supports it, and an opened thought is closed. A model without a chat template gets
    plain text.

    On vLLM (`from_pretrained(…, engine="vllm")`, or `of` a `VLLMModel`), each thought is a request for one token, all
    queued together; letters are read from the logits. A thought that vLLM rejects, for instance because it exceeds the
    context, is unsure, with the error.

    Args:
        model: a loaded causal LM, or the `text_only` of a `VLLMModel`.
        tokenizer: its tokenizer.

    Attributes:
        model: the model.
        tokenizer: its tokenizer.
        max_thought_tokens: the number of last tokens shown of a longer thought, with a note about the omission.
        batch_tokens: the number of tokens per batch, padding included; vLLM has its own limit.
        min_mass: as in `LetterJudge`.
        min_probability: as in `LetterJudge`.

    Raises:
        ValueError: no token represents a letter, the model has no LM head, or the template drops the question.

    Example:
        >>> judge = LMJudge.from_pretrained("Qwen/Qwen3-32B", dtype="bfloat16")  # doctest: +SKIP
        >>> report.score([vr.metrics.Consistency(judge=judge)])  # doctest: +SKIP

    Source:
        Zhao et al., arXiv:2602.12506, judge consistency with Qwen3-32B; its prompt is not published, this one is ours.
    """

    model: Annotated[Any, Field(repr=False, exclude=True)]
    tokenizer: Annotated[Any, Field(repr=False, exclude=True)]
    max_thought_tokens: Annotated[int, Field(ge=1)] = 2048
    batch_tokens: Annotated[int, Field(ge=1)] = 16_384

    def __init__(self, model: Any = None, tokenizer: Any = None, **fields: Any) -> None:
        given = {"model": model, "tokenizer": tokenizer}
        super().__init__(**{name: value for name, value in given.items() if value is not None} | fields)

    @classmethod
    def of(cls, model: "HFModel | VLLMModel", **fields: Any) -> Self:
        """Return a judge that uses the evaluated model itself: no further weights are loaded, and no image is shown.

        Args:
            model: the model; the engine of a `VLLMModel` is shared.
            **fields: fields of the judge.

        Example:
            >>> import vlmrobust as vr
            >>> LMJudge.of(vr.demo.model()).title
            'LMJudge'
        """
        if isinstance(text := getattr(model, "text_only", None), VLLMText):
            return cls(text, text.tokenizer, **fields)
        return cls(model.model, getattr(model.processor, "tokenizer", model.processor), **fields)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        engine: Literal["transformers", "vllm"] = "transformers",
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Load a checkpoint from the hub or from a folder; `replace` changes the judge's fields.

        Vision-language models work too; they get text only.

        Args:
            name: the checkpoint's name or path.
            engine: transformers, or vLLM (extra `vllm`).
            dtype: a torch dtype or its name; "auto" = the checkpoint's own.
            device: None = CUDA if available, else the CPU; omit it with `device_map` and on vLLM.
            **model_kwargs: for `from_pretrained` of the model's auto class, or for vLLM's `LLM`; `revision`, `token`
                and `trust_remote_code` are also passed to the tokenizer.

        Raises:
            OSError: there is no checkpoint of that name; the message contains it.
            ValueError: dtype or device is invalid or unavailable on this machine, or a device is given for vLLM, which
                uses all visible GPUs.
            ImportError, UnfitError: vLLM is not installed, or does not start, see `VLLMModel`.
        """
        check_dtype(dtype)
        if engine == "vllm":
            if device is not None:
                raise ValueError(f"field 'device': expected none, since vLLM uses all visible GPUs, got {device!r}")
            text = VLLMText.from_pretrained(name, dtype=str(dtype).removeprefix("torch."), **model_kwargs)
            return cls(text, text.tokenizer)
        from transformers import (
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoTokenizer,
        )

        check_device(device)
        check_name(name)
        shared = {key: model_kwargs[key] for key in SHARED if key in model_kwargs}
        with named(name):
            tokenizer = AutoTokenizer.from_pretrained(name, **shared)
            is_vision = type(AutoConfig.from_pretrained(name, **shared)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            loader = AutoModelForImageTextToText if is_vision else AutoModelForCausalLM
            model: Any = loader.from_pretrained(name, dtype=dtype, **model_kwargs)
        if "device_map" not in model_kwargs:
            model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model.eval(), tokenizer)

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the verdicts: checkpoint, weights digest, dtype, prompt and thresholds."""
        if isinstance(self.model, VLLMText):
            return super().identity() | self.model.identity() | {"max_thought_tokens": self.max_thought_tokens}
        config = self.model.config
        return super().identity() | {
            "name": str(getattr(config, "_name_or_path", "")),
            "revision": getattr(config, "_commit_hash", None),
            "weights": weights_digest(self.model),
            "architecture": type(self.model).__name__,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "max_thought_tokens": self.max_thought_tokens,
        }

    def prompt(self, question: str, options: Sequence[str], thought: str, letters: str = LETTERS) -> str:
        """Return the whole text for the model to continue with a letter.

        Args:
            question: the question of the thought.
            options: the options as shown.
            thought: the thought to judge.
            letters: the options' letters, in order; there may be more.

        Raises:
            ValueError: the chat template drops the text.
        """
        question, *shown, thought = (
            neutralize(text, self._markup) for text in (question, *options, self._tail(thought))
        )
        request = question_of(question, shown, thought, letters)
        if not getattr(self.tokenizer, "chat_template", None):
            return f"{request}\n\n{_REPLY}"
        turns = [{"role": "user", "content": request}]
        rendered = str(
            self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, enable_thinking=False)
        )
        if request not in rendered:
            raise ValueError(
                f"expected the chat template of {type(self.tokenizer).__name__} to keep the user's text, "
                f"got a rendering without it: {rendered!r:.200}"
            )
        if rendered.rstrip().endswith(_THINK_OPEN):
            rendered += f"\n{_THINK_CLOSE}\n\n"
        return rendered + _REPLY

    def letter_logprobs(self, cases: Sequence[Case]) -> Tensor:
        """Return the letters' log-probabilities after "Answer:", see `LetterJudge.letter_logprobs`.

        On vLLM, -inf for letters that a case does not offer, and NaN for rejected cases; `attempted` returns reasons.
        """
        if isinstance(self.model, VLLMText):
            return self.attempted(cases)[0]
        return self._forward(*self._encoded(cases))

    def attempted(self, cases: Sequence[Case]) -> tuple[Tensor, Mapping[int, str]]:
        """Return `letter_logprobs`, and by position why vLLM rejected a case."""
        if not isinstance(self.model, VLLMText):
            return super().attempted(cases)
        rows = [letter_columns(offered(len(options), letters)) for _, options, _, letters in cases]
        results = self.model.letters(list(zip(*self._encoded(cases), rows, strict=True)))
        errors = {index: error_text(result) for index, result in enumerate(results) if isinstance(result, Exception)}
        unknown = [torch.nan] * len(MARKS)
        return torch.tensor([unknown if isinstance(result, Exception) else result for result in results]), errors

    def _encoded(self, cases: Sequence[Case]) -> tuple[list[list[int]], list[ForcedPrefix]]:
        """Return the tokens of all prompts, and their last tokens, with which a letter may merge."""
        texts = [self.prompt(*case) for case in cases]
        # Text rendered by a template already contains its special tokens.
        is_plain = not getattr(self.tokenizer, "chat_template", None)
        tokens = [list(self.tokenizer(text, add_special_tokens=is_plain)["input_ids"]) for text in texts]
        return tokens, [self._vocabulary.forced_prefix(text) for text in texts]

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[Sequence[int]], prefixes: Sequence[ForcedPrefix]) -> Tensor:
        read: dict[int, Tensor] = {}
        for batch in self._batches(tokens):
            rows = self._read([tokens[index] for index in batch], [prefixes[index] for index in batch])
            read |= zip(batch, rows, strict=True)
        return torch.stack([read[index] for index in range(len(tokens))])

    def _tail(self, thought: str) -> str:
        tokens = list(self.tokenizer(thought, add_special_tokens=False)["input_ids"])
        if len(tokens) <= self.max_thought_tokens:
            return thought
        tail = self.tokenizer.decode(tokens[-self.max_thought_tokens :], clean_up_tokenization_spaces=False)
        return LEFT_OUT + str(tail).lstrip("\ufffd")  # the cut may split a character

    def _batches(self, tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Yield batches of positions, longest texts first."""
        batch: list[int] = []
        for index in sorted(range(len(tokens)), key=lambda index: -len(tokens[index])):
            if batch and (len(batch) + 1) * len(tokens[batch[0]]) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _read(self, batch: Sequence[Sequence[int]], prefixes: Sequence[ForcedPrefix]) -> list[Tensor]:
        # Right padding: positions start at 0 for every text, and no token attends to the padding.
        longest = max(map(len, batch))
        padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        places = 1 + max(len(prefix.tokens) for prefix in prefixes)
        ends = torch.tensor([len(row) for row in batch])
        wanted = (ends[:, None] - places + torch.arange(places)).clamp(min=0)
        device = self.model.device
        with captured(self.model, self._head, wanted.to(device)) as seen:
            self.model(input_ids=padded.to(device), attention_mask=mask.to(device), use_cache=False, return_dict=True)
        hidden, logits = seen.last(places)
        self._head.check(hidden[:, -1], logits[:, -1])
        rows = self._head.rows_at_once(hidden, logits)
        return [
            forced_letter_logprobs(self._head.logits(row[places - 1 - len(prefix.tokens) :])[None], prefix)[0]
            for row, prefix in zip(rows, prefixes, strict=True)
        ]

    @cached_property
    def _markup(self) -> re.Pattern[str]:
        # Some vocabularies have ordinary words and line breaks among their added tokens, which are harmless.
        added = self.tokenizer.added_tokens_decoder.values()
        return markup_pattern(token.content for token in added if token.special or re.fullmatch(r"<.+>", token.content))

    @cached_property
    def _vocabulary(self) -> LetterVocabulary:
        return LetterVocabulary(self.tokenizer)

    @cached_property
    def _head(self) -> Head:
        return Head(self.model)
