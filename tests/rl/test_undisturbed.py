"""A borrowed model is given back as it was."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import zoo

import vlmrobust as vr
from vlmrobust.rl.undisturbed import undisturbed


def random_numbers() -> tuple[Any, ...]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_state_is_restored_even_after_an_error(tiny: Callable[[str], zoo.Tiny]) -> None:
    made = zoo.build("qwen2_5_vl")
    model = made.model.train()
    model.gradient_checkpointing_enable()
    model.model.visual.eval()  # a frozen part
    model.config.use_cache = model.config.text_config.use_cache = False
    model.model.rope_deltas = torch.tensor([[7]])
    modes = {name: module.training for name, module in model.named_modules()}
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = random_numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002

    def ask() -> None:
        with undisturbed(model):
            assert not any(module.training for module in model.modules())
            assert not model.is_gradient_checkpointing
            assert model.config.text_config.use_cache
            random_numbers()
            sample = vr.demo.samples(1)[0]
            [response] = vr.HFModel(model, made.processor, {"max_new_tokens": 2}).respond([vr.Prompt.of(sample)])
            assert response.status != "error"
            raise KeyError("x")

    with pytest.raises(KeyError):
        ask()
    assert random_numbers() == expected
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.is_gradient_checkpointing
    assert not model.config.use_cache
    assert not model.config.text_config.use_cache
    assert model.model.rope_deltas.item() == 7
