import logging
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import zoo

import vlmrobust as vr
from vlmrobust import Prompt, Sample
from vlmrobust.models import HFModel

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


@pytest.mark.parametrize(
    "options", [{"num_beams": 1}, {"repetition_penalty": 1.1}, {"stop_strings": ["x"]}, {"seed": 1}]
)
def test_other_options_are_accepted(options: dict[str, Any], tiny: Build) -> None:
    HFModel(tiny("llava").model, tiny("llava").processor, options)


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
