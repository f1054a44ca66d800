"""Chat turns, and their rendering with chat templates of every kind."""

import pytest
from jinja2 import Environment
from jinja2.exceptions import TemplateError

from vlmrobust.prompting import IMAGE_MARK, assistant_prefix, chat_turns, render_turns


class TemplateProcessor:
    """A processor that renders with a Jinja template, as `apply_chat_template` does."""

    def __init__(self, template):
        self.template = template
        self.calls = []

    def apply_chat_template(self, conversation, **kwargs):
        self.calls.append(kwargs)

        def raise_exception(message):
            raise TemplateError(message)

        environment = Environment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = raise_exception
        return environment.from_string(self.template).render(messages=conversation, **kwargs)


CONTENT = "{% for part in turn.content %}{{ '<img>' if part.type == 'image' else part.text }}{% endfor %}"
PLAIN = "{% for turn in messages %}[{{ turn.role }}]" + CONTENT + "{% endfor %}[assistant]"
NO_SYSTEM = (
    "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('No system role') }}{% endif %}["
    "{{ turn.role }}]" + CONTENT + "{% endfor %}[assistant]"
)
DROPS_SYSTEM = (
    "{% for turn in messages if turn.role != 'system' %}[{{ turn.role }}]" + CONTENT + "{% endfor %}[assistant]"
)
DROPS_USER = "{% for turn in messages %}[{{ turn.role }}]{% endfor %}[assistant]"


def shape(turn):
    return "".join("i" if part["type"] == "image" else "t" for part in turn["content"])


@pytest.mark.parametrize(
    ("text", "count", "position", "expected"),
    [
        ("What?", 0, "first", "t"),
        ("What?", 1, "first", "it"),
        ("What?", 3, "first", "iiit"),
        ("What?", 2, "last", "tii"),
        (f"{IMAGE_MARK}What?", 1, "last", "it"),
        (f"Left {IMAGE_MARK} right {IMAGE_MARK} same?", 2, "first", "titit"),
        (f"{IMAGE_MARK}{IMAGE_MARK}", 2, "first", "ii"),
    ],
)
def test_marks_place_the_images(text, count, position, expected):
    (turn,) = chat_turns(text, count, image_position=position)
    assert turn["role"] == "user"
    assert shape(turn) == expected
    assert "".join(part.get("text", "") for part in turn["content"]) == text.replace(IMAGE_MARK, "")


@pytest.mark.parametrize(("marks", "count"), [(1, 0), (1, 2), (2, 1)])
def test_number_of_marks_must_equal_the_number_of_images(marks, count):
    with pytest.raises(ValueError, match=rf"as many images as <image> marks \({marks}\), got {count}"):
        chat_turns(f"See {IMAGE_MARK * marks}", count)


def test_every_content_is_a_list_of_parts():
    turns = chat_turns("What?", 1, system="Be brief.")
    assert [turn["role"] for turn in turns] == ["system", "user"]
    assert turns[0]["content"] == [{"type": "text", "text": "Be brief."}]


def test_rendering_ends_where_the_assistant_begins():
    processor = TemplateProcessor(PLAIN)
    text, folded = render_turns(processor, chat_turns("What?", 1, system="Be brief."))
    assert (text, folded) == ("[system]Be brief.[user]<img>What?[assistant]", False)
    assert processor.calls == [{"add_generation_prompt": True, "tokenize": False}]


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_unsupported_system_turn_is_put_before_the_question(template):
    text, folded = render_turns(TemplateProcessor(template), chat_turns("What?", 1, system="Be brief."))
    assert (text, folded) == ("[user]<img>Be brief.\n\nWhat?[assistant]", True)


def test_folding_does_not_modify_the_turns():
    turns = chat_turns("What?", 1, system="Be brief.")
    render_turns(TemplateProcessor(NO_SYSTEM), turns)
    assert turns == chat_turns("What?", 1, system="Be brief.")


def test_template_that_drops_the_question_is_rejected():
    with pytest.raises(ValueError, match=r"chat template of TemplateProcessor to keep the user's text.*'What\?'"):
        render_turns(TemplateProcessor(DROPS_USER), chat_turns("What?", 1))


def test_template_error_is_raised():
    with pytest.raises(TemplateError, match="broken"):
        render_turns(TemplateProcessor("{{ raise_exception('broken') }}"), chat_turns("What?", 1))


def test_error_names_a_processor_without_a_chat_template():
    class Bare:
        def apply_chat_template(self, conversation, **kwargs):
            raise ValueError("Cannot use chat template functions because tokenizer.chat_template is not set")

    with pytest.raises(ValueError, match=r"expected a processor with a chat template, got Bare without one"):
        render_turns(Bare(), chat_turns("What?", 1))


def test_other_errors_of_the_processor_are_raised():
    class Odd:
        def apply_chat_template(self, conversation, **kwargs):
            raise ValueError("something else")

    with pytest.raises(ValueError, match=r"^something else$"):
        render_turns(Odd(), chat_turns("What?", 1))


@pytest.mark.parametrize(
    ("rendered", "prefill", "expected"),
    [
        ("[assistant]", "", ("[assistant]", "")),
        ("[assistant]", "<think>It is red", ("[assistant]<think>It is red", "<think>It is red")),
        ("[assistant]<think>\n", "", ("[assistant]<think>\n", "<think>\n")),
        ("[assistant]<think>\n", "<think>It is red", ("[assistant]<think>\nIt is red", "<think>\nIt is red")),
        ("[assistant]<think>", "<think>x</think>", ("[assistant]<think>x</think>", "<think>x</think>")),
        ("Use <think> tags.[assistant]", "<think>x", ("Use <think> tags.[assistant]<think>x", "<think>x")),
    ],
)
def test_prefill_is_appended_and_opens_one_thought(rendered, prefill, expected):
    assert assistant_prefix(rendered, prefill, "<think>") == expected
    assert expected[0].endswith(expected[1])


def two_turns(text, count=1, answer="<think>It is red.</think><answer>B</answer>", reply="Are you sure?"):
    parts = [("assistant", answer), ("user", reply)]
    return [
        *chat_turns(text, count),
        *({"role": role, "content": [{"type": "text", "text": part}]} for role, part in parts),
    ]


PLAIN_ANSWERS = (
    "{% for turn in messages %}[{{ turn.role }}]{% if turn.role == 'assistant' %}{{ turn.content + '</s>' }}{% else %}"
    + CONTENT
    + "{% endif %}{% endfor %}[assistant]"
)
DROPS_PARTS = PLAIN_ANSWERS.replace("turn.content + '</s>'", "turn.content if turn.content is string")
DROPS_THOUGHTS = PLAIN.replace("part.text }}", "part.text.split('</think>')[-1] }}")
DROPS_ANSWERS = DROPS_SYSTEM.replace("'system'", "'assistant'")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (PLAIN, "<think>It is red.</think><answer>B</answer>"),
        (PLAIN_ANSWERS, "<think>It is red.</think><answer>B</answer></s>"),
        (DROPS_PARTS, "<think>It is red.</think><answer>B</answer>"),
        (DROPS_THOUGHTS, "<answer>B</answer>"),
    ],
)
def test_earlier_answer_is_rendered_in_a_supported_form(template, said):
    text, folded = render_turns(TemplateProcessor(template), two_turns("What? </answer>"))
    assert text == f"[user]<img>What? </answer>[assistant]{said}[user]Are you sure?[assistant]"
    assert not folded


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_system_turn_is_folded_into_the_first_user_turn(template):
    turns = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, *two_turns("What?", answer="B")]
    expected = "[user]<img>Be brief.\n\nWhat?[assistant]B[user]Are you sure?[assistant]"
    assert render_turns(TemplateProcessor(template), turns) == (expected, True)


def test_template_that_drops_the_earlier_answer_is_rejected():
    message = (
        r"chat template of TemplateProcessor to keep the assistant's earlier answer, got a rendering without '/answer>'"
    )
    with pytest.raises(ValueError, match=message):
        render_turns(TemplateProcessor(DROPS_ANSWERS), two_turns("What? </answer>", reply="Sure? </answer>"))


def test_error_for_every_form_of_the_earlier_answer_is_raised():
    with pytest.raises(TemplateError, match="broken"):
        render_turns(TemplateProcessor("{{ raise_exception('broken') }}"), two_turns("What?"))
