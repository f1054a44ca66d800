"""Judges by name: what each form becomes, where keys come from, and which metrics ask a judge."""

from typing import Any

import pytest

from vlmrobust.catalogue import judge_named, judged_metrics, secret
from vlmrobust.judges import LMJudge, OpenAIJudge, Panel, RuleJudge
from vlmrobust.judges.measured import title_of
from vlmrobust.metrics import BaseMetric


def test_what_a_name_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(LMJudge, "from_pretrained", lambda *names, **settings: calls.append((names, settings)))
    monkeypatch.setenv("A_KEY", "hunter2")
    assert judge_named("rules", where="here") == RuleJudge()
    judge_named("hf:org/name", dtype="bfloat16", device="cpu", options={"device_map": "auto"}, where="here")
    assert calls == [(("org/name",), {"dtype": "bfloat16", "device": "cpu", "device_map": "auto"})]
    judge_named("vllm:org/name", options={"max_model_len": 512}, where="here")
    assert calls[1:] == [(("org/name",), {"engine": "vllm", "dtype": "auto", "device": None, "max_model_len": 512})]
    judge_named("self", itself="vllm:org/own", where="here")
    assert calls[2:] == [(("org/own",), {"engine": "vllm", "dtype": "auto", "device": None})]
    served = judge_named("openai:x", base_url="http://a/v1", api_key_env="A_KEY", options={"top_logprobs": 5}, where="")
    assert isinstance(served, OpenAIJudge)
    assert (served.model, served.base_url, served.top_logprobs) == ("x", "http://a/v1", 5)
    assert served.api_key is not None
    assert served.api_key.get_secret_value() == "hunter2"


@pytest.mark.parametrize("name", ["rule", "rules:x", "hf:", "hf", "vllm:", "openai:", "lm:org/name"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"judges: expected rules, self, hf:NAME, vllm:NAME or openai:NAME, got '{name}'"
    ):
        judge_named(name, where="judges")


def test_a_key_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ValueError, match="here: expected an environment variable that holds the key, 'NO_KEY' is not"):
        secret("NO_KEY", "here")
    assert secret(None, "here") is None


def test_the_metrics_that_depend_on_a_judge_are_all_there() -> None:
    import vlmrobust.metrics as known

    kinds = [getattr(known, name) for name in known.__all__ if isinstance(getattr(known, name), type)]
    judged = {kind for kind in kinds if issubclass(kind, BaseMetric) and "judge" in kind.model_fields}
    metrics = judged_metrics(RuleJudge(name="one"))
    assert {type(metric) for metric in metrics} == judged - {known.JudgedMetric}
    assert {metric.judge.title for metric in metrics} == {"one"}  # type: ignore[attr-defined]


def test_identities_of_panels_name_their_judges() -> None:
    panel = Panel(RuleJudge(name="a"), RuleJudge(name="b"), rule="strict")
    identity = panel.identity()
    assert identity == {"class": "Panel", "rule": "strict", "judges": [{"class": "RuleJudge"}, {"class": "RuleJudge"}]}
    assert title_of(identity) == "Panel of RuleJudge and RuleJudge"


def test_a_panels_threshold_is_part_of_its_identity_where_it_is_its_own() -> None:
    usual = Panel(RuleJudge(), RuleJudge(min_probability=0.9), rule="first_sure")
    assert usual.identity() == {
        "class": "Panel",
        "rule": "first_sure",
        "judges": [{"class": "RuleJudge"}, {"min_probability": 0.9, "class": "RuleJudge"}],
    }
    assert usual.replace(min_contradiction=0.5).identity() == usual.identity() | {"min_contradiction": 0.5}
