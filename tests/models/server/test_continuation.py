"""Whether a server goes on from a begun turn is found out, once, and what it cannot do is said in words."""

import re

import pytest
from openai_server import ToyModel

from vlmrobust import Report, expand
from vlmrobust.models.server.messages import BEGUN, COMPLETE
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.testing.model_checks import varied_samples


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
    assert len(caplog.records) == 2  # of open and of complete thoughts
    assert all(record.getMessage().count(reason) == 2 for record in caplog.records)  # both ways
    model.respond(prompts())
    assert len(caplog.records) == 2


def test_where_complete_thoughts_are_dropped_open_ones_go_on(server, model_at, caplog):
    server.prefill = "dropped"
    by_condition = {response.condition: response for response in model_at(server).respond(prompts())}
    assert by_condition["wrong_think"].carrier == "assistant_prefill"
    assert by_condition["stop_think"].carrier == "user_text"
    [record] = caplog.records
    assert record.getMessage().startswith("the server does not go on from a turn with a complete thought")
    assert record.getMessage().count("tokens with the prefilled thought") == 2


@pytest.mark.parametrize("logprobs", [True, False])
def test_a_server_that_repeats_the_prefill_goes_on_from_it_all_the_same(server, model_at, caplog, logprobs):
    server.logprobs = logprobs
    plain = model_at(server).respond(prompts(5))
    server.prefill = "echoed"
    assert model_at(server).respond(prompts(5)) == plain
    assert not caplog.records


class Repeating(ToyModel):
    """Writes its prefilled thought once more, and then as before."""

    def next(self, text):
        asked, turn = text.rsplit("<|assistant|>", 1)
        begun = re.match(r"<think>.*? #", turn)
        if begun is None or "\nA. " not in asked:
            return super().next(text)
        written = turn[begun.end() :]
        rest = self.tokens(begun[0])[len(self.tokens(written)) :]
        return {rest[0]: 1.0} if begun[0].startswith(written) and rest else super().next(text)


@pytest.mark.parametrize("logprobs", [True, False])
@pytest.mark.parametrize("way", ["auto", "continue_final_message"])
@pytest.mark.parametrize("echoed", [True, False])
def test_what_the_model_writes_once_more_is_not_the_servers(server, model_at, logprobs, echoed, way):
    server.model, server.logprobs = Repeating(), logprobs
    server.prefill = "echoed" if echoed else "flag"
    if echoed and way != "auto":
        pytest.skip("it does not heed the flag")
    for prompt in prompts(3):
        if prompt.condition == "wrong_think":
            asked = prompt.replace(prefill=f"{prompt.prefill} #")
            [response] = model_at(server, prefill=way).respond([asked])
            assert response.text.startswith(asked.prefill)
            assert not response.text.removeprefix(asked.prefill).startswith("<think>")
            assert response.carrier == "assistant_prefill"


PARSERS = {
    # What vLLM's `--reasoning-parser qwen3` shows: every end of a thought that it did not see begin is dropped.
    "qwen3": lambda text: (None, text.replace("</think>", "")) if "<think>" not in text else _split(text),
    # And `deepseek_r1`: all is thought up to its end, also where the prefill has closed it.
    "deepseek_r1": lambda text: _split(text) if "</think>" in text else (text, None),
}


def _split(text):
    thought, _, content = text.partition("</think>")
    return thought.removeprefix("<think>"), content


@pytest.mark.parametrize("parser", PARSERS)
def test_whatever_a_parser_drops_the_turn_is_the_same(server, model_at, parser):
    plain = model_at(server).respond(prompts(5))
    server.parser = PARSERS[parser]
    assert model_at(server).respond(prompts(5)) == plain
    assert {response.well_formed for response in plain if response.condition == "wrong_think"} == {True}


def test_without_counts_a_dropped_thought_would_not_show(server, model_at, caplog):
    server.counts = False
    model = model_at(server)
    [_, response, _] = model.respond(prompts(1))
    assert response.carrier == "user_text"
    assert "does not count prompt tokens" in caplog.text
    assert (response.n_tokens, model.usage.prompt_tokens) == (None, None)


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
    said = {body["messages"][-1]["content"][-1]["text"].strip() for body in asked(server)}
    plain, begun, complete = prompts(1)
    thought = begun.prefill.removeprefix("<think>").strip()
    closed = complete.prefill.removeprefix("<think>").removesuffix("</think>")
    assert said == {plain.text, BEGUN.format(thought=thought), COMPLETE.format(thought=closed)}
    assert all(len(body["messages"]) == 1 for body in server.seen)
    assert len(asked(server)) == 3
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
