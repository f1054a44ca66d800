"""Test reading of logs written by inspect_ai 0.3.285: the report has the same prompts and scores."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log

from vlmrobust import Style
from vlmrobust.demo import samples as demo_samples
from vlmrobust.harnesses import Disagreement, read_inspect
from vlmrobust.perturbations import RotatedOptions, WrongThink, expand
from vlmrobust.types import open_image

LOGS = Path(__file__).parent / "logs" / "inspect"
PERTURBED = ("base", "wrong_think", "rotated")


@pytest.mark.parametrize("name", PERTURBED)
def test_the_log_says_the_same_as_our_report(name: str) -> None:
    """What the scorer measured while the task ran is what the report measures of its log."""
    logged = read_eval_log(LOGS / f"{name}.eval").samples
    frame = read_inspect(LOGS / f"{name}.eval").report().frame
    assert len(frame) == len(logged or ())
    compared = 0
    for row, sample in zip(frame.to_dict("records"), logged or (), strict=True):
        assert (row["sample_id"], row["draw"]) == (sample.id, sample.epoch - 1)
        for score in (sample.scores or {}).values():
            for metric, value in score.value.items():  # type: ignore[union-attr]
                assert row[metric] == value or (math.isnan(row[metric]) and math.isnan(value)), metric
                compared += 1
    assert compared == 6 * sum(not sample.error for sample in logged or ())


@pytest.mark.parametrize("name", ["base", "wrong_think"])
def test_the_means_that_inspect_printed_are_ours(name: str) -> None:
    results = read_eval_log(LOGS / f"{name}.eval", header_only=True).results
    summary = read_inspect(LOGS / f"{name}.eval").report().summary.set_index("metric")["value"]
    means = {score.name: score.metrics["mean"].value for score in results.scores}  # type: ignore[union-attr]
    assert means.keys() == {
        "accuracy", "unparsed_rate", "truncated_rate", "follow_rate", "consistency", "consistency_coverage"
    }  # fmt: skip
    for metric, mean in means.items():
        assert summary[metric] == pytest.approx(mean), metric


def test_what_was_asked_is_what_expand_asks() -> None:
    """The same samples, conditions and seed give the same prompts in a task and in one's own loop."""
    conditions = [WrongThink(), RotatedOptions(by=3)]
    samples = [sample.replace(texts={}) for sample in demo_samples(4, seed=0)]  # inspect's have none
    expected = {(prompt.sample.id, prompt.condition): prompt for prompt in expand(samples, conditions, seed=0)}
    read = sum((read_inspect(LOGS / f"{name}.eval") for name in PERTURBED[1:]), read_inspect(LOGS / "base.eval"))
    assert {prompt.condition for prompt in read.prompts} == {"base", "wrong_think", "rotated_options_3"}
    for prompt in read.prompts:
        own = expected[prompt.sample.id, prompt.condition]
        for field in ("question", "options", "order", "prefill", "distractor", "asserted", "style", "text"):
            assert getattr(prompt, field) == getattr(own, field), field


def test_conditions_are_compared_in_one_report() -> None:
    read = read_inspect(LOGS / "base.eval") + read_inspect(LOGS / "wrong_think.eval")
    report = read.report()
    row = report.summary.set_index(["condition", "metric"]).loc[("wrong_think", "consistency")]
    # The canned thoughts: the first two answers leave the injected thought, the third one happens to follow.
    assert row["n"] == 3
    assert row["difference"] == pytest.approx(row["value"] - row["base_value"])
    assert len(report.frame) == 12


def test_failed_samples_are_errors() -> None:
    for name in (*PERTURBED, "multiple_choice"):
        responses = read_inspect(LOGS / f"{name}.eval").responses
        assert {r.status for r in responses if r.sample_id == "demo-0-3"} == {"error"}
        assert all("the server is down" in (r.error or "") for r in responses if r.sample_id == "demo-0-3")


def test_images_are_those_that_the_model_saw() -> None:
    for prompt in read_inspect(LOGS / "base.eval").prompts:
        assert open_image(prompt.sample.images[0]).size == (32, 32)


def test_letters_are_read_where_the_answer_was_written() -> None:
    first = read_inspect(LOGS / "base.eval").responses[0]
    # Every place has the same canned top 4: "A", "B", " B" and "It".
    both = math.log(math.exp(-1.5) + math.exp(-3.0))
    assert first.option_logprobs == pytest.approx((-0.5, both, -math.inf, -math.inf))
    assert (first.logprob_floor, first.readout) == (-3.0, "own_thought")
    rotated = read_inspect(LOGS / "rotated.eval").responses[0]
    # Shown are options 3, 0, 1, 2 as A, B, C, D.
    assert rotated.option_logprobs == pytest.approx((both, -math.inf, -math.inf, -0.5))


def test_tasks_of_inspects_own_are_read_and_compared() -> None:
    read = read_inspect(LOGS / "multiple_choice.eval")
    assert [response.answer for response in read.responses] == [0, 1, 3, None]
    assert [prompt.sample.metadata.get("harness_answer") for prompt in read.prompts] == ["A", "B", "D", None]
    assert [prompt.sample.metadata.get("harness_correct") for prompt in read.prompts] == [True, True, False, None]
    assert read.disagreements() == []
    assert read.report().frame["consistency"].tolist()[:3] == [1, 0, 1]
    assert {prompt.condition for prompt in read.prompts} == {"base"}


def test_condition_and_style_can_be_said() -> None:
    read = read_inspect(LOGS / "rotated.eval", condition="other", style=Style(mode="direct"))
    assert {(prompt.condition, prompt.style.mode) for prompt in read.prompts} == {("other", "direct")}
    assert read.prompts[0].order == (3, 0, 1, 2)


# --- other shapes of logs ---------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> EvalLog:
    """A log of one sample, to be changed and written anew by inspect_ai."""
    log = read_eval_log(LOGS / "multiple_choice.eval")
    log.samples = (log.samples or [])[:1]
    return log


def write_log(log: EvalLog, folder: Path, suffix: str = ".json") -> Path:
    path = folder / f"log{suffix}"
    write_eval_log(log, str(path))
    return path


def with_fields(log: EvalLog, **fields: Any) -> EvalLog:
    [sample] = log.samples or []
    log.samples = [sample.model_copy(update=fields)]
    return log


@pytest.mark.parametrize("suffix", [".json", ".eval"])
def test_both_formats_are_read(log: EvalLog, tmp_path: Path, suffix: str) -> None:
    first = read_inspect(LOGS / "multiple_choice.eval")
    assert read_inspect(write_log(log, tmp_path, suffix)).responses == first.responses[:1]
    assert read_inspect(tmp_path / f"log{suffix}").prompts[0].sample == first.prompts[0].sample


def test_options_in_the_text_are_found(log: EvalLog, tmp_path: Path) -> None:
    read = read_inspect(write_log(with_fields(log, choices=None, input="Which?\nA) blue\nB) red"), tmp_path))
    assert read.prompts[0].sample.options == ("blue", "red")
    assert read.prompts[0].sample.question == "Which?"


def test_reasoning_goes_back_into_its_tags(log: EvalLog, tmp_path: Path) -> None:
    from inspect_ai.model import ContentReasoning, ContentText

    [sample] = log.samples or []
    sample.output.choices[0].message.content = [
        ContentReasoning(reasoning="It is purple."),
        ContentText(text="<answer>B</answer>"),
    ]
    [response] = read_inspect(write_log(log, tmp_path)).responses
    assert (response.think, response.answer, response.own_think) == ("It is purple.", 1, "It is purple.")


def test_log_probabilities_of_the_written_tokens_alone_say_nothing_of_other_letters(
    log: EvalLog, tmp_path: Path
) -> None:
    [sample] = log.samples or []
    logprobs = sample.output.choices[0].logprobs
    assert logprobs is not None
    for entry in logprobs.content:
        entry.top_logprobs = None
    [response] = read_inspect(write_log(log, tmp_path)).responses
    assert (response.answer, response.option_logprobs, response.logprob_floor) == (0, None, None)


def test_an_answer_cut_off_is_truncated(log: EvalLog, tmp_path: Path) -> None:
    [sample] = log.samples or []
    sample.output.choices[0].message.content = "<think>It is"
    sample.output.choices[0].stop_reason = "max_tokens"
    [response] = read_inspect(write_log(log, tmp_path)).responses
    assert (response.status, response.finish_reason) == ("truncated", "length")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"target": ["A", "B"]}, "field 'target': expected one correct option, got ['A', 'B']"),
        ({"target": "Z"}, "sample 'demo-0-0', field 'answer': expected an index from 0 to 3"),
        ({"choices": None}, "expected a question with lettered options, got 'What colour is the cross?'"),
    ],
)
def test_samples_that_cannot_be_read_are_listed(
    log: EvalLog, tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    [good] = log.samples or []
    log.samples = [good, good.model_copy(update={"epoch": 2, **fields})]
    read = read_inspect(write_log(log, tmp_path))
    assert len(read) == 1
    assert problem in read.problems[0]
    assert "sample 'demo-0-0', epoch 2" in read.problems[0]


def test_a_sample_without_output_is_an_error(log: EvalLog, tmp_path: Path) -> None:
    [sample] = log.samples or []
    sample.output.choices = []
    [response] = read_inspect(write_log(log, tmp_path)).responses
    assert (response.status, response.error) == ("error", "the log has no output of a model")


def test_what_a_scorer_extracted_is_compared(log: EvalLog, tmp_path: Path) -> None:
    [sample] = log.samples or []
    assert sample.scores is not None
    sample.scores["choice"].answer = "B"
    [found] = read_inspect(write_log(log, tmp_path)).disagreements()
    assert found[:5] == Disagreement("demo-0-0", "base", 0, 1, 0, "")[:5]


def test_answer_and_verdict_are_the_same_scorers(log: EvalLog, tmp_path: Path) -> None:
    from inspect_ai.scorer import Score

    def verdict(**scores: Score) -> dict[str, Any]:
        metadata = read_inspect(write_log(with_fields(log, scores=scores), tmp_path)).prompts[0].sample.metadata
        return {name: value for name, value in metadata.items() if name.startswith("harness_")}

    second = Score(value="C", answer="B")
    assert verdict(first=Score(value="I"), second=second) == {"harness_correct": False}
    assert verdict(first=Score(value=0.5, answer="A"), second=second) == {"harness_answer": "A"}
    assert verdict(first=Score(value={"length": 3}), second=second) == {"harness_answer": "B", "harness_correct": True}
    assert verdict(first=Score(value={"length": 3})) == {}


def test_a_log_without_samples_is_an_error(log: EvalLog, tmp_path: Path) -> None:
    log.samples = []
    with pytest.raises(ValueError, match=r"log\.json: expected answered multiple-choice questions, got none"):
        read_inspect(write_log(log, tmp_path))


def test_what_is_needed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(ImportError, match=r"needs inspect_ai: pip install vlmrobust\[harnesses\]"):
        read_inspect(LOGS / "base.eval")


def test_a_target_is_the_letter_of_a_choice_whatever_the_choices_say(log: EvalLog, tmp_path: Path) -> None:
    [prompt] = read_inspect(write_log(with_fields(log, choices=["B", "A"], target="A"), tmp_path)).prompts
    assert prompt.sample.answer == 0
