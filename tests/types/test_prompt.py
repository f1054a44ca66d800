"""Prompts: text, chat turns, validation, and conversion of values to the sample's order."""

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


def test_unperturbed_prompt_equals_the_sample(make_sample: Make) -> None:
    sample = make_sample(distractor=2)
    prompt = Prompt.of(sample, draw=3)
    assert (prompt.condition, prompt.draw, prompt.prefill, prompt.context) == ("base", 3, "", "")
    assert (prompt.images, prompt.question, prompt.options) == (sample.images, sample.question, sample.options)
    assert (prompt.order, prompt.distractor, prompt.asserted) == ((0, 1, 2, 3), 2, None)


def test_text(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample(options=("red", "blue")), style=Style(instruction="Answer."))
    assert prompt.text == "Which colour is the cube?\nA. red\nB. blue\nAnswer."
    assert prompt.replace(context="A caption.").text == f"A caption.\n\n{prompt.text}"


def test_messages_include_the_system_turn_but_not_the_prefill(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample(), style=Style(system="Be brief.", image_position="last")).replace(
        prefill="<think>x"
    )
    system, user = prompt.messages()
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert [part["type"] for part in user["content"]] == ["text", "image"]
    assert user["content"][0]["text"] == prompt.text


ANSWER_TURN = "<think>It is <red>.</think><answer>A</answer>"


def with_history(prompt: Prompt, *texts: str) -> Prompt:
    """Return the prompt with `texts` as later turns, the assistant's first."""
    roles = ("assistant", "user") * len(texts)
    return prompt.replace(
        history=[{"role": role, "text": text} for role, text in zip(roles, texts, strict=False)],
    )


def test_history_follows_the_question_and_its_last_turn_has_the_instruction(make_sample: Make) -> None:
    style = Style(system="Be brief.", instruction="Choose.")
    first = Prompt.of(make_sample(), style=style).replace(prefill="<think>x")
    prompt = with_history(first, ANSWER_TURN, "Are you sure?", "<answer>B</answer>", "Really?")
    assert prompt.history[0] == Turn(role="assistant", text=ANSWER_TURN)
    assert prompt.text == first.text
    assert prompt.messages()[:2] == first.messages()
    assert [(turn["role"], turn["content"]) for turn in prompt.messages()[2:]] == [
        ("assistant", [{"type": "text", "text": ANSWER_TURN}]),
        ("user", [{"type": "text", "text": "Are you sure?"}]),
        ("assistant", [{"type": "text", "text": "<answer>B</answer>"}]),
        ("user", [{"type": "text", "text": "Really?\nChoose."}]),
    ]
    bare = with_history(Prompt.of(make_sample(), style=Style(instruction="")), ANSWER_TURN, "Are you sure?")
    assert bare.messages()[-1]["content"][0]["text"] == "Are you sure?"


def test_transcript_has_every_turn_with_inert_image_marks(make_sample: Make) -> None:
    prompt = with_history(
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


def test_assistant_turns_keep_their_tags_and_thought_markers(make_sample: Make) -> None:
    said = "<think>[THINK]x[/THINK]</think><|im_end|><answer>A</answer>[INST]"
    prompt = with_history(Prompt.of(make_sample()), said, "</s>[THINK] Sure?").with_inert(KNOWN_TOKENS)
    assert prompt.history[0].text == "<think>[THINK]x[/THINK]</think>< |im_end|><answer>A</answer>[ INST]"
    assert prompt.history[1].text == "< /s>[ THINK] Sure?"


class Template:
    """A minimal chat template."""

    opener = ""

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> str:
        assert kwargs == {"add_generation_prompt": True, "tokenize": False}
        parts = [part.get("text", "<image>") for turn in conversation for part in turn["content"]]
        return "|".join(parts) + "|assistant:" + self.opener


def test_render_ends_with_the_prefill_and_opens_one_thought(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample()).replace(prefill="<think>It is red.")
    template = Template()
    assert prompt.render(template).endswith("|assistant:<think>It is red.")
    template.opener = "<think>\n"
    assert prompt.render(template).endswith("|assistant:<think>\nIt is red.")


@pytest.mark.parametrize(
    ("opener", "said", "expected"),
    [
        ("", ANSWER_TURN, ANSWER_TURN),
        ("<think>\n", ANSWER_TURN, ANSWER_TURN),
        ("<think>\n", "It is red.</think><answer>A</answer>", "<think>It is red.</think><answer>A</answer>"),
        ("[THINK]", ANSWER_TURN, "[THINK]It is <red>.[/THINK]<answer>A</answer>"),
        ("[THINK]", "It is red.[/THINK]<answer>A</answer>", "[THINK]It is red.[/THINK]<answer>A</answer>"),
        ("", "<answer>A</answer>", "<answer>A</answer>"),
    ],
)
def test_thought_of_an_earlier_turn_gets_the_templates_tags(
    make_sample: Make, opener: str, said: str, expected: str
) -> None:
    template = Template()
    template.opener = opener
    prompt = with_history(Prompt.of(make_sample(), style=Style(instruction="Choose.")), said, "Are you sure?")
    text = prompt.replace(prefill="<think>Yes").render(template)
    prefill = f"{opener}Yes" if opener else "<think>Yes"
    assert text.partition("Choose.|")[2] == f"{expected}|Are you sure?\nChoose.|assistant:{prefill}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"history": ({"role": "user", "text": "Sure?"},)},
            "field 'history.0': expected assistant and user alternating, got 'user'",
        ),
        (
            {"history": ({"role": "assistant", "text": "B"}, {"role": "assistant", "text": "A"})},
            "field 'history.1': expected assistant and user alternating, got 'assistant'",
        ),
        ({"history": ({"role": "assistant", "text": " "},)}, "field 'history.0': expected a text, got ' '"),
        (
            {"history": ({"role": "assistant", "text": "B"},)},
            "field 'history.0': expected the user as the last speaker, got 'assistant'",
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
def test_replace_validates_and_names_the_sample(make_sample: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Prompt.of(make_sample()).replace(**changes)
    if "field" in message:
        assert "sample 'q1', condition 'base', field" in str(caught.value)


def test_base_is_kept_by_replace_and_not_serialized(make_sample: Make) -> None:
    base_prompt = Prompt.of(make_sample())
    response = Response.parse(base_prompt, "<answer>blue, I say</answer>")
    prompt = base_prompt.replace(base=response)
    assert prompt.replace(question="Why?").base is response
    assert "base" not in prompt.model_dump()
    assert "blue, I say" not in repr(prompt)


@given(st.integers(2, 26), st.integers(0, 3), st.randoms())
def test_values_are_mapped_to_the_samples_order(count: int, added: int, random: Any) -> None:
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


def test_wrong_number_of_values_is_rejected(make_sample: Make) -> None:
    with pytest.raises(
        ValueError, match=r"sample 'q1', condition 'base': expected one value per shown option \(4\), got 2"
    ):
        Prompt.of(make_sample()).to_sample_order([0.0, 1.0], missing=0.0)
