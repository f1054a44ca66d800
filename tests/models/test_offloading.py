"""Models whose weights accelerate keeps elsewhere give the results and the identity of the same models in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo

from vlmrobust import Prompt, Sample, expand
from vlmrobust.models import HFModel
from vlmrobust.models.base import identity_of
from vlmrobust.models.offloading import device_of, value_of
from vlmrobust.perturbations import StopThink

accelerate = pytest.importorskip("accelerate")

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    # transformers 4, when no layer's weights are in place
    pytest.mark.filterwarnings("ignore:You are calling .generate.. with the `input_ids` being on a device:UserWarning"),
]

Build = Callable[[str], zoo.Tiny]


def offloaded(model: Any, parts: list[str], folder: Path) -> Any:
    """Keep some parts of a model on disk; without any, all of it on the CPU, loaded layer by layer."""
    if not parts:
        return accelerate.cpu_offload(model, execution_device="cpu")
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    device_map = {name: "disk" if name.startswith(tuple(parts)) else "cpu" for name in names}
    return accelerate.dispatch_model(model, device_map, main_device="cpu", offload_dir=folder, force_hooks=True)


def answers(model: Any, made: zoo.Tiny, samples: list[Sample]) -> tuple[HFModel, list[Any]]:
    engine = HFModel(model, made.processor, {"max_new_tokens": 4})
    prompts = [*expand(samples[:3], [StopThink()]), Prompt.of(samples[0]).replace(prefill="<think>It")]
    responses = engine.respond(prompts)
    assert [response.error for response in responses] == [None] * len(prompts)
    return engine, responses


@pytest.mark.parametrize(
    "parts", [["lm_head"], ["model.language_model", "lm_head"], []], ids=["head", "decoder", "all"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_kept_elsewhere_change_no_response(
    parts: list[str], dtype: torch.dtype, tiny: Build, samples: list[Sample], tmp_path: Path
) -> None:
    made = tiny("qwen2_5_vl")
    in_memory, expected = answers(zoo.build("qwen2_5_vl").model.to(dtype), made, samples)
    model = offloaded(zoo.build("qwen2_5_vl").model.to(dtype), parts, tmp_path)
    assert model.lm_head.weight.device.type == "meta"
    engine, responses = answers(model, made, samples)
    assert responses == expected
    assert identity_of(engine) == identity_of(in_memory)


def test_a_changed_weight_on_disk_is_another_identity(tiny: Build, tmp_path: Path) -> None:
    identities = []
    for change in (0.0, 1.0):
        model = zoo.build("qwen2_5_vl").model
        with torch.no_grad():
            model.lm_head.weight[3, 7] += change
        engine = HFModel(offloaded(model, ["lm_head"], tmp_path / str(change)), tiny("qwen2_5_vl").processor)
        identities.append(identity_of(engine)["all_weights"])
    assert identities[0] != identities[1]


def test_hooks_may_be_sequences_of_sequences() -> None:
    layer = torch.nn.Linear(2, 3, device="meta")
    kept = {name: torch.ones(value.shape) for name, value in layer.named_parameters()}
    for hook in (
        accelerate.hooks.AlignDevicesHook("cpu", offload=True, weights_map=kept),
        accelerate.hooks.ModelHook(),
        accelerate.hooks.ModelHook(),
    ):
        accelerate.hooks.add_hook_to_module(layer, hook, append=True)
    assert torch.equal(value_of(layer, "bias"), torch.ones(3))


def test_what_is_not_offloaded_is_read_where_it_is() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 3))
    assert value_of(layer, "0.weight") is layer[0].weight
    empty = torch.nn.Linear(2, 3, device="meta")  # nowhere kept
    assert value_of(empty, "bias") is empty.bias
    model = zoo.build("llava").model
    assert device_of(model) == torch.device("cpu")
    assert device_of(model.to("meta")) == torch.device("meta")
