"""Prompts: their text, their checks, and values between the shown and the sample's order."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust import Prompt, Response, Sample, Style
from vlmrobust.prompting import KNOWN_TOKENS
from vlmrobust.types import Turn

Make = Callable[..., Sample]


def test_the_unperturbed_prompt_is_the_sample(make_sample: Make) -> None:
    sample = make_sample(distractor=2)
    prompt = Prompt.of(sample, draw=3)
    assert (prompt.condition, prompt.draw, prompt.prefill, prompt.context) == ("base", 3, "", "")
    assert (prompt.images, prompt.question, prompt.options) == (sample.images, sample.question, sample.options)
    assert (prompt.order, prompt.distractor, prompt.asserted) == ((0, 1, 2, 3), 2, None)


def test_text(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample(options=("red", "blue")), style=Style(instruction="Answer."))
    assert prompt.text == "Which colour is the cube?\nA. red\nB. blue\nAnswer."
    assert prompt.replace(context="A caption.").text == f"A caption.\n\n{prompt.text}"


def test_messages_hold_the_system_turn_and_not_the_prefill(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample(), style=Style(system="Be brief.", image_position="last")).replace(
        prefill="<think>x"
    )
    system, user = prompt.messages()
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert [part["type"] for part in user["content"]] == ["text", "image"]
    assert user["content"][0]["text"] == prompt.text


SAID = "<think>It is <red>.</think><answer>A</answer>"


def asked_again(prompt: Prompt, *texts: str) -> Prompt:
    """Return a prompt with earlier turns, the assistant's first."""
    roles = ("assistant", "user") * len(texts)
    return prompt.replace(
        history=[{"role": role, "text": text} for role, text in zip(roles, texts, strict=False)],
    )


def test_earlier_turns_follow_the_question_and_the_last_has_the_instruction(make_sample: Make) -> None:
    style = Style(system="Be brief.", instruction="Choose.")
    first = Prompt.of(make_sample(), style=style).replace(prefill="<think>x")
    prompt = asked_again(first, SAID, "Are you sure?", "<answer>B</answer>", "Really?")
    assert prompt.history[0] == Turn(role="assistant", text=SAID)
    assert prompt.text == first.text
    assert prompt.messages()[:2] == first.messages()
    assert [(turn["role"], turn["content"]) for turn in prompt.messages()[2:]] == [
        ("assistant", [{"type": "text", "text": SAID}]),
        ("user", [{"type": "text", "text": "Are you sure?"}]),
        ("assistant", [{"type": "text", "text": "<answer>B</answer>"}]),
        ("user", [{"type": "text", "text": "Really?\nChoose."}]),
    ]
    bare = asked_again(Prompt.of(make_sample(), style=Style(instruction="")), SAID, "Are you sure?")
    assert bare.messages()[-1]["content"][0]["text"] == "Are you sure?"


def test_a_transcript_has_every_turn_and_no_marks_of_images_in_them(make_sample: Make) -> None:
    prompt = asked_again(
        Prompt.of(make_sample(options=("red", "blue")), style=Style(instruction="Choose.")),
        "An <image>: B",
        "<image> Sure?<|im_end|>",
    )
    assert prompt.replace(prefill="<think>x").transcript().splitlines() == [
        "[user] <image> Which colour is the cube?",
        "A. red",
        "B. blue",
        "Choose.",
        "[assistant] An ‹image›: B",
        "[user] ‹image› Sure?< |im_end|>",
        "Choose.",
        "[assistant begins] <think>x",
    ]


def test_of_earlier_turns_the_models_own_keeps_its_tags_and_thoughts(make_sample: Make) -> None:
    said = "<think>[THINK]x[/THINK]</think><|im_end|><answer>A</answer>[INST]"
    prompt = asked_again(Prompt.of(make_sample()), said, "</s>[THINK] Sure?").with_inert(KNOWN_TOKENS)
    assert prompt.history[0].text == "<think>[THINK]x[/THINK]</think>< |im_end|><answer>A</answer>[ INST]"
    assert prompt.history[1].text == "< /s>[ THINK] Sure?"


class Template:
    """A chat template of the plain kind."""

    opener = ""

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> str:
        assert kwargs == {"add_generation_prompt": True, "tokenize": False}
        parts = [part.get("text", "<image>") for turn in conversation for part in turn["content"]]
        return "|".join(parts) + "|assistant:" + self.opener


def test_render_ends_in_the_prefill_and_opens_one_thought(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample()).replace(prefill="<think>It is red.")
    template = Template()
    assert prompt.render(template).endswith("|assistant:<think>It is red.")
    template.opener = "<think>\n"
    assert prompt.render(template).endswith("|assistant:<think>\nIt is red.")


@pytest.mark.parametrize(
    ("opener", "said", "expected"),
    [
        ("", SAID, SAID),
        ("<think>\n", SAID, SAID),
        ("<think>\n", "It is red.</think><answer>A</answer>", "<think>It is red.</think><answer>A</answer>"),
        ("[THINK]", SAID, "[THINK]It is <red>.[/THINK]<answer>A</answer>"),
        ("[THINK]", "It is red.[/THINK]<answer>A</answer>", "[THINK]It is red.[/THINK]<answer>A</answer>"),
        ("", "<answer>A</answer>", "<answer>A</answer>"),
    ],
)
def test_a_thought_of_an_earlier_turn_is_in_the_templates_tags(
    make_sample: Make, opener: str, said: str, expected: str
) -> None:
    template = Template()
    template.opener = opener
    prompt = asked_again(Prompt.of(make_sample(), style=Style(instruction="Choose.")), said, "Are you sure?")
    text = prompt.replace(prefill="<think>Yes").render(template)
    begun = f"{opener}Yes" if opener else "<think>Yes"
    assert text.partition("Choose.|")[2] == f"{expected}|Are you sure?\nChoose.|assistant:{begun}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"history": ({"role": "user", "text": "Sure?"},)},
            "field 'history.0': expected the assistant and the user in turn, got 'user'",
        ),
        (
            {"history": ({"role": "assistant", "text": "B"}, {"role": "assistant", "text": "A"})},
            "field 'history.1': expected the assistant and the user in turn, got 'assistant'",
        ),
        ({"history": ({"role": "assistant", "text": " "},)}, "field 'history.0': expected a text, got ' '"),
        (
            {"history": ({"role": "assistant", "text": "B"},)},
            "field 'history.0': expected the user at the end, whom the model is to answer, got 'assistant'",
        ),
        ({"history": ({"role": "system", "text": "B"},)}, "Input should be 'user' or 'assistant'"),
        (
            {"options": ("red",), "order": (0,)},
            "field 'options': expected 2 to 26 options, one per letter of the style, got 1",
        ),
        (
            {"style": Style(letters="PQR")},
            "field 'options': expected 2 to 3 options, one per letter of the style, got 4",
        ),
        ({"order": (0, 1)}, r"field 'order': expected one index per shown option \(4\), got \(0, 1\)"),
        ({"order": (0, 1, 2, 2)}, "field 'order': expected different indices of the sample's options"),
        ({"order": (0, 1, 2, 4)}, r"field 'order': expected different indices of the sample's options \(0 to 3\)"),
        ({"question": " "}, "field 'question': expected a question, got ' '"),
        ({"asserted": 4}, "field 'asserted': expected the index of one of 4 options, got 4"),
        ({"distractor": 1}, r"field 'distractor': expected the index of a wrong option \(0 to 3\), got 1"),
        ({"quesiton": "x"}, "Extra inputs are not permitted"),
        ({"draw": -1}, "greater than or equal to 0"),
    ],
)
def test_replace_checks_again_and_names_the_sample(make_sample: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Prompt.of(make_sample()).replace(**changes)
    if "field" in message:
        assert "sample 'q1', condition 'base', field" in str(caught.value)


def test_base_travels_with_replace_and_is_not_written(make_sample: Make) -> None:
    asked = Prompt.of(make_sample())
    said = Response.parse(asked, "<answer>blue, I say</answer>")
    prompt = asked.replace(base=said)
    assert prompt.replace(question="Why?").base is said
    assert "base" not in prompt.model_dump()
    assert "blue, I say" not in repr(prompt)


@given(st.integers(2, 26), st.integers(0, 3), st.randoms())
def test_values_go_back_to_the_samples_order(count: int, added: int, random: Any) -> None:
    sample = Sample(id="q", images=[b"x"], question="?", options=[f"o{i}" for i in range(count)], answer=0)
    added = min(added, 26 - count)
    shown: list[int | None] = random.sample(range(count), random.randint(max(0, 2 - added), count))
    shown += [None] * added
    random.shuffle(shown)
    texts = [sample.options[i] if i is not None else f"added {place}" for place, i in enumerate(shown)]
    prompt = Prompt.of(sample).replace(options=texts, order=shown)
    values = [100.0 if i is None else float(i) for i in shown]
    own, extra = prompt.to_sample_order(values, missing=-1.0)
    assert own == tuple(float(i) if i in shown else -1.0 for i in range(count))
    assert extra == (100.0,) * added
    for index in range(count):
        place = prompt.shown(index)
        assert (place is None) == (index not in shown)
        assert place is None or prompt.options[place] == sample.options[index]


def test_values_of_the_wrong_number_are_refused(make_sample: Make) -> None:
    with pytest.raises(
        ValueError, match=r"sample 'q1', condition 'base': expected one value per shown option \(4\), got 2"
    ):
        Prompt.of(make_sample()).to_sample_order([0.0, 1.0], missing=0.0)
