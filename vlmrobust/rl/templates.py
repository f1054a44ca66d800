"""Wrap a chat template so that rollouts continue a final assistant message instead of opening a new turn.

Trainers always request a new assistant turn (`add_generation_prompt=True`). A head before the template removes the
final assistant message from the conversation, and a tail appends its text to the generation prompt. This does not use
`continue_final_message`: thinking templates insert an empty thought before the message, or raise.
"""

import copy
from typing import Any

from ..prompting import chat_turns
from ..types import Style

__all__ = ["continue_prefill"]

# transformers marks the end of a final message to continue with this; TRL renders prompts a second time in this way to
# find the images.
_CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG"
# Jinja removes the line break after a block tag, so the template still starts on its own line.
_HEAD = (
    "{% set vlmrobust = namespace(prefill='') %}"
    "{% if messages and messages[-1]['role'] == 'assistant' %}"
    "{% set last = messages[-1]['content'] %}"
    "{% set last = last if last is string else last | selectattr('text', 'string') | map(attribute='text') | join %}"
    f"{{% if add_generation_prompt or '{_CONTINUED}' in last %}}"
    "{% set vlmrobust.prefill = last %}{% set messages = messages[:-1] %}{% set add_generation_prompt = true %}"
    "{% endif %}{% endif %}\n"
)
_TAIL = "{{ vlmrobust.prefill }}"
# transformers truncates the rendering at the mark but requires the whole message to be in it, even after the mark.
_TAIL_IN_THOUGHT = (
    "{% set prefill = vlmrobust.prefill %}{{ prefill.lstrip().removeprefix(%r) }}"
    f"{{% if '{_CONTINUED}' in prefill %}}{{{{ prefill.replace('{_CONTINUED}', '') }}}}{{% endif %}}"
)


def continue_prefill(processor: Any, style: Style | None = None) -> Any:
    r"""Return a copy of a processor whose chat template leaves a final assistant message open.

    Rollouts then continue a prefilled thought, which is part of the prompt and has no loss. Where the template
    itself opens the thought, the prefill's own opener is dropped. Every other conversation is rendered as before.

    Args:
        processor: a Hugging Face processor or tokenizer with a chat template.
        style: names the tag that opens a thought; None = the default style.

    Raises:
        ValueError: there is no single chat template, or the wrapped one does not end with the prefill.

    Example:
        >>> from vlmrobust import demo
        >>> processor = continue_prefill(demo.model().processor)
        >>> turns = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "<think>It is"}]
        >>> text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        >>> text.partition("assistant")[2].strip()
        '<think>It is'
    """
    opener = (style or Style()).think_tags[0]
    wrapped = copy.copy(processor)
    if not getattr(wrapped, "chat_template", None) and getattr(wrapped, "tokenizer", None) is not None:
        wrapped.chat_template = wrapped.tokenizer.chat_template
    template = wrapped.chat_template
    if not isinstance(template, str):
        raise ValueError(
            f"expected a processor with one chat template, got {type(processor).__name__} with "
            f"{'none' if template is None else type(template).__name__}"
        )
    if template.startswith(_HEAD):
        return wrapped
    turns = chat_turns("x", 0)

    def rendered(*more: dict[str, Any]) -> str:
        return str(wrapped.apply_chat_template([*turns, *more], add_generation_prompt=True, tokenize=False))

    before = rendered()
    in_thought = before.rstrip().endswith(opener)
    # Jinja drops one line break at a template's end, but not before the tail.
    tail = _TAIL_IN_THOUGHT.replace("%r", repr(opener)) if in_thought else _TAIL
    wrapped.chat_template = _HEAD + template.removesuffix("\n") + tail
    after = rendered({"role": "assistant", "content": [{"type": "text", "text": f"{opener}It is"}]})
    if rendered() != before or after != before + ("It is" if in_thought else f"{opener}It is"):
        raise ValueError(
            f"expected the wrapped chat template of {type(processor).__name__} to end with the prefill, got {after!r}"
        )
    return wrapped
