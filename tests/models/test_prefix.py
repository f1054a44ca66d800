import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
import zoo
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Response, Sample, expand, paper_conditions
from vlmrobust.models import HFModel
from vlmrobust.models.batch_planning import families
from vlmrobust.models.caches import allows_gaps
from vlmrobust.models.encoding import Rendered
from vlmrobust.perturbations import AbstainOption, StopThink, WrongThink

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
LIMIT = 6
# Attends both ways over the whole prompt: what a prefix's tokens see depends on what follows.
PREFIX_LM = "paligemma"


def conditions_of(samples: Sequence[Sample]) -> list[Prompt]:
    """Return the paper's conditions, one with an added option, and one whose turn is left at the answer."""
    prompts = list(expand(samples, paper_conditions()))
    abstaining = expand([sample for sample in samples if len(sample.options) < 26], [WrongThink() + AbstainOption()])
    at_letter = [Prompt.of(sample).replace(condition="at", prefill="<think>Red.</think><answer>") for sample in samples]
    return [*prompts, *list(abstaining)[1::2], *at_letter]


def assert_same(responses: Sequence[Response], expected: Sequence[Response]) -> None:
    for response, other in zip(responses, expected, strict=True):
        assert response.error is None
        assert (response.key, response.text, response.status) == (other.key, other.text, other.status)
        assert response.n_tokens == other.n_tokens
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)
        assert response.token_entropy == pytest.approx(other.token_entropy, abs=1e-4)


@pytest.mark.parametrize("family", zoo.FAMILIES)
def test_shared_prefixes_change_nothing(
    family: str, writer: Build, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = writer(family).model, writer(family).processor
    prompts = conditions_of(samples)
    options = {"max_new_tokens": LIMIT}
    expected = HFModel(model, processor, options, share_prefixes=False).respond(prompts)
    assert any(response.option_logprobs and response.readout == "own_thought" for response in expected)
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        engine = HFModel(model, processor, options)
        assert_same(engine.respond(prompts), expected)
        assert_same(engine.respond(prompts), expected)
    lines = [record.getMessage() for record in caplog.records]
    if family == PREFIX_LM:
        assert len(lines) == 1
        assert "takes the plain path: its letter log-probabilities differ by" in lines[0]
    else:
        assert lines == []


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_responses_do_not_depend_on_the_batch_size(family: str, writer: Build, samples: list[Sample]) -> None:
    model, processor = writer(family).model, writer(family).processor
    prompts = conditions_of(samples[:3])
    options = {"max_new_tokens": LIMIT}
    expected = HFModel(model, processor, options, share_prefixes=False).respond(prompts)
    for batch_size in range(1, 8):
        assert_same(HFModel(model, processor, options, batch_size=batch_size).respond(prompts), expected)
    for batch_tokens in (1, 900, 4000):
        assert_same(HFModel(model, processor, options, batch_tokens=batch_tokens).respond(prompts), expected)


def test_suffixes_in_several_passes_give_the_same_responses(
    writer: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, prompts = writer("qwen2_5_vl"), conditions_of(samples[:3])
    options = {"max_new_tokens": LIMIT}
    expected = HFModel(made.model, made.processor, options, share_prefixes=False).respond(prompts)
    seen: list[tuple[int, int]] = []
    handle = made.model.get_decoder().register_forward_hook(
        lambda module, arguments, output: seen.append(tuple(output.last_hidden_state.shape[:2]))
    )
    taken = {}
    try:
        for cost in (0, 10**6):
            monkeypatch.setattr("vlmrobust.models.prefix.pass_cost", lambda kind, cost=cost: cost)
            engine = HFModel(made.model, made.processor, options)
            engine.respond(prompts)
            seen.clear()
            assert_same(engine.respond(prompts), expected)
            taken[cost] = [shape for shape in seen if shape[1] > 1]
    finally:
        handle.remove()
    tokens = {cost: sum(rows * columns for rows, columns in shapes) for cost, shapes in taken.items()}
    assert len(taken[0]) > len(taken[10**6])
    assert tokens[0] < tokens[10**6]


# Full attention, windows that are soon full, linear attention, and convolutions: in the latter three nothing is padded.
@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3", "qwen3_5", "lfm2_vl", "mllama"])
def test_stems_change_nothing(
    family: str, writer: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "lfm2_vl" and transformers.__version__.startswith("4."):
        pytest.skip("transformers 4 gets LFM2-VL's padded batches wrong, so that it goes one by one")
    made = writer(family)
    prompts = list(expand(samples[1:4], paper_conditions(), draws=2))
    options = {"max_new_tokens": LIMIT, "do_sample": True, "temperature": 1.3, "seed": 3}
    expected = HFModel(made.model, made.processor, options, share_prefixes=False).respond(prompts)
    shared = {}
    for cost in (10**6, 0):
        monkeypatch.setattr("vlmrobust.models.prefix.pass_cost", lambda kind, cost=cost: cost)
        engine = HFModel(made.model, made.processor, options)
        assert_same(engine.respond(prompts), expected)
        shared[cost] = engine.work()["shared_tokens"]
    # Rows of two caches cannot be put into one where there is cross attention: then there are no stems.
    assert (shared[0] > shared[10**6] > 0) is (family != "mllama")
    for batch_size in (3, 7):
        assert_same(HFModel(made.model, made.processor, options, batch_size=batch_size).respond(prompts), expected)


def test_an_image_goes_through_the_vision_tower_once(
    writer: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writer("qwen2_5_vl")
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 2})
    prompts = list(expand(samples[:2], paper_conditions()))
    engine.respond(prompts)  # the first family is read both ways
    seen: list[int] = []
    handle = made.model.model.visual.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.append(len(keywords["grid_thw"])), with_kwargs=True
    )
    try:
        engine.respond(prompts)
    finally:
        handle.remove()
    assert seen == [2]


def test_sampling_shares_prefixes_and_draws_the_same_texts(writer: Build, samples: list[Sample]) -> None:
    made = writer("llava")
    prompts = list(expand(samples[:3], paper_conditions(), draws=2))
    options = {"max_new_tokens": LIMIT, "do_sample": True, "temperature": 1.3, "top_p": 0.9, "seed": 5}
    expected = HFModel(made.model, made.processor, options, share_prefixes=False).respond(prompts)
    assert_same(HFModel(made.model, made.processor, options).respond(prompts), expected)
    texts = {response.key: response.text for response in expected}
    assert any(texts[sample, condition, 0] != texts[sample, condition, 1] for sample, condition, _ in texts)


def test_a_cache_that_cannot_be_branched_takes_the_plain_path(
    writer: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = writer("llava")
    prompts = list(expand(samples[:2], [StopThink()]))
    plain = HFModel(made.model, made.processor, {"max_new_tokens": 2}, share_prefixes=False)
    plain._engine._ahead.works = False
    expected = plain.respond(prompts)
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 2})

    def refuse(*arguments: Any) -> Any:
        raise NotImplementedError("this cache cannot be reordered")

    monkeypatch.setattr("transformers.cache_utils.DynamicCache.reorder_cache", refuse)
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        assert_same(engine.respond(prompts), expected)
    assert [record.getMessage() for record in caplog.records] == [
        "LlavaForConditionalGeneration takes the plain path: NotImplementedError: this cache cannot be reordered",
        "LlavaForConditionalGeneration: letters are not looked past, NotImplementedError: this cache cannot "
        "be reordered; letters that begin a word count as letters",
    ]


# ------------------------------------------------------------------------------------------------ what shares


def item(sample: Sample, text: str, images: tuple[Any, ...], forced: str | None = None) -> Rendered:
    return Rendered(Prompt.of(sample), text, images, forced)


IMAGE = 9


@given(
    shared=st.lists(st.integers(10, 12), max_size=6),
    tails=st.lists(st.lists(st.integers(10, 12), min_size=1, max_size=5), min_size=1, max_size=5),
    places=st.integers(1, 4),
    image_at=st.integers(0, 8),
)
def test_a_prefix_is_common_and_has_the_images_but_no_read_tokens(
    shared: list[int],
    tails: list[list[int]],
    places: int,
    image_at: int,
    make_sample: Callable[..., Sample],
) -> None:
    sample, images = make_sample(), (object(),)
    rows = [[*shared[:image_at], IMAGE, *shared[image_at:], *tail] for tail in tails]
    items = {index: item(sample, "", images) for index in range(len(rows))}
    found = families(items, dict(enumerate(rows)), image_tokens={IMAGE}, places=places)
    assert sorted(position for family in found for position in family.positions) == list(range(len(rows)))
    for family in found:
        for position, suffix in zip(family.positions, family.suffixes, strict=True):
            assert (*rows[family.positions[0]][: family.prefix], *suffix) == tuple(rows[position])
        if not family.prefix:
            assert len(family.items) == 1
            continue
        assert all(IMAGE not in suffix and len(suffix) >= places for suffix in family.suffixes)
        longest = min(len(rows[position]) for position in family.positions) - places
        same = {rows[position][family.prefix] for position in family.positions}
        assert family.prefix == longest or len(same) > 1


def test_other_samples_and_other_images_do_not_share(make_sample: Callable[..., Sample]) -> None:
    image, other = object(), object()
    items = {
        0: item(make_sample("a"), "", (image,)),
        1: item(make_sample("a"), "", (other,)),
        2: item(make_sample("b"), "", (image,)),
        3: item(make_sample("a"), "", (image,)),
    }
    tokens = {position: [IMAGE, 1, 2, 3] for position in items}
    found = families(items, tokens, image_tokens={IMAGE})
    assert [(family.positions, family.prefix) for family in found] == [((0, 3), 3), ((1,), 0), ((2,), 0)]
    assert all(not family.prefix for family in families(items, tokens, image_tokens={IMAGE}, shares=False))


@pytest.mark.parametrize(
    ("config", "length", "bears"),
    [
        ({}, 10_000, True),
        ({"layer_types": ["full_attention"] * 3}, 10_000, True),
        ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 512}, 512, True),
        ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 512}, 513, False),
        ({"layer_types": ["full_attention", "linear_attention"]}, 10, False),
        ({"layer_types": ["conv", "full_attention"]}, 10, False),
    ],
)
def test_only_full_attention_allows_gaps(config: dict[str, Any], length: int, bears: bool) -> None:
    assert allows_gaps(SimpleNamespace(**config), length) is bears
