import math
from concurrent.futures import Future
from itertools import count

import pytest
import zoo

from vlmrobust import HFModel, Response
from vlmrobust.testing import FakeModel, check_model

FAKE = FakeModel(accuracy=0.6, follow_think=0.5, contradict=0.2, truncated=0.1)


class Wrapped:
    def respond(self, prompts):
        return FAKE.respond(prompts)


def test_sound_models_pass():
    check_model(FAKE)
    check_model(Wrapped())


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
def test_hugging_face_models_pass(family):
    tiny = zoo.build(family)
    check_model(HFModel(tiny.model, tiny.processor, {"max_new_tokens": 6}))


def changed(index, **fields):
    def respond(prompts):
        responses = FAKE.respond(prompts)
        responses[index] = responses[index].model_copy(update=fields)  # which checks nothing
        return responses

    return respond


def by_batch(prompts):
    answers = FAKE.respond(prompts)
    return [
        response if response.option_logprobs is None else response.replace(
            option_logprobs=tuple(value - 0.001 * len(prompts) for value in response.option_logprobs)
        )
        for response in answers
    ]  # fmt: skip


def by_position(prompts):
    return [
        response.replace(text=f"{place}") if response.status != "error" else response
        for place, response in enumerate(FAKE.respond(prompts))
    ]


def with_prefill(prompts):
    return [
        response.replace(text=prompt.prefill + response.text)
        for prompt, response in zip(prompts, FAKE.respond(prompts), strict=True)
    ]


def raises_for_all(prompts):
    return FakeModel(opens_images=True).respond(prompts) if _readable(prompts) else _fail()


def _readable(prompts):
    return all(response.status != "error" for response in FAKE.respond(prompts))


def _fail():
    raise OSError("no such file")


def ignores_images(prompts):
    return FakeModel(opens_images=False).respond(prompts)


def others_suffer(prompts):
    if _readable(prompts):
        return FAKE.respond(prompts)
    return [Response.failed(prompt, "batch failed") for prompt in prompts]


def recolours(prompts):
    for prompt in prompts:
        for image in prompt.images:
            if not isinstance(image, str) and hasattr(image, "paste"):
                image.paste((1, 2, 3), (0, 0, 2, 2))
    return FAKE.respond(prompts)


@pytest.mark.parametrize(
    ("respond", "sentence"),
    [
        (lambda p: FAKE.respond(p)[1:], r"expected one response per prompt \(15\), got 14"),
        (lambda p: FAKE.respond(p)[::-1], "expected the responses in the prompts' order"),
        (lambda p: tuple(FAKE.respond(p)), "expected respond to return a list, got tuple"),
        (lambda p: ["B"] * len(p), "expected a Response at position 0, got str"),
        (changed(0, answer=None), "expected an 'answer' where, and only where, the status is 'answered'"),
        (changed(0, answer=7), r"expected 'answer' to be an index of the sample's options \(0 to 1\), got 7"),
        (changed(0, status="error", answer=None, error="x"), "expected an answer, got the error 'x'"),
        (changed(0, option_logprobs=(-1.0,)), "expected 2 option_logprobs, one per option of the sample, got 1"),
        (changed(0, option_logprobs=(0.9, 0.1)), r"expected log-probabilities \(nats, at most 0\)"),
        (changed(0, option_logprobs=(-1.0, math.nan)), r"expected log-probabilities \(nats, at most 0\)"),
        (changed(0, option_logprobs=(-0.1, -0.1)), "probabilities of all letters that add up to 1 at most"),
        (changed(0, readout=None), "expected 'readout' to say where letters were read"),
        (by_batch, "expected the same option_logprobs whatever the batch, within 0.0001"),
        (by_position, "expected the same 'text' whatever the order of the prompts"),
        (with_prefill, "expected 'text' to be the completion alone, got the prefill repeated"),
        (raises_for_all, r"to get Response.failed\(prompt, error\) .* got OSError from respond: no such file"),
        (ignores_images, "expected status 'error', and what went wrong in 'error', for a missing image"),
        (others_suffer, "whatever fails beside it"),
        (recolours, "expected respond to leave its prompts as they are, got them changed"),
    ],
)
def test_broken_models_get_an_explanation(respond, sentence):
    class Broken:
        def respond(self, prompts):
            return respond(prompts)

    with pytest.raises(AssertionError, match=sentence):
        check_model(Broken())


class Asked(Wrapped):
    """Answers at once what it is asked, as `change` leaves it."""

    concurrency = 2

    def __init__(self, change=lambda prompt, response: response):
        self.change = change

    def ask(self, prompt):
        future = Future()
        try:
            future.set_result(self.change(prompt, FAKE.respond([prompt])[0]))
        except OSError as error:
            future.set_exception(error)
        return future


def test_sound_concurrent_models_pass():
    check_model(Asked())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p, r: r.replace(text="another"), "expected the same 'text' from ask as from respond"),
        (lambda p, r: "B", "expected ask to give a Response, got str"),
        (lambda p, r: r.replace(draw=1), r"expected ask to give the response to its prompt, \(.*'base', 0\), got"),
        (lambda p, r: _fail() if r.status == "error" else r, "answered, got OSError from ask: no such file"),
    ],
)
def test_errors_of_ask_get_an_explanation(change, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_model(Asked(change))


def test_ask_needs_a_concurrency_and_returns_futures():
    class Without(Asked):
        concurrency = 0

    class NoFuture(Asked):
        def ask(self, prompt):
            return FAKE.respond([prompt])[0]

    with pytest.raises(AssertionError, match="expected 'concurrency' to be a number of prompts, 1 or more, got 0"):
        check_model(Without())
    with pytest.raises(AssertionError, match=r"expected ask to return a concurrent\.futures\.Future, got Response"):
        check_model(NoFuture())


def test_identity_has_to_be_json_and_the_same_every_time():
    class Changing(Wrapped):
        numbers = count()

        def identity(self):
            return {"started": next(self.numbers)}

    class Odd(Wrapped):
        def identity(self):
            return {"dtype": object()}

    with pytest.raises(AssertionError, match=r"expected identity\(\) to be the same every time"):
        check_model(Changing())
    with pytest.raises(AssertionError, match=r"expected identity\(\) to return JSON values, got"):
        check_model(Odd())
    with pytest.raises(AssertionError, match="expected a model with respond"):
        check_model(object())


class Tokenizer:
    """One token per character; optionally loses what a real one might."""

    def __init__(self, loses=""):
        self.loses = loses

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text if letter not in self.loses]}

    def decode(self, tokens, **options):
        return "".join(map(chr, tokens))


class Processor:
    def __init__(self, opens="", loses=""):
        self.tokenizer, self.opens, self.chat_template = Tokenizer(loses), opens, "given"

    def apply_chat_template(self, conversation, add_generation_prompt, tokenize):
        parts = "".join(part.get("text", "<picture>") for turn in conversation for part in turn["content"])
        return f"User: {parts}\nAssistant: {self.opens}"


class WithProcessor(Wrapped):
    def __init__(self, processor):
        self.processor = processor


@pytest.mark.parametrize("opens", ["", "<think>", "<think>\n"])
def test_rendering_is_checked_where_there_is_a_processor(opens):
    check_model(WithProcessor(Processor(opens)))


def test_a_lost_prefill_or_second_opener_is_found():
    with pytest.raises(AssertionError, match="expected the decoded prompt to end with exactly the prefill"):
        check_model(WithProcessor(Processor(loses="'")))
    with pytest.raises(AssertionError, match="in the assistant's turn, got 2"):
        check_model(WithProcessor(Processor(opens="<think></think>\n\n<think>")))
