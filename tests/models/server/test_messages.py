"""Messages: images, earlier turns, and prefills, which a server is tested for once."""

import base64
import io
import re

import pytest
from openai_server import END, ToyModel, sample_bodies
from PIL import Image

from vlmrobust import Prompt, Report, expand
from vlmrobust.models.server.messages import BEGUN, COMPLETE, data_url
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.testing.model_checks import varied_samples
from vlmrobust.types import open_image
from vlmrobust.types.image import DerivedImage

PICTURE = Image.radial_gradient("L").convert("RGB").resize((40, 30))


def encode(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated_by_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(PICTURE, "JPEG", exif=exif)


def decode_url(url):
    kind, _, data = url.partition(";base64,")
    return kind, base64.b64decode(data, validate=True)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (encode(PICTURE, "PNG"), "data:image/png"),
        (encode(PICTURE.convert("L"), "PNG"), "data:image/png"),
        (encode(PICTURE, "JPEG"), "data:image/jpeg"),
        (encode(PICTURE, "WEBP", lossless=True), "data:image/webp"),
    ],
    ids=["png", "grey", "jpeg", "webp"],
)
def test_plain_files_are_sent_unchanged(image, kind, tmp_path):
    assert decode_url(data_url(image)) == (kind, image)
    (tmp_path / "x.dat").write_bytes(image)  # the type comes from the content, not from the name
    assert data_url(tmp_path / "x.dat") == data_url(str(tmp_path / "x.dat")) == data_url(image)


@pytest.mark.parametrize(
    "image",
    [
        PICTURE,
        rotated_by_exif(),
        encode(PICTURE.convert("RGBA"), "PNG"),
        encode(PICTURE.convert("P"), "PNG"),
        encode(PICTURE, "PNG", transparency=(1, 2, 3)),
        encode(PICTURE.convert("CMYK"), "JPEG"),
        encode(PICTURE, "BMP"),
        encode(PICTURE, "GIF"),
        encode(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90)]),
    ],
    ids=["pil", "turned", "alpha", "palette", "transparent", "cmyk", "bmp", "gif", "moving"],
)
def test_files_that_servers_decode_differently_are_sent_as_png(image):
    kind, data = decode_url(data_url(image))
    assert kind == "data:image/png"
    assert data != image
    with Image.open(io.BytesIO(data)) as sent:
        assert (sent.mode, sent.tobytes()) == ("RGB", open_image(image).tobytes())


class Turned(DerivedImage):
    def derive(self, image):
        return image.rotate(180)


def test_a_derived_image_is_derived():
    _, data = decode_url(data_url(Turned(source=encode(PICTURE, "PNG"))))
    with Image.open(io.BytesIO(data)) as sent:
        assert sent.tobytes() == PICTURE.rotate(180).tobytes()


def test_the_error_for_a_broken_image_describes_it():
    with pytest.raises(OSError, match="expected a readable image in 9 bytes"):
        data_url(b"not a png")


ANSWER = "<think>It is red.</think><answer>B</answer>"


def make_second_turn(answer=ANSWER, question="Are you sure?", **changes):
    prompt = Prompt.of(varied_samples()[0])
    history = ({"role": "assistant", "text": answer}, {"role": "user", "text": question})
    return prompt.replace(history=history, **changes)


def text_of(message):
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def bodies_of(server, prompt):
    """Return the bodies of requests for a prompt, without those that test the server."""
    return [body for body in server.seen if text_of(body["messages"][0]) == prompt.text]


def test_every_turn_is_its_own_message(server, model_at):
    prompt = make_second_turn()
    [response] = model_at(server, top_logprobs=100).respond([prompt])
    assert response.error is None, response.error
    body = bodies_of(server, prompt)[0]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    question, answer, again = body["messages"]
    assert question["content"][0]["type"] == "image_url"
    assert text_of(answer) == ANSWER
    assert text_of(again) == f"Are you sure?\n{prompt.style.instruction_text()}"
    text, begun = server.render(body)
    assert begun == ""
    assert text.endswith(f"{END}<|assistant|>{ANSWER}{END}<|user|>{text_of(again)}{END}<|assistant|>")
    # The response continues the whole conversation, not the first question alone.
    steps, _ = server.model.write(text, 512, None)
    assert response.text == "".join(token for token, _ in steps if token != END)
    [first] = model_at(server, top_logprobs=100).respond([prompt.replace(history=())])
    assert first.text != response.text


@pytest.mark.parametrize("carried", ["flag", "never"])
def test_a_prefilled_thought_comes_after_the_last_turn(server, model_at, carried):
    server.prefill = carried
    prompt = make_second_turn(prefill="<think>I looked again")
    [response] = model_at(server).respond([prompt])
    last = bodies_of(server, prompt)[-1]["messages"]
    if carried == "flag":
        assert response.carrier == "assistant_prefill"
        assert last[-1] == {"role": "assistant", "content": prompt.prefill}
        assert [message["role"] for message in last] == ["user", "assistant", "user", "assistant"]
    else:
        assert response.carrier == "user_text"
        assert [message["role"] for message in last] == ["user", "assistant", "user"]
        assert "I looked again" in text_of(last[-1])
        assert text_of(last[0]) == prompt.text
        assert text_of(last[1]) == ANSWER


def test_control_tokens_in_earlier_turns_are_inert(server, model_at):
    prompt = make_second_turn(f"{ANSWER}<|im_end|>", "Sure?<|im_start|>")
    model_at(server).respond([prompt])
    _, answer, again = bodies_of(server, prompt)[0]["messages"]
    assert text_of(answer) == f"{ANSWER}< |im_end|>"
    assert text_of(again).startswith("Sure?< |im_start|>\n")


def make_prompts(count=2):
    return list(expand(varied_samples()[:count], [WrongThink(), StopThink()], seed=0))


def probes_of(server):
    return [body for body in server.seen if len(body["messages"][0]["content"]) == 1]


@pytest.mark.parametrize("prefill", ["flag", "always"])
def test_a_server_that_continues_the_turn_is_sent_the_prefill(server, model_at, prefill):
    server.prefill = prefill
    responses = model_at(server).respond(make_prompts())
    assert {response.carrier for response in responses} == {"assistant_prefill"}
    for body in sample_bodies(server):
        if body["messages"][-1]["role"] == "assistant":
            assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        else:
            assert "continue_final_message" not in body
    probes = [body for body in probes_of(server) if body["max_tokens"] > 1]
    assert len(probes) == 4  # once for all concurrent prompts


def test_the_response_continues_the_prefill(server, model_at):
    """The oracle is the toy model itself, given the rendered text."""
    for prompt, response in zip(make_prompts(5), model_at(server).respond(make_prompts(5)), strict=True):
        if prompt.condition == "wrong_think":
            body = next(b for b in sample_bodies(server) if b["messages"][-1]["content"] == prompt.prefill
                        and b["messages"][0]["content"][-1]["text"] == prompt.text)  # fmt: skip
            text, _ = server.render(body)
            assert text.endswith(f"<|assistant|>{prompt.prefill}")
            steps, _ = server.model.write(text, 512, None)
            assert response.text == "".join(token for token, _ in steps).removesuffix("<|end|>")
            assert response.think.startswith(prompt.prefill.removeprefix("<think>").strip())


@pytest.mark.parametrize(
    ("prefill", "reason"),
    [
        ("never", "expected the reply to continue with"),
        ("refused", "status 400"),
    ],
)
def test_a_server_that_does_not_continue_the_turn_is_detected(server, model_at, caplog, prefill, reason):
    server.prefill = prefill
    model = model_at(server)
    responses = model.respond(make_prompts())
    by_condition = {response.condition: response for response in responses}
    assert by_condition["wrong_think"].carrier == by_condition["stop_think"].carrier == "user_text"
    assert by_condition["base"].carrier == "assistant_prefill"
    assert {response.status for response in responses} == {"answered"}
    assert len(caplog.records) == 2  # of open and of complete thoughts
    assert all(record.getMessage().count(reason) == 2 for record in caplog.records)  # in both modes
    model.respond(make_prompts())
    assert len(caplog.records) == 2


def test_a_server_that_drops_complete_thoughts_still_continues_open_ones(server, model_at, caplog):
    server.prefill = "dropped"
    by_condition = {response.condition: response for response in model_at(server).respond(make_prompts())}
    assert by_condition["wrong_think"].carrier == "assistant_prefill"
    assert by_condition["stop_think"].carrier == "user_text"
    [record] = caplog.records
    assert record.getMessage().startswith("the server does not continue a turn with a complete thought")
    assert record.getMessage().count("tokens with the prefilled thought") == 2


@pytest.mark.parametrize("logprobs", [True, False])
def test_a_server_that_repeats_the_prefill_continues_it(server, model_at, caplog, logprobs):
    server.logprobs = logprobs
    plain = model_at(server).respond(make_prompts(5))
    server.prefill = "echoed"
    assert model_at(server).respond(make_prompts(5)) == plain
    assert not caplog.records


class Repeating(ToyModel):
    """Repeats its prefilled thought, then continues as `ToyModel`."""

    def next(self, text):
        asked, turn = text.rsplit("<|assistant|>", 1)
        begun = re.match(r"<think>.*? #", turn)
        if begun is None or "\nA. " not in asked:
            return super().next(text)
        written = turn[begun.end() :]
        rest = self.tokens(begun[0])[len(self.tokens(written)) :]
        return {rest[0]: 1.0} if begun[0].startswith(written) and rest else super().next(text)


@pytest.mark.parametrize("logprobs", [True, False])
@pytest.mark.parametrize("mode", ["auto", "continue_final_message"])
@pytest.mark.parametrize("echoed", [True, False])
def test_a_repetition_by_the_model_is_not_taken_for_the_servers(server, model_at, logprobs, echoed, mode):
    server.model, server.logprobs = Repeating(), logprobs
    server.prefill = "echoed" if echoed else "flag"
    if echoed and mode != "auto":
        pytest.skip("this server ignores the flag")
    for prompt in make_prompts(3):
        if prompt.condition == "wrong_think":
            prompt = prompt.replace(prefill=f"{prompt.prefill} #")
            [response] = model_at(server, prefill=mode).respond([prompt])
            assert response.text.startswith(prompt.prefill)
            assert not response.text.removeprefix(prompt.prefill).startswith("<think>")
            assert response.carrier == "assistant_prefill"


PARSERS = {
    # As vLLM's `--reasoning-parser qwen3`: drops every closing tag whose opening tag it has not seen.
    "qwen3": lambda text: (None, text.replace("</think>", "")) if "<think>" not in text else _split(text),
    # As `deepseek_r1`: everything before the closing tag is the thought, even if the prefill has closed it.
    "deepseek_r1": lambda text: _split(text) if "</think>" in text else (text, None),
}


def _split(text):
    thought, _, content = text.partition("</think>")
    return thought.removeprefix("<think>"), content


@pytest.mark.parametrize("parser", PARSERS)
def test_the_text_does_not_depend_on_the_parser(server, model_at, parser):
    plain = model_at(server).respond(make_prompts(5))
    server.parser = PARSERS[parser]
    assert model_at(server).respond(make_prompts(5)) == plain
    assert {response.well_formed for response in plain if response.condition == "wrong_think"} == {True}


def test_a_server_without_token_counts_is_not_sent_prefills(server, model_at, caplog):
    server.counts = False
    model = model_at(server)
    [_, response, _] = model.respond(make_prompts(1))
    assert response.carrier == "user_text"
    assert "does not count prompt tokens" in caplog.text
    assert (response.n_tokens, model.usage.prompt_tokens) == (None, None)


@pytest.mark.parametrize("token", ["<|end|>", " la"])
def test_a_model_with_uniform_output_does_not_pass_the_test(server, model_at, caplog, token):
    class Uniform(ToyModel):
        def next(self, text):
            return super().next(text) if "\nA. " in text else {token: 1.0}

    server.model = Uniform()
    model_at(server).respond(make_prompts(1))
    shown = "" if token == "<|end|>" else token * 24
    assert caplog.text.count(f"the reply after the prefill is too short or too uniform for the test, {shown!r}") >= 1


def test_a_failed_test_is_repeated_later(server, model_at):
    server.fault = lambda number, body: (503, {}, "starting")
    model = model_at(server)
    assert {response.status for response in model.respond(make_prompts(1))} == {"error"}
    server.fault = lambda number, body: None
    assert {response.carrier for response in model.respond(make_prompts(1))} == {"assistant_prefill"}


def test_a_given_mode_is_not_tested(server, model_at):
    server.prefill = "always"
    for mode, flag in (("prefix", {"prefix": True}), ("last_message", {})):
        server.seen.clear()
        _, response, _ = model_at(server, prefill=mode).respond(make_prompts(1))
        assert response.carrier == "assistant_prefill"
        assert all(body["max_tokens"] == 1 for body in probes_of(server))  # whether `>` merges
        turns = [body["messages"][-1] for body in sample_bodies(server) if body["messages"][-1]["role"] == "assistant"]
        assert {"role": "assistant", "content": make_prompts(1)[1].prefill, **flag} in turns
        assert not any("continue_final_message" in body for body in server.seen)


def test_user_text_quotes_the_thought_in_the_users_message(server, model_at):
    model = model_at(server, prefill="user_text")
    base, wrong, stop = model.respond(make_prompts(1))
    sent = {body["messages"][-1]["content"][-1]["text"].strip() for body in sample_bodies(server)}
    plain, open_, complete = make_prompts(1)
    thought = open_.prefill.removeprefix("<think>").strip()
    closed = complete.prefill.removeprefix("<think>").removesuffix("</think>")
    assert sent == {plain.text, BEGUN.format(thought=thought), COMPLETE.format(thought=closed)}
    assert all(len(body["messages"]) == 1 for body in server.seen)
    assert len(sample_bodies(server)) == 3
    # A thought in the user's message is not part of the assistant's turn.
    assert wrong.think == wrong.own_think
    assert wrong.well_formed
    assert (stop.readout, base.readout) == ("own_thought", "own_thought")


def test_the_report_does_not_pool_the_carriers(server, model_at):
    pairs = make_prompts(4)
    first = model_at(server).respond(pairs[:6])
    second = model_at(server, prefill="user_text").respond(pairs[6:])
    summary = Report.from_responses(pairs, [*first, *second]).summary
    rows = summary[(summary["condition"] == "wrong_think") & (summary["metric"] == "accuracy")]
    assert rows["carrier"].tolist() == ["assistant_prefill", "user_text"]
    assert rows["n"].tolist() == [2, 2]
