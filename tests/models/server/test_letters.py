"""Letters read one by one: against the toy model's own distribution, summed in plain loops."""

import math
import re
from collections import Counter

import pytest
from openai_server import ToyModel

from vlmrobust import Sample, Style, expand
from vlmrobust.models.base import RefusedError
from vlmrobust.models.server.letter_readout import MOST, CheckpointTokens, ServedTokens
from vlmrobust.models.vocabulary import letter_of
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.prompting import LETTERS
from vlmrobust.testing.model_checks import varied_samples

FORMS = ("{}", " {}", "({}", ">{}", "[{}", '"{}', "\n{}", "\t{}", "_{}")


@pytest.fixture(autouse=True)
def exact(server):
    server.exact = True


class Tokenizer:
    """The toy vocabulary, as a checkpoint's tokenizer shows it."""

    all_special_ids = ()

    def __init__(self, server):
        self._vocabulary, self._model = server.vocabulary, server.model
        for token in (form.format(letter) for form in (">", " ", "<answer", "<answer>", *FORMS) for letter in LETTERS):
            self._vocabulary.number(token)
        self._size = len(self._vocabulary.tokens)

    def __len__(self):
        return self._size

    def __call__(self, text, add_special_tokens=False):
        return {"input_ids": self._vocabulary.cut(text, self._model.tag_is_token)}

    def decode(self, tokens, **settings):
        return "".join(self._vocabulary.tokens[token] for token in tokens)

    def convert_ids_to_tokens(self, tokens):
        return [self._vocabulary.tokens[token] for token in tokens]


class Shifted(Tokenizer):
    """Another vocabulary: every token has its neighbour's number."""

    def decode(self, tokens, **settings):
        return super().decode([token - 1 for token in tokens])


def asked_prompts(count, *conditions, style=None):
    return list(expand(varied_samples()[:count], conditions, seed=0, style=style))


def by_letter(shares):
    found = Counter()
    for token, share in shares.items():
        core = token.strip(' (>["')
        if len(core) == 1 and core.isupper():
            found[core] += share
    return found


def written(server, prompt):
    """Return the distribution from which the answer's letter was written."""
    body = next(
        b for b in server.seen if b["messages"][0]["content"][-1]["text"] == prompt.text and b["max_tokens"] > 1
    )
    text, _ = server.render(body)
    said = ""
    for token, shares in server.model.write(text, 512, None)[0]:
        said += token
        if re.search(r"<answer>\W?[A-Z]\Z", said):
            return shares
    raise AssertionError(said)


def rendered(server, prompt, turn):
    messages = next(b for b in server.seen if b["messages"][0]["content"][-1]["text"] == prompt.text)["messages"]
    body = {"messages": [messages[0], {"role": "assistant", "content": turn}]} if turn else {"messages": messages}
    return server.render(body | {"continue_final_message": True, "add_generation_prompt": False})[0]


def source_of(server, source):
    return {"tokenizer": Tokenizer(server)} if source == "checkpoint" else {}


@pytest.mark.parametrize("tag_is_token", [True, False])
@pytest.mark.parametrize("source", ["server", "checkpoint"])
def test_they_are_exact_where_the_model_wrote_its_answer(server, model_at, source, tag_is_token):
    server.model = ToyModel(tag_is_token=tag_is_token)
    prompts = asked_prompts(5)
    model = model_at(server, top_logprobs=1, **source_of(server, source))
    for prompt, response in zip(prompts, model.respond(prompts), strict=True):
        expected = by_letter(written(server, prompt))
        assert (response.readout, response.logprob_floor) == ("own_thought", None)
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)
        assert response.letter_mass == pytest.approx(sum(expected.values()), rel=1e-6)


@pytest.mark.parametrize("tag_is_token", [True, False])
@pytest.mark.parametrize("source", ["server", "checkpoint"])
def test_behind_a_forced_prefix_they_are_summed_over_all_ways(server, model_at, source, tag_is_token):
    server.model = ToyModel(tag_is_token=tag_is_token)
    prompts = [prompt for prompt in asked_prompts(5, StopThink()) if prompt.condition == "stop_think"]
    model = model_at(server, top_logprobs=1, **source_of(server, source))
    for prompt, response in zip(prompts, model.respond(prompts), strict=True):
        begun = f"{prompt.prefill}<answer>"
        expected = server.model.letters(rendered(server, prompt, begun))
        assert (response.readout, response.logprob_floor, response.n_tokens) == ("fixed_prefix", None, 0)
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)


def test_direct_ones_are_exact_too(server, model_at):
    prompts = asked_prompts(3, style=Style(mode="direct"))
    for prompt, response in zip(prompts, model_at(server, top_logprobs=1).respond(prompts), strict=True):
        expected = by_letter(server.model.next(rendered(server, prompt, "")))
        assert (response.readout, response.logprob_floor) == ("direct", None)
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)


@pytest.mark.parametrize("source", ["server", "checkpoint"])
def test_of_many_options_the_likeliest_forms_are_asked_for(server, model_at, source):
    options = [f"colour {number}" for number in range(26)]
    sample = Sample(id="many", images=varied_samples()[0].images, question="Which?", options=options, answer=25)
    prompts = list(expand([sample], [StopThink()], seed=0))
    model = model_at(server, **source_of(server, source))
    base, forced = model.respond(prompts)
    named = [body["logprob_token_ids"] for body in server.seen if len(body["messages"][0]["content"]) > 1]
    assert {len(ids) for ids in named} == {MOST}
    for ids in named:
        texts = {server.vocabulary.tokens[number] for number in ids}
        assert {form.format(letter) for form in FORMS[:4] for letter in prompts[0].style.letters} <= texts
    assert all(math.isfinite(logprob) for response in (base, forced) for logprob in response.option_logprobs)
    expected = by_letter(written(server, prompts[0]))
    for letter, logprob in zip(prompts[0].style.letters, base.option_logprobs, strict=True):
        assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)  # beyond the twentieth as well


def test_what_the_server_does_not_heed_is_not_asked_of_it(server, model_at):
    server.exact = False
    plain = model_at(server).respond(asked_prompts(2, StopThink()))
    assert all(response.logprob_floor is not None for response in plain)
    named = [body for body in server.seen if "logprob_token_ids" in body]
    assert [body["max_tokens"] for body in named] == [1]  # the test itself
    assert model_at(server, tokenizer=Tokenizer(server)).respond(asked_prompts(2, StopThink())) == plain


def test_a_server_that_refuses_the_field_is_asked_for_its_top_k(server, model_at):
    server.fault = lambda number, body: (400, {}, "unknown field") if "logprob_token_ids" in body else None
    [response] = model_at(server).respond(asked_prompts(1))
    assert response.logprob_floor is not None


def test_without_tokenize_and_without_a_tokenizer_the_top_k_remain(server, model_at, monkeypatch):
    monkeypatch.setattr(ServedTokens, "is_offered", lambda tokens: False)
    [response] = model_at(server).respond(asked_prompts(1))
    assert response.logprob_floor is not None


@pytest.mark.parametrize("longer", [False, True])
def test_a_tokenizer_that_does_not_fit_is_refused(server, model_at, longer):
    tokenizer = Shifted(server)
    if longer:  # its numbers are beyond the server's
        tokenizer._vocabulary = type(server.vocabulary)()
        tokenizer._vocabulary.tokens = [*"unlike", *server.vocabulary.tokens]
        tokenizer._size = len(tokenizer._vocabulary.tokens)
    with pytest.raises(RefusedError, match="the tokenizer does not fit the server's: asked for the letters' tokens"):
        model_at(server, tokenizer=tokenizer).respond(asked_prompts(1))


def test_letters_that_do_not_come_back_are_a_row(server, model_at, monkeypatch):
    completion = server.completion

    def lossy(body):
        reply = completion(body)
        if len(body["messages"][0]["content"]) > 1:
            for entry in reply["choices"][0]["logprobs"]["content"]:
                kept = letter_of(entry["token"])
                entry["top_logprobs"] = [other for other in entry["top_logprobs"] if letter_of(other["token"]) == kept]
        return reply

    monkeypatch.setattr(server, "completion", lossy)
    for response in model_at(server).respond(asked_prompts(1, StopThink())):
        assert response.status == "error"
        assert re.search(
            "sample 'colour'.*expected the log-probabilities of the letters AB.*got none of [AB>]", response.error
        )


def test_what_is_found_by_the_server_is_what_its_tokenizer_has(server, model_at):
    """Both sources, on the same vocabulary."""
    model = model_at(server)
    checkpoint = CheckpointTokens(Tokenizer(server))
    served = ServedTokens(model._chat.post, "toy")
    assert served.is_offered()
    for text in ("", "<answer>", "<think>It is red.</think><answer>", "It says:"):
        expected, found = checkpoint.places(text, "ABCD"), served.places(text, "ABCD")
        assert [(place.rest, place.onward, set(place.ids)) for place in found] == [
            (place.rest, place.onward, set(place.ids)) for place in expected
        ]


def test_the_key_is_sent_along_and_servers_without_v1_in_their_address_are_asked_too(server, model_at):
    model = model_at(server)
    assert model._chat.post("/tokenize", {"prompt": "A"}) == {"tokens": [server.vocabulary.number("A")]}
    assert model._chat.get("/v1/models")["data"][0]["id"] == "toy"
    assert model._chat.get("/nowhere") is None


def test_conditions_are_as_exact_as_base(server, model_at):
    responses = model_at(server).respond(asked_prompts(3, WrongThink(), StopThink()))
    assert {response.logprob_floor for response in responses} == {None}
    assert {response.status for response in responses} == {"answered"}
