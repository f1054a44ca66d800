import math

import pytest

from vlmrobust import Prompt, Responses, Style, expand, paper_conditions
from vlmrobust.metrics import Accuracy, Consistency, FollowRate, FormatRate
from vlmrobust.perturbations import AbstainOption, StopThink, WrongCaption, WrongThink
from vlmrobust.testing import FakeModel


@pytest.fixture(scope="module")
def prompts(make_sample):
    samples = [make_sample(f"q{index}", answer=index % 4, images=(b"x",)) for index in range(300)]
    return list(expand(samples, [StopThink(), WrongThink(), WrongCaption(), AbstainOption()]))


def said(prompts, condition=None, **shares):
    asked = [prompt for prompt in prompts if condition in (None, prompt.condition)]
    return asked, FakeModel(opens_images=False, **shares).respond(asked)


def mean(metric, asked, responses):
    return float(metric(Responses.of(asked, responses)).nanmean())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_planted_shares_are_observed(prompts, share):
    tolerance = 0.0 if share in (0.0, 1.0) else 0.08
    cases = (
        (Accuracy(), "base", {"accuracy": share}, share),
        (FollowRate(), "wrong_think", {"follow_think": share, "accuracy": 1.0}, share),
        (FollowRate(), "wrong_caption", {"follow_caption": share, "accuracy": 1.0}, share),
        (Consistency(), "base", {"contradict": share}, 1 - share),
        (FormatRate(), "base", {"truncated": share}, 1 - share),
    )
    for metric, condition, planted, expected in cases:
        assert mean(metric, *said(prompts, condition, **planted)) == pytest.approx(expected, abs=tolerance), metric
    for status, planted, condition in (
        ("truncated", {"truncated": share}, "base"),
        ("unparsed", {"unparsed": share}, "base"),
        ("abstained", {"abstain": share}, "abstain_option"),
    ):
        _, responses = said(prompts, condition, **planted)
        found = sum(response.status == status for response in responses) / len(responses)
        assert found == pytest.approx(share, abs=tolerance)


def test_letters_agree_with_the_answer(prompts):
    for prompt, response in zip(*said(prompts), strict=True):
        letters = (*response.option_logprobs, *response.added_logprobs)
        assert math.fsum(map(math.exp, letters)) == pytest.approx(0.98)
        likeliest = max(range(len(letters)), key=letters.__getitem__)
        assert (likeliest if likeliest < 4 else None) == response.answer, prompt.condition


def test_it_continues_prefills_and_reads_closed_thoughts_without_decoding(prompts):
    for prompt, response in zip(*said(prompts, "wrong_think"), strict=True):
        assert not response.text.startswith("<think>")
        assert response.well_formed
        assert prompt.prefill.removeprefix("<think>") in response.think
    for _, response in zip(*said(prompts, "stop_think"), strict=True):
        assert (response.readout, response.finish_reason, response.n_tokens) == ("fixed_prefix", "readout", 0)
        assert response.status == "answered"


def test_styles_are_honoured(make_sample):
    tags = Style(think_tags=("<reason>", "</reason>"), answer_tags=("[", "]"), answer_by="text")
    [response] = FakeModel().respond([Prompt.of(make_sample(), style=tags)])
    assert response.text.startswith("<reason>")
    assert response.text.endswith('".</reason>[blue]')
    assert (response.status, response.readout, response.option_tokens) == ("answered", "option_text", (2, 2, 2, 2))
    assert response.option_logprobs.index(max(response.option_logprobs)) == response.answer
    [response] = FakeModel().respond([Prompt.of(make_sample(), style=Style(mode="direct"))])
    assert (response.text, response.readout, response.option_tokens) == ("B", "direct", None)
    [response] = FakeModel().respond([Prompt.of(make_sample(), style=Style(mode="direct", answer_by="text"))])
    assert (response.text, response.readout) == ("blue", "option_text_direct")


def test_answers_do_not_depend_on_the_batch_and_another_seed_is_another_model(prompts):
    asked, responses = said(prompts, seed=1)
    assert said(prompts[::-1], seed=1)[1][::-1] == responses
    assert [said([prompt], seed=1)[1][0] for prompt in prompts[:50]] == responses[:50]
    assert said(prompts, seed=2)[1] != responses
    assert len(asked) == len(responses)


def test_draws_differ_by_guessing_alone(make_sample):
    samples = [make_sample(f"q{index}", images=(b"x",)) for index in range(100)]
    prompts = list(expand(samples, [], draws=2))
    for guess, differ in ((0.0, False), (0.8, True)):
        answers = [response.answer for response in said(prompts, guess=guess)[1]]
        assert (answers[::2] != answers[1::2]) is differ


def test_it_records_prompts_and_calls(make_sample):
    model = FakeModel()
    prompts = list(expand([make_sample("a"), make_sample("b")], paper_conditions()))
    model.respond(prompts[:3])
    model.respond(prompts[3:])
    assert model.calls == (3, 13)
    assert model.asked == tuple((prompt.sample.id, prompt.condition, prompt.draw) for prompt in prompts)


def test_a_missing_image_is_an_error_row(make_sample, tmp_path):
    prompts = [Prompt.of(make_sample("bad", images=(tmp_path / "no.png",))), Prompt.of(make_sample("good"))]
    bad, good = FakeModel().respond(prompts)
    assert bad.status == "error"
    assert "sample 'bad', field 'images.0': expected an image file" in bad.error
    assert good.status == "answered"


def test_shares_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="accuracy"):
        FakeModel(accuracy=1.5)
