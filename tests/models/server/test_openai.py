"""`OpenAIModel`: requests, letters, failures, and secrets."""

import logging
import math
import sys
import threading
import time
from collections import Counter

import pytest
from openai_server import KEY, ToyModel, answer_distribution, change_choices, probabilities_by_letter, sample_bodies
from PIL import Image
from written import written

from vlmrobust import Evaluator, OpenAIModel, Prompt, Sample, Style, expand
from vlmrobust.metrics import CorrectProbability, NegativeLogLikelihood
from vlmrobust.models.base import RefusedError
from vlmrobust.models.generation import sampling_seed
from vlmrobust.perturbations import Base, StopThink, WrongCaption, WrongThink
from vlmrobust.testing import check_model
from vlmrobust.testing.model_checks import varied_samples


def test_it_passes_the_model_check(server, model_at):
    check_model(model_at(server))
    assert server.keys == {f"Bearer {KEY}"}


def make_prompts(count=2, *conditions):
    return list(expand(varied_samples()[:count], conditions, seed=0))


# --- letters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_bytes", [True, False])
@pytest.mark.parametrize("tag_is_token", [True, False])
def test_letters_are_read_where_the_model_generated_its_answer(server, model_at, with_bytes, tag_is_token):
    server.model, server.with_bytes = ToyModel(tag_is_token=tag_is_token), with_bytes
    prompts = make_prompts(5)
    for prompt, response in zip(prompts, model_at(server, top_logprobs=100).respond(prompts), strict=True):
        token, shares = answer_distribution(server, prompt)
        expected = probabilities_by_letter(shares)
        assert response.status == "answered"
        assert response.readout == "own_thought"
        assert prompt.style.letters[response.answer] == token[-1]
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)
        assert response.letter_mass == pytest.approx(sum(expected.values()))
        assert response.token_entropy is None


@pytest.mark.parametrize("count", [1, 3, 12])
def test_letters_outside_the_top_k_are_bounded(server, model_at, count):
    prompts = make_prompts(5)
    unknown = 0
    for prompt, response in zip(prompts, model_at(server, top_logprobs=count).respond(prompts), strict=True):
        _, shares = answer_distribution(server, prompt)
        returned = sorted(shares.values(), reverse=True)[:count]
        missing = 1 - sum(returned)
        assert response.logprob_floor == pytest.approx(math.log(returned[-1]))
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            true, read = probabilities_by_letter(shares)[letter], math.exp(logprob)
            unknown += logprob == -math.inf
            assert read - 1e-9 <= true <= read + missing + 1e-9
            hidden = [share for token, share in shares.items() if token.strip(" (>") == letter and share < returned[-1]]
            assert all(math.log(share) <= response.logprob_floor for share in hidden)
    assert unknown > 0


@pytest.mark.parametrize("written", [">", ">B"])
def test_forced_letters_are_summed_over_both_tokenisations(server, model_at, written):
    class Model(ToyModel):
        def next(self, text):
            shares = super().next(text)
            if ">" in shares and len(shares) > 1:  # so that the model would write each of the two in turn
                merged = 0.2 if written == ">" else 0.9
                scale = merged / sum(share for token, share in shares.items() if len(token) == 2)
                shares = {
                    t: s * scale if len(t) == 2 else (0.98 - merged) if t == ">" else 0.02 for t, s in shares.items()
                }
            return shares

    server.model = Model()
    prompts = [prompt for prompt in make_prompts(5, StopThink()) if prompt.condition == "stop_think"]
    responses = model_at(server, top_logprobs=100).respond(prompts)
    for prompt, response in zip(prompts, responses, strict=True):
        turn = {"role": "assistant", "content": f"{prompt.prefill}<answer>"}
        asked = next(b for b in server.seen if prompt.text == b["messages"][0]["content"][-1]["text"])["messages"]
        text, _ = server.render(
            {"messages": [asked[0], turn], "continue_final_message": True, "add_generation_prompt": False}
        )
        expected = server.model.letters(text)
        for letter, logprob in zip(prompt.style.letters, response.option_logprobs, strict=False):
            assert math.exp(logprob) == pytest.approx(expected[letter], rel=1e-6)
        assert (response.readout, response.finish_reason, response.n_tokens) == ("fixed_prefix", "readout", 0)
        assert response.text == f"<answer>{prompt.style.letters[response.answer]}"
        assert response.option_logprobs[response.answer] == max(response.option_logprobs)


def test_a_tag_that_is_one_token_is_not_split(server, model_at):
    server.model = ToyModel(tag_is_token=True)
    prompts = make_prompts(3, StopThink())[1::2]
    model_at(server).respond(prompts)
    forced = [body["messages"][-1]["content"] for body in server.seen if len(body["messages"][0]["content"]) > 1]
    assert all(text.endswith("<answer>") for text in forced)
    assert len(forced) == len(prompts)


def test_a_direct_answer_is_one_token(server, model_at):
    prompts = list(expand(varied_samples()[:3], [], style=Style(mode="direct")))
    responses = model_at(server).respond(prompts)
    assert [body["max_tokens"] for body in sample_bodies(server)] == [1, 1, 1]
    for prompt, body, response in zip(prompts, sorted(sample_bodies(server), key=str), responses, strict=True):
        assert (response.readout, response.status) == ("direct", "answered")
        assert response.carrier == "assistant_prefill"
        assert len(response.option_logprobs) == len(prompt.options)
        assert [turn["role"] for turn in body["messages"]] == ["user"]


def test_without_logprobs_there_are_no_letters_and_forced_answers_are_generated(server, model_at):
    server.logprobs = False
    for response in model_at(server).respond(make_prompts(2, StopThink())):
        assert response.status == "answered"
        assert (response.option_logprobs, response.readout, response.logprob_floor) == (None, None, None)
        assert response.text.endswith("</answer>")
    before = len(server.seen)
    assert model_at(server, top_logprobs=None).respond(make_prompts(1, Base()))[0].status == "answered"
    assert "logprobs" not in server.seen[before]


def test_a_separated_thought_is_put_back(server, model_at):
    prompts = make_prompts(5, StopThink(), WrongThink())
    plain = model_at(server).respond(prompts)
    server.reasoning = True
    assert model_at(server).respond(prompts) == plain


# --- requests ---------------------------------------------------------------------------------------------------------


def test_images_arrive_unchanged_and_are_encoded_once(server, model_at, tmp_path, monkeypatch):
    from vlmrobust.models.server import openai

    made = []
    encode = openai.data_url
    monkeypatch.setattr(openai, "data_url", lambda image: made.append(image) or encode(image))
    path = tmp_path / "x.jpg"
    Image.radial_gradient("L").convert("RGB").resize((40, 30)).save(path)
    sample = Sample(id="q", images=[path, path], question="Which?", options=["a", "b"], answer=0)
    prompts = list(expand([sample], [StopThink(), WrongCaption()], seed=0))
    assert all(response.status == "answered" for response in model_at(server).respond(prompts))
    assert made == [path]
    assert {image.tobytes() for image in server.images} == {Image.open(path).convert("RGB").tobytes()}
    assert len(server.images) == 2 * sum(len(body["messages"][0]["content"]) > 1 for body in server.seen)


def test_requests_have_the_sampling_parameters_under_the_servers_names(server, model_at):
    [prompt] = make_prompts(1)
    model = model_at(
        server,
        generation={"max_completion_tokens": 64, "temperature": None, "top_k": 5, "seed": 3},
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    model.respond([prompt])
    (body,) = sample_bodies(server)
    assert body["max_completion_tokens"] == 64
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (body["top_k"], body["logprobs"], body["top_logprobs"]) == (5, True, 20)
    assert body["seed"] == sampling_seed(3, ("colour", "base", 0), 31) < 2**31
    assert not {"max_tokens", "temperature"} & set(body)


def test_each_draw_has_its_own_seed_independent_of_other_prompts(server, model_at):
    prompts = list(expand(varied_samples()[:2], [WrongCaption()], seed=0, draws=3))
    model = model_at(server, generation={"temperature": 1.0, "max_tokens": 30})
    responses = model.respond(prompts)
    assert len({body["seed"] for body in sample_bodies(server)}) == len(prompts)
    assert len({response.text for response in responses if response.condition == "base"}) > 2
    assert model.respond(prompts[::-1])[::-1] == responses
    assert [model_at(server, concurrency=1).respond([prompt]) for prompt in prompts]
    assert "seed" not in server.seen[-1]  # greedy


def test_concurrency_limits_simultaneous_requests(server, model_at):
    together = threading.Barrier(3)

    def waits(number, body):
        if len(body["messages"][0]["content"]) > 1:
            together.wait(10)

    server.fault = waits
    prompts = make_prompts(3)
    responses = model_at(server, concurrency=3).respond([*prompts, *prompts])  # six, three at a time
    assert [response.sample_id for response in responses] == [prompt.sample.id for prompt in [*prompts, *prompts]]
    assert server.most == 3


def test_usage_adds_up(server, model_at):
    model = model_at(server, price={"prompt": 2.0, "completion": 10.0, "cached": 0.5})
    prompts = make_prompts(5, StopThink())
    responses = model.respond(prompts)
    usage = model.usage
    replies = [server.completion(body)["usage"] for body in server.seen]
    sent, generated = (sum(reply[f"{kind}_tokens"] for reply in replies) for kind in ("prompt", "completion"))
    cached = sum(reply["prompt_tokens_details"]["cached_tokens"] for reply in replies)
    assert (usage.requests, usage.prompt_tokens, usage.completion_tokens) == (len(server.seen), sent, generated)
    assert usage.cost == pytest.approx(((sent - cached) * 2 + cached * 0.5 + generated * 10) / 1e6)
    assert f"{usage.requests} requests, {sent:,} prompt tokens" in str(usage)
    wrote = [response for response in responses if response.finish_reason != "readout"]
    assert all(len(server.model.tokens(response.text)) >= response.n_tokens - 2 > 0 for response in wrote)
    free = model_at(server)
    free.respond(prompts[:1])
    assert free.usage.cost is None


def test_counts_that_the_server_omits_are_unknown(server, model_at, monkeypatch):
    completion = server.completion

    def uncounted(body):
        reply = completion(body)
        if reply["usage"] is not None:
            reply["usage"]["prompt_tokens_details"] = None  # as vLLM without `--enable-prompt-tokens-details`
        return reply

    monkeypatch.setattr(server, "completion", uncounted)
    model = model_at(server, price={"prompt": 2.0, "completion": 10.0, "cached": 0.5})
    assert str(model.usage) == "0 requests"
    model.respond(make_prompts(1))
    usage = model.usage
    assert (usage.cached_tokens, usage.requests) == (None, len(server.seen))
    assert "cached: unknown" in str(usage)
    assert usage.cost == pytest.approx((usage.prompt_tokens * 2 + usage.completion_tokens * 10) / 1e6)
    server.counts = False
    model.respond(make_prompts(1))
    assert (model.usage.prompt_tokens, model.usage.cost) == (usage.prompt_tokens, None)  # the cost is unknown now


@pytest.mark.parametrize(
    ("requested", "reported", "same"),
    [
        ("toy", "toy", True),
        ("folder/toy", "/models/toy/", True),
        ("toy", "toy-2025-01-01", True),
        ("toy:free", "Toy", True),
        ("toy-latest", "toy-2411", True),
        ("toy-7b-instruct", "C:\\models\\Toy-7B-Instruct-Q4_K_M.gguf", True),
        ("toy", "other", False),
        ("toy-mini", "toy", False),
        ("toy-7b", "toy-72b", False),
        ("toy-7", "toy-72b", False),
    ],
)
def test_a_different_model_name_in_the_replies_is_logged_once(server, model_at, caplog, requested, reported, same):
    server.named = reported
    model = OpenAIModel(requested, server.url, KEY, max_retries=0)
    model.respond(make_prompts(3))
    model._client.close()
    expected = [] if same else [f"requested the model {requested!r}, the server answers as {reported!r}"]
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == expected


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_busy_server_is_retried_after_the_time_that_it_asks_for(server, model_at):
    times = []

    def busy(number, body):
        times.append(time.monotonic())
        return (429, {"Retry-After": "0.8"}, "too many") if number == 1 else None

    server.fault = busy
    [response] = model_at(server, max_retries=1).respond(make_prompts(1))
    assert response.status == "answered"
    assert times[1] - times[0] >= 0.8  # the client's own first pause is half a second


def test_permanent_failures_are_rows_and_other_prompts_are_answered(server, model_at):
    late = threading.Event()

    def fault(number, body):
        text = str(body["messages"])
        if "'text': 'Which colour" in text:
            return 500, {}, "the engine is gone"
        if "Wo liegt" in text:
            late.wait(10)
        if "How many" in text:
            return 400, {}, "the prompt is too long"
        return None

    server.fault = fault
    prompts = make_prompts(5)
    responses = model_at(server, timeout=0.5).respond(prompts)
    late.set()
    assert [response.status for response in responses] == ["error", "error", "answered", "error", "answered"]
    assert "the engine is gone" in responses[0].error
    assert responses[1].error.startswith("APITimeoutError")
    assert "the prompt is too long" in responses[3].error


def test_connection_failures_are_rows_with_the_reason(server, model_at):
    model = model_at(server)
    server.shutdown()
    server.server_close()
    for response in model.respond(make_prompts(2, StopThink())):
        assert response.status == "error"
        assert "APIConnectionError" in response.error
        assert "refused" in response.error


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_ends_the_run(server, model_at, status):
    server.fault = lambda number, body: (status, {}, f"no such thing as {KEY}")
    model = model_at(server, concurrency=2, max_retries=3)
    samples = [sample.replace(id=f"{index}") for index in range(20) for sample in varied_samples()[:1]]
    with pytest.raises(
        RefusedError, match=r"expected a key, a model and a path that 127\.0\.0\.1 knows, got .*no such thing"
    ):
        Evaluator(model, [StopThink()], batch_size=20).run(samples)
    assert len(server.seen) <= 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"logprob": 0.4}, "expected log-probabilities of at most 0, got 0.4"),
        ({"logprob": math.nan}, "expected log-probabilities of at most 0, got nan"),
        ({"token": None, "bytes": None}, "expected a token's text, or its bytes, got token None"),
    ],
)
def test_invalid_values_in_a_reply_are_an_error_row(server, model_at, monkeypatch, wrong, message):
    def change(body, choice):
        choice["logprobs"]["content"][-1].update(wrong)

    change_choices(server, monkeypatch, change)
    [response] = model_at(server).respond(make_prompts(1))
    assert response.status == "error"
    assert message in response.error


def test_if_log_probabilities_are_missing_the_visible_text_remains(server, model_at, monkeypatch):
    plain = model_at(server).respond(make_prompts(2, StopThink()))

    def change(body, choice):
        if len(choice["logprobs"]["content"]) > 3:
            del choice["logprobs"]["content"][1:3]

    change_choices(server, monkeypatch, change)
    for response, other in zip(model_at(server).respond(make_prompts(2, StopThink())), plain, strict=True):
        assert (response.text, response.answer, response.status) == (other.text, other.answer, "answered")


def test_a_reply_without_a_choice_is_an_error_row(server, model_at, monkeypatch):
    monkeypatch.setattr(server, "completion", lambda body: {"id": "1", "object": "chat.completion", "choices": []})
    [response] = model_at(server).respond(make_prompts(1))
    assert response.status == "error"
    assert "expected a chat completion with a choice" in response.error


def test_an_unreadable_reply_is_an_error_row_and_others_are_kept(server, model_at, monkeypatch):
    prompts = make_prompts(5)
    plain = model_at(server).respond(prompts)

    def change(body, choice):
        text = body["messages"][0]["content"][-1]["text"]
        if text == prompts[1].text:
            choice["message"]["content"] = [{"type": "audio", "data": ""}]
        if text == prompts[2].text:
            choice["message"]["content"] = [{"type": "text", "text": choice["message"]["content"]}]
        if text == prompts[3].text:
            choice["message"] = None

    change_choices(server, monkeypatch, change)
    model = model_at(server)
    responses = model.respond(prompts)
    assert [response.status for response in responses] == ["answered", "error", "answered", "error", "answered"]
    assert [responses[place] for place in (0, 2, 4)] == [plain[place] for place in (0, 2, 4)]
    assert responses[1].error.startswith("ValueError: expected a chat completion in OpenAI's schema, got {'id'")
    assert responses[1].error.endswith("(expected content of type 'text' or 'thinking', got 'audio')")
    assert model.usage.requests == 3 + 1  # one tests the server


def test_null_log_probabilities_leave_the_text(server, model_at, monkeypatch):
    def change(body, choice):
        for entry in choice["logprobs"]["content"]:
            for shown in (entry, *entry.pop("top_logprobs")):
                shown["logprob"] = None

    change_choices(server, monkeypatch, change)
    for response in model_at(server).respond(make_prompts(2)):
        assert (response.status, response.option_logprobs, response.logprob_floor) == ("answered", None, None)


def test_if_a_readout_returns_no_letters_the_answer_is_generated(server, model_at, monkeypatch):
    class Model(ToyModel):
        def next(self, text):  # makes `>A` likely, so that the letter after `>` needs a second request
            shares = super().next(text)
            return shares | {">": 0.01} if ">" in shares and len(shares) > 1 else shares

    def change(body, choice):
        user, *turn = body["messages"]
        if len(user["content"]) > 1 and body["max_tokens"] == 1:
            left_out.append(turn[0]["content"])
            choice.pop("logprobs")

    left_out = []
    server.model = Model()
    change_choices(server, monkeypatch, change)
    prompts = [prompt for prompt in make_prompts(3, StopThink()) if prompt.condition == "stop_think"]
    responses = model_at(server).respond(prompts)
    assert Counter(left_out) == Counter(f"{prompt.prefill}<answer>" for prompt in prompts)
    for response in responses:
        assert (response.status, response.finish_reason) == ("answered", "stop")


# --- secrets and identity ---------------------------------------------------------------------------------------------


def test_the_key_is_only_in_the_requests(server, model_at, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.fault = lambda number, body: (500, {}, f"not with {KEY}") if number % 3 == 0 else None
    model = model_at(server, extra_body={"provider": {"api_key": KEY}})
    report = Evaluator(model, [StopThink(), WrongThink()]).run(varied_samples(), out=tmp_path)
    assert (report.frame["error"].dropna().str.contains(r"not with \[key\]")).any()
    server.prefill = "never"
    model_at(server).respond(make_prompts(1, WrongThink()))
    files = written(tmp_path)
    shown = [
        *files.values(),
        repr(model),
        str(model.identity()),
        str(model.usage),
        report.frame.to_csv(),
        caplog.text,
        *capfd.readouterr(),
    ]
    assert any(file.endswith(".parquet") and "[key]" in text for file, text in files.items())
    for text in shown:
        assert KEY not in text
    assert server.keys == {f"Bearer {KEY}"}


def test_the_identity_does_not_depend_on_the_servers_address(server, model_at):
    other = OpenAIModel("toy", "http://elsewhere:8000/v1", "another key")
    assert model_at(server).identity() == other.identity()
    other._client.close()
    for changed in (
        {"generation": {"temperature": 0.5}},
        {"extra_body": {"a": 1}},
        {"top_logprobs": 5},
        {"prefill": "user_text"},
    ):
        assert model_at(server, **changed).identity() != other.identity()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generation": {"n": 2}}, "field 'generation': 'n' is reserved or set elsewhere"),
        ({"extra_body": {"temperature": 1}}, "field 'extra_body': 'temperature' is reserved or set elsewhere"),
        ({"prefill": "yes"}, "field 'prefill': expected one of 'continue_final_message', 'prefix'"),
        ({"concurrency": 0}, "field 'concurrency': expected at least 1, got 0"),
    ],
)
def test_invalid_settings_are_named_in_the_error(options, message):
    with pytest.raises(ValueError, match=message):
        OpenAIModel("toy", "http://localhost:1/v1", KEY, **options)


def test_a_local_server_needs_no_key_but_openais_does(monkeypatch):
    from openai import OpenAIError

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    OpenAIModel("toy", "http://localhost:1/v1")._client.close()
    with pytest.raises(OpenAIError):
        OpenAIModel("toy")


@pytest.mark.parametrize("given", [f"{KEY}\n", f" {KEY} "])
def test_white_space_around_key_and_address_is_left_out(server, monkeypatch, given):
    monkeypatch.setenv("OPENAI_API_KEY", given)
    prompt = Prompt.of(varied_samples()[0])
    for key in (None, given):
        model = OpenAIModel("toy", f" {server.url}\n", key, max_retries=0)
        assert model.respond([prompt])[0].status == "answered"
        model._client.close()


@pytest.mark.parametrize("key", [f"{KEY}\nx: y", "ключ"])
def test_a_key_that_no_header_can_hold_is_refused_unrepeated(key):
    with pytest.raises(ValueError, match="field 'api_key': expected printable ASCII characters") as refused:
        OpenAIModel("toy", "http://localhost:1/v1", key)
    assert key not in str(refused.value)


@pytest.mark.parametrize("address", ["", " ", "localhost:8000/v1", "localhost", "http://", "ftp://host/v1", "/v1"])
def test_an_address_without_scheme_or_host_is_refused(address):
    with pytest.raises(
        ValueError, match=r"field 'base_url': expected an address such as .* without http:// or https://"
    ):
        OpenAIModel("toy", address, KEY)


def test_without_the_client_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"OpenAIModel needs the openai client: pip install vlmrobust\[api\]"):
        OpenAIModel("toy", api_key="x")


def test_metrics_use_the_letters_of_the_server(server, model_at):
    """From the server's reply to the report: P(correct) of a sample with all letters returned."""
    sample = varied_samples()[0]
    report = Evaluator(model_at(server), []).run([sample])
    _, shares = answer_distribution(server, Prompt.of(sample))
    expected = probabilities_by_letter(shares)
    value = report.frame["correct_probability"].iloc[0]
    assert value == pytest.approx(expected["A"] / (expected["A"] + expected["B"]), rel=1e-5)
    assert report.frame["letter_mass"].iloc[0] == pytest.approx(sum(expected.values()), rel=1e-5)


def test_a_correct_letter_outside_the_top_k_has_no_probability_and_no_likelihood(server, model_at):
    metrics = [CorrectProbability(), NegativeLogLikelihood()]
    frame = Evaluator(model_at(server, top_logprobs=1), [], metrics).run(varied_samples()).frame
    wrong = frame["answer"] != frame["target"]
    assert wrong.any()
    assert (frame.loc[wrong, "correct_probability"] == 0).all()
    assert frame.loc[wrong, "negative_log_likelihood"].isna().all()
    assert frame.loc[~wrong, "negative_log_likelihood"].eq(0).all()
