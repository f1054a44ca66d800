import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from vlmrobust import Perturbation, Prompt, Response, Style, demo, expand, paper_conditions
from vlmrobust.evaluator import Evaluator
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import (
    AbstainOption,
    AddedMistake,
    Base,
    EarlyAnswer,
    NotApplicable,
    RotatedOptions,
    StopThink,
    WrongCaption,
    WrongThink,
    rotations,
)
from vlmrobust.report import Report
from vlmrobust.testing import FakeModel

METRICS = [Accuracy()]


@pytest.fixture
def samples(make_sample):
    return [make_sample(f"q{index}", answer=index % 4, images=(b"not decoded",)) for index in range(5)]


def fake(**shares):
    return FakeModel(opens_images=False, **shares)


class Wrapped:
    """A fake model with a hook on what it is asked and what it says."""

    def __init__(self, hook=None, **shares):
        self.fake, self.hook = fake(**shares), hook

    def identity(self):
        return self.fake.identity()

    def respond(self, prompts):
        responses = self.fake.respond(prompts)
        return self.hook(prompts, responses) if self.hook else responses


def rows(report):
    keys = zip(report.frame["sample_id"], report.frame["condition"], report.frame["draw"], strict=True)
    return dict(zip(keys, report.frame["status"], strict=True))


def test_base_is_run_first_and_rows_follow_samples_and_conditions(samples):
    report = Evaluator(fake(), [WrongThink(), WrongCaption()], METRICS, draws=2).run(samples)
    assert list(rows(report)) == [
        (f"q{index}", condition, draw)
        for index in range(5)
        for condition in ("base", "wrong_think", "wrong_caption")
        for draw in (0, 1)
    ]


def test_one_call_holds_all_conditions_and_draws_of_a_batch_of_samples(samples):
    model = fake()
    Evaluator(model, paper_conditions(), METRICS, batch_size=2, draws=3).run(samples)
    assert model.calls == (2 * 8 * 3, 2 * 8 * 3, 8 * 3)


def test_batch_size_does_not_change_the_report(samples):
    reports = [
        Evaluator(fake(accuracy=0.5), paper_conditions(), METRICS, batch_size=size).run(samples) for size in (1, 3, 99)
    ]
    assert reports[0].frame.equals(reports[1].frame)
    assert reports[0].summary.equals(reports[2].summary)


def test_planted_behaviour_is_what_the_report_says(make_sample):
    many = [make_sample(f"q{index}", images=(b"x",), answer=index % 4) for index in range(400)]
    report = Evaluator(fake(accuracy=0.8, follow_think=0.6, follow_caption=0.0), paper_conditions(), METRICS).run(many)
    value = report.summary.set_index("condition")["value"]
    assert value["base"] == pytest.approx(0.8, abs=0.07)
    assert value["wrong_caption"] == value["base"]
    assert value["wrong_think"] == pytest.approx(0.8 * 0.4, abs=0.07)
    assert value["correct_think"] > value["base"]


class Later(Perturbation):
    """Tells what was answered under base."""

    needs_base: ClassVar[bool] = True

    def perturb(self, prompt, rng):
        return prompt.replace(context=f"You said {prompt.base.answer} in draw {prompt.base.draw}.")


def test_conditions_that_need_base_get_the_answer_of_the_same_draw(samples):
    seen = {}

    def hook(prompts, responses):
        seen.update({response.key: (prompt, response) for prompt, response in zip(prompts, responses, strict=True)})
        return responses

    composed = Later(name="later") + AbstainOption()
    report = Evaluator(Wrapped(hook, guess=0.9), [Later(), composed], METRICS, draws=2, batch_size=2).run(samples)
    assert set(report.conditions) == {"base", "later", "later+abstain_option"}
    for condition in ("later", "later+abstain_option"):
        for draw in (0, 1):
            base = seen["q1", "base", draw][1]
            assert seen["q1", condition, draw][0].context == f"You said {base.answer} in draw {draw}."


def test_a_failed_base_fails_only_conditions_that_need_it(samples):
    def hook(prompts, responses):
        bad = ("q1", "base", 0)
        return [
            Response.failed(prompt, "no image") if response.key == bad else response
            for prompt, response in zip(prompts, responses, strict=True)
        ]

    report = Evaluator(Wrapped(hook), [Later(), WrongThink()], METRICS).run(samples)
    failed = {key for key, status in rows(report).items() if status == "error"}
    assert failed == {("q1", "base", 0), ("q1", "later", 0)}
    assert (
        "expected a response under base, got status 'error' (no image)"
        in report.frame.query("sample_id == 'q1' and condition == 'later'")["error"].item()
    )


class Fussy(Perturbation):
    """Does not fit one sample, and breaks on another."""

    def perturb(self, prompt, rng):
        if prompt.sample.id == "q0":
            raise NotApplicable("too short")
        if prompt.sample.id == "q1":
            raise ZeroDivisionError("boom")
        return prompt


def test_not_applicable_and_failing_perturbations_are_rows_of_their_own(samples):
    model = fake()
    report = Evaluator(model, [Fussy()], METRICS).run(samples)
    found = rows(report)
    assert found["q0", "fussy", 0] == "not_applicable"
    assert found["q1", "fussy", 0] == "error"
    assert list(found.values()).count("answered") == 8
    assert list(report.frame.query("condition == 'fussy'")["error"])[:2] == ["too short", "ZeroDivisionError: boom"]
    assert ("q0", "fussy", 0) not in model.asked
    row = report.summary.query("condition == 'fussy'").iloc[0]
    assert (row["n"], row["errors"], row["not_applicable"]) == (3, 1, 1)


def test_on_error_raise_names_the_place(samples):
    with pytest.raises(ZeroDivisionError) as caught:
        Evaluator(fake(), [Fussy()], METRICS, on_error="raise").run(samples)
    assert caught.value.__notes__ == ["in condition 'fussy', sample 'q1'"]


@pytest.mark.parametrize("bad", [("q2", "wrong_think", 0), ("q2", "base", 0)])
def test_a_raising_model_is_retried_to_isolate_the_prompt(samples, bad):
    def hook(prompts, responses):
        if any(response.key == bad for response in responses):
            raise RuntimeError("cannot do this one")
        return responses

    model = Wrapped(hook)
    report = Evaluator(model, [WrongThink()], METRICS, batch_size=3).run(samples)
    assert {key for key, status in rows(report).items() if status == "error"} == {bad}
    assert "RuntimeError: cannot do this one" in set(report.frame["error"].dropna())
    # 3 samples x 2 conditions, then sample by sample, then the bad sample prompt by prompt; then the other batch.
    assert model.fake.calls == (6, 2, 2, 2, 1, 1, 4)


def test_a_raising_model_ends_the_run_if_asked_to(samples):
    def hook(prompts, responses):
        raise RuntimeError("down")

    with pytest.raises(RuntimeError, match="down") as caught:
        Evaluator(Wrapped(hook), [WrongThink()], METRICS, on_error="raise").run(samples)
    assert caught.value.__notes__ == ["in Wrapped.respond, first of 10 prompts: sample 'q0', condition 'base'"]


def test_an_interrupt_passes_and_leaves_what_was_finished(samples, tmp_path):
    calls = []

    def hook(prompts, responses):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return responses

    with pytest.raises(KeyboardInterrupt):
        Evaluator(Wrapped(hook), [WrongThink()], METRICS, batch_size=2).run(samples, out=tmp_path)
    model = fake()
    report = Evaluator(model, [WrongThink()], METRICS, batch_size=2).run(samples, out=tmp_path)
    assert model.calls == (4, 2)
    assert report.frame.equals(Evaluator(fake(), [WrongThink()], METRICS).run(samples).frame)


@pytest.mark.parametrize(
    ("hook", "error", "message"),
    [
        (lambda p, r: r[:-1], ValueError, r"Wrapped.respond: expected one response per prompt \(10\), got 9"),
        (lambda p, r: r[::-1], ValueError, r"expected the response to \('q0', 'base', 0\) at position 0, got"),
        (lambda p, r: iter(r), TypeError, "expected a list of responses, got list_iterator"),
        (lambda p, r: ["B"] * 10, TypeError, "expected a Response at position 0, got str"),
        (lambda p, r: [r[0].replace(option_logprobs=(-1.0,)), *r[1:]], ValueError, "expected 4 values, .* got 1"),
        (lambda p, r: [r[0].replace(answer=4), *r[1:]], ValueError, r"field 'answer': .* \(0 to 3\), got 4"),
    ],
)
def test_invalid_responses_raise_an_error(samples, hook, error, message):
    with pytest.raises(error, match=message):
        Evaluator(Wrapped(hook), [WrongThink()], METRICS).run(samples)


NOT_VALIDATED = {
    "no text": ({"text": None}, "field 'text': Input should be a valid string, got None"),
    "letters that are text": ({"option_logprobs": ("a", -1.0, -2.0, -3.0)}, "field 'option_logprobs.0': .*number"),
    "letters that are a number": ({"option_logprobs": 4}, "field 'option_logprobs': .*tuple"),
    "an answer that is a word": ({"answer": "red"}, "field 'answer': .*integer"),
    "an answer as text beyond the options": ({"answer": "9"}, r"field 'answer': .* \(0 to 3\), got 9"),
    "letters above certainty": ({"option_logprobs": (0.0, 0.0, 0.0, 0.0)}, "'option_logprobs': .* at most 1, got 4"),
    "letters without probability": ({"option_logprobs": (-math.inf,) * 4}, "'option_logprobs': .* above 0, got"),
    "an entropy without bound": ({"token_entropy": math.inf}, "'token_entropy': expected a finite entropy, .* got inf"),
    "an entropy that is none": ({"token_entropy": math.nan}, "'token_entropy': .* got nan"),
    "a floor above certainty": ({"logprob_floor": 4.0}, "'logprob_floor': .* at most 0, got 4.0"),
    "a floor that is none": ({"logprob_floor": math.nan}, "'logprob_floor': .* got nan"),
    "fewer than no tokens": ({"n_tokens": -3}, "'n_tokens': expected at least 0, got -3"),
    "an unparsed answer": (
        {"status": "unparsed", "answer": 1},
        "'answer': expected none with status 'unparsed', got 1",
    ),
    "an abstained answer": ({"status": "abstained", "answer": 1}, "'answer': expected none with .*'abstained', got 1"),
    "another status": ({"status": "great"}, "field 'status': Input should be 'answered'"),
}


@pytest.mark.parametrize("kind", NOT_VALIDATED)
def test_a_response_that_was_never_validated_is_an_error_row(samples, kind, tmp_path):
    fields, message = NOT_VALIDATED[kind]

    def hook(prompts, responses):
        return [Response.model_construct(**(vars(responses[0]) | fields)), *responses[1:]]

    report = Evaluator(Wrapped(hook), [WrongThink()], METRICS).run(samples, out=tmp_path)
    assert list(rows(report).values()) == ["error"] + ["answered"] * 9
    assert re.search(rf"Wrapped.respond: sample 'q0', condition 'base', .*{message}", report.frame["error"].iloc[0])
    assert Report.load(tmp_path).frame.equals(report.frame)
    with pytest.raises(ValueError, match=message):
        Evaluator(Wrapped(hook), [WrongThink()], METRICS, on_error="raise").run(samples)


def test_an_unvalidated_response_is_validated(samples, tmp_path):
    """Half a character, and a number as text, cost no row."""

    def hook(prompts, responses):
        first, second, *others = responses
        text = Response.model_construct(**(vars(first) | {"text": "cut \ud83d"}))
        number = Response.model_construct(**(vars(second) | {"answer": str(second.answer)}))
        return [text, number, *others]

    report = Evaluator(Wrapped(hook), [], METRICS).run(samples, out=tmp_path)
    assert set(rows(report).values()) == {"answered"}
    assert report.frame["text"].iloc[0] == "cut \ufffd"
    assert report.frame["answer"].equals(Evaluator(fake(), [], METRICS).run(samples).frame["answer"])


def test_nan_letters_are_an_error_row(samples):
    def hook(prompts, responses):
        return [responses[0].replace(option_logprobs=(-1.0, math.nan, -2.0, -3.0)), *responses[1:]]

    report = Evaluator(Wrapped(hook), [WrongThink()], METRICS).run(samples)
    assert list(rows(report).values()) == ["error"] + ["answered"] * 9
    assert "sample 'q0', condition 'base', field 'option_logprobs'" in report.frame["error"].iloc[0]
    with pytest.raises(ValueError, match="field 'option_logprobs': expected log-probabilities, got NaN"):
        Evaluator(Wrapped(hook), [WrongThink()], METRICS, on_error="raise").run(samples)


def test_a_missing_image_fails_only_its_sample(samples, make_sample, tmp_path):
    bad = make_sample("bad", images=(tmp_path / "missing.png",))
    good = [make_sample(f"g{index}", images=(Image.new("RGB", (8, 8)),)) for index in range(2)]
    report = Evaluator(FakeModel(), [WrongThink()], METRICS).run([good[0], bad, good[1]], out=tmp_path / "run")
    assert [key[0] for key, status in rows(report).items() if status == "error"] == ["bad", "bad"]
    assert report.frame["error"].dropna().str.contains("sample 'bad', field 'images.0'").all()


def test_resuming_retries_only_errors(samples, tmp_path):
    down = [True]

    def hook(prompts, responses):
        if down[0]:
            return [
                Response.failed(prompt, "timeout") if prompt.sample.id == "q3" else response
                for prompt, response in zip(prompts, responses, strict=True)
            ]
        return responses

    model = Wrapped(hook)
    first = Evaluator(model, [WrongThink(), Fussy()], METRICS).run(samples, out=tmp_path)
    assert list(rows(first).values()).count("error") == 4
    down[0], before = False, len(model.fake.asked)
    second = Evaluator(model, [WrongThink(), Fussy()], METRICS).run(samples, out=tmp_path)
    assert set(model.fake.asked[before:]) == {("q3", "base", 0), ("q3", "wrong_think", 0), ("q3", "fussy", 0)}
    assert list(rows(second).values()).count("error") == 1
    assert second.frame.equals(Evaluator(fake(), [WrongThink(), Fussy()], METRICS).run(samples).frame)


def test_samples_conditions_and_draws_can_be_added(samples, tmp_path):
    Evaluator(fake(), [WrongThink()], METRICS).run(samples[:3], out=tmp_path)
    model = fake()
    joined = Evaluator(model, [WrongThink(), StopThink()], METRICS, draws=2).run(samples, out=tmp_path)
    old = {(f"q{index}", condition, 0) for index in range(3) for condition in ("base", "wrong_think")}
    assert not old & set(model.asked)
    assert len(model.asked) == 5 * 3 * 2 - len(old)
    alone = Evaluator(fake(), [WrongThink(), StopThink()], METRICS, draws=2).run(samples)
    assert joined.frame.equals(alone.frame)


def test_other_metrics_need_no_model(samples, tmp_path):
    Evaluator(fake(), [WrongThink()], METRICS).run(samples, out=tmp_path)
    model = fake()
    report = Evaluator(model, [WrongThink()]).run(samples, out=tmp_path)
    assert model.asked == ()
    assert len(report.metrics) > 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "field 'seed'"),
        (
            {"distractor": "runner_up"},
            "field 'distractor': expected 'random', as the run was started with, got 'runner_up'",
        ),
        ({"style": Style(system="Hello.")}, "field 'style.system': expected None"),
        ({"model": fake(accuracy=0.2)}, "field 'model.accuracy': expected 0.9"),
        ({"perturbations": [WrongThink(name="wrong_think", hedge="no")]}, "field 'conditions.wrong_think.name'"),
    ],
)
def test_another_run_in_the_same_directory_is_refused(samples, tmp_path, changes, message):
    settings = {"model": fake(), "perturbations": [WrongThink()], "metrics": METRICS}
    Evaluator(**settings).run(samples, out=tmp_path)
    with pytest.raises(ValueError, match=message):
        Evaluator(**(settings | changes)).run(samples, out=tmp_path)


def told_first(prompt, option, rng):
    return f"{told_first.text} {prompt.sample.options[option]}."


told_first.text = "It is"


def test_a_text_source_that_changed_behind_its_name_is_refused(samples, tmp_path):
    conditions = [WrongThink(source=told_first)]
    Evaluator(fake(), conditions, METRICS).run(samples, out=tmp_path)
    told_first.text = "It must be"
    with pytest.raises(ValueError, match="sample 'q0', condition 'wrong_think', draw 0, field 'prompt'"):
        Evaluator(fake(), conditions, METRICS).run(samples, out=tmp_path)


def test_the_report_of_a_run_is_in_its_directory(samples, tmp_path):
    report = Evaluator(fake(), [WrongThink()], METRICS, seed=3).run(samples, out=tmp_path / "new" / "run")
    loaded = Report.load(tmp_path / "new" / "run")
    assert loaded.frame.equals(report.frame)
    assert loaded.manifest["seed"] == 3


def test_duplicate_samples_and_wrong_arguments_are_refused(samples):
    with pytest.raises(ValueError, match="sample 'q0', field 'id'"):
        Evaluator(fake(), [], METRICS).run([samples[0], samples[0]])
    with pytest.raises(TypeError, match="a function that returns one, got object"):
        Evaluator(object(), [])
    with pytest.raises(ValueError, match="field 'batch_size': expected at least 1, got 0"):
        Evaluator(fake(), [], batch_size=0)
    with pytest.raises(ValueError, match="field 'on_error': expected 'record' or 'raise', got 'ignore'"):
        Evaluator(fake(), [], on_error="ignore")
    with pytest.raises(ValueError, match="got 'base' twice"):
        Evaluator(fake(), [Base(), Base()])


def test_prompts_carry_their_style(samples):
    seen = []

    def hook(prompts, responses):
        seen.extend(prompts)
        return responses

    style = Style(mode="direct", answer_by="letter")
    report = Evaluator(Wrapped(hook), [WrongThink(), WrongCaption()], METRICS, style=style).run(samples)
    assert {prompt.style for prompt in seen} == {style}
    assert set(report.frame.query("condition == 'wrong_think'")["status"]) == {"not_applicable"}
    assert all(isinstance(prompt, Prompt) for prompt in seen)


def test_the_progress_bar_names_samples_and_conditions_and_rates_what_was_asked(samples, tmp_path, monkeypatch):
    from tqdm import tqdm

    Evaluator(fake(), [WrongThink()], METRICS, batch_size=2).run(samples[:2], out=tmp_path)
    bars = []

    def visible(total):
        bars.append(tqdm(total=total, file=io.StringIO(), mininterval=0))
        return bars[0]

    monkeypatch.setattr("vlmrobust.workers.progress._bar", visible)
    Evaluator(fake(), [WrongThink(), Later()], METRICS, batch_size=2).run(samples, out=tmp_path)
    shown = bars[0].fp.getvalue()
    assert "samples 1–2: base, wrong_think" in shown
    assert "samples 5–5: later" in shown
    assert "15/15" in shown
    assert (bars[0].n, bars[0].initial) == (15, 4)


def test_a_run_killed_ten_times_equals_an_undisturbed_one(tmp_path):
    script = Path(__file__).with_name("killed_run.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", script, tmp_path], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["killed"] == 10
    assert result["progress"] == sorted(result["progress"])
    assert 0 < result["progress"][-1] < result["responses"]
    assert result["asked last"] == result["responses"] - result["progress"][-1]
    assert result["asked when complete"] == 0
    assert result["repeated"] == 0
    assert result["same frame"]
    assert result["same summary"]


def wrong_by_logprob(responses, row):
    logprobs = responses.option_logprobs[row].clone()
    logprobs[responses.target[row]] = -math.inf
    return int(logprobs.argmax())


@pytest.mark.parametrize("draws", [1, 2])
def test_the_runner_up_under_base_is_what_all_conditions_assert(samples, draws):
    model = fake(guess=1.0)
    conditions = [WrongThink(), WrongCaption(), StopThink(), EarlyAnswer(), AddedMistake()]
    report = Evaluator(model, conditions, draws=draws, batch_size=2, distractor="runner_up").run(samples)
    assert report.manifest["distractor"] == "runner_up"
    assert model.calls == tuple(size * draws * number for size in (2, 2, 1) for number in (1, 5))
    said = report.responses
    expected = {
        said.sample_id[row]: wrong_by_logprob(said, row)
        for row in range(len(said))
        if said.condition[row] == "base" and said.draw[row] == 0
    }
    for row, sample_id in enumerate(said.sample_id):
        assert said.distractor[row] == expected[sample_id]
        asserts = said.condition[row] in ("wrong_think", "wrong_caption", "added_mistake")
        assert said.asserted[row] == (expected[sample_id] if asserts else -1)
    drawn = Evaluator(fake(guess=1.0), conditions, draws=draws).run(samples)
    assert drawn.responses.distractor.tolist() != said.distractor.tolist()


def test_the_runner_up_is_the_same_in_any_batch_and_in_a_resumed_run(samples, tmp_path):
    def run(model, conditions, count=5, out=None, batch_size=3):
        evaluator = Evaluator(model, conditions, METRICS, batch_size=batch_size, distractor="runner_up")
        return evaluator.run(samples[:count], out=out)

    whole = run(fake(), [WrongThink(), StopThink()])
    assert run(fake(), [WrongThink(), StopThink()], batch_size=1).frame.equals(whole.frame)
    run(fake(), [WrongThink()], count=2, out=tmp_path)
    model = fake()
    assert run(model, [WrongThink(), StopThink()], out=tmp_path).frame.equals(whole.frame)
    assert ("q0", "base", 0) not in model.asked
    assert run(model, [WrongThink(), StopThink()], out=tmp_path).frame.equals(whole.frame)
    assert len(model.asked) == 3 * 5 - 2 * 2


def test_where_base_failed_the_runner_up_is_asked_for_again(samples, tmp_path):
    down = [True]

    def hook(prompts, responses):
        return [
            Response.failed(prompt, "timeout") if down[0] and response.key == ("q1", "base", 0) else response
            for prompt, response in zip(prompts, responses, strict=True)
        ]

    evaluator = Evaluator(Wrapped(hook), [WrongThink(), StopThink()], METRICS, distractor="runner_up")
    first = evaluator.run(samples, out=tmp_path)
    failed = {
        key: first.frame["error"][row] for row, (key, status) in enumerate(rows(first).items()) if status == "error"
    }
    assert {key[:2] for key in failed} == {("q1", "base"), ("q1", "wrong_think"), ("q1", "stop_think")}
    assert "expected a response under base, got status 'error' (timeout)" in failed["q1", "stop_think", 0]
    down[0] = False
    second = evaluator.run(samples, out=tmp_path)
    whole = Evaluator(fake(), [WrongThink(), StopThink()], METRICS, distractor="runner_up").run(samples)
    assert second.frame.equals(whole.frame)


def test_without_letters_under_base_nothing_is_asserted(samples, make_sample):
    def hook(prompts, responses):
        return [response.replace(option_logprobs=None, readout=None) for response in responses]

    own = make_sample("own", images=(b"x",), distractor=2)
    evaluator = Evaluator(Wrapped(hook), [WrongThink(), StopThink()], METRICS, distractor="runner_up")
    report = evaluator.run([*samples, own])
    status = rows(report)
    assert {key for key, value in status.items() if value == "not_applicable"} == {
        (sample.id, "wrong_think", 0) for sample in samples
    }
    reasons = set(report.frame["error"].dropna())
    assert reasons == {
        "condition 'wrong_think' asserts the runner-up under base, and no letters of options were read there"
    }
    assert report.frame["distractor"].dropna().tolist() == [2] * 3


def test_the_distractor_is_one_of_two_words():
    with pytest.raises(ValueError, match="field 'distractor': expected 'random' or 'runner_up', got 'worst'"):
        Evaluator(fake(), [], distractor="worst")


def test_results_do_not_depend_on_chunks_of_rows(samples, make_sample, monkeypatch):
    mixed = [*samples, make_sample("two", options=("red", "blue"), images=(b"not decoded",))]
    evaluator = Evaluator(fake(truncated=0.3), [WrongThink(), AbstainOption()], METRICS, draws=2)
    whole = evaluator.run(mixed)
    monkeypatch.setattr("vlmrobust.types.responses._CHUNK", 5)
    parts = evaluator.run(mixed)
    assert parts.frame.equals(whole.frame)
    assert parts.summary.equals(whole.summary)


@pytest.mark.parametrize("is_there", [False, True])
def test_an_image_may_appear_or_go_between_two_runs(make_sample, tmp_path, is_there):
    path = tmp_path / "x.png"

    def put():
        Image.new("RGB", (8, 8)).save(path)

    def run():  # a rotation by 2 does not fit: that row, too, has the digest of a prompt with this image
        model = fake()
        return Evaluator(model, rotations(3), METRICS).run([sample], tmp_path / "run"), model.calls

    sample = make_sample(options=("red", "blue"), images=(path,))
    if is_there:
        put()
    first, calls = run()
    assert calls == (2,)
    path.unlink() if is_there else put()
    again, calls = run()
    assert calls == ()
    assert list(again.frame["status"]) == list(first.frame["status"]) == ["answered", "answered", "not_applicable"]


class FromAService(Perturbation):
    """Takes its text from a service that may be down."""

    is_down: ClassVar[bool] = False

    def perturb(self, prompt, rng):
        if type(self).is_down:
            raise ConnectionError("the service is down")
        return prompt.replace(context="A caption.")


def test_an_unavailable_text_source_does_not_end_the_run(samples, tmp_path, monkeypatch):
    def run(count):
        model = fake()
        return Evaluator(model, [FromAService()], METRICS).run(samples[:count], tmp_path).frame, model.calls

    assert set(run(2)[0]["status"]) == {"answered"}
    monkeypatch.setattr(FromAService, "is_down", True)
    frame, calls = run(4)
    assert list(frame.query("condition == 'from_a_service'")["error"]) == ["ConnectionError: the service is down"] * 4
    assert calls == (2,)  # the new samples under base
    monkeypatch.setattr(FromAService, "is_down", False)
    frame, calls = run(4)
    assert set(frame["status"]) == {"answered"}
    assert calls == (2,)  # the new samples alone: what was answered before is still there


class Drawn(FakeModel):
    """Thinks what its seed says, so that what is made of its thoughts differs from process to process."""

    def identity(self):
        return {"class": "Drawn"}

    def respond(self, prompts):
        said = super().respond(prompts)
        return [
            response
            if prompt.prefill
            else Response.parse(prompt, f"<think>Draw {self.seed}, word by word, as it is.</think><answer>A</answer>")
            for prompt, response in zip(prompts, said, strict=True)
        ]


@pytest.mark.parametrize("later", [1, 2])
def test_a_directory_with_two_base_answers_is_repaired(samples, tmp_path, later):
    """As two processes left it that did not know of each other, one of them killed before what needs base."""
    early = EarlyAnswer()
    for seed, folder, conditions in ((1, "a", [early]), (2, "b", [])):
        model = Drawn(opens_images=False, seed=seed)
        Evaluator(model, conditions, METRICS, batch_size=4).run(samples, tmp_path / folder)
    run, other = tmp_path / "a", tmp_path / "b"
    if later == 1:
        run, other = other, run
        shutil.copy(other / "manifest.json", run / "manifest.json")
    for file in other.glob("responses-*"):
        shutil.copy(file, run / "responses-007.jsonl")
    (run / "report.parquet").unlink()
    report = Evaluator(Drawn(opens_images=False, seed=3), [early], METRICS, batch_size=4).run(samples, run)
    rows = {(id, condition): think for id, condition, think in report.frame[["sample_id", "condition", "think"]].values}
    for sample in samples:
        base = rows[sample.id, "base"]
        assert rows[sample.id, early.condition].split()[:2] == base.split()[:2]
    again = Evaluator(Drawn(opens_images=False, seed=4), [early], METRICS, batch_size=4).run(samples, run)
    assert again.frame.equals(report.frame)


def test_rows_of_other_versions_are_logged_and_not_refused(samples, tmp_path, caplog):
    Evaluator(FakeModel(opens_images=False), [], METRICS).run(samples[:1], tmp_path)
    file = tmp_path / "manifest.json"
    manifest = json.loads(file.read_text())
    now = dict(manifest["versions"])
    manifest["versions"] |= {"vlmrobust": "0.0.1", "torch": "1.0"}
    file.write_text(json.dumps(manifest))
    for _ in range(2):
        report = Evaluator(FakeModel(opens_images=False), [], METRICS).run(samples, tmp_path)
        assert report.manifest["versions"]["vlmrobust"] == "0.0.1"
        [resumed] = report.manifest["resumed"]
        assert resumed["versions"] == now
    [told] = [record.getMessage() for record in caplog.records if "resumed with" in record.message]
    assert f"started with vlmrobust 0.0.1, torch 1.0, resumed with vlmrobust {now['vlmrobust']}, torch " in told
    report.to_html(tmp_path / "page.html")
    assert "gone on with under" in (tmp_path / "page.html").read_text()


def test_a_preview_has_the_first_prompt_of_each_condition_as_the_model_sees_it() -> None:
    model = demo.model()
    scenes = [scene.replace(texts={}) for scene in demo.samples(2)]
    conditions = [WrongThink(), EarlyAnswer(), RotatedOptions(by=7)]
    found = Evaluator(model, conditions, seed=4).preview(scenes)
    first = {prompt.condition: prompt for prompt in reversed(list(expand(scenes, conditions[:1], seed=4)))}
    assert list(found) == ["base", "wrong_think", "early_answer_50", "rotated_options_7"]
    assert found["base"] == first["base"].render(model.processor)
    assert found["wrong_think"] == first["wrong_think"].render(model.processor)
    assert found["wrong_think"].startswith("<|im_start|>")
    assert found["early_answer_50"] == "(made of the model's own answer under base)"
    assert found["rotated_options_7"].startswith("(not applicable to any sample: ")
    assert Evaluator(FakeModel(), []).preview(scenes)["base"] == first["base"].transcript()
