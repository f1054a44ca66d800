"""Test the data of the page's sample browser."""

import base64
import io
import json
import math

import pytest
import torch
from PIL import Image

from vlmrobust import Report, Sample, expand, functional
from vlmrobust.metrics import CorrectProbability
from vlmrobust.perturbations import AbstainOption, CorrectCaption, OptionLetters, WrongCaption, WrongThink
from vlmrobust.report.browse import FLAGS, browser_data
from vlmrobust.testing import FakeModel


def browser_data_of(prompts, responses, samples=(), max_samples=100, metrics=None):
    report = Report.from_responses(prompts, responses, metrics)
    return browser_data(report._data, samples, max_samples)


@pytest.fixture(scope="module")
def samples():
    return [
        Sample(
            id=f"q{index}",
            images=[Image.new("RGB", (900, 450), (index * 20, 0, 90))],
            question=f"Which, {index}?",
            options=["red", "blue", "green", "grey"][: 2 + index % 3],
            answer=1,
            metadata={"kind": index},
        )
        for index in range(6)
    ]


@pytest.fixture(scope="module")
def prompts_and_responses(samples):
    prompts = list(expand(samples, [WrongCaption(), WrongThink(), CorrectCaption(), AbstainOption()], draws=2))
    return prompts, FakeModel(accuracy=0.5, follow_think=0.5, contradict=0.3, guess=0.5).respond(prompts)


def test_samples_have_all_responses_in_order(prompts_and_responses, samples):
    data = browser_data_of(*prompts_and_responses)
    assert [sample["id"] for sample in data["samples"]] == [sample.id for sample in samples]
    assert list(data["conditions"]) == ["base", "wrong_caption", "wrong_think", "correct_caption", "abstain_option"]
    for shown, sample in zip(data["samples"], samples, strict=True):
        assert shown["question"] == sample.question
        assert tuple(shown["options"]) == sample.options
        assert shown["target"] == sample.answer
        assert shown["metadata"] == {"kind": str(sample.metadata["kind"])}
        keys = [(row["condition"], row["draw"]) for row in shown["responses"]]
        assert keys == [
            (response.condition, response.draw)
            for response in prompts_and_responses[1]
            if response.sample_id == sample.id
        ]


def test_prompt_and_answer_are_included(prompts_and_responses):
    data = browser_data_of(*prompts_and_responses)
    rows = iter([row for sample in data["samples"] for row in sample["responses"]])
    for prompt, response, row in zip(*prompts_and_responses, rows, strict=True):
        assert (row["context"], row["prefill"], row["question"]) == (prompt.context, prompt.prefill, prompt.question)
        assert (row["text"], row["status"], row["answer"]) == (response.text, response.status, response.answer)
        assert [(option["text"], option["index"]) for option in row["options"]] == list(
            zip(prompt.options, prompt.order, strict=True)
        )
        assert "".join(option["letter"] for option in row["options"]) == "ABCDE"[: len(prompt.options)]


def test_earlier_turns_are_included(samples):
    history = [{"role": "assistant", "text": "<answer>B</answer>"}, {"role": "user", "text": "Are you <b>sure</b>?"}]
    prompts = [
        prompt if prompt.condition == "base" else prompt.replace(history=history)
        for prompt in expand(samples, [WrongThink()])
    ]
    data = browser_data_of(prompts, FakeModel().respond(prompts))
    assert [row["history"] for row in data["samples"][0]["responses"]] == [[], history]


def test_letters_are_as_shown(samples):
    prompts = list(expand(samples, [OptionLetters() + AbstainOption()]))
    data = browser_data_of(prompts, FakeModel().respond(prompts))
    shown = ["".join(option["letter"] for option in row["options"]) for row in data["samples"][1]["responses"]]
    assert shown == ["ABC", "PQRS"]


def test_probabilities_equal_the_metrics(prompts_and_responses):
    metrics = [CorrectProbability()]
    data = browser_data_of(*prompts_and_responses, metrics=metrics)
    rows = [(sample, row) for sample in data["samples"] for row in sample["responses"]]
    values = Report.from_responses(*prompts_and_responses, metrics).frame["correct_probability"]
    for (sample, row), value, response in zip(rows, values, prompts_and_responses[1], strict=True):
        of_index = {option["index"]: option["probability"] for option in row["options"]}
        if not math.isnan(value):
            assert of_index[sample["target"]] == pytest.approx(value, abs=1e-4)
            assert row["scores"] == [pytest.approx(value, abs=1e-4)]
        if None in of_index and response.added_logprobs:
            assert of_index[None] == pytest.approx(math.exp(response.added_logprobs[0]), abs=1e-4)


def test_flags_follow_from_the_answers(prompts_and_responses):
    prompts, responses = prompts_and_responses
    data = browser_data_of(prompts, responses)
    rows = [row for sample in data["samples"] for row in sample["responses"]]
    base = {(r.sample_id, r.draw): r.answer == 1 for r in responses if r.condition == "base"}
    seen = set()
    for prompt, response, row in zip(prompts, responses, rows, strict=True):
        before, after = base[response.sample_id, response.draw], response.answer == 1
        assert ("harmed" in row["flags"]) == (before and not after)
        assert ("helped" in row["flags"]) == (after and not before)
        assert ("followed" in row["flags"]) == (prompt.asserted not in (None, 1) and response.answer == prompt.asserted)
        assert row["correct"] == after
        seen.update(row["flags"])
    assert seen >= {"harmed", "helped", "followed", "inconsistent"}
    assert seen <= FLAGS.keys()


def test_the_inconsistent_flag_equals_the_metric(prompts_and_responses):
    rows = [row for sample in browser_data_of(*prompts_and_responses)["samples"] for row in sample["responses"]]
    consistency = Report.from_responses(*prompts_and_responses).frame["consistency"]
    assert ["inconsistent" in row["flags"] for row in rows] == (consistency == 0).tolist()


def test_errors_and_missing_answers_are_flagged(make_pair):
    pairs = [
        make_pair("a"),
        make_pair("a", "x", None, status="error", error="boom"),
        make_pair("a", "y", None),
        make_pair("a", "z", None, status="not_applicable", error="too few"),
    ]
    rows = browser_data_of(*zip(*pairs, strict=True))["samples"][0]["responses"]
    assert [row["flags"] for row in rows] == [[], ["error"], ["harmed", "no answer"], ["error"]]
    assert [row["correct"] for row in rows] == [True, None, False, None]
    assert rows[1]["error"] == "boom"


def test_following_a_true_text_is_not_flagged(make_pair):
    pairs = [make_pair("a"), make_pair("a", "correct_caption")]
    prompts = [prompt.replace(asserted=1) for prompt, _ in pairs]
    rows = browser_data_of(prompts, [response for _, response in pairs])["samples"][0]["responses"]
    assert [row["flags"] for row in rows] == [[], []]


def test_options_are_in_the_samples_order(make_pair):
    prompt, response = make_pair("a")
    turned = prompt.replace(options=("green", "red", "blue"), order=(2, 0, 1), condition="base")
    [sample] = browser_data_of([turned], [response])["samples"]
    assert sample["options"] == ["red", "blue", "green"]
    assert [option["text"] for option in sample["responses"][0]["options"]] == ["green", "red", "blue"]


def test_thumbnails_are_small_and_belong_to_their_sample(prompts_and_responses, samples):
    data = browser_data_of(*prompts_and_responses, samples=samples)
    for shown, sample in zip(data["samples"], samples, strict=True):
        [image] = shown["images"]
        kind, content = image["src"].split(";base64,")
        assert kind == "data:image/png"
        seen = Image.open(io.BytesIO(base64.b64decode(content)))
        assert seen.size == (360, 180)
        assert seen.getpixel((5, 5)) == sample.images[0].getpixel((5, 5))


def test_photographs_become_jpeg(make_sample):
    noise = (torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    sample = make_sample("q1", images=(Image.fromarray(noise),))
    prompts = list(expand([sample], []))
    data = browser_data_of(prompts, FakeModel().respond(prompts), samples=[sample])
    assert data["samples"][0]["images"][0]["src"].startswith("data:image/jpeg;base64,")


def test_missing_and_unreadable_images_are_tolerated(prompts_and_responses, make_sample):
    assert all(sample["images"] == [] for sample in browser_data_of(*prompts_and_responses)["samples"])
    broken = make_sample("q0", images=("nowhere.png",))
    [image] = browser_data_of(*prompts_and_responses, samples=[broken, make_sample("another")])["samples"][0]["images"]
    assert image == {"error": "expected an image file at 'nowhere.png', found none"}


def test_max_samples_limits_the_samples(prompts_and_responses):
    assert [sample["id"] for sample in browser_data_of(*prompts_and_responses, max_samples=2)["samples"]] == [
        "q0",
        "q1",
    ]


def test_data_are_json_without_nan(prompts_and_responses, make_pair):
    json.dumps(browser_data_of(*prompts_and_responses), allow_nan=False)
    letters = (-math.inf, -0.1, -math.inf)
    pairs = [
        make_pair("a", option_logprobs=letters, readout="direct"),
        make_pair("b", choice=None, status="error", error="boom"),
    ]
    data = browser_data_of(*zip(*pairs, strict=True))
    json.dumps(data, allow_nan=False)
    shares = [[option["probability"] for option in sample["responses"][0]["options"]] for sample in data["samples"]]
    assert shares == [functional.letter_probabilities(torch.tensor(letters)).tolist(), [None] * 3]
