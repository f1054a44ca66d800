"""Layers that grow in place have the content of `DynamicLayer` after any operation."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from vlmrobust import Prompt, Sample
from vlmrobust.models import HFModel, caches
from vlmrobust.models.caches import Branches, joined
from vlmrobust.models.continuous_batching import ContinuousBatch
from vlmrobust.models.growing_cache import GrowingLayer

HEADS, WIDTH = 2, 3
# What is done to a cache, with a number of which is made what is needed.
ACTIONS = ("append", "select", "leave", "crop", "repeat", "choose", "replace", "copy", "share")


def states(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(rows, HEADS, columns, WIDTH, generator=draw).to(dtype) for _ in range(2))
    return keys, values


def filled(rows: int = 2, columns: int = 5, dtype: torch.dtype = torch.float32) -> DynamicCache:
    cache = DynamicCache()
    cache.update(*states(rows, columns, 0, dtype), 0)
    return cache


def grown(cache: DynamicCache) -> GrowingLayer:
    [layer] = caches.growing(cache).layers
    assert type(layer) is GrowingLayer
    return layer


def done(layer: Any, action: str, number: int) -> Any:
    rows, columns = layer.keys.shape[0], layer.keys.shape[2]
    if action == "append":
        new = states(rows, 1 + number % 40, number)
        returned = layer.update(*new)
        assert all(torch.equal(one, held) for one, held in zip(returned, (layer.keys, layer.values), strict=True))
    elif action == "select":
        layer.reorder_cache(torch.tensor([place % rows for place in range(number, number + 1 + number % 4)]))
    elif action == "leave" and rows > 1:  # the last comes into its place
        kept = [*range(rows - 1)]
        kept[number % rows : number % rows + 1] = [rows - 1] * (number % rows < rows - 1)
        layer.reorder_cache(torch.tensor(kept))
    elif action == "crop":
        layer.crop(-min(number % 4, columns - 1))
    elif action == "repeat" and rows < 8:
        layer.batch_repeat_interleave(1 + number % 2)
    elif action == "choose":
        layer.batch_select_indices(torch.tensor([number % rows]))
    elif action == "replace":
        layer.keys, layer.values = states(rows, columns, number)
    elif action == "copy":
        layer = copy.deepcopy(layer)
    elif action == "share":
        layer = copy.copy(layer)
    return layer


@given(actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 99)), max_size=12))
def test_a_growing_layer_holds_what_a_dynamic_one_holds(actions: list[tuple[str, int]]) -> None:
    [plain], layer = filled(rows=4).layers, grown(filled(rows=4))
    given = layer.keys
    left = [(given, given.clone())]
    for action, number in actions:
        before = layer
        plain, layer = done(plain, action, number), done(layer, action, number)
        if layer is not before:
            left.append((before, before.keys.clone()))
        # Neither what was given nor what was copied changes with the copy.
        for other, held in left:
            assert torch.equal(other if isinstance(other, Tensor) else other.keys, held)
        assert torch.equal(layer.keys, plain.keys)
        assert torch.equal(layer.values, plain.values)
        assert layer.get_seq_length() == plain.get_seq_length()


def test_tokens_are_written_in_place_and_capacity_grows_in_steps() -> None:
    layer = grown(filled(columns=5))
    places = []
    for step in range(100):
        layer.update(*states(2, 1, step))
        places.append((layer.keys.data_ptr(), layer.values.data_ptr()))
    assert len(set(places)) == 4  # 100 tokens, and 32 columns to spare each time
    assert layer.keys.shape[2] == 105


def test_removing_a_row_does_not_copy_the_others() -> None:
    layer = grown(filled(rows=8))
    layer.update(*states(8, 1, 1))
    place, expected = layer.keys.data_ptr(), layer.keys.clone()
    layer.reorder_cache(torch.tensor([0, 7, 2, 3, 6, 5]))
    assert layer.keys.data_ptr() == place
    assert torch.equal(layer.keys, expected[[0, 7, 2, 3, 6, 5]])
    layer.update(*states(6, 1, 2))
    assert layer.keys.data_ptr() == place
    layer.reorder_cache(torch.tensor([3, 2, 1, 0]))
    assert layer.keys.data_ptr() != place
    assert torch.equal(layer.keys[:, :, :-1], expected[[3, 2, 7, 0]])


def test_capacity_is_limited_to_the_longest_text() -> None:
    cache = filled(columns=5)
    layer = grown(cache)
    caches.bound(cache, 12)
    for step in range(7):
        layer.update(*states(2, 1, step))
        assert layer.keys.untyped_storage().nbytes() == 2 * HEADS * 12 * WIDTH * 4
    layer.update(*states(2, 1, 7))  # a bound that was too low loses nothing
    assert layer.keys.shape[2] == 13
    assert layer.keys.untyped_storage().nbytes() == 2 * HEADS * 13 * WIDTH * 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    layer = grown(filled(dtype=dtype))
    layer.update(*states(2, 1, 1, dtype))
    assert layer.keys.dtype is layer.values.dtype is dtype


def test_appended_values_keep_their_precision() -> None:
    # As `torch.cat` has it, where autocast is on for some passes and not for others.
    [plain], layer = filled(dtype=torch.bfloat16).layers, grown(filled(dtype=torch.bfloat16))
    new = states(2, 1, 1)
    plain.update(*new)
    layer.update(*new)
    assert layer.keys.dtype is torch.float32
    assert torch.equal(layer.keys, plain.keys)
    assert torch.equal(layer.values, plain.values)


def test_rows_of_another_shape_are_refused() -> None:
    layer = grown(filled(rows=2))
    layer.update(*states(2, 1, 1))
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        layer.update(*states(1, 1, 2))


def test_selected_rows_are_independent() -> None:
    cache = filled()
    grown(cache).update(*states(2, 1, 1))
    expected = cache.layers[0].keys.clone()
    some = caches.selected(cache, torch.tensor([1, 1, 0]))
    some.layers[0].update(*states(3, 1, 2))
    cache.layers[0].update(*states(2, 1, 3))
    assert torch.equal(cache.layers[0].keys[:, :, :-1], expected)
    assert torch.equal(some.layers[0].keys[:, :, :-1], expected[[1, 1, 0]])
    assert torch.equal(some.layers[0].keys[:, :, -1:], states(3, 1, 2)[0])


def test_selected_rows_of_an_unknown_layer_are_independent(tiny: Callable[[str], zoo.Tiny]) -> None:
    # A static layer writes its keys, and counts them, in place.
    cache = StaticCache(config=tiny("llava").model.config.get_text_config(), max_cache_len=8)
    for index in range(len(cache.layers)):
        cache.update(*states(2, 5, 0), index)
    held, count = cache.layers[0].keys.clone(), int(cache.get_seq_length())
    some = caches.selected(cache, torch.tensor([0, 1]))
    some.update(*states(2, 1, 1), 0)
    assert torch.equal(cache.layers[0].keys, held)
    assert int(cache.get_seq_length()) == count


def test_joined_rows_have_their_own_capacity() -> None:
    parts = []
    for rows, columns in ((2, 5), (1, 7)):
        cache = filled(rows, columns)
        grown(cache).update(*states(rows, 1, 1))
        mask = torch.ones(rows, columns + 1, dtype=torch.int64)
        parts.append(Branches(cache, mask, mask.sum(1, keepdim=True) - 1, None))
    expected = [part.cache.layers[0].keys.clone() for part in parts]
    both = joined(parts)
    assert both is not None
    [layer] = both.cache.layers
    assert type(layer) is GrowingLayer
    assert torch.equal(layer.keys[:2, :, -6:], expected[0])
    assert torch.equal(layer.keys[2:], expected[1])
    assert [part.cache.layers for part in parts] == [[None], [None]]  # no row is held twice


def test_other_layers_are_not_replaced() -> None:
    class Other(DynamicLayer):
        pass

    cache = DynamicCache()
    other, empty = Other(), DynamicLayer()
    window = DynamicSlidingWindowLayer(sliding_window=4)
    for layer in (other, window):
        layer.update(*states(2, 5, 0))
    cache.layers = [other, window, empty]
    assert caches.growing(cache).layers == [other, window, empty]
    assert caches.growing(None) is None


@pytest.mark.parametrize(
    ("family", "grow"), [("qwen2_5_vl", "all"), ("gemma3", "some"), ("qwen3_5", "some"), ("mistral_large4", "none")]
)
def test_decoding_with_growing_layers_gives_the_same_texts(
    family: str,
    grow: str,
    writer: Callable[[str], zoo.Tiny],
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, prompts = writer(family), [Prompt.of(sample, draw=draw) for sample in samples[:3] for draw in range(2)]
    options = {"max_new_tokens": 40, "do_sample": True, "temperature": 1.5, "seed": 2}
    seen: set[type] = set()
    real = ContinuousBatch.step

    def step(self: ContinuousBatch) -> Any:
        seen.update(type(layer) for layer in self._groups[0].branches.cache.layers)
        return real(self)

    monkeypatch.setattr(ContinuousBatch, "step", step)
    responses = HFModel(made.model, made.processor, options).respond(prompts)
    assert (GrowingLayer in seen) is (grow != "none")
    assert (len(seen) > 1 or GrowingLayer not in seen) is (grow != "all")
    monkeypatch.setattr(caches, "growing", lambda cache: cache)
    for response, other in zip(responses, HFModel(made.model, made.processor, options).respond(prompts), strict=True):
        assert response.error is None
        assert (response.text, response.n_tokens) == (other.text, other.n_tokens)
        assert response.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-5)
        assert response.token_entropy == pytest.approx(other.token_entropy, abs=1e-5)
