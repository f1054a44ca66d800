"""Check that a wrapped chat template ends with exactly the prefill and changes nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import zoo
from zoo import templates

from vlmrobust.rl import continue_prefill
from vlmrobust.types import Prompt, Sample, Style

PREFILL = "<think>Let me look. The cube is red, but I think"
REAL = [name for name in vars(templates) if name.isupper()]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return zoo.byte_level_tokenizer({"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<pad>"})


def user_turns() -> list[dict[str, Any]]:
    sample = Sample(id="q1", images=[b"x"], question="Which colour?", options=["red", "blue"], answer=1)
    return Prompt.of(sample).messages()


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("as_parts", [True, False], ids=["parts", "text"])
def test_the_prompt_ends_with_the_prefill(name: str, as_parts: bool, tokenizer: Any) -> None:
    tokenizer.chat_template = getattr(templates, name)
    wrapped = continue_prefill(tokenizer)
    turns = user_turns()
    plain = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    content = [{"type": "text", "text": PREFILL}] if as_parts else PREFILL
    prefilled = [*turns, assistant(content)]
    expected = plain + (PREFILL.removeprefix("<think>") if name == "QWEN_THINKING" else PREFILL)
    assert wrapped.apply_chat_template(prefilled, add_generation_prompt=True, tokenize=False) == expected
    # How TRL renders the same prompt a second time, to get at its images.
    assert wrapped.apply_chat_template(prefilled, continue_final_message=True, tokenize=False) == expected
    # Token by token: what the template gives, and then the prefill.
    tokens = wrapped.apply_chat_template(prefilled, add_generation_prompt=True, tokenize=True)["input_ids"]
    assert tokens == tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(tokens).endswith("The cube is red, but I think")


@pytest.mark.parametrize("name", REAL)
def test_other_conversations_are_rendered_as_before(name: str, tokenizer: Any) -> None:
    tokenizer.chat_template = getattr(templates, name)
    wrapped = continue_prefill(tokenizer)
    turns = user_turns()
    finished = [*turns, assistant([{"type": "text", "text": "<think>x</think>"}])]
    for conversation, options in (
        (turns, {"add_generation_prompt": True}),
        (turns, {}),
        (finished, {}),
        ([*finished, *turns], {"add_generation_prompt": True}),
    ):
        before = tokenizer.apply_chat_template(conversation, tokenize=False, **options)
        assert wrapped.apply_chat_template(conversation, tokenize=False, **options) == before


@pytest.mark.parametrize(
    "template",
    ["\n{% for m in messages %}{{ m['content'] }}{% endfor %}\n", "  {% if true %}\n x{% endif %}\n  ", "{{ '' }}\n\n"],
)
def test_line_breaks_around_the_prefill_are_kept(template: str, tokenizer: Any) -> None:
    tokenizer.chat_template = template
    wrapped = continue_prefill(tokenizer)
    turns = [{"role": "user", "content": "x"}]
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert wrapped.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) == rendered
    prefilled = wrapped.apply_chat_template([*turns, assistant("<think>A")], add_generation_prompt=True, tokenize=False)
    assert prefilled == f"{rendered}<think>A"


def test_wrapping_copies_the_processor_and_is_idempotent(tiny: Callable[[str], zoo.Tiny]) -> None:
    processor = tiny("qwen2_5_vl").processor
    wrapped = continue_prefill(processor)
    assert processor.chat_template == templates.QWEN
    assert wrapped.tokenizer is processor.tokenizer
    assert continue_prefill(wrapped).chat_template == wrapped.chat_template


def test_tags_of_another_style(tokenizer: Any) -> None:
    tokenizer.chat_template = templates.QWEN.replace("assistant\n", "assistant\n<analysis>")
    wrapped = continue_prefill(tokenizer, Style(think_tags=("<analysis>", "</analysis>")))
    turns = [*user_turns(), assistant("<analysis>It is")]
    rendered = wrapped.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert rendered.endswith("assistant\n<analysis>It is")


def test_invalid_processors_are_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"expected a processor with one chat template, got \w+ with none"):
        continue_prefill(tokenizer)
    tokenizer.chat_template = templates.QWEN + "{% set vlmrobust = namespace(prefill='') %}"
    with pytest.raises(ValueError, match=r"expected the wrapped chat template of \w+ to end with the prefill"):
        continue_prefill(tokenizer)
