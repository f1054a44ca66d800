"""Continuous batching compared with `generate`, prompt by prompt, for every kind of cache."""

import copy
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import transformers
import zoo
from transformers import DynamicCache

from vlmrobust import Prompt, Response, Sample, expand
from vlmrobust.models import HFModel
from vlmrobust.models.caches import Branches, joined
from vlmrobust.models.continuous_batching import ContinuousBatch
from vlmrobust.perturbations import StopThink

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
LIMIT = 9
# One family of each kind of cache that a family of transformers 5.24 has; those whose rows cannot be joined.
KINDS = {
    "qwen2_5_vl": "full attention, positions in three dimensions",
    "gemma3": "sliding windows",
    "qwen3_5": "linear attention",
    "lfm2_vl": "convolutions",
    "mistral_large4": "indexed attention",
    "qwen4_exp": "indexed and linear attention",
    "dots3_note": "indexed attention and sliding windows",
    "inkling2": "both kinds in one layer",
}
APART = {"mllama": "cross attention", "unlimited_ocr": "a window of its own"}
# `max_time` is one of the options that leave decoding to the model's own `generate`.
BY_GENERATE = {"max_time": 1e9}
UNEVEN = {"do_sample": True, "temperature": 2.0, "seed": 1}


def prompts_of(samples: Sequence[Sample]) -> list[Prompt]:
    """Return prompts of several lengths: forced ones, some with a begun thought, some with two images."""
    prompts = list(expand(samples, [StopThink()]))
    return [*prompts, *(Prompt.of(sample).replace(condition="at", prefill="<think>Red.") for sample in samples)]


def assert_same(responses: Sequence[Response], expected: Sequence[Response]) -> None:
    for response, other in zip(responses, expected, strict=True):
        assert response.error is None
        assert (response.key, response.text, response.status) == (other.key, other.text, other.status)
        assert response.n_tokens == other.n_tokens
        assert response.finish_reason == other.finish_reason
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-5)
        assert response.token_entropy == pytest.approx(other.token_entropy, abs=1e-5)


@pytest.fixture
def restless(writer: Build, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Return a builder of tiny models whose drawn texts end now here, now there: every eighth token is a stop token."""

    def build(family: str) -> zoo.Tiny:
        made = writer(family)
        usual = made.processor.tokenizer.eos_token_id
        size = made.model.get_output_embeddings().weight.shape[0]
        monkeypatch.setattr(made.model.generation_config, "eos_token_id", [usual, *range(7, size, 8)])
        return made

    return build


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ContinuousBatch]:
    """Return every queue's texts as they are decoded."""
    found: list[ContinuousBatch] = []
    real = ContinuousBatch.step

    def step(self: ContinuousBatch) -> Any:
        if self not in found:
            found.append(self)
        return real(self)

    monkeypatch.setattr(ContinuousBatch, "step", step)
    return found


@pytest.mark.parametrize("family", [*KINDS, *APART])
def test_texts_and_letters_are_those_of_generate(
    family: str, restless: Build, samples: list[Sample], seen: list[ContinuousBatch], caplog: pytest.LogCaptureFixture
) -> None:
    made, prompts = restless(family), prompts_of(samples[:4])  # the third has two images
    options = {"max_new_tokens": LIMIT, **UNEVEN}
    settings: dict[str, Any] = {"batch_size": 1, "share_prefixes": False}
    expected = HFModel(made.model, made.processor, options | BY_GENERATE, **settings).respond(prompts)
    assert not seen
    lengths = {response.n_tokens for response in expected if response.n_tokens}
    assert len(lengths) > 2, "the test needs texts of uneven lengths"
    shared = []
    for batch_size in range(1, 8):
        engine = HFModel(made.model, made.processor, options, batch_size=batch_size)
        assert_same(engine.respond(prompts), expected)
        shared.append(engine.work()["shared_tokens"])
    alone = "takes prompts one by one" in caplog.text  # LFM2-VL, whose padded batches transformers 4 gets wrong
    assert not alone or transformers.__version__.startswith("4.")
    assert any(rolling.joined for rolling in seen) is (family in KINDS and not alone)
    # A prefix goes through the model once, unless texts of several lengths can be decoded in no way over its cache.
    assert (shared[-1] > 0) is (family != "unlimited_ocr" and not alone)


def test_responses_do_not_depend_on_the_batch_size_in_tokens(restless: Build, samples: list[Sample]) -> None:
    made, prompts = restless("qwen3_5"), prompts_of(samples)
    options = {"max_new_tokens": LIMIT, **UNEVEN}
    expected = HFModel(made.model, made.processor, options, batch_size=1).respond(prompts)
    for batch_tokens in (1, 900, 4000):
        assert_same(HFModel(made.model, made.processor, options, batch_tokens=batch_tokens).respond(prompts), expected)


@pytest.mark.parametrize("family", [*KINDS, *APART])
def test_draws_and_stop_strings_do_not_depend_on_the_batch(family: str, restless: Build, samples: list[Sample]) -> None:
    made = restless(family)
    begun = ("", "<think>The cube", "<think>")
    prompts = [Prompt.of(sample, draw=draw).replace(prefill=begun[draw]) for sample in samples for draw in range(3)]
    options = {
        "max_new_tokens": 2 * LIMIT,
        "do_sample": True,
        "temperature": 1.6,
        "seed": 3,
        "stop_strings": ["e", "B", "on", "C"],
    }
    settings: dict[str, Any] = {"batch_size": 1, "share_prefixes": False}
    expected = HFModel(made.model, made.processor, options | BY_GENERATE, **settings).respond(prompts)
    assert any(set("eBC") & set(response.text) for response in expected)
    assert len({response.text for response in expected}) > 6
    for batch_size in (5, None):
        assert_same(HFModel(made.model, made.processor, options, batch_size=batch_size).respond(prompts), expected)


def test_a_finished_text_takes_no_further_steps(
    restless: Build, samples: list[Sample], seen: list[ContinuousBatch]
) -> None:
    made = restless("llava")
    prompts = [Prompt.of(sample, draw=draw) for sample in samples for draw in range(4)]
    options = {"max_new_tokens": 40, **UNEVEN}
    engine = HFModel(made.model, made.processor, options, batch_size=8)
    responses = engine.respond(prompts)
    # The first token comes from the prompt's own pass; a letter that may go on takes part in one more.
    tokens = sum(response.n_tokens - 1 for response in responses)
    assert sum(rolling.row_steps for rolling in seen) == tokens + engine._engine._ahead.steps
    assert sum(rolling.joined for rolling in seen) >= len(prompts) // 3


def test_the_batch_never_exceeds_the_planned_rows(
    restless: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = restless("qwen2_5_vl")
    prompts = [Prompt.of(sample, draw=draw) for sample in samples for draw in range(3)]
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 30, **UNEVEN}, batch_size=6)
    held: list[int] = []
    real = type(made.model).forward

    def forward(self: Any, *arguments: Any, **inputs: Any) -> Any:
        held.append(len(inputs["input_ids"]))
        return real(self, *arguments, **inputs)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(type(made.model), "forward", forward)
    engine.respond(prompts)
    assert max(held) == 6


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_5"])
@pytest.mark.parametrize("batch_tokens", [700, 1600])
def test_the_cache_stays_within_batch_tokens(
    batch_tokens: int, family: str, restless: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = restless(family)
    # Questions as long as that, so that the longest prefix and the longest suffix are of two samples.
    several = [
        *samples[:4],
        samples[0].replace(id="long", question=samples[0].question * 6, options=["red", "blue"]),
    ]
    prompts = [prompt for draw in range(2) for prompt in expand(several, [StopThink()])]
    prompts = [prompt.replace(draw=place) for place, prompt in enumerate(prompts)]
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 12, **UNEVEN}, batch_tokens=batch_tokens)
    engine.respond(prompts)
    held: list[tuple[int, int]] = []
    real = type(made.model).forward

    def forward(self: Any, *arguments: Any, **inputs: Any) -> Any:
        mask = inputs.get("attention_mask")  # of all that the cache holds and what comes; a prompt may have none
        held.append(tuple(inputs["input_ids" if mask is None else "attention_mask"].shape[:2]))
        return real(self, *arguments, **inputs)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(type(made.model), "forward", forward)
    engine.respond(prompts)
    assert max(rows for rows, _ in held) > 1
    over = [(rows, columns) for rows, columns in held if rows > 1 and rows * columns > batch_tokens]
    assert not over


@pytest.mark.parametrize("family", ["llava", "qwen3_5", "dots3_note"])
def test_running_out_of_memory_during_decoding_changes_no_text(
    family: str,
    restless: Build,
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, prompts = restless(family), prompts_of(samples[:5])
    options = {"max_new_tokens": LIMIT, **UNEVEN}
    expected = HFModel(made.model, made.processor, options).respond(prompts)
    engine = HFModel(made.model, made.processor, options)
    engine.respond(prompts[:2])
    real, steps = ContinuousBatch._through, 0

    def through(self: ContinuousBatch, branches: Branches, tokens: torch.Tensor) -> Any:
        nonlocal steps
        steps += 1
        if steps % 3 == 0 and len(tokens) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, branches, tokens)

    monkeypatch.setattr(ContinuousBatch, "_through", through)
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        assert_same(engine.respond(prompts), expected)
    assert "out of memory with" in caplog.text


@pytest.mark.parametrize("window", [80, 150, 4096])
def test_texts_longer_and_shorter_than_a_sliding_window(window: int, restless: Build, samples: list[Sample]) -> None:
    made, prompts = restless("gemma3"), prompts_of(samples[:4])
    config = copy.deepcopy(made.model.config)
    config.text_config.sliding_window = window
    model = type(made.model)(config).eval()
    model.load_state_dict(made.model.state_dict())
    model.generation_config.eos_token_id = made.model.generation_config.eos_token_id
    lengths = [len(made.processor.tokenizer.encode(prompt.render(made.processor))) for prompt in prompts]
    assert (window > max(lengths) + 50) or (min(lengths) < window < max(lengths)), "some go beyond it, or none"
    options = {"max_new_tokens": LIMIT, **UNEVEN}
    settings: dict[str, Any] = {"batch_size": 1, "share_prefixes": False}
    expected = HFModel(model, made.processor, options | BY_GENERATE, **settings).respond(prompts)
    for batch_size in (1, 3, None):
        engine = HFModel(model, made.processor, options, batch_size=batch_size)
        assert_same(engine.respond(prompts), expected)
    assert engine.work()["shared_tokens"] > 0


def test_a_cache_that_takes_no_rows_in_still_drops_finished_ones(
    restless: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, seen: list[ContinuousBatch]
) -> None:
    made, prompts = restless("llava"), prompts_of(samples)
    options = {"max_new_tokens": LIMIT, **UNEVEN}
    expected = HFModel(made.model, made.processor, options, batch_size=5).respond(prompts)
    assert any(rolling.joined for rolling in seen)
    steps = sum(rolling.row_steps for rolling in seen)
    monkeypatch.setattr("vlmrobust.models.caches.joined_rows", lambda parts: None)
    seen.clear()
    engine = HFModel(made.model, made.processor, options, batch_size=5)
    assert_same(engine.respond(prompts), expected)
    assert engine._engine._stepping.works is True
    assert engine._engine._stepping.joins is False
    assert all(rolling.joined == 0 for rolling in seen)
    assert sum(rolling.row_steps for rolling in seen) == steps


def test_with_a_wrong_cache_generate_decodes(
    restless: Build,
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    seen: list[ContinuousBatch],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, prompts = restless("llava"), [Prompt.of(sample) for sample in samples]
    expected = HFModel(made.model, made.processor, {"max_new_tokens": LIMIT, **UNEVEN}).respond(prompts)
    seen.clear()
    engine = HFModel(made.model, made.processor, {"max_new_tokens": LIMIT, **UNEVEN})
    real = engine._engine._ahead.after
    monkeypatch.setattr(engine._engine._ahead, "after", lambda *arguments: real(*arguments).flip(-1))
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        texts = [response.text for response in engine.respond(prompts)]
    assert texts == [response.text for response in expected]
    assert not seen
    assert "differ by" in caplog.text


# ------------------------------------------------------------------------------------------------ caches


@torch.inference_mode()
def test_joined_rows_are_contiguous_and_right_aligned() -> None:
    def branches(mask: list[list[int]]) -> Branches:
        marks = torch.tensor(mask)
        cache = DynamicCache()
        columns = torch.arange(marks.shape[1], dtype=torch.float32) + 1
        held = columns.expand(len(mask), 1, -1)[..., None] + 100 * torch.arange(len(mask))[:, None, None, None]
        cache.update(held.clone(), -held, 0)
        return Branches(cache, marks, marks.sum(1, keepdim=True) - 1, None)

    short, long = branches([[0, 1, 1, 0], [1, 0, 1, 1]]), branches([[1, 1, 1, 1, 1]])
    both = joined([short, long])
    assert both is not None
    assert both.mask.tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    keys = both.cache.layers[0].keys[:, 0, :, 0]
    assert keys[both.mask.bool()].tolist() == [2, 3, 101, 103, 104, 1, 2, 3, 4, 5]
    assert both.position.tolist() == [[1], [2], [4]]
    [alone] = [joined([branches([[0, 1, 1, 0]])])]
    assert alone is not None
    assert alone.mask.tolist() == [[1, 1]]


def test_an_unknown_kind_of_layer_takes_no_rows_in() -> None:
    from transformers.cache_utils import DynamicLayer

    class Other(DynamicLayer):
        pass

    cache = DynamicCache()
    cache.update(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), 0)
    mask = torch.ones(1, 2, dtype=torch.int64)
    assert joined([Branches(cache, mask, mask[:, :1], None)]) is not None
    cache = DynamicCache()
    cache.update(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), 0)
    cache.layers[0].__class__ = Other
    assert joined([Branches(cache, mask, mask[:, :1], None)]) is None
