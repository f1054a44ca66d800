"""A fake of vLLM's interface that computes with the bundled model in transformers, one whole text per step.

It takes tokens and images, decodes greedily and returns the requested log-probabilities. The latest request is answered
first.
"""

import sys
import threading
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from vlmrobust import demo

__all__ = ["LLM", "EngineDeadError", "installed"]


class EngineDeadError(Exception):
    pass


class SamplingParams:
    def __init__(
        self,
        *,
        temperature: float = 1.0,
        max_tokens: int = 16,
        min_tokens: int = 0,
        stop_token_ids: list[int] | None = None,
        stop: Any = None,
        ignore_eos: bool = False,
        detokenize: bool = True,
        skip_special_tokens: bool = True,
        logprob_token_ids: list[int] | None = None,
        flat_logprobs: bool = False,
        prompt_logprobs: int | None = None,
        seed: int | None = None,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
    ) -> None:
        if len(logprob_token_ids or ()) > 128:
            raise ValueError("Requested logprob_token_ids of length above 128")
        assert ignore_eos  # the stop tokens end a text
        self.__dict__.update(locals())


class LoRARequest:
    def __init__(self, name: str, number: int, path: str) -> None:
        self.name, self.number, self.path = name, number, path


class LLM:
    """See the module.

    Attributes:
        made: those that were made since the test began.
        fails: what starting one raises, if anything.
        dies_after: after how many steps an engine dies, if ever.
    """

    made: ClassVar[list["LLM"]] = []
    fails: ClassVar[Exception | None] = None
    dies_after: ClassVar[int | None] = None

    def __init__(self, model: str, *, max_model_len: int = 4096, max_num_seqs: int = 16, **options: Any) -> None:
        if type(self).fails is not None:
            raise type(self).fails
        self.name, self.options = model, {"max_model_len": max_model_len, "max_num_seqs": max_num_seqs, **options}
        self.asked: list[tuple[dict[str, Any], Any]] = []
        self.loras: list[Any] = []
        self.most = 0
        self.shut = threading.Event()
        self.is_killed = False
        self._steps = 0
        self._outputs: SimpleQueue[Exception] = SimpleQueue()
        self._waiting: list[tuple[str, dict[str, Any], SamplingParams]] = []
        self._hf = demo.model()
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=max_num_seqs)),
            model_config=SimpleNamespace(
                dtype=torch.float32, get_vocab_size=lambda: self._hf.model.config.get_text_config().vocab_size
            ),
            engine_core=SimpleNamespace(
                shutdown=self.shut.set, ensure_alive=self._ensure_alive, outputs_queue=self._outputs
            ),
            add_lora=self.loras.append,
            step=self._step,
        )
        type(self).made.append(self)

    def enqueue(
        self, prompts: list[dict[str, Any]], params: SamplingParams, *, lora_request: Any, use_tqdm: bool
    ) -> list[str]:
        [prompt] = prompts
        assert not use_tqdm
        if len(prompt["prompt_token_ids"]) >= self.options["max_model_len"]:
            raise ValueError(f"the prompt has {len(prompt['prompt_token_ids'])} tokens, more than the context")
        number = str(len(self.asked))
        self.asked.append((prompt, params))
        self._waiting.append((number, prompt, params))
        self.most = max(self.most, len(self._waiting))
        return [f"{number}-a1b2c3d4"]

    def _ensure_alive(self) -> None:
        if self.is_killed:
            raise EngineDeadError("EngineCore encountered an issue")

    def _step(self) -> list[Any]:
        if self.is_killed:  # as with vLLM, nobody is told, and this is waited for
            raise self._outputs.get()
        if type(self).dies_after == self._steps:
            raise EngineDeadError("EngineCore encountered an issue")
        self._steps += 1
        number, prompt, params = self._waiting.pop()
        return [self._answer(number, prompt, params)]

    @torch.inference_mode()
    def _answer(self, number: str, prompt: dict[str, Any], params: Any) -> Any:
        processor, model = self._hf.processor, self._hf.model
        if "multi_modal_data" in prompt:
            text = processor.tokenizer.decode(prompt["prompt_token_ids"])
            inputs = processor(text=[text], images=prompt["multi_modal_data"]["image"], return_tensors="pt")
        else:
            tokens = torch.tensor([prompt["prompt_token_ids"]])
            inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        beginning, named = inputs["input_ids"][0].tolist(), params.logprob_token_ids or ()
        settings = {
            "do_sample": False,
            "max_new_tokens": params.max_tokens,
            "eos_token_id": params.stop_token_ids or [],
        }
        written = model.generate(**inputs, **settings, output_logits=True, return_dict_in_generate=True, pad_token_id=0)
        tokens = written.sequences[0, len(beginning) :].tolist()
        steps = []
        for token, logits in zip(tokens, written.logits, strict=True):
            logprobs = logits[0].log_softmax(-1)
            steps.append({one: SimpleNamespace(logprob=float(logprobs[one])) for one in (token, *named)})
        own: list[Any] = [None]
        if params.prompt_logprobs is not None:
            rows = model(**inputs).logits[0].log_softmax(-1)
            own += [
                {token: SimpleNamespace(logprob=float(row[token]))}
                for token, row in zip(beginning[1:], rows[:-1], strict=True)
            ]
        completion = SimpleNamespace(
            token_ids=tokens,
            finish_reason="stop" if tokens[-1] in settings["eos_token_id"] else "length",
            logprobs=steps if named else None,
        )
        return SimpleNamespace(
            request_id=number,
            finished=True,
            prompt_token_ids=beginning,
            outputs=[completion],
            prompt_logprobs=own if params.prompt_logprobs is not None else None,
        )


def installed(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    """Put it where vLLM would be imported from; return a class of engines of its own."""
    kind = type("LLM", (LLM,), {"made": [], "fails": None, "dies_after": None})
    parts = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    parts["vllm"].__dict__.update(LLM=kind, SamplingParams=SamplingParams)
    parts["vllm.lora.request"].__dict__.update(LoRARequest=LoRARequest)
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)
    return kind
