"""Finding the model that runs inside what was passed."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import zoo

from vlmrobust.models import HFModel
from vlmrobust.models.base import UnfitError

Build = Callable[[str], zoo.Tiny]

EXPECTED = "expected a Hugging Face model with `config` and `generate`, as from `AutoModelForImageTextToText`, got "


@pytest.mark.parametrize(
    ("wrap", "got"),
    [
        (torch.nn.DataParallel, r"DataParallel; pass the model inside it \(its attribute 'module'\)$"),
        (lambda model: SimpleNamespace(model=model), r"SimpleNamespace; .* \(its attribute 'model'\)$"),  # a pipeline
        (lambda model: model.model, "LlavaModel$"),  # without an LM head
        (lambda model: "llava-hf/llava-1.5-7b-hf", "str$"),
        (lambda model: None, "NoneType$"),
    ],
    ids=["DataParallel", "pipeline", "no head", "name", "None"],
)
def test_what_is_not_a_model_that_generates_is_refused(wrap: Callable[[Any], Any], got: str, tiny: Build) -> None:
    made = tiny("llava")
    with pytest.raises(UnfitError, match=EXPECTED + got):
        HFModel(wrap(made.model), made.processor)
