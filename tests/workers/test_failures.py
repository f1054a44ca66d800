"""What fails for one reason in every row ends a run; what is a row's own fault does not."""

from typing import Annotated

import pytest
from pydantic import Field

from vlmrobust import Evaluator, Response, Sample
from vlmrobust.models.base import RefusedError
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.testing import FakeModel
from vlmrobust.workers.failures import Failing

SAMPLES = [
    Sample(id=f"sample-{number}", images=[b"x"], question="Which?", options=["red", "blue"], answer=0)
    for number in range(60)
]


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


def faulty(**behaviour):
    return Faulty(opens_images=False, seen=[], **behaviour)


@pytest.mark.parametrize("raises", [False, True])
def test_rows_that_all_fail_end_the_run_and_say_how_to_go_on(tmp_path, raises):
    model = faulty(good=48, raises=raises)
    with pytest.raises(
        RefusedError,
        match=r"^3\d responses in a row, of 1\d samples, failed for one reason, the last with: .*CUDA error.*; once "
        r"it is mended the same call goes on: .* \(Evaluator\(max_failures=None\) records such rows and asks on\)$",
    ):
        Evaluator(model, [StopThink(), WrongThink()], batch_size=4).run(SAMPLES, tmp_path)
    assert len(set(model.seen)) < 120
    before = faulty(good=10**6)
    report = Evaluator(before, [StopThink(), WrongThink()], batch_size=4).run(SAMPLES, tmp_path)
    assert len(before.seen) == len(report) - 48
    assert not report.responses.has_status("error").any()


def test_any_number_may_fail_where_that_is_said():
    report = Evaluator(faulty(), [], max_failures=None).run(SAMPLES)
    assert report.responses.has_status("error").all()
    with pytest.raises(ValueError, match="field 'max_failures': expected at least 1, got 0"):
        Evaluator(faulty(), [], max_failures=0)


def test_a_short_run_is_recorded_to_its_end():
    assert Evaluator(faulty(), []).run(SAMPLES[:20]).responses.has_status("error").all()


def test_a_rows_own_fault_counts_once_a_sample():
    own = faulty(error="sample '{id}', image 0: expected an image file, found none")
    report = Evaluator(own, [StopThink(), WrongThink()]).run(SAMPLES[:31])
    assert len(report) == 93
    with pytest.raises(RefusedError, match=r"of 32 samples, failed for one reason.*found none"):
        Evaluator(faulty(error=own.error), [StopThink(), WrongThink()]).run(SAMPLES)


@pytest.mark.parametrize(
    "error",
    [
        "BadRequestError: This model's maximum context length is 4096 tokens, you requested {number}",
        "Error code: 400 - the request exceeds the available context size",
        "sample '{id}': expected a prompt that fits the model's context of 4096 tokens, got one of {number}",
        "the prompt is too long: {number}",
    ],
)
def test_prompts_that_are_too_long_never_end_it(error):
    report = Evaluator(faulty(error=error), [StopThink()]).run(SAMPLES)
    assert report.responses.has_status("error").all()


def test_other_reasons_and_answers_in_between_begin_the_count_anew(make_sample):
    prompts = list(_prompts())
    failing = Failing(3)
    for number, prompt in enumerate(prompts):
        failing.count(prompt, Response.failed(prompt, ("no memory", "no memory", "no disk")[number % 3]))
        assert not failing.is_over
    for prompt in prompts[:3]:
        failing.count(prompt, Response.failed(prompt, "no disk"))
    assert failing.is_over
    failing.count(prompts[0], FakeModel(opens_images=False).respond(prompts[:1])[0])
    assert not failing.is_over


def _prompts():
    from vlmrobust import expand

    return expand(SAMPLES[:12], [])
