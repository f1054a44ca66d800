import copy
from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch
import transformers
import zoo
from quantised import quantise
from torch import Tensor

from vlmrobust import Prompt, Sample, Style
from vlmrobust.functional import token_entropy
from vlmrobust.models import HFModel
from vlmrobust.models.probe import Capture, DecodingLog, GenerationProbe, Head, captured

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def language_model(name: str, **settings: Any) -> Any:
    config = getattr(transformers, f"{name}Config")(**(SIZES | settings))
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.5, generator=generator)
        if getattr(model.get_output_embeddings(), "bias", None) is not None:
            model.get_output_embeddings().bias.normal_(generator=generator)
    return model


@torch.inference_mode()
def seen_by(model: Any) -> tuple[Head, Tensor, Tensor]:
    head = Head(model)
    with captured(model, head) as seen:
        model(input_ids=torch.tensor([[1, 5, 9], [1, 7, 3]]))
    hidden, logits = seen.last(2)
    head.check(hidden[:, -1], logits[:, -1])
    return head, hidden, logits


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Phi", {}),  # a bias
        ("Gemma2", {"final_logit_softcapping": 5.0}),
        ("Gemma2", {"final_logit_softcapping": None}),
        ("Cohere", {"logit_scale": 0.25}),
        ("Granite", {"logits_scaling": 6.0}),
    ],
)
def test_the_heads_logits_equal_the_models(name: str, settings: dict[str, Any]) -> None:
    head, hidden, logits = seen_by(language_model(name, **settings))
    assert head.exact is True
    assert head.rows(hidden, logits) is hidden
    assert head.rows_at_once(hidden, logits) is logits
    assert head.rows_at_once(hidden, logits.bfloat16()) is hidden
    torch.testing.assert_close(head.logits(logits), logits)
    torch.testing.assert_close(head.logits(hidden), logits, atol=1e-4, rtol=1e-5)
    assert head.vocabulary_size() == logits.shape[-1]


def test_logits_computed_differently_are_kept() -> None:
    model = language_model("Llama")
    real = model.forward

    def sharper(**inputs: Any) -> Any:
        output = real(**inputs)
        output.logits = output.logits * 1.01
        return output

    model.forward = sharper
    head, hidden, logits = seen_by(model)
    assert head.exact is False
    assert head.rows(hidden, logits) is logits
    torch.testing.assert_close(head.logits(logits), logits)


class ScaledHead(torch.nn.Linear):
    """A head whose weight is of one byte per number, with a scale, as quantised checkpoints have it."""

    def __init__(self, whole: torch.nn.Linear, kind: torch.dtype) -> None:
        super().__init__(whole.in_features, whole.out_features, bias=False)
        self.scale = 4.0
        self.weight = torch.nn.Parameter((whole.weight.detach() / self.scale).to(kind), requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ (self.weight.to(hidden.dtype) * self.scale).T


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_the_logits_of_a_quantised_head_are_kept(kind: torch.dtype) -> None:
    model = language_model("Llama")
    model.lm_head = ScaledHead(model.lm_head, kind)
    head, hidden, logits = seen_by(model)
    assert head.rows(hidden, logits) is head.rows_at_once(hidden, logits) is logits
    torch.testing.assert_close(head.logits(logits), logits)


def test_the_logits_of_a_head_with_a_tensor_of_its_own_kind_are_kept() -> None:
    model = language_model("Llama", tie_word_embeddings=False)
    quantise(model.lm_head)
    head, hidden, logits = seen_by(model)
    assert head.rows(hidden, logits) is head.rows_at_once(hidden, logits) is logits
    torch.testing.assert_close(head.logits(logits), logits)


def test_the_logits_of_a_large_vocabulary_are_computed_in_chunks() -> None:
    head, hidden, logits = seen_by(language_model("Llama", vocab_size=40_000))
    assert head.exact is True
    torch.testing.assert_close(head.logits(hidden), logits, atol=1e-4, rtol=1e-5)
    assert head.row_chunk() * head.vocabulary_size() <= 2**26


def test_many_parts_share_a_pass_as_far_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    head, hidden, _ = seen_by(language_model("Llama"))
    rows = hidden.flatten(0, 1)
    parts = [rows[:1], rows[:4], rows[1:3], rows[:0], rows[3:]]
    monkeypatch.setattr(Head, "row_chunk", lambda self: 3)
    real, sizes = Head.logits, []
    monkeypatch.setattr(Head, "logits", lambda self, rows: (sizes.append(len(rows)), real(self, rows))[1])
    for part, logits in zip(parts, head.logits_of(parts), strict=True):
        torch.testing.assert_close(logits, real(head, part))
    assert sizes == [1, 4, 3]
    assert list(head.logits_of([])) == []


def test_a_model_without_a_head_is_refused() -> None:
    model = transformers.LlamaModel(transformers.LlamaConfig(**SIZES))
    with pytest.raises(ValueError, match="expected a model with an LM head, got LlamaModel without output embeddings"):
        Head(model)


def test_hooks_are_removed_even_after_an_error() -> None:
    model = language_model("Llama")
    with pytest.raises(RuntimeError, match="a defect"), captured(model, Head(model)):
        raise RuntimeError("a defect")
    assert not model._forward_hooks
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_only_the_chosen_positions_get_logits() -> None:
    model, ids = language_model("Llama"), torch.tensor([[1, 5, 9, 4], [1, 7, 3, 8]])
    wanted = torch.tensor([[0, 2], [3, 1]])
    with torch.inference_mode():
        everything = model(input_ids=ids).logits
        with captured(model, Head(model), wanted) as seen:
            model(input_ids=ids)
    hidden, logits = seen.last(2)
    assert hidden.shape[:2] == (2, 2)
    torch.testing.assert_close(logits, torch.stack([everything[0, [0, 2]], everything[1, [3, 1]]]))


def test_the_probe_keeps_letters_the_next_steps_and_all_entropies() -> None:
    model = language_model("Llama")
    head, seen = Head(model), Capture()
    letters = torch.zeros(96, dtype=torch.bool)
    letters[[10, 11]] = True
    logs = [DecodingLog(), DecodingLog()]
    probe = GenerationProbe(head, seen, letters, logs)
    steps = [[10, 3], [4, 5], [6, 7], [11, 10]]
    hidden = torch.randn(4, 2, 1, 32, generator=torch.Generator().manual_seed(0))
    logits = hidden @ model.get_output_embeddings().weight.detach().T
    ids = torch.zeros(2, 1, dtype=torch.int64)
    for step, tokens in enumerate(steps):
        ids = torch.cat([ids, torch.tensor(tokens)[:, None]], dim=1)
        seen.hidden, seen.logits = hidden[step], logits[step]
        assert not probe(ids, None).any()
    assert [log.tokens for log in logs] == [list(row) for row in zip(*steps, strict=True)]
    found = torch.tensor([log.entropies for log in logs]).T
    torch.testing.assert_close(found, token_entropy(logits[:, :, 0]))
    assert [sorted(log.kept) for log in logs] == [[0, 1, 3], [3]]
    for row, log in enumerate(logs):
        for step, kept in log.kept.items():
            torch.testing.assert_close(head.logits(kept)[0], logits[step, row, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava", "internvl", "gemma3"])
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
def test_bfloat16_loses_nothing_in_the_readout(
    family: str,
    tiny: Callable[[str], zoo.Tiny],
    samples: list[Sample],
    texts_of: Callable[[Any], list[str]],
) -> None:
    model, processor = copy.deepcopy(tiny(family).model).bfloat16(), tiny(family).processor
    head, states = model.get_output_embeddings(), []
    texts = texts_of(processor.tokenizer)
    lost = 0.0
    for sample in samples:
        prompt = Prompt.of(sample, style=Style(mode="direct"))
        inputs = oracle.inputs_of(processor, oracle.rendered(processor, prompt), prompt.images)
        hook = head.register_forward_pre_hook(lambda module, arguments: states.append(arguments[0]))
        with torch.inference_mode():
            cast = {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs.items()}
            rounded = model(**cast).logits[0, -1].double().log_softmax(-1)
            exact = (states.pop()[0, -1].double() @ head.weight.double().T).log_softmax(-1)
        hook.remove()
        engine = HFModel(model, processor)
        engine._engine._ahead.works = False  # one state, and what its head makes of it
        [response] = engine.respond([prompt])
        count = len(prompt.options)
        letters = oracle.letters_that_end(model, inputs, [], exact, texts, shown="")[:count]
        got = torch.tensor(response.option_logprobs, dtype=torch.float64)
        torch.testing.assert_close(got, letters, atol=0.02, rtol=0)
        lost = max(
            lost,
            float((oracle.letters_that_end(model, inputs, [], rounded, texts, shown="")[:count] - letters).abs().max()),
        )
    assert lost > 0.01, "bf16 logits should differ, or the test cannot fail"
