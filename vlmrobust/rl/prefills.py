"""Prefills that a policy did not go on from: found, counted, and not put before what it wrote.

A trainer that opens a new turn, or that drops a last message of the assistant's, still hands the column `prefill` to
the reward. Read with it, an injected thought would be a part of what the policy never saw.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Style
from .tallies import counted

__all__ = ["is_continued", "message_text", "report_not_continued"]

logger = logging.getLogger(__name__)


def message_text(content: Any) -> str | None:
    """Return the text of a message's content, a text or a list of parts; None = it is neither.

    Example:
        >>> message_text([{"type": "image"}, {"type": "text", "text": "It is red."}])
        'It is red.'
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not all(isinstance(part, Mapping | str) for part in content):
        return None
    texts = [part if isinstance(part, str) else part.get("text") or "" for part in content]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def is_continued(prefill: str, completion: str, style: Style, shown: Any = None) -> bool:
    """Whether a completion goes on from what its turn is said to have begun with.

    It does not where it opens a thought of its own inside one that is open, before it closes any, and where what the
    trainer shows says otherwise: messages in which no turn of the assistant's begins with the prefill, or a prompt that
    does not end so. Where the trainer shows that the turn does begin so, a thought that is opened further on ("Look.
    <think>…") is a part of the policy's going on.

    Args:
        prefill: what the turn is said to have begun with.
        completion: what came.
        style: names the tags of a thought.
        shown: the chat turns that were asked and came, or the prompt as text, where the trainer shows them.

    Example:
        >>> is_continued("<think>It is red.", " No, blue.</think>", Style())
        True
        >>> is_continued("<think>It is red.", "Sure. <think>It is blue.</think>", Style())
        False
    """
    opened, closed = style.think_tags
    is_open = opened in prefill and closed not in prefill.rpartition(opened)[2]
    is_opened_anew = is_open and opened in completion.partition(closed)[0]
    if is_opened_anew and completion.lstrip().startswith(opened):
        return False
    begun = prefill.strip()
    if isinstance(shown, str):  # a template may have opened the thought itself, with a line break
        return shown.rstrip().endswith(begun.removeprefix(opened).lstrip())
    turns = _assistant_texts(shown)
    if turns is None:
        return not is_opened_anew
    return any(text.lstrip().startswith(begun) for text in turns)


def _assistant_texts(messages: Any) -> list[str] | None:
    if not isinstance(messages, Sequence) or not all(isinstance(message, Mapping) for message in messages):
        return None
    return [message_text(turn.get("content")) or "" for turn in messages if turn.get("role") == "assistant"]


def report_not_continued(count: int, reader: str) -> None:
    """Count completions that did not go on from their prefill, and say so in the log whenever there are twice as many.

    Args:
        count: how many more there are.
        reader: who found them.
    """
    if (so_far := counted(f"{reader}: not continued", count)) is not None:
        logger.warning(
            "%s: %d completions so far did not go on from the prefill of their row; they are read as they were "
            "written, without it. Does the trainer leave a last message of the assistant's open? See continue_prefill.",
            reader,
            so_far,
        )
