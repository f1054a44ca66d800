"""Check that a run ends if every row fails for the same reason, but not for problems of single rows."""

from typing import Annotated

import pytest
from builders import make_samples
from pydantic import Field

from vlmrobust import Evaluator, Response
from vlmrobust.models.base import RefusedError
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.testing import FakeModel
from vlmrobust.workers.progress import FailureStreak

SAMPLES = make_samples(60, id="sample-{}".format, options=("red", "blue"), answer=0)


class Faulty(FakeModel):
    """Answers `good` prompts, then fails."""

    good: int = 0
    raises: bool = False
    error: str = "CUDA error: device-side assert (call 0x7f{number:04x}, {number} MiB)"
    seen: Annotated[list, Field(default_factory=list)]

    def identity(self):
        return {"class": "Faulty"}

    def respond(self, prompts):
        answers = []
        for prompt in prompts:
            self.seen.append(prompt.key)
            number = len(set(self.seen))
            if number <= self.good:
                answers += super().respond([prompt])
                continue
            error = self.error.format(number=number, id=prompt.sample.id)
            if self.raises:
                raise RuntimeError(error)
            answers.append(Response.failed(prompt, error))
        return answers


def make_model(**behaviour):
    return Faulty(opens_images=False, seen=[], **behaviour)


@pytest.mark.parametrize("raises", [False, True])
def test_a_run_in_which_all_rows_fail_ends_with_instructions_to_resume(tmp_path, raises):
    model = make_model(good=48, raises=raises)
    with pytest.raises(
        RefusedError,
        match=r"^3\d responses in a row, of 1\d samples, failed for the same reason, the last with: .*CUDA error.*; "
        r"fix the cause and .* to resume: .* \(Evaluator\(max_failures=None\) records such rows and goes on\)$",
    ):
        Evaluator(model, [StopThink(), WrongThink()], batch_size=4).run(SAMPLES, tmp_path)
    assert len(set(model.seen)) < 120
    before = make_model(good=10**6)
    report = Evaluator(before, [StopThink(), WrongThink()], batch_size=4).run(SAMPLES, tmp_path)
    assert len(before.seen) == len(report) - 48
    assert not report.responses.has_status("error").any()


def test_max_failures_none_allows_any_number():
    report = Evaluator(make_model(), [], max_failures=None).run(SAMPLES)
    assert report.responses.has_status("error").all()
    with pytest.raises(ValueError, match="field 'max_failures': expected at least 1, got 0"):
        Evaluator(make_model(), [], max_failures=0)


def test_a_short_run_is_recorded_completely():
    assert Evaluator(make_model(), []).run(SAMPLES[:20]).responses.has_status("error").all()


def test_a_reason_that_names_its_sample_counts_once_per_sample():
    own = make_model(error="sample '{id}', image 0: expected an image file, found none")
    report = Evaluator(own, [StopThink(), WrongThink()]).run(SAMPLES[:31])
    assert len(report) == 93
    with pytest.raises(RefusedError, match=r"of 32 samples, failed for the same reason.*found none"):
        Evaluator(make_model(error=own.error), [StopThink(), WrongThink()]).run(SAMPLES)


@pytest.mark.parametrize(
    "error",
    [
        "BadRequestError: This model's maximum context length is 4096 tokens, you requested {number}",
        "Error code: 400 - the request exceeds the available context size",
        "sample '{id}': expected a prompt that fits the model's context of 4096 tokens, got one of {number}",
        "the prompt is too long: {number}",
    ],
)
def test_overlong_prompts_never_end_a_run(error):
    report = Evaluator(make_model(error=error), [StopThink()]).run(SAMPLES)
    assert report.responses.has_status("error").all()


def test_other_reasons_and_successes_reset_the_count(make_sample):
    prompts = list(_prompts())
    streak = FailureStreak(3)
    for number, prompt in enumerate(prompts):
        streak.count(prompt, Response.failed(prompt, ("no memory", "no memory", "no disk")[number % 3]))
        assert not streak.is_exceeded
    for prompt in prompts[:3]:
        streak.count(prompt, Response.failed(prompt, "no disk"))
    assert streak.is_exceeded
    streak.count(prompts[0], FakeModel(opens_images=False).respond(prompts[:1])[0])
    assert not streak.is_exceeded


def _prompts():
    from vlmrobust import expand

    return expand(SAMPLES[:12], [])
