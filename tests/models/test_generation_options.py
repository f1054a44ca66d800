import logging
from collections.abc import Callable
from typing import Any

import pytest
import zoo

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
        ({"cache_implementation": "paged"}, "with a paged one transformers answers without the image, got 'paged'"),
        ({"max_length": 100}, "use 'max_new_tokens', got 100"),
        ({"penalty_alpha": 0.6}, "'penalty_alpha': expected none: texts are decoded token by token"),
        ({"do_sample": True, "typical_p": 0.9}, "'typical_p': expected none: samples are drawn with temperature"),
    ],
)
def test_what_cannot_be_read_off_a_text_is_refused(options: dict[str, Any], why: str, tiny: Build) -> None:
    made = tiny("llava")
    with pytest.raises(ValueError, match=why):
        HFModel(made.model, made.processor, options)


@pytest.mark.parametrize(
    "options", [{"num_beams": 1}, {"repetition_penalty": 1.1}, {"stop_strings": ["x"]}, {"seed": 1}]
)
def test_other_options_are_taken(options: dict[str, Any], tiny: Build) -> None:
    HFModel(tiny("llava").model, tiny("llava").processor, options)


def test_sampling_options_without_sampling_are_said(tiny: Build, caplog: pytest.LogCaptureFixture) -> None:
    made = tiny("llava")
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        HFModel(made.model, made.processor, {"do_sample": True, "temperature": 0.7})
        assert not caplog.records
        HFModel(made.model, made.processor, {"temperature": 0.7, "top_p": 0.9})
    assert "temperature, top_p have no effect without do_sample=True" in caplog.text
