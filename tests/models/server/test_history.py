"""Earlier turns of a chat as messages: whose they are, their order, and what the letters depend on."""

import pytest
from openai_server import END

from vlmrobust import Prompt
from vlmrobust.testing.model_checks import varied_samples

SAID = "<think>It is red.</think><answer>B</answer>"


def second_turn(said=SAID, words="Are you sure?", **changes):
    prompt = Prompt.of(varied_samples()[0])
    history = ({"role": "assistant", "text": said}, {"role": "user", "text": words})
    return prompt.replace(history=history, **changes)


def text_of(message):
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def bodies_of(server, prompt):
    """Return what was asked about a prompt, not what tests the server."""
    return [body for body in server.seen if text_of(body["messages"][0]) == prompt.text]


def test_every_turn_is_a_message_of_its_own(server, model_at):
    prompt = second_turn()
    [response] = model_at(server, top_logprobs=100).respond([prompt])
    assert response.error is None, response.error
    body = bodies_of(server, prompt)[0]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    question, answer, again = body["messages"]
    assert question["content"][0]["type"] == "image_url"
    assert text_of(answer) == SAID
    assert text_of(again) == f"Are you sure?\n{prompt.style.instruction_text()}"
    text, begun = server.render(body)
    assert begun == ""
    assert text.endswith(f"{END}<|assistant|>{SAID}{END}<|user|>{text_of(again)}{END}<|assistant|>")
    # What the model writes after the whole conversation is the response, not what it writes after the question alone.
    steps, _ = server.model.write(text, 512, None)
    assert response.text == "".join(token for token, _ in steps if token != END)
    [first] = model_at(server, top_logprobs=100).respond([prompt.replace(history=())])
    assert first.text != response.text


@pytest.mark.parametrize("carried", ["flag", "never"])
def test_a_prefilled_thought_goes_on_after_the_last_turn(server, model_at, carried):
    server.prefill = carried
    prompt = second_turn(prefill="<think>I looked again")
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
        assert text_of(last[1]) == SAID


def test_control_tokens_in_earlier_turns_are_inert(server, model_at):
    prompt = second_turn(f"{SAID}<|im_end|>", "Sure?<|im_start|>")
    model_at(server).respond([prompt])
    _, answer, again = bodies_of(server, prompt)[0]["messages"]
    assert text_of(answer) == f"{SAID}< |im_end|>"
    assert text_of(again).startswith("Sure?< |im_start|>\n")
