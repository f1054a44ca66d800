"""Prompts as the messages of an OpenAI-compatible server: images as URLs, the prefill in one of four ways."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ...types import Prompt

__all__ = ["BEGUN", "COMPLETE", "Continuing", "Way", "continued", "in_words", "messages_of", "request_flags"]

Continuing = Literal["continue_final_message", "prefix", "last_message"]
Way = Literal["continue_final_message", "prefix", "last_message", "user_text"]

BEGUN = """\
You have begun to think about this already. Your thought so far:

{thought}

Go on from exactly there; do not start over."""
"""How a thought that is not complete is put into the user's text, for servers without prefill."""

COMPLETE = """\
You have thought about this already. Your whole thought:

{thought}

Do not think any further; give the answer now."""
"""The same for a thought that is complete."""


def messages_of(prompt: Prompt, images: Sequence[str], assistant: str, way: Way) -> list[dict[str, Any]]:
    """Return a prompt's messages.

    Args:
        prompt: the prompt.
        images: the URLs of its images, in their order.
        assistant: what the assistant's turn begins with: the prefill, and what is forced behind it.
        way: how that is carried.
    """
    urls = iter(images)
    turns = [{**turn, "content": [_filled(part, urls) for part in turn["content"]]} for turn in prompt.messages()]
    if not assistant:
        return turns
    if way != "user_text":
        return continued(turns, assistant, way)
    said = {"type": "text", "text": f"\n\n{in_words(assistant, prompt.style.think_tags)}"}
    return [*turns[:-1], {**turns[-1], "content": [*turns[-1]["content"], said]}]


def continued(turns: Sequence[dict[str, Any]], assistant: str, way: Continuing) -> list[dict[str, Any]]:
    """Return the turns and the beginning of the assistant's, for a server that goes on from there."""
    mark = {"prefix": True} if way == "prefix" else {}
    return [*turns, {"role": "assistant", "content": assistant, **mark}]


def request_flags(messages: Sequence[Mapping[str, Any]], way: Way) -> dict[str, Any]:
    """Return what a request says beside its messages, so that the last one is continued."""
    if way != "continue_final_message" or messages[-1]["role"] != "assistant":
        return {}
    return {"continue_final_message": True, "add_generation_prompt": False}


def _filled(part: Mapping[str, Any], urls: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": next(urls)}} if part["type"] == "image" else dict(part)


def in_words(prefill: str, think_tags: tuple[str, str]) -> str:
    """Return what the user's turn says of a thought where the assistant's cannot begin with it."""
    think_open, think_close = think_tags
    wording = COMPLETE if think_close in prefill else BEGUN
    return wording.format(thought=prefill.replace(think_open, "").replace(think_close, "").strip())
