"""The server check: properties of servers, and warnings about those that change the experiment."""

import logging

import pytest
from openai_server import ToyModel, change_replies

from vlmrobust import Evaluator
from vlmrobust.models.base import RefusedError
from vlmrobust.testing.model_checks import varied_samples


def rows_of(found):
    return dict(found.rows())


def test_a_server_with_all_capabilities(server, model_at):
    server.exact, server.context = True, 4096
    found = model_at(server).check()
    assert found.warnings == ()
    assert (found.open_thought, found.complete_thought) == ("continue_final_message", "continue_final_message")
    assert (found.letters, found.rebuilt, found.after_temperature) == ("exact", True, False)
    assert (found.context, found.repeats_prefill, found.answered_as) == (4096, False, "toy")
    assert (found.counts_tokens, found.counts_cached_tokens) == (True, True)
    assert (found.same_seed_same_text, found.other_seed_other_text) == (True, True)
    assert found.image_is_seen
    assert len(server.seen) < 30
    assert all(len(line) < 100 for line in str(found).splitlines())


def scale_logprobs(body, reply):
    """Take log-probabilities after the temperature, as mistralrs does."""
    for entry in reply["choices"][0]["logprobs"]["content"]:
        for shown in (entry, *entry["top_logprobs"]):
            shown["logprob"] /= body["temperature"] or 1


@pytest.mark.parametrize(
    ("settings", "line", "value", "warning"),
    [
        ({"prefill": "never"}, "open thoughts", "user_text", "open thoughts cannot be prefilled"),
        ({"prefill": "dropped"}, "complete thoughts", "user_text", "complete thoughts cannot be prefilled"),
        ({"prefill": "echoed"}, "repeats the prefill", "yes, cut off", None),
        ({}, "letters", "from the top 20", None),
        ({"logprobs": False}, "letters", "none", "no log-probabilities"),
        ({"named": "other"}, "answers as", "'other'", "requested the model 'toy', the server answers as 'other'"),
        ({"reasoning": True}, "reasoning parser", "separates thoughts, drops <think>, </think>", None),
        ({"context": 512}, "context", "512 tokens", "the context of 512 tokens is too short for max_tokens 512"),
        ({"counts": False}, "token counts", "none", "cannot be prefilled"),
    ],
)
def test_properties_of_servers_and_their_warnings(server, model_at, settings, line, value, warning):
    for name, setting in settings.items():
        setattr(server, name, setting)
    found = model_at(server).check()
    assert rows_of(found)[line] == value
    if warning is None:
        assert found.warnings == ()
    else:
        assert any(warning in each for each in found.warnings)
        assert f"Warning: {found.warnings[0]}" in str(found)


def test_log_probabilities_after_the_temperature_are_a_warning(server, model_at, monkeypatch):
    change_replies(server, monkeypatch, scale_logprobs)
    found = model_at(server).check()
    assert found.after_temperature
    assert any("after the temperature" in warning for warning in found.warnings)
    found = model_at(server, generation={"temperature": 1.0}).check()
    assert not any("after the temperature" in warning for warning in found.warnings)


def test_images_that_are_not_seen_are_a_warning(server, model_at, monkeypatch):
    counted = ToyModel.tokens
    monkeypatch.setattr(ToyModel, "tokens", lambda model, text: counted(model, text.replace("[", "").partition("]")[2]
                                                                        if "[" in text else text))  # fmt: skip
    found = model_at(server).check()
    assert found.image_is_seen is False
    assert any("images are not seen" in warning for warning in found.warnings)


def test_ignored_seeds_are_a_warning_when_sampling(server, model_at, monkeypatch):
    number = iter(range(10_000))
    completion = server.completion
    monkeypatch.setattr(server, "completion", lambda body: completion(body | {"seed": next(number)}))
    assert model_at(server).check().warnings == ()
    found = model_at(server, generation={"temperature": 1.0}).check()
    assert found.same_seed_same_text is False
    assert any("draws cannot be reproduced" in warning for warning in found.warnings)


def test_tags_dropped_by_a_parser_are_listed_and_restored_from_tokens(server, model_at):
    server.parser = lambda text: (None, text.replace("</think>", ""))
    found = model_at(server).check()
    assert (found.dropped_tags, found.rebuilt, found.warnings) == (("</think>",), True, ())


def test_a_server_that_is_not_up_is_refused(server, model_at):
    server.fault = lambda number, body: (503, {}, "starting")
    with pytest.raises(RefusedError, match=r"OpenAIModel\('toy'\): 127\.0\.0\.1 could not be checked: .*starting"):
        model_at(server).check()


@pytest.mark.parametrize(
    ("pages", "context"),
    [
        ({"/v1/models": '[{"id": "toy", "context_length": 4096}]'}, 4096),  # Together
        ({"/props": "<!doctype html>"}, None),  # a web interface that has a page for every path, as Open WebUI
        ({"/v1/models": "<!doctype html>", "/props": "<!doctype html>"}, None),
        ({"/v1/models": '{"data": [{"id": "toy", "meta": "none"}]}', "/props": "[]"}, None),
        ({"/v1/models": '{"data": {"id": "toy"}}', "/props": '{"default_generation_settings": {"n_ctx": 512}}'}, 512),
    ],
)
def test_the_context_is_found_or_unknown_whatever_other_paths_hold(server, model_at, pages, context):
    server.pages = pages
    assert model_at(server).check().context == context


@pytest.mark.parametrize("wrong", [False, True])
def test_a_long_run_checks_the_server_once_and_logs_a_line(server, model_at, caplog, wrong):
    caplog.set_level(logging.INFO, "vlmrobust")
    server.prefill = "never" if wrong else "flag"
    model = model_at(server)
    Evaluator(model, [], draws=40).run(varied_samples()[:1])
    assert not caplog.records
    before = len(server.seen)
    Evaluator(model, [], draws=70).run(varied_samples()[:1])
    assert "Which colour is it?" in str(server.seen[before : before + 20])
    assert not any(varied_samples()[0].question in str(body) for body in server.seen[before : before + 10])
    Evaluator(model, [], draws=70).run(varied_samples()[:1])
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("server.openai")]
    assert lines[0].startswith("OpenAIModel('toy'): open thoughts: ")
    assert [line.partition(": ")[2].partition(" ")[0] for line in lines[1:]] == (["open", "complete"] if wrong else [])


def test_a_wrong_tokenizer_ends_a_run_before_its_first_row(server, model_at):
    from vlmrobust import demo

    server.exact = True
    model = model_at(server, tokenizer=demo.model().processor)
    with pytest.raises(RefusedError, match="token"):
        Evaluator(model, [], draws=70).run(varied_samples()[:1])
    assert not any(varied_samples()[0].question in str(body) for body in server.seen)


def test_a_different_token_count_of_the_processor_is_a_warning(server, model_at, monkeypatch):
    from vlmrobust import demo
    from vlmrobust.models.server.readout import LetterReadout

    processor = demo.model().processor
    monkeypatch.setattr(LetterReadout, "processor", lambda letters: processor)
    found = model_at(server).check()
    assert found.expected_tokens != found.prompt_tokens
    assert any("images are scaled differently from the checkpoint's processor" in each for each in found.warnings)
