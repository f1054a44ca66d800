"""Check `HFModel` on a family: the results of a plain forward pass and of `generate`, however prompts are batched."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import oracle
import pytest
import torch
import zoo
from transformers import GenerationConfig

from vlmrobust import Prompt, Response, Sample, expand
from vlmrobust.models import HFModel
from vlmrobust.models.caches import allows_gaps
from vlmrobust.perturbations import StopThink

__all__ = ["assert_right"]

_LIMIT = 4
_CLOSE = 1e-4
_BEGUN = ("", "<think>The cube is")


def _prompts(samples: Sequence[Sample]) -> tuple[list[Prompt], list[Prompt]]:
    """Return prompts whose letters are read at once, and prompts whose texts are decoded."""
    forced = [prompt for prompt in expand(samples, [StopThink()]) if prompt.condition == "stop_think"]
    begun = [Prompt.of(sample).replace(prefill=_BEGUN[index % 2]) for index, sample in enumerate(samples)]
    return forced, begun


def _asked(prompts: Sequence[Prompt], made: zoo.Tiny, **settings: Any) -> list[Response]:
    responses = HFModel(made.model, made.processor, {"max_new_tokens": _LIMIT}, **settings).respond(prompts)
    for response in responses:
        assert response.error is None, response.error
    return responses


def _assert_same(responses: Sequence[Response], expected: Sequence[Response]) -> None:
    for response, other in zip(responses, expected, strict=True):
        assert (response.text, response.status, response.n_tokens) == (other.text, other.status, other.n_tokens)
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=_CLOSE)
        assert response.token_entropy == pytest.approx(other.token_entropy, abs=_CLOSE)


def _rendered(made: zoo.Tiny, prompt: Prompt) -> str:
    """Return the template's rendering and the prefill; a template's own thought makes way for it."""
    text = made.processor.apply_chat_template(prompt.messages(), add_generation_prompt=True, tokenize=False)
    if prompt.prefill and text.rstrip().endswith("<think>"):
        return str(text + prompt.prefill.removeprefix("<think>"))
    if prompt.prefill:
        text = re.sub(r"<think>\s*</think>\s*$", "", text)
    return str(text + prompt.prefill)


def _reader(made: zoo.Tiny) -> Any:
    """Return what reads and writes in a model that also speaks."""
    return getattr(made.model, "thinker", made.model)


def _letters(made: zoo.Tiny, prompt: Prompt, texts: Sequence[str], *, looks: bool) -> list[float]:
    """Return log-probabilities of a prompt's letters, by whole forwards of the model alone."""
    text = _rendered(made, prompt) + "<answer>"
    count = len(prompt.options)
    shown = oracle.MARKS[:count] if looks else " "
    # A cache that bears no gaps: what stands before the prompt's last token is not looked past.
    gaps = allows_gaps(_reader(made).config.get_text_config(), 512)
    letters = oracle.forced_letters(made.processor, _reader(made), text, prompt.images, texts, shown, gaps=gaps)
    return [float(letter) for letter in letters[:count]]


@torch.inference_mode()
def _written(made: zoo.Tiny, prompt: Prompt) -> str:
    """Return what `generate` alone writes."""
    tokenizer = made.processor.tokenizer
    inputs = oracle.inputs_of(made.processor, _rendered(made, prompt), prompt.images)
    stop, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = GenerationConfig(do_sample=False, max_new_tokens=_LIMIT, eos_token_id=stop, pad_token_id=pad)
    tokens = _reader(made).generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :].tolist()
    return str(tokenizer.decode(tokens[:-1] if tokens[-1] == stop else tokens, clean_up_tokenization_spaces=False))


def assert_right(
    made: zoo.Tiny, samples: Sequence[Sample], texts_of: Callable[[Any], list[str]], said: Callable[[], str]
) -> None:
    """Compare a model's letters and texts with the plain ones, prompts alone, in a batch, and with shared prefixes.

    Args:
        made: the model.
        samples: what is asked.
        texts_of: what each token of a tokenizer stands for.
        said: returns what has been logged so far.
    """
    forced, begun = _prompts(samples)
    prompts = [*forced, *begun]
    alone = _asked(prompts, made, batch_size=1, share_prefixes=False)
    texts = texts_of(made.processor.tokenizer)
    looks = "letters are not looked past" not in said()
    for prompt, response in zip(forced, alone, strict=False):
        assert response.option_logprobs == pytest.approx(_letters(made, prompt, texts, looks=looks), abs=_CLOSE)
    assert [response.text for response in alone[len(forced) :]] == [_written(made, prompt) for prompt in begun]
    _assert_same(_asked(prompts, made, share_prefixes=False), alone)
    _assert_same(_asked(prompts, made), alone)
    blind = [prompt.replace(images=samples[-1].images[:1]) for prompt in forced[:1]]
    [other] = _asked(blind, made)
    assert other.option_logprobs != pytest.approx(alone[0].option_logprobs, abs=1e-3), "the image makes no difference"
