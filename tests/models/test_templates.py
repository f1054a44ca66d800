"""Chat templates that open, close or mark thoughts in their own way."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import zoo
from zoo import templates

from vlmrobust import Prompt, Sample, Style
from vlmrobust.models import HFModel
from vlmrobust.models.base import identity_of
from vlmrobust.models.encoding import Encoder

Build = Callable[[str], zoo.Tiny]
SWITCHED = templates.QWEN.removesuffix("{% endif %}") + (
    "{% if enable_thinking is defined and enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)


def with_template(template: str, *added: str) -> zoo.Tiny:
    """Return a model whose tokenizer holds further tokens, and that has another template."""
    made = zoo.build("qwen2_5_vl")
    made.processor.tokenizer.add_tokens(list(added), special_tokens=True)
    made.model.resize_token_embeddings(len(made.processor.tokenizer), mean_resizing=False)
    made.processor.chat_template = template
    return made


def opened_by(opener: str) -> str:
    return templates.QWEN.removesuffix("{% endif %}") + opener + "{% endif %}"


def turn(processor: Any, prompt: Prompt, **arguments: Any) -> str:
    text = Encoder(processor, arguments).render(prompt, {}).text
    assert text == prompt.render(processor, **arguments)
    return text.rpartition("<|im_start|>assistant\n")[2]


@pytest.mark.parametrize(
    ("prefill", "off", "on"),
    [
        ("", "<think>\n\n</think>\n\n", "<think>\n"),
        ("<think>It is", "<think>It is", "<think>\nIt is"),
        (" <think>It is", " <think>It is", "<think>\nIt is"),
        ("<think></think><answer>", "<think></think><answer>", "<think>\n</think><answer>"),
        ("  It is", "<think>\n\n</think>\n\n  It is", "<think>\n  It is"),
        ("<answer>", "<think>\n\n</think>\n\n<answer>", "<think>\n<answer>"),
    ],
)
def test_a_thought_stands_once_in_the_turn(prefill: str, off: str, on: str, samples: list[Sample]) -> None:
    processor = with_template(SWITCHED).processor
    prompt = Prompt.of(samples[0]).replace(prefill=prefill)
    assert turn(processor, prompt) == off
    assert turn(processor, prompt, enable_thinking=False) == off
    assert turn(processor, prompt, enable_thinking=True) == on


def test_arguments_of_the_template_are_in_force_and_part_of_the_identity(samples: list[Sample]) -> None:
    made = with_template(SWITCHED)
    engines = [
        HFModel(made.model, made.processor, {"max_new_tokens": 2}, template=template)
        for template in (None, {"enable_thinking": False}, {"enable_thinking": True})
    ]
    default, off, on = [engine.respond([Prompt.of(samples[0])])[0] for engine in engines]
    assert default == off
    assert on.token_entropy != pytest.approx(off.token_entropy, abs=1e-4)
    identities = [identity_of(engine) for engine in engines]
    assert "template" not in identities[0]
    assert [identity["template"] for identity in identities[1:]] == [
        {"enable_thinking": False},
        {"enable_thinking": True},
    ]


def test_an_argument_that_the_template_does_not_know_is_refused_with_the_nearest() -> None:
    made = with_template(SWITCHED)
    with pytest.raises(ValueError, match=r"got 'enable_thinkin'; did you mean 'enable_thinking'\?"):
        HFModel(made.model, made.processor, template={"enable_thinkin": False})
    made.processor.chat_template = templates.QWEN
    with pytest.raises(ValueError, match="field 'template': expected arguments that the chat template of Qwen2_5_VLP"):
        HFModel(made.model, made.processor, template={"zzz": False})


@pytest.mark.parametrize(
    ("opener", "tags"),
    [
        ("[THINK]", ("[THINK]", "[/THINK]")),
        ("<|channel>thought\n", ("<|channel>thought", "<channel|>")),
        ("<|channel>thought\n<channel|>", ("<|channel>thought", "<channel|>")),
    ],
)
def test_the_templates_own_tags_take_the_place_of_the_styles(
    opener: str, tags: tuple[str, str], samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    made = with_template(opened_by(opener), "[THINK]", "[/THINK]", "<|channel>", "<channel|>")
    prompt = Prompt.of(samples[0]).replace(prefill="<think>It is red.</think><answer>")
    rendered = Encoder(made.processor).render(prompt, {})
    whole = opener.removesuffix(tags[1]) if tags[1] not in opener else tags[0]
    assert rendered.text.endswith(f"<|im_start|>assistant\n{whole}It is red.{tags[1]}<answer>")
    assert "<think>" not in rendered.text
    assert f"between {tags[0]} and {tags[1]}" in rendered.text
    assert prompt.render(made.processor) == rendered.text
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        engine = HFModel(made.model, made.processor, {"max_new_tokens": 2})
        responses = [engine.respond([prompt])[0] for _ in range(2)]
    assert all(response.think == "It is red." for response in responses)
    said = f"the chat template begins thoughts with {tags[0]!r}, which takes the place of '<think>'"
    assert [record.getMessage() for record in caplog.records] == [said]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (SWITCHED, "puts an empty thought, closed, before what the model writes; template={'enable_thinking': True}"),
        (
            templates.QWEN + "{# [THINK] and [/THINK] #}",
            "knows thoughts in '[THINK]' and '[/THINK]', the style's tags are '<think>' and '</think>'; "
            "Style(think_tags=('[THINK]', '[/THINK]'))",
        ),
    ],
)
def test_what_a_template_says_of_thoughts_that_a_style_does_not_is_said_once(
    template: str, said: str, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    made = with_template(template)
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 2})
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        engine.respond([Prompt.of(samples[0], style=Style(mode="direct"))])
        assert not caplog.records
        engine.respond([Prompt.of(samples[0])])
        engine.respond([Prompt.of(samples[1])])
    [record] = caplog.records
    assert re.search(re.escape(said), record.getMessage())


def test_a_template_on_the_tokenizer_renders_prompts_as_well(samples: list[Sample]) -> None:
    made = zoo.build("qwen2_5_vl")
    expected = Prompt.of(samples[0]).render(made.processor)
    made.processor.chat_template, made.processor.tokenizer.chat_template = None, made.processor.chat_template
    assert Prompt.of(samples[0]).render(made.processor) == expected
    assert Encoder(made.processor).render(Prompt.of(samples[0]), {}).text == expected


@pytest.mark.parametrize(
    ("opener", "tags"),
    [
        ("<reasoning>\n", ("<reasoning>", "</reasoning>")),
        ("<reason>", ("<reason>", "</reason>")),
        ("<thought>\n", ("<thought>", "</thought>")),
        ("<|begin_of_thought|>\n\n", ("<|begin_of_thought|>", "<|end_of_thought|>")),
        ("<|START_THINKING|>", ("<|START_THINKING|>", "<|END_THINKING|>")),
        ("<|thinking_start|>", ("<|thinking_start|>", "<|thinking_end|>")),
        ("[REASONING]", ("[REASONING]", "[/REASONING]")),
        ("<|rationale>\n", ("<|rationale>", "<rationale|>")),
        ("<scratchpad>{# </scratchpad> #}", ("<scratchpad>", "</scratchpad>")),
        ("<|think|>{# <|/think|> #}", ("<|think|>", "<|/think|>")),
        ("<|think|>{# <|endofthink|> #}", ("<|think|>", "<|endofthink|>")),
        ("<reflection>\n\n</reflection>\n\n", ("<reflection>", "</reflection>")),
    ],
)
def test_an_opener_that_no_table_knows_is_recognised(
    opener: str, tags: tuple[str, str], samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    made = with_template(opened_by(opener))
    prompt = Prompt.of(samples[0]).replace(prefill="<think>It is red.</think><answer>")
    text = turn(made.processor, prompt)
    begun = re.sub(r"{#.*#}", "", opener).split(tags[1])[0]
    begun = begun if tags[1] not in re.sub(r"{#.*#}", "", opener) else tags[0]
    assert text == f"{begun}It is red.{tags[1]}<answer>"
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        [response] = HFModel(made.model, made.processor, {"max_new_tokens": 2}).respond([prompt])
    assert response.think == "It is red."
    said = f"the chat template begins thoughts with {tags[0]!r}, which takes the place of '<think>'"
    assert [record.getMessage() for record in caplog.records] == [said]


@pytest.mark.parametrize(
    ("opener", "said"),
    [
        ("<|think|>", "begins what the model writes with '<|think|>', which is not taken for a thought"),
        ("<plan>{# </plan> #}", "'<plan>', which is not taken for a thought; Style(think_tags=('<plan>', '</plan>'))"),
    ],
)
def test_an_opener_of_which_too_little_is_known_is_said(
    opener: str, said: str, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    made = with_template(opened_by(opener))
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        HFModel(made.model, made.processor, {"max_new_tokens": 2}).respond([Prompt.of(samples[0])])
    [record] = caplog.records
    assert said in record.getMessage()


@pytest.mark.parametrize(
    "opener",
    [
        "",
        "<|assistant|>",
        "<|start_of_role|>assistant<|end_of_role|>",
        "<|START_RESPONSE|>{# <|END_RESPONSE|> #}",
        "<|im_middle|>",
        "<answer>{# </answer> #}",
        "[/INST]",
        "<|turn>model\n",
        "Reasoning:",
    ],
)
def test_what_opens_a_turn_is_no_thought(opener: str, samples: list[Sample], caplog: pytest.LogCaptureFixture) -> None:
    made = with_template(opened_by(opener))
    prompt = Prompt.of(samples[0]).replace(prefill="<think>It is")
    assert turn(made.processor, prompt) == re.sub(r"{#.*#}", "", opener) + "<think>It is"
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        HFModel(made.model, made.processor, {"max_new_tokens": 2}).respond([prompt])
    assert caplog.text == ""


def test_tags_of_thoughts_that_a_template_only_mentions_are_said(
    samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    made = with_template(templates.QWEN + "{# <|START_THINKING|> … <|END_THINKING|> #}")
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        HFModel(made.model, made.processor, {"max_new_tokens": 2}).respond([Prompt.of(samples[0])])
    assert "Style(think_tags=('<|START_THINKING|>', '<|END_THINKING|>')) asks for the model's own" in caplog.text
