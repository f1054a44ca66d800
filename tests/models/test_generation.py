import logging
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import oracle
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torch import Tensor
from transformers import GenerationConfig

import vlmrobust as vr
from vlmrobust import Prompt, Sample
from vlmrobust.models import HFModel
from vlmrobust.models.generation import GumbelNoise, warpers
from vlmrobust.models.plain_engine import ModelRunner

Build = Callable[[str], zoo.Tiny]


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("max_tokens", "max_new_tokens"), ("temprature", "temperature"), ("topp", "top_p"), ("do_samples", "do_sample")],
)
def test_a_misspelt_option_is_refused_with_the_nearest(misspelt: str, meant: str, tiny: Build) -> None:
    made = tiny("llava")
    with pytest.raises(ValueError, match=f"got '{misspelt}'; did you mean '{meant}'?"):
        HFModel(made.model, made.processor, {misspelt: 1})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"num_beams": 4}, "'num_beams': expected 1"),
        ({"num_return_sequences": 2}, "'num_return_sequences': expected 1"),
        ({"cache_implementation": "paged"}, "with a paged one, transformers ignores the image, got 'paged'"),
        ({"prefill_chunk_size": 8}, "'prefill_chunk_size': expected none: when prompts are prefilled in chunks"),
        ({"max_length": 100}, "use 'max_new_tokens', got 100"),
        ({"is_assistant": True}, "'is_assistant': expected none: texts are decoded token by token"),
        ({"assistant_early_exit": 1}, "'assistant_early_exit': expected none"),
        ({"token_healing": True}, "'token_healing': expected none"),
        ({"penalty_alpha": 0.6}, "'penalty_alpha': expected none: texts are decoded token by token"),
        ({"do_sample": True, "typical_p": 0.9}, "'typical_p': expected none: only temperature, top_k"),
    ],
)
def test_options_incompatible_with_the_readout_are_refused(options: dict[str, Any], why: str, tiny: Build) -> None:
    made = tiny("llava")
    with pytest.raises(ValueError, match=why):
        HFModel(made.model, made.processor, options)


def test_a_cache_that_changes_the_results_is_refused(tiny: Build, samples: list[Sample]) -> None:
    # With a static cache, Gemma 4 Unified reads an image that is longer than the sliding window otherwise.
    made, options = tiny("gemma4_unified"), {"max_new_tokens": 4, "cache_implementation": "static"}
    sentence = r"to give the same results with a static cache as without a cache, got letter log-probabilities that "
    with pytest.raises(ValueError, match=sentence + r"differ by \d.* at a prompt of \d+ tokens; leave the option out$"):
        HFModel(made.model, made.processor, options).respond([Prompt.of(samples[0])])


def test_a_cache_is_compared_anew_for_longer_prompts_and_larger_images(
    tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, compared = tiny("qwen2_5_vl"), []
    model = HFModel(made.model, made.processor, {"max_new_tokens": 2, "cache_implementation": "static"})
    real = ModelRunner.difference
    monkeypatch.setattr(ModelRunner, "difference", lambda *rest: compared.append(rest[-1]) or real(*rest))
    small, large = Image.new("RGB", (56, 56), "red"), Image.new("RGB", (112, 84), "red")
    counts = []
    for image, words in ((small, 60), (small, 40), (large, 1), (small, 50), (large, 90)):
        model.respond([Prompt.of(samples[0].replace(images=[image], question="Look at the cube. " * words))])
        counts.append(compared.count("letter log-probabilities that differ by {:.2g}"))
    assert counts == [1, 1, 2, 2, 3]


def test_a_cache_that_decides_what_is_attended_to_cannot_be_left_out(writer: Build, samples: list[Sample]) -> None:
    # Unlimited OCR's window is kept by its cache alone: without it, a text longer than the window is another one.
    made, prompts = writer("unlimited_ocr"), [Prompt.of(sample) for sample in samples]
    sentence = r"'use_cache': expected True for UnlimitedOcr.*, whose cache has a layer of its own \(Unlimited.*\) that"
    with pytest.raises(ValueError, match=sentence):
        HFModel(made.model, made.processor, {"use_cache": False})
    without = HFModel(made.model, made.processor, {"max_new_tokens": 40, "use_cache": False}, self_check=False)
    usual = HFModel(made.model, made.processor, {"max_new_tokens": 40})
    texts = [[response.text for response in one.respond(prompts)] for one in (without, usual)]
    assert texts[0] != texts[1], "the refusal has become needless"


@pytest.mark.parametrize(
    "options", [{"repetition_penalty": 1.1}, {"stop_strings": ["x"]}, {"seed": 1}, {"eos_token_id": numpy.int64(2)}]
)
def test_other_options_are_accepted(options: dict[str, Any], tiny: Build) -> None:
    HFModel(tiny("llava").model, tiny("llava").processor, options)


def test_options_with_their_defaults_cost_nothing(tiny: Build, samples: list[Sample]) -> None:
    # Scripts write out what `generate` does anyway; texts then still leave their batch when they end.
    made, prompts = tiny("qwen2_5_vl"), [Prompt.of(sample, draw=draw) for sample in samples for draw in range(2)]
    drawing = {"max_new_tokens": 30, "do_sample": True, "temperature": 2.0, "eos_token_id": [*range(7, 400, 8)]}
    fill = getattr(GenerationConfig, "_get_default_generation_params", lambda: vars(GenerationConfig()))
    own = {name: value for name, value in fill().items() if value is not None and not name.startswith("_")}
    about_texts = set(own) - {"max_length", "transformers_version", "do_sample", "temperature", "top_k", "top_p"}
    written = {name: own[name] for name in about_texts if "assist" not in name and name != "target_lookbehind"}
    assert written["repetition_penalty"] == written["num_beams"] == 1
    usual = HFModel(made.model, made.processor, drawing)
    other = HFModel(made.model, made.processor, drawing | written | {"pad_token_id": 5, "stop_strings": None})
    expected = [response.text for response in usual.respond(prompts)]
    assert [response.text for response in other.respond(prompts)] == expected
    assert other.work()["row_steps"] == usual.work()["row_steps"] < 29 * len(prompts)


@pytest.mark.parametrize(
    "penalty",
    [{"repetition_penalty": 1.3}, {"encoder_repetition_penalty": 1.5}, {"no_repeat_ngram_size": 1}],
    ids=lambda options: next(iter(options)),
)
def test_penalties_do_not_count_padding(penalty: dict[str, Any], samples: list[Sample]) -> None:
    made = zoo.build("llava")
    tokenizer = made.processor.tokenizer
    tokenizer.pad_token = tokenizer.eos_token  # many checkpoints have one token for both
    zoo.favour(made.model, {tokenizer.eos_token_id: 8.0})
    prompts, options = [Prompt.of(sample) for sample in samples], {"max_new_tokens": 20, **penalty}
    alone, whole = (HFModel(made.model, made.processor, options, batch_size=size).respond(prompts) for size in (1, 7))
    assert [response.text for response in whole] == [response.text for response in alone]


def test_a_generate_that_drops_logits_processors_is_not_used_for_sampling(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("janus")
    drawing = {"max_new_tokens": 4, "do_sample": True, "temperature": 2.0}
    prompts = [Prompt.of(samples[0], draw=draw) for draw in range(6)]
    alone, whole = (HFModel(made.model, made.processor, drawing, batch_size=size).respond(prompts) for size in (1, 6))
    assert [response.text for response in alone] == [response.text for response in whole]
    assert len({response.text for response in whole}) > 3
    with pytest.raises(ValueError, match=r"to sample, got a `generate` that ignores .*or without repetition_penalty"):
        HFModel(made.model, made.processor, drawing | {"repetition_penalty": 1.1})


def test_sampling_options_without_sampling_are_logged(tiny: Build, caplog: pytest.LogCaptureFixture) -> None:
    made = tiny("llava")
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        HFModel(made.model, made.processor, {"do_sample": True, "temperature": 0.7})
        assert not caplog.records
        HFModel(made.model, made.processor, {"temperature": 0.7, "top_p": 0.9})
    assert "temperature, top_p have no effect without do_sample=True" in caplog.text


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_new_tokens": None}, "'max_new_tokens': expected a whole number of at least 1, got None"),
        ({"max_new_tokens": "5"}, "'max_new_tokens': expected a whole number of at least 1, got '5'"),
        ({"max_new_tokens": 0}, "'max_new_tokens': expected a whole number of at least 1, got 0"),
        ({"max_new_tokens": 2.5}, "'max_new_tokens': expected a whole number"),
        ({"stop_strings": 3}, "'stop_strings': expected a text, or a list of texts, got 3"),
        ({"stop_strings": ["a", 3]}, "'stop_strings': expected a text, or a list of texts"),
        ({"eos_token_id": "x"}, "'eos_token_id': expected a token's number, or a list of them, got 'x'"),
        ({"do_sample": "yes"}, "'do_sample': expected True or False, got 'yes'"),
        ({"do_sample": True, "temperature": 0.0}, "'temperature': expected a number above 0"),
        ({"do_sample": True, "temperature": "hot"}, "'temperature': expected a number of at least 0, got 'hot'"),
        ({"do_sample": True, "top_p": 1.5}, "'top_p': expected a number from 0 to 1, got 1.5"),
        ({"do_sample": True, "top_p": False}, "'top_p': expected a number from 0 to 1, got False"),
        ({"repetition_penalty": True}, "'repetition_penalty': expected a number above 0, got True"),
        ({"min_new_tokens": False}, "'min_new_tokens': expected a whole number of at least 0, got False"),
        ({"eos_token_id": False}, "'eos_token_id': expected a token's number, or a list of them, got False"),
        ({"do_sample": True, "top_k": -1}, "'top_k': expected a whole number of at least 0, got -1"),
        ({"do_sample": True, "seed": "x"}, "'seed': expected a whole number, got 'x'"),
        ({"repetition_penalty": "1.2"}, "'repetition_penalty': expected a number above 0, got '1.2'"),
        # What is not in the table: transformers says so itself.
        ({"cache_implementation": "bogus"}, "field 'generation': expected options that (GenerationConfig takes|Llava)"),
        ({"suppress_tokens": 5}, "field 'generation': expected options that "),
        (
            {"bad_words_ids": [5]},
            "field 'generation': expected options that LlavaForConditionalGeneration decodes with",
        ),
        (
            {"sequence_bias": "x"},
            "field 'generation': expected options that LlavaForConditionalGeneration decodes with",
        ),
        ({"exponential_decay_length_penalty": 3}, "field 'generation': expected options that "),
    ],
)
def test_invalid_values_are_refused_when_the_model_is_created(options: dict[str, Any], why: str, tiny: Build) -> None:
    made = tiny("llava")
    with pytest.raises(ValueError, match=why):
        HFModel(made.model, made.processor, options)


def test_the_check_of_options_accepts_those_that_work(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("llava")
    options = {
        "max_new_tokens": numpy.int64(4),
        "min_new_tokens": 3,
        "stop_strings": ["zzz"],
        "bad_words_ids": [[5]],
        "no_repeat_ngram_size": 2,
        "eos_token_id": [2, 7],
    }
    [response] = HFModel(made.model, made.processor, options).respond([Prompt.of(samples[0])])
    assert response.error is None
    assert response.n_tokens in (3, 4)
    assert made.model.generation_config.bad_words_ids is None


def test_options_without_effect_are_logged(tiny: Build, caplog: pytest.LogCaptureFixture) -> None:
    made = tiny("llava")
    HFModel(made.model, made.processor, {"repetition_penalty": 1.1})
    assert not caplog.records
    HFModel(made.model, made.processor, {"length_penalty": 2.0, "early_stopping": True, "cache_config": {"nbits": 4}})
    assert "generation: early_stopping, length_penalty act on beam search only, and have no effect here" in caplog.text
    assert "cache_config has no effect without cache_implementation='quantized'" in caplog.text


def test_texts_end_at_any_of_the_given_stop_tokens() -> None:
    """They are decoded as without, with everything shared, and end before the first such token."""
    prompts = vr.expand(vr.demo.samples(3), [])
    plain = vr.demo.model()
    whole = [response.text for response in plain.respond(prompts)]
    tokenizer = plain.processor.tokenizer
    [comma] = tokenizer(",", add_special_tokens=False)["input_ids"]
    ends = [tokenizer.eos_token_id, comma]
    model = vr.HFModel(plain.model, plain.processor, {"eos_token_id": ends})
    assert [response.text for response in model.respond(prompts)] == [text.partition(",")[0] for text in whole]
    assert any("," in text for text in whole)
    assert model.work()["texts"] == len(prompts)


CPU = torch.device("cpu")
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -torch.inf, 1.5, -2.0])


def drawn_counts(choices: Tensor) -> list[int]:
    return torch.bincount(choices, minlength=len(LOGITS)).tolist()


def assert_distributed(counts: Sequence[float], probabilities: Sequence[float]) -> None:
    possible = [index for index, p in enumerate(probabilities) if p > 0]
    assert sum(counts) == sum(counts[index] for index in possible), "a token that is ruled out was drawn"
    total = sum(counts)
    test = stats.chisquare([counts[index] for index in possible], [total * probabilities[index] for index in possible])
    assert test.pvalue > 1e-3


def test_the_argmax_with_noise_is_a_draw_from_the_softmax() -> None:
    noise = GumbelNoise([("q1", "base", draw) for draw in range(4000)], 0, CPU)
    scores = noise(torch.zeros(4000, 1, dtype=torch.int64), LOGITS.expand(4000, -1))
    assert_distributed(drawn_counts(scores.argmax(-1)), LOGITS.double().softmax(-1).tolist())


def test_the_steps_of_a_row_are_independent_draws() -> None:
    noise = GumbelNoise([("q1", "base", 0)], 0, CPU)
    choices = torch.stack([noise(torch.zeros(1, 1), LOGITS[None]).argmax() for _ in range(4000)])
    assert_distributed(drawn_counts(choices), LOGITS.double().softmax(-1).tolist())
    pairs = torch.zeros(8, 8)
    for first, second in zip(choices[:-1:2], choices[1::2], strict=True):
        pairs[first, second] += 1
    kept = [index for index in range(8) if index != 5]
    assert stats.chi2_contingency(pairs[kept][:, kept].numpy() + 0.5).pvalue > 1e-3


@given(st.permutations(list(range(6))), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_a_rows_noise_does_not_depend_on_its_neighbours(order: list[int], size: int) -> None:
    keys = [(f"q{index}", "base", 0) for index in range(6)]
    scores = torch.zeros(6, 5)
    expected = GumbelNoise(keys, 3, CPU)(torch.zeros(6, 1), scores)
    for start in range(0, 6, size):
        rows = order[start : start + size]
        got = GumbelNoise([keys[row] for row in rows], 3, CPU)(torch.zeros(len(rows), 1), scores[: len(rows)])
        assert torch.equal(got, expected[rows])


def test_seed_sample_condition_and_draw_each_change_the_noise() -> None:
    def noise(sample: str, condition: str, draw: int, seed: int) -> Tensor:
        return GumbelNoise([(sample, condition, draw)], seed, CPU)(torch.zeros(1, 1), torch.zeros(1, 50))

    made = [
        noise("a", "b", 0, 0),
        noise("c", "b", 0, 0),
        noise("a", "d", 0, 0),
        noise("a", "b", 1, 0),
        noise("a", "b", 0, 1),
    ]
    assert all(torch.isfinite(one).all() for one in made)
    for index, one in enumerate(made):
        assert all((one - other).abs().max() > 0.1 for other in made[:index])
    assert torch.equal(made[0], noise("a", "b", 0, 0))


@given(
    st.lists(st.integers(-64, 64).map(lambda eighths: eighths / 8), min_size=6, max_size=6, unique=True),
    st.floats(0.2, 3),
    st.integers(1, 6),
    st.floats(0.1, 0.99),
    st.floats(0.01, 0.5),
)
@settings(max_examples=25, deadline=None)
def test_warpers_keep_what_their_definitions_keep(
    values: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    scores = torch.tensor([values])
    for name, value in options.items():
        warped = scores
        for warp in warpers({name: value}):
            warped = warp(torch.zeros(1, 1), warped)
        p = scores[0].double().softmax(-1)
        ranked = sorted(range(6), key=lambda token: -values[token])
        before = {token: sum(float(p[other]) for other in ranked[:rank]) for rank, token in enumerate(ranked)}
        kept = {
            "temperature": set(range(6)),
            "top_k": set(ranked[:top_k]),
            "top_p": {token for token in ranked if before[token] < top_p},
            "min_p": {token for token in ranked if p[token] >= min_p * p.max()},
        }[name]
        margins = [abs(before[token] - top_p) for token in ranked] + [float(abs(q - min_p * p.max())) for q in p]
        if min(margins) > 1e-5:  # a tie within rounding may go either way
            assert set((~torch.isneginf(warped[0])).nonzero()[:, 0].tolist()) == kept
        scale = temperature if name == "temperature" else 1.0
        finite = ~torch.isneginf(warped)
        torch.testing.assert_close(warped[finite], (scores / scale)[finite])


def test_neutral_options_need_no_warper() -> None:
    assert warpers({}) == []
    assert warpers({"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}) == []


# ------------------------------------------------------------------------------------------------ whole texts

SAMPLED = {"do_sample": True, "temperature": 1.3, "top_p": 0.95, "max_new_tokens": 6}


def texts(model: Any, prompts: Sequence[Prompt], batch_size: int, **options: Any) -> list[str]:
    engine = HFModel(model.model, model.processor, SAMPLED | options, batch_size=batch_size)
    return [response.text for response in engine.respond(prompts)]


def test_a_sampled_text_depends_on_its_prompt_and_seed_alone(
    tiny: Callable[[str], zoo.Tiny], samples: list[Sample]
) -> None:
    model = tiny("qwen2_5_vl")
    prompts = [Prompt.of(sample, draw=draw) for sample in samples for draw in range(2)]
    expected = texts(model, prompts, 14)
    order = list(range(len(prompts)))
    for batch_size in (1, 3):
        random.Random(batch_size).shuffle(order)
        got = texts(model, [prompts[index] for index in order], batch_size)
        assert got == [expected[index] for index in order]
    assert texts(model, prompts, 14, seed=1) != expected
    assert all(first != second for first, second in zip(expected[::2], expected[1::2], strict=True))


def test_greedy_decoding_knows_no_seed_or_draw(tiny: Callable[[str], zoo.Tiny], samples: list[Sample]) -> None:
    model = tiny("qwen2_5_vl")
    greedy = texts(model, [Prompt.of(samples[0])], 1, do_sample=False)
    assert texts(model, [Prompt.of(samples[0], draw=3)], 1, do_sample=False, seed=5) == greedy
    assert texts(model, [Prompt.of(samples[0])], 1, temperature=1e-4) == greedy


def test_first_tokens_are_distributed_as_the_models_own(
    tiny: Callable[[str], zoo.Tiny], make_sample: Callable[..., Sample]
) -> None:
    model, processor = tiny("llava_onevision").model, tiny("llava_onevision").processor
    prompt = Prompt.of(make_sample())
    inputs = oracle.inputs_of(processor, oracle.rendered(processor, prompt), prompt.images)
    p = (oracle.logits_of(model, inputs)[-1] / 1.5).softmax(-1)
    by_text: dict[str, float] = defaultdict(float)  # single bytes of longer characters all decode to "�"
    for token in range(len(processor.tokenizer)):
        by_text[processor.tokenizer.decode([token])] += float(p[token])
    likely = sorted(by_text, key=lambda text: -by_text[text])[:6]
    options = {"do_sample": True, "temperature": 1.5, "max_new_tokens": 1}
    engine = HFModel(model, processor, options, batch_size=150)
    answers = engine.respond([prompt.replace(draw=draw) for draw in range(450)])
    counts = [sum(answer.text == text for answer in answers) for text in likely]
    probabilities = [by_text[text] for text in likely]
    assert_distributed([*counts, 450 - sum(counts)], [*probabilities, 1 - sum(probabilities)])


def test_entropy_is_that_of_the_raw_logits(tiny: Callable[[str], zoo.Tiny], samples: list[Sample]) -> None:
    model = tiny("qwen2_5_vl")

    def entropy(**options: Any) -> list[float]:
        engine = HFModel(model.model, model.processor, {"max_new_tokens": 1} | options)
        return [response.token_entropy or 0.0 for response in engine.respond([Prompt.of(s) for s in samples])]

    assert entropy(do_sample=True, temperature=0.1, top_k=1) == pytest.approx(entropy(), abs=1e-5)
