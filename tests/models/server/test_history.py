"""Earlier turns of a chat as messages: their roles, their order, and their effect on the letters."""

import pytest
from openai_server import END

from vlmrobust import Prompt
from vlmrobust.testing.model_checks import varied_samples

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
