"""`LMJudge` on a stand-in for vLLM agrees with transformers; tests/engines has the real engine."""

from pathlib import Path
from typing import Any

import pytest
import torch
import vllm_stand_in

import vlmrobust as vr
from vlmrobust import Evaluator, VLLMModel, demo
from vlmrobust.judges import LMJudge
from vlmrobust.metrics import Consistency
from vlmrobust.models.base import RefusedError
from vlmrobust.prompting import letter_columns

WEIGHTS = str(Path(demo.__file__).parent / "weights")
ENGINE = {"engine": "vllm", "dtype": "float32"}
CASES = [
    ("Which colour?", ("red", "blue"), "The cube is red, so it is A.", "AB"),
    ("Which colour?", ("red", "blue", "green", "yellow"), "I see green." * 40, "ABCDEFG"),
    ("How many?", ("one", "two", "three"), "There are two.", "0123"),
    ("Where is it?", ("left", "right", "above"), "Hm.", "PQRS"),
]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> type[vllm_stand_in.LLM]:
    return vllm_stand_in.installed(monkeypatch)


def test_letters_equal_those_of_transformers(engines: Any) -> None:
    judge, other = LMJudge.from_pretrained(WEIGHTS, **ENGINE), LMJudge.of(demo.model())
    assert [judge.prompt(*case) for case in CASES] == [other.prompt(*case) for case in CASES]
    found, expected = judge.letter_logprobs(CASES), other.letter_logprobs(CASES)
    offered = ["ABC", "ABCDE", "0123", "PQRS"]  # the options', and one for none of them
    for row, letters in enumerate(offered):
        shown = letter_columns(letters)
        torch.testing.assert_close(found[row, shown], expected[row, shown], atol=2e-4, rtol=0)
        assert expected[row, shown].isfinite().all()
        assert found[row].isfinite().sum() == len(letters)
    [llm] = engines.made
    assert {params.max_tokens for _, params in llm.asked} == {1}
    assert not any("multi_modal_data" in prompt for prompt, _ in llm.asked)


def test_the_engine_of_the_evaluated_model_is_shared(engines: Any) -> None:
    model = VLLMModel(WEIGHTS, {"max_new_tokens": 24}, dtype="float32")
    judge = LMJudge.of(model, min_mass=0.0, min_probability=0.0)
    assert judge == LMJudge.of(model, min_mass=0.0, min_probability=0.0)  # and is asked once
    report = Evaluator(model, [vr.perturbations.WrongThink()], [Consistency(judge=judge)]).run(demo.samples(2))
    other = LMJudge.of(demo.model(), min_mass=0.0, min_probability=0.0)
    verdicts, expected = judge.verdicts(report.responses), other.verdicts(report.responses)
    assert verdicts.option.tolist() == expected.option.tolist()
    torch.testing.assert_close(verdicts.probability, expected.probability, atol=1e-4, rtol=0, equal_nan=True)
    assert verdicts.probability.isfinite().any()
    assert len(engines.made) == 1
    assert report.judge["engine"] == "vllm"


def test_rejected_thought_is_unsure(engines: Any) -> None:
    judge = LMJudge.from_pretrained(WEIGHTS, max_model_len=420, **ENGINE).replace(min_mass=0.0, min_probability=0.0)
    long = ("Which colour?", ("red", "blue"), "It is red. " * 200, "AB")
    letters, refused = judge.attempted([CASES[0], long, CASES[3]])
    assert list(refused) == [1]
    assert "more than the context" in refused[1]
    assert letters.isnan().any(dim=1).tolist() == [False, True, False]


def test_dead_engine_raises(engines: Any) -> None:
    judge = LMJudge.from_pretrained(WEIGHTS, **ENGINE)
    engines.dies_after = 2
    with pytest.raises(RefusedError, match="engine died"):
        judge.letter_logprobs(CASES)


def test_identity_contains_everything_that_determines_verdicts(engines: Any, tmp_path: Path) -> None:
    judge = LMJudge.from_pretrained(WEIGHTS, **ENGINE)
    identity = judge.identity()
    assert identity["name"] == WEIGHTS
    assert identity == LMJudge.from_pretrained(WEIGHTS, max_num_seqs=3, **ENGINE).identity()
    assert identity == LMJudge.of(VLLMModel(WEIGHTS, dtype="float32")).identity()
    for file in Path(WEIGHTS).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = (tmp_path / "model.safetensors").read_bytes()
    half = len(weights) // 2
    (tmp_path / "model.safetensors").write_bytes(weights[:half] + weights[half:].replace(weights[-4096:], bytes(4096)))
    others = [
        LMJudge.from_pretrained(str(tmp_path), **ENGINE),
        LMJudge.from_pretrained(WEIGHTS, quantization="fp8", **ENGINE),
        judge.replace(max_thought_tokens=9),
    ]
    found = [other.identity() | {"name": WEIGHTS} for other in others]
    assert all(one != identity for one in found)
    assert found[0] | {"weights": ""} == identity | {"weights": ""}


def test_device_is_rejected(engines: Any) -> None:
    with pytest.raises(ValueError, match=r"field 'device': expected none, .*got 'cuda:1'"):
        LMJudge.from_pretrained(WEIGHTS, device="cuda:1", **ENGINE)
    assert not engines.made
