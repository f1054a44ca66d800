"""Wrap a chat template so that it leaves a final assistant message open, and a rollout continues it.

Trainers always ask for a new assistant turn (`add_generation_prompt=True`). A head before the template takes a final
assistant message off the conversation, and a tail after it puts its text behind the generation prompt. This does not
use `continue_final_message`: thinking templates insert an empty thought before the message, or raise.
"""

import copy
from typing import Any

from ..prompting import chat_turns
from ..types import Style

__all__ = ["continue_prefill"]

# transformers marks the end of a final message to be continued with this; TRL renders prompts a second time in this
# way, to find the images.
_CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG"
# The line break at the end is swallowed by the tag before it, and the template begins on a line of its own.
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
# transformers cuts the rendering at the mark, and wants to find the whole message in it, if only behind the mark.
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
        ValueError: there is no chat template, or the wrapped one does not end with the prefill.

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
    # Jinja drops one line break at a template's end; with a tail behind it, it would not.
    tail = _TAIL_IN_THOUGHT.replace("%r", repr(opener)) if in_thought else _TAIL
    wrapped.chat_template = _HEAD + template.removesuffix("\n") + tail
    after = rendered({"role": "assistant", "content": [{"type": "text", "text": f"{opener}It is"}]})
    if rendered() != before or after != before + ("It is" if in_thought else f"{opener}It is"):
        raise ValueError(
            f"expected the wrapped chat template of {type(processor).__name__} to end with the prefill, got {after!r}"
        )
    return wrapped
