"""A Hugging Face model's identity: all weights, processor, tokenizer, chat template."""

import json
import logging

import pytest
import torch
import zoo
from quantised import quantise

import vlmrobust as vr
from vlmrobust import Evaluator
from vlmrobust.metrics import Accuracy
from vlmrobust.models import identity as module
from vlmrobust.models.base import identity_of

LATER = ("processor", "config", "stop_tokens", "processor_options", "tokenizer", "chat_template", "all_weights")


def other_sizes(model):
    model.processor.image_processor.size = {"longest_edge": 112 * 112, "shortest_edge": 56 * 56}


def other_normalisation(model):
    model.processor.image_processor.image_mean = [0.5, 0.5, 0.5]


def other_template(model):
    model.processor.chat_template = model.processor.chat_template.replace("<|im_start|>", "<|im_start|>\n")


def more_tokens(model):
    model.processor.tokenizer.add_tokens(["quick brown"])


def other_cutting(model):
    from tokenizers.normalizers import Lowercase

    model.processor.tokenizer.backend_tokenizer.normalizer = Lowercase()


def one_value(model):
    with torch.no_grad():
        max(model.model.parameters(), key=torch.numel).view(-1)[1] += 1e-3


def a_buffer(model):
    model.model.register_buffer("scale", torch.ones(1))


def other_norms(model):
    model.model.config.text_config.rms_norm_eps = 0.1


def stretched_positions(model):
    text = model.model.config.text_config
    name = "rope_parameters" if hasattr(text, "rope_parameters") else "rope_scaling"  # the latter in transformers 4
    setattr(text, name, {**getattr(text, name), "factor": 4.0, "rope_type": "linear"})


def other_end(model):
    model._decoding.config.eos_token_id = [3, 4, 5]


CHANGES = {
    "config": [other_norms, stretched_positions],
    "stop_tokens": [other_end],
    "processor": [other_sizes, other_normalisation],
    "chat_template": [other_template],
    "tokenizer": [more_tokens, other_cutting],
    "all_weights": [one_value, a_buffer],
}


@pytest.mark.parametrize(
    ("field", "change"), [(field, change) for field, changes in CHANGES.items() for change in changes]
)
def test_a_run_is_not_resumed_with_another_identity(tmp_path, field, change):
    Evaluator(vr.demo.model(), [], [Accuracy()]).run(vr.demo.samples(1), tmp_path)
    changed = vr.demo.model()
    change(changed)
    with pytest.raises(ValueError, match=rf"field 'model\.{field}.*': expected .*, as the run was started with, got"):
        Evaluator(changed, [], [Accuracy()]).run(vr.demo.samples(2), tmp_path)


def test_responding_does_not_change_the_identity(tmp_path):
    model = vr.demo.model()
    before = identity_of(model)
    model.respond(list(vr.expand(vr.demo.samples(2), vr.paper_conditions())))
    assert identity_of(model) == before == identity_of(vr.demo.model())


def test_an_older_run_directory_resumes_with_a_note(tmp_path, caplog):
    Evaluator(vr.demo.model(), [], [Accuracy()]).run(vr.demo.samples(1), tmp_path)
    file = tmp_path / "manifest.json"
    manifest = json.loads(file.read_text())
    for name in LATER:
        del manifest["model"][name]
    file.write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING):
        report = Evaluator(vr.demo.model(), [], [Accuracy()]).run(vr.demo.samples(2), tmp_path)
    [note] = report.manifest["notes"]
    assert note == (f"started before the model's {', '.join(LATER)} were recorded: whether they changed is unknown")
    assert note in caplog.text
    changed = vr.demo.model()
    other_template(changed)
    with pytest.raises(ValueError, match=r"model\.chat_template"):  # from now on it is known
        Evaluator(changed, [], [Accuracy()]).run(vr.demo.samples(2), tmp_path)


def test_the_digest_of_all_weights_is_cached_in_the_run(tmp_path, monkeypatch):
    made = []
    whole = module._digest
    monkeypatch.setattr(module, "_digest", lambda model: made.append(1) or whole(model))
    first = identity_of(vr.demo.model(), tmp_path)["all_weights"]
    assert identity_of(vr.demo.model(), tmp_path)["all_weights"] == first
    assert len(made) == 1
    model = vr.demo.model()
    one_value(model)  # not as it was loaded
    assert identity_of(model, tmp_path)["all_weights"] != first
    assert len(made) == 2
    assert identity_of(model, tmp_path)["all_weights"] != first  # known to the model itself
    assert len(made) == 2
    assert identity_of(vr.demo.model(), tmp_path)["all_weights"] == first
    assert len(made) == 2


def test_files_with_another_time_are_read_again(tmp_path, monkeypatch):
    import os
    import shutil
    from pathlib import Path

    shutil.copytree(Path(vr.demo.__file__).parent / "weights", tmp_path / "weights")
    run = tmp_path / "run"
    load = vr.HFModel.from_pretrained
    first = identity_of(load(str(tmp_path / "weights"), dtype="float32"), run)["all_weights"]
    monkeypatch.setattr(module, "_digest", lambda model: "made anew")
    assert identity_of(load(str(tmp_path / "weights"), dtype="float32"), run)["all_weights"] == first
    os.utime(tmp_path / "weights" / "model.safetensors", (0, 0))
    assert identity_of(load(str(tmp_path / "weights"), dtype="float32"), run)["all_weights"] == "made anew"


def test_the_full_digest_covers_all_bytes():
    layer = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    assert module._digest(layer) == module._digest(layer)
    other = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    other.load_state_dict(layer.state_dict())
    assert module._digest(layer) == module._digest(other)
    assert module._digest(layer) != module._digest(other.float())
    transposed = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    transposed.weight = torch.nn.Parameter(layer.weight.detach().t().contiguous().t())  # another order in memory
    transposed.bias = layer.bias
    assert module._digest(layer) == module._digest(transposed)


def quantised(*, change=0.0, head=True):
    made = zoo.build("qwen2_5_vl")
    layers = [layer for layer in made.model.model.language_model.modules() if isinstance(layer, torch.nn.Linear)]
    layers += [made.model.lm_head] if head else []
    with torch.no_grad():
        layers[0].weight[0, 0] += change
    for layer in layers:
        quantise(layer)
    return vr.HFModel(made.model, made.processor)


@pytest.mark.parametrize("head", [True, False])
def test_quantised_weights_are_read_and_identified(head):
    model = quantised(head=head)
    first = identity_of(model)
    assert identity_of(quantised(head=head)) == first
    other = identity_of(quantised(head=head, change=9.0))
    assert {name for name in first if first[name] != other[name]} == {"weights", "all_weights"}
    [response] = model.respond(vr.expand(vr.demo.samples(1), [], style=vr.Style(mode="direct")))
    assert response.error is None
    assert response.letter_mass > 0


def test_prompts_longer_than_the_context_are_error_rows(monkeypatch):
    samples = vr.demo.samples(3)
    samples = [samples[0], samples[1].replace(question=f"{samples[1].question} " * 3000), samples[2]]
    model = vr.demo.model()
    seen = []
    run = model._engine.run
    monkeypatch.setattr(
        model._engine, "run", lambda items, **options: seen.extend(items.values()) or run(items, **options)
    )
    report = Evaluator(model, [vr.perturbations.StopThink()], [Accuracy()]).run(samples)
    assert list(report.responses.status) == ["answered", "answered", "error", "error", "answered", "answered"]
    assert report.responses.error[2].startswith(
        "sample 'demo-0-1', condition 'base': expected a prompt that fits the model's context of 4096 tokens, got one "
    )
    assert {item.prompt.sample.id for item in seen} == {"demo-0-0", "demo-0-2"}


def test_prompt_lengths_equal_the_processors():
    model = vr.demo.model()
    for prompt in vr.expand(vr.demo.samples(2), vr.paper_conditions()):
        item = model._encoder.render(prompt, {})
        encoded = model._encoder.encode([item.text], [item.images])["input_ids"]
        assert model._encoder.length(item) == encoded.shape[1]


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": None}, None),
        ({}, None),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
    ],
)
def test_the_context_is_that_of_the_config(config, context):
    from types import SimpleNamespace

    from vlmrobust.models.loading import context_of

    text = SimpleNamespace(**config)
    assert context_of(SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))) == context
