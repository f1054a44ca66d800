"""Letters read by token id and option texts: compared with the toy model's distribution and plain loops."""

import math
import re

import pytest
from openai_server import ToyModel, answer_distribution, probabilities_by_letter

from vlmrobust import Sample, Style, expand
from vlmrobust.models.base import RefusedError
from vlmrobust.models.letter_tokens import letter_of
from vlmrobust.models.server.readout import MOST, option_logprobs
from vlmrobust.models.server.replies import PromptToken
from vlmrobust.models.server.tokens import CheckpointTokens, ServedTokens
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.prompting import LETTERS
from vlmrobust.testing.model_checks import varied_samples

FORMS = ("{}", " {}", "({}", ">{}", "[{}", '"{}', "\n{}", "\t{}", "_{}")


@pytest.fixture(autouse=True)
def exact(server):
    server.exact = True


class Tokenizer:
    """The toy vocabulary as a checkpoint's tokenizer."""

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
    """Another vocabulary: every token has its neighbour's id."""

    def decode(self, tokens, **settings):
        return super().decode([token - 1 for token in tokens])


def make_prompts(count, *conditions, style=None):
    return list(expand(varied_samples()[:count], conditions, seed=0, style=style))


def render_turn(server, prompt, turn):
    messages = next(b for b in server.seen if b["messages"][0]["content"][-1]["text"] == prompt.text)["messages"]
    body = {"messages": [messages[0], {"role": "assistant", "content": turn}]} if turn else {"messages": messages}
    return server.render(body | {"continue_final_message": True, "add_generation_prompt": False})[0]


def tokenizer_options(server, source):
    return {"tokenizer": Tokenizer(server)} if source == "checkpoint" else {}


@pytest.mark.parametrize("tag_is_token", [True, False])
@pytest.mark.parametrize("source", ["server", "checkpoint"])
def test_letters_are_exact_where_the_model_generated_its_answer(server, model_at, source, tag_is_token):
    server.model = ToyModel(tag_is_token=tag_is_token)
    prompts = make_prompts(5)
    model = model_at(server, top_logprobs=1, **tokenizer_options(server, source))
    for prompt, response in zip(prompts, model.respond(prompts), strict=True):
        expected = probabilities_by_letter(answer_distribution(server, prompt)[1])
        assert (response.readout, response.logprob_floor) == ("own_thought", None)
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)
        assert response.letter_mass == pytest.approx(sum(expected.values()), rel=1e-6)


@pytest.mark.parametrize("tag_is_token", [True, False])
@pytest.mark.parametrize("source", ["server", "checkpoint"])
def test_after_a_forced_prefix_letters_are_summed_over_all_tokenisations(server, model_at, source, tag_is_token):
    server.model = ToyModel(tag_is_token=tag_is_token)
    prompts = [prompt for prompt in make_prompts(5, StopThink()) if prompt.condition == "stop_think"]
    model = model_at(server, top_logprobs=1, **tokenizer_options(server, source))
    for prompt, response in zip(prompts, model.respond(prompts), strict=True):
        turn = f"{prompt.prefill}<answer>"
        expected = server.model.letters(render_turn(server, prompt, turn))
        assert (response.readout, response.logprob_floor, response.n_tokens) == ("fixed_prefix", None, 0)
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)


def test_direct_answers_are_exact(server, model_at):
    prompts = make_prompts(3, style=Style(mode="direct"))
    for prompt, response in zip(prompts, model_at(server, top_logprobs=1).respond(prompts), strict=True):
        expected = probabilities_by_letter(server.model.next(render_turn(server, prompt, "")))
        assert (response.readout, response.logprob_floor) == ("direct", None)
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)


@pytest.mark.parametrize("source", ["server", "checkpoint"])
def test_of_many_options_the_likeliest_forms_are_requested(server, model_at, source):
    options = [f"colour {number}" for number in range(26)]
    sample = Sample(id="many", images=varied_samples()[0].images, question="Which?", options=options, answer=25)
    prompts = list(expand([sample], [StopThink()], seed=0))
    model = model_at(server, **tokenizer_options(server, source))
    base, forced = model.respond(prompts)
    named = [body["logprob_token_ids"] for body in server.seen if len(body["messages"][0]["content"]) > 1]
    assert {len(ids) for ids in named} == {MOST}
    for ids in named:
        texts = {server.vocabulary.tokens[number] for number in ids}
        assert {form.format(letter) for form in FORMS[:4] for letter in prompts[0].style.letters} <= texts
    assert all(math.isfinite(logprob) for response in (base, forced) for logprob in response.option_logprobs)
    expected = probabilities_by_letter(answer_distribution(server, prompts[0])[1])
    for letter, logprob in zip(prompts[0].style.letters, base.option_logprobs, strict=True):
        assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)  # beyond the top 20 as well


def test_token_ids_are_not_requested_from_a_server_that_ignores_them(server, model_at):
    server.exact = False
    plain = model_at(server).respond(make_prompts(2, StopThink()))
    assert all(response.logprob_floor is not None for response in plain)
    named = [body for body in server.seen if "logprob_token_ids" in body]
    assert [body["max_tokens"] for body in named] == [1]  # only the test
    assert model_at(server, tokenizer=Tokenizer(server)).respond(make_prompts(2, StopThink())) == plain


def test_a_server_that_rejects_token_ids_is_read_from_its_top_k(server, model_at):
    server.fault = lambda number, body: (400, {}, "unknown field") if "logprob_token_ids" in body else None
    [response] = model_at(server).respond(make_prompts(1))
    assert response.logprob_floor is not None


def test_without_tokenize_and_tokenizer_letters_are_read_from_the_top_k(server, model_at, monkeypatch):
    monkeypatch.setattr(ServedTokens, "is_offered", lambda tokens: False)
    [response] = model_at(server).respond(make_prompts(1))
    assert response.logprob_floor is not None


@pytest.mark.parametrize("longer", [False, True])
def test_a_tokenizer_that_does_not_fit_is_refused(server, model_at, longer):
    tokenizer = Shifted(server)
    if longer:  # its ids exceed the server's
        tokenizer._vocabulary = type(server.vocabulary)()
        tokenizer._vocabulary.tokens = [*"unlike", *server.vocabulary.tokens]
        tokenizer._size = len(tokenizer._vocabulary.tokens)
    with pytest.raises(RefusedError, match="the tokenizer does not fit the server's: requested the letters' tokens"):
        model_at(server, tokenizer=tokenizer).respond(make_prompts(1))


def test_missing_letters_are_an_error_row(server, model_at, monkeypatch):
    completion = server.completion

    def lossy(body):
        reply = completion(body)
        if len(body["messages"][0]["content"]) > 1:
            for entry in reply["choices"][0]["logprobs"]["content"]:
                kept = letter_of(entry["token"])
                entry["top_logprobs"] = [other for other in entry["top_logprobs"] if letter_of(other["token"]) == kept]
        return reply

    monkeypatch.setattr(server, "completion", lossy)
    for response in model_at(server).respond(make_prompts(1, StopThink())):
        assert response.status == "error"
        assert re.search(
            "sample 'colour'.*expected the log-probabilities of the letters AB.*got none of [AB>]", response.error
        )


def test_the_server_and_the_checkpoints_tokenizer_yield_the_same_tokens(server, model_at):
    """Both sources use the same vocabulary."""
    model = model_at(server)
    checkpoint = CheckpointTokens(Tokenizer(server))
    served = ServedTokens(model._chat.fetch, "toy")
    assert served.is_offered()
    for text in ("", "<answer>", "<think>It is red.</think><answer>", "It says:"):
        expected, found = checkpoint.positions(text, "ABCD"), served.positions(text, "ABCD")
        assert [(position.remainder, position.onward, set(position.ids)) for position in found] == [
            (position.remainder, position.onward, set(position.ids)) for position in expected
        ]


def test_root_paths_are_requested_with_the_key_and_without_v1(server, model_at):
    model = model_at(server)
    assert model._chat.fetch("/tokenize", {"prompt": "A"}) == {"tokens": [server.vocabulary.number("A")]}
    assert model._chat.fetch("/v1/models")["data"][0]["id"] == "toy"
    assert model._chat.fetch("/nowhere") is None


def test_conditions_are_as_exact_as_base(server, model_at):
    responses = model_at(server).respond(make_prompts(3, WrongThink(), StopThink()))
    assert {response.logprob_floor for response in responses} == {None}
    assert {response.status for response in responses} == {"answered"}


STYLE = Style(answer_by="text")


def make_tokens(*texts):
    return [PromptToken(sum(map(ord, text)), text, -0.1 * len(text)) for text in texts]


@pytest.mark.parametrize(
    ("prefix", "texts", "scored"),
    [
        # The last token of the tag may merge with what follows and is not scored.
        (["<answer", ">"], [["<answer", ">", "red", "</", "answer", ">"]], [["red", "</", "answer"]]),
        # A tag of one token cannot merge.
        (["<answer>"], [["<answer>", "red", "</answer>"]], [["red", "</answer>"]]),
        # If one option merges with the prefix, all are scored from there.
        (
            ["<answer", ">"],
            [["<answer", ">red", "</answer>"], ["<answer", ">", "blue", "</answer>"]],
            [[">red", "</answer>"], [">", "blue", "</answer>"]],
        ),
        # Options with a common beginning are scored from that beginning.
        (
            ["x"],
            [["x", "a", "b", "</answer>"], ["x", "a", "c", "</answer>"]],
            [["a", "b", "</answer>"], ["a", "c", "</answer>"]],
        ),
        # The end of an option merges with the beginning of the tag.
        (["x"], [["x", "red", "cube</", "answer", ">"]], [["red", "cube</", "answer"]]),
    ],
)
def test_which_tokens_are_summed(prefix, texts, scored):
    sums, counts = option_logprobs(make_tokens(*prefix), [make_tokens(*text) for text in texts], "</answer>")
    assert counts == [len(text) for text in scored]
    assert sums == pytest.approx([sum(-0.1 * len(token) for token in text) for text in scored])


def test_a_token_without_a_log_probability_is_an_error():
    lost = [*make_tokens("x"), PromptToken(1, "red", None), *make_tokens("</answer>")]
    with pytest.raises(
        ValueError, match=r"expected the log-probabilities of the prompt's tokens \['red', '</answer>'\]"
    ):
        option_logprobs(make_tokens("x"), [lost], "</answer>")


@pytest.mark.parametrize("tag_is_token", [True, False])
def test_options_are_scored_after_own_and_forced_thoughts(server, model_at, tag_is_token):
    server.model = ToyModel(tag_is_token=tag_is_token)
    prompts = list(expand(varied_samples()[:2], [StopThink()], seed=0, style=STYLE))
    for prompt, response in zip(prompts, model_at(server).respond(prompts), strict=True):
        forced = prompt.condition == "stop_think"
        assert response.readout == ("option_text_fixed_prefix" if forced else "option_text")
        expected, counts = [], []
        for option in prompt.options:
            cut = server.vocabulary.cut(f"{option}</answer>", tag_is_token)[:-1]  # but for the last `>`
            expected.append(sum(server.given(server.vocabulary.tokens[number]) for number in cut))
            counts.append(len(cut))
        assert response.option_logprobs == pytest.approx(expected)
        assert response.option_tokens == tuple(counts)
        assert response.logprob_floor is None
        if forced:
            likeliest = max(range(len(expected)), key=expected.__getitem__)
            assert (response.answer, response.n_tokens) == (likeliest, 0)
    sent = [body for body in server.seen if "prompt_logprobs" in body]
    with_images = [body for body in sent if len(body["messages"][0]["content"]) > 1]
    assert len(with_images) == sum(1 + len(prompt.options) for prompt in prompts)  # images are never left out
    assert len(sent) == len(with_images) + 1


def test_without_prompt_log_probabilities_the_answer_is_generated(server, model_at):
    server.exact = False
    for response in model_at(server).respond(list(expand(varied_samples()[:2], [StopThink()], seed=0, style=STYLE))):
        assert (response.readout, response.option_logprobs) == (None, None)
        assert response.text.endswith("</answer>")
