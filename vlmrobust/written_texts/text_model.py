"""Run a Hugging Face causal language model as a text-only writer."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

from ..prompting import SpecialTokens
from ..types import Prompt, Response

__all__ = ["TextModel"]


class TextModel:
    """A Hugging Face causal language model that answers prompts by their text alone, with greedy decoding.

    Args:
        model: a loaded causal LM.
        tokenizer: its tokenizer.
        max_new_tokens: the maximum number of generated tokens.
        batch_size: the number of prompts per batch.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_new_tokens: int = 512, batch_size: int = 16) -> None:
        from ..models.generation import Decoding

        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.model, self.tokenizer, self.batch_size = model.eval(), tokenizer, batch_size
        self._decoding = Decoding(model, tokenizer, {"max_new_tokens": max_new_tokens})

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: str = "auto", device: str | None = None, **given: Any) -> Self:
        """Load a checkpoint from the hub or from a folder.

        Args:
            name: the checkpoint's name or path.
            dtype: a torch dtype's name; "auto" = the checkpoint's own.
            device: None = CUDA if available, else the CPU.
            **given: the other arguments of the class.

        Raises:
            OSError: there is no checkpoint of that name; the message contains it.
            ValueError: dtype or device is invalid or unavailable on this machine.
        """
        from ..judges import LMJudge

        loaded = LMJudge.from_pretrained(name, dtype=dtype, device=device)
        return cls(loaded.model, loaded.tokenizer, **given)

    def identity(self) -> dict[str, Any]:
        """Return the checkpoint's name."""
        return {"class": type(self).__qualname__, "name": str(getattr(self.model.config, "_name_or_path", ""))}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts by their text alone."""
        special, responses = SpecialTokens.of(self.tokenizer), list[Response]()
        for begin in range(0, len(prompts), self.batch_size):
            batch = prompts[begin : begin + self.batch_size]
            completions = self._generate([self._render(prompt.with_inert(special).text) for prompt in batch])
            for prompt, (text, reason) in zip(batch, completions, strict=True):
                responses.append(Response.parse(prompt, text, finish_reason=reason))
        return responses

    def _render(self, text: str) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            return f"{text}\n\n"
        turns = [{"role": "user", "content": text}]
        return str(
            self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, enable_thinking=False)
        )

    def _generate(self, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the completions of texts with their finish reasons, "stop" or "length"."""
        import torch

        # Text rendered by a template already contains its special tokens.
        is_plain = not getattr(self.tokenizer, "chat_template", None)
        rows = [self.tokenizer(text, add_special_tokens=is_plain)["input_ids"] for text in texts]
        longest, pad = max(map(len, rows)), self.tokenizer.pad_token_id
        padded = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        device = self.model.device
        with torch.inference_mode(), self._decoding.in_force() as config:
            out = self.model.generate(
                input_ids=padded.to(device), attention_mask=mask.to(device), generation_config=config
            )
        for row in out[:, longest:].tolist():
            end = next((index for index, token in enumerate(row) if token in self._decoding.stop_tokens), None)
            text = self.tokenizer.decode(row[:end], skip_special_tokens=True)
            yield str(text), "length" if end is None else "stop"
