"""Whether a server goes on from a begun turn is found out, once, and what it cannot do is said in words."""

import pytest
from openai_server import ToyModel

from vlmrobust import Report, expand
from vlmrobust.models.server.messages import BEGUN, COMPLETE
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.testing.samples import varied_samples


def prompts(count=2):
    return list(expand(varied_samples()[:count], [WrongThink(), StopThink()], seed=0))


def probes_of(server):
    return [body for body in server.seen if len(body["messages"][0]["content"]) == 1]


def asked(server):
    return [body for body in server.seen if len(body["messages"][0]["content"]) > 1]


@pytest.mark.parametrize("prefill", ["flag", "always"])
def test_a_server_that_goes_on_is_told_to(server, model_at, prefill):
    server.prefill = prefill
    responses = model_at(server).respond(prompts())
    assert {response.carrier for response in responses} == {"assistant_prefill"}
    for body in asked(server):
        if body["messages"][-1]["role"] == "assistant":
            assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        else:
            assert "continue_final_message" not in body
    probes = [body for body in probes_of(server) if body["max_tokens"] > 1]
    assert len(probes) == 4  # once for all prompts, however many ask at a time


def test_what_goes_on_is_the_models_own_text(server, model_at):
    """The oracle is the toy model itself, given the rendered text."""
    for prompt, response in zip(prompts(5), model_at(server).respond(prompts(5)), strict=True):
        if prompt.condition == "wrong_think":
            body = next(b for b in asked(server) if b["messages"][-1]["content"] == prompt.prefill
                        and b["messages"][0]["content"][-1]["text"] == prompt.text)  # fmt: skip
            text, _ = server.render(body)
            assert text.endswith(f"<|assistant|>{prompt.prefill}")
            steps, _ = server.model.write(text, 512, None)
            assert response.text == "".join(token for token, _ in steps).removesuffix("<|end|>")
            assert response.think.startswith(prompt.prefill.removeprefix("<think>").strip())


@pytest.mark.parametrize(
    ("prefill", "reason"),
    [
        ("never", "expected the reply to go on with"),
        ("dropped", "tokens with the prefilled thought"),
        ("echoed", "the reply repeats the prefill"),
        ("refused", "status 400"),
    ],
)
def test_a_server_that_does_not_is_found_out(server, model_at, caplog, prefill, reason):
    server.prefill = prefill
    model = model_at(server)
    responses = model.respond(prompts())
    by_condition = {response.condition: response for response in responses}
    assert by_condition["wrong_think"].carrier == by_condition["stop_think"].carrier == "user_text"
    assert by_condition["base"].carrier == "assistant_prefill"
    assert {response.status for response in responses} == {"answered"}
    assert caplog.text.count(reason) == 2  # both ways, in one warning
    assert len(caplog.records) == 1
    model.respond(prompts())
    assert len(caplog.records) == 1


def test_without_counts_a_dropped_thought_would_not_show(server, model_at, caplog):
    server.counts = False
    model = model_at(server)
    [_, response, _] = model.respond(prompts(1))
    assert response.carrier == "user_text"
    assert "does not count prompt tokens" in caplog.text
    assert (response.n_tokens, model.usage.prompt_tokens) == (None, 0)


@pytest.mark.parametrize("token", ["<|end|>", " la"])
def test_a_model_that_says_nothing_shows_nothing(server, model_at, caplog, token):
    class Dull(ToyModel):
        def next(self, text):
            return super().next(text) if "\nA. " in text else {token: 1.0}

    server.model = Dull()
    model_at(server).respond(prompts(1))
    shown = "" if token == "<|end|>" else token * 24
    assert caplog.text.count(f"the reply after the prefill is too short or too uniform to tell, {shown!r}") >= 1


def test_a_server_that_is_away_is_asked_again_later(server, model_at):
    server.fault = lambda number, body: (503, {}, "starting")
    model = model_at(server)
    assert {response.status for response in model.respond(prompts(1))} == {"error"}
    server.fault = lambda number, body: None
    assert {response.carrier for response in model.respond(prompts(1))} == {"assistant_prefill"}


def test_a_way_that_is_given_is_not_tested(server, model_at):
    server.prefill = "always"
    for way, mark in (("prefix", {"prefix": True}), ("last_message", {})):
        server.seen.clear()
        _, response, _ = model_at(server, prefill=way).respond(prompts(1))
        assert response.carrier == "assistant_prefill"
        assert all(body["max_tokens"] == 1 for body in probes_of(server))  # whether `>` merges
        turns = [body["messages"][-1] for body in asked(server) if body["messages"][-1]["role"] == "assistant"]
        assert {"role": "assistant", "content": prompts(1)[1].prefill, **mark} in turns
        assert not any("continue_final_message" in body for body in server.seen)


def test_in_words_the_thought_stands_in_the_users_text(server, model_at):
    model = model_at(server, prefill="user_text")
    base, wrong, stop = model.respond(prompts(1))
    said = {body["messages"][-1]["content"][-1]["text"].strip() for body in server.seen}
    plain, begun, complete = prompts(1)
    thought = begun.prefill.removeprefix("<think>").strip()
    closed = complete.prefill.removeprefix("<think>").removesuffix("</think>")
    assert said == {plain.text, BEGUN.format(thought=thought), COMPLETE.format(thought=closed)}
    assert all(len(body["messages"]) == 1 for body in server.seen)
    assert len(server.seen) == 3
    # What the model wrote is read by itself: what was put into the user's text is no thought of its turn.
    assert wrong.think == wrong.own_think
    assert wrong.well_formed
    assert (stop.readout, base.readout) == ("own_thought", "own_thought")


def test_the_report_never_pools_the_two(server, model_at):
    asking = prompts(4)
    first = model_at(server).respond(asking[:6])
    second = model_at(server, prefill="user_text").respond(asking[6:])
    summary = Report.from_responses(asking, [*first, *second]).summary
    rows = summary[(summary["condition"] == "wrong_think") & (summary["metric"] == "accuracy")]
    assert rows["carrier"].tolist() == ["assistant_prefill", "user_text"]
    assert rows["n"].tolist() == [2, 2]
