"""Option texts at a server: which tokens are summed, compared with plain loops, and which requests are sent."""

import pytest
from openai_server import ToyModel

from vlmrobust import Style, expand
from vlmrobust.models.server.readout import option_logprobs
from vlmrobust.models.server.replies import PromptToken
from vlmrobust.perturbations import StopThink
from vlmrobust.testing.model_checks import varied_samples

STYLE = Style(answer_by="text")


@pytest.fixture(autouse=True)
def exact(server):
    server.exact = True


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
