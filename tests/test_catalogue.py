"""Check conditions and judges by name, custom classes, keys from the environment, and metrics that need a judge."""

from pathlib import Path
from typing import Any

import pytest

from vlmrobust.catalogue import judge_named, judged_metrics, secret
from vlmrobust.judges import LMJudge, OpenAIJudge, Panel, RuleJudge
from vlmrobust.judges.base import title_of
from vlmrobust.metrics import BaseMetric
from vlmrobust.perturbations.catalogue import conditions_named, parts_of

CUSTOM = """\
import vlmrobust as vr


class Shouted(vr.Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(question=prompt.question.upper())


class Louder(Shouted):
    times: int


TWICE = Louder(times=2, name="twice")
NOTHING = 3
"""


@pytest.fixture
def custom_file(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(CUSTOM)
    return tmp_path / "own.py"


def test_custom_conditions_alone_and_joined(custom_file: Path) -> None:
    names = [
        "base",
        f"{custom_file}:Shouted",
        f"wrong_caption+{custom_file}:TWICE",
        "vlmrobust.perturbations:StopThink",
    ]
    conditions = conditions_named(names)
    assert [condition.condition for condition in conditions] == [
        "base", "shouted", "wrong_caption+twice", "stop_think",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NOTHING", r"condition '.*own.py:NOTHING': expected a Perturbation there, got 3"),
        (
            "Louder",
            r"condition '.*own.py:Louder': expected a class that needs no settings, or a condition that is made",
        ),
        ("Absent", r"condition '.*own.py:Absent': expected a class 'Absent' in .*own.py, found none"),
    ],
)
def test_invalid_custom_conditions_are_refused_early(custom_file: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parts_of([f"{custom_file}:{name}"])


def test_the_message_shows_how_to_name_custom_conditions() -> None:
    with pytest.raises(
        ValueError, match=r"did you mean 'wrong_think'.* name a custom one as module:Class or file.py:Class"
    ):
        parts_of(["wrong_thnk"])


def test_judges_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_other_names_of_judges_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"judges: expected rules, self, hf:NAME, vllm:NAME or openai:NAME, got '{name}'"
    ):
        judge_named(name, where="judges")


def test_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ValueError, match="here: expected an environment variable that holds the key, 'NO_KEY' is not"):
        secret("NO_KEY", "here")
    assert secret(None, "here") is None


def test_judged_metrics_are_complete() -> None:
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


def test_a_panels_own_threshold_is_part_of_its_identity() -> None:
    usual = Panel(RuleJudge(), RuleJudge(min_probability=0.9), rule="first_sure")
    assert usual.identity() == {
        "class": "Panel",
        "rule": "first_sure",
        "judges": [{"class": "RuleJudge"}, {"min_probability": 0.9, "class": "RuleJudge"}],
    }
    assert usual.replace(min_contradiction=0.5).identity() == usual.identity() | {"min_contradiction": 0.5}
