"""Convert a question to chat turns, and render them with a model's chat template.

The template renders the turns with `add_generation_prompt=True`; the prefill of the assistant's turn is appended as raw
text. `continue_final_message` is not used: thinking templates insert an empty, closed thought before the continued
message, truncate it, or raise.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = [
    "IMAGE_MARK",
    "ChatTemplate",
    "chat_turns",
    "check_template_arguments",
    "render_turns",
    "template_of",
    "template_source",
]

IMAGE_MARK = "<image>"

_END = 8  # final characters of an earlier answer to look for in a rendering; its thought may be left out


class ChatTemplate(Protocol):
    """The part of a Hugging Face processor (or tokenizer) that rendering needs."""

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Render a conversation."""


def chat_turns(
    text: str, image_count: int, *, system: str | None = None, image_position: str = "first"
) -> list[dict[str, Any]]:
    """Return the system turn (if any) and the user's turn, with their content as lists of parts.

    Some templates silently drop content that is a plain string; all of them support a list of parts.

    Args:
        text: the user's text; `<image>` marks in it, as many as there are images, place the images.
        image_count: number of images.
        system: the system turn's text.
        image_position: images "first" or "last", where the text has no marks.

    Raises:
        ValueError: the text has marks, but their number differs from the number of images.

    Example:
        >>> [part["type"] for part in chat_turns("What is this?", 2)[0]["content"]]
        ['image', 'image', 'text']
    """
    pieces = text.split(IMAGE_MARK)
    if len(pieces) > 1:
        if len(pieces) - 1 != image_count:
            raise ValueError(f"expected as many images as {IMAGE_MARK} marks ({len(pieces) - 1}), got {image_count}")
        parts: list[dict[str, Any]] = []
        for index, piece in enumerate(pieces):
            parts += [{"type": "image"}] * (index > 0) + [{"type": "text", "text": piece}] * bool(piece)
    else:
        images = [{"type": "image"} for _ in range(image_count)]
        texts = [{"type": "text", "text": text}]
        parts = images + texts if image_position == "first" else texts + images
    turns = [{"role": "user", "content": parts}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return turns


def template_of(processor: Any) -> Any:
    """Return the object that has the chat template: the processor or its tokenizer."""
    tokenizer = getattr(processor, "tokenizer", None)
    on_tokenizer = not getattr(processor, "chat_template", None) and getattr(tokenizer, "chat_template", None)
    return tokenizer if on_tokenizer else processor


def template_source(processor: Any) -> str:
    """Return the source of a processor's chat template; empty if there is none, or several."""
    source = getattr(template_of(processor), "chat_template", None)
    return source if isinstance(source, str) else ""


def check_template_arguments(processor: Any, arguments: Mapping[str, Any]) -> None:
    """Reject arguments that a chat template never uses; it would silently ignore them.

    Args:
        processor: the processor with the template.
        arguments: the arguments for the template.

    Raises:
        ValueError: the template uses no such argument; the message suggests the nearest name.
    """
    source = template_source(processor)
    words = set(re.findall(r"[A-Za-z_]\w*", source)) if source else set(arguments)
    for name in arguments:
        if name not in words:
            near = difflib.get_close_matches(name, sorted(words), n=1)
            raise ValueError(
                f"field 'template': expected arguments that the chat template of {type(processor).__name__} knows, "
                f"got {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )


def render_turns(processor: ChatTemplate, turns: Sequence[dict[str, Any]], **arguments: Any) -> tuple[str, bool]:
    """Render chat turns up to the beginning of the assistant's turn.

    If a template without a system role raises or drops that turn, the system text is put before the user's. If a
    template supports only plain strings in the assistant's earlier turns, these are passed as strings.

    Args:
        processor: anything with `apply_chat_template`; if only its tokenizer has a template, that is used.
        turns: from `chat_turns`, optionally followed by turns of the assistant and the user.
        **arguments: for the template, such as `enable_thinking`.

    Returns:
        The rendered text, and whether the system turn was folded into the user's.

    Raises:
        ValueError: the processor has no chat template, or the template drops the user's text or an earlier answer of
            the assistant. It may leave out the thoughts of earlier turns.
    """
    from jinja2.exceptions import TemplateError

    with_strings = [
        {**turn, "content": "".join(part["text"] for part in turn["content"])} if turn["role"] == "assistant" else turn
        for turn in turns
    ]
    candidates = [turns] if with_strings == list(turns) else [turns, with_strings]
    missing = None
    for candidate in candidates:
        try:
            text, folded = _render(processor, candidate, arguments)
        except (TemplateError, TypeError):
            if candidate is candidates[-1]:
                raise
            continue
        if (missing := _missing_text(text, turns)) is None:
            return text, folded
    assert missing is not None, "the last candidate is returned, raises, or lacks some text"
    raise ValueError(
        f"expected the chat template of {type(processor).__name__} to keep {missing[0]}, "
        f"got a rendering without {missing[1]!r:.80}"
    )


def _render(processor: ChatTemplate, turns: Sequence[dict[str, Any]], arguments: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the rendered turns, and whether the system turn was folded into the user's."""
    from jinja2.exceptions import TemplateError

    template = template_of(processor)
    settings = {**arguments, "add_generation_prompt": True, "tokenize": False}

    def apply_template(conversation: Sequence[dict[str, Any]]) -> str:
        try:
            return str(template.apply_chat_template(conversation, **settings))
        except ValueError as error:
            if "chat template" not in str(error) and "chat_template" not in str(error):
                raise
            raise ValueError(
                f"expected a processor with a chat template, got {type(processor).__name__} without one; "
                "load an instruction-tuned checkpoint, or set processor.chat_template"
            ) from error

    has_system = turns[0]["role"] == "system"
    folded = False
    try:
        text = apply_template(turns)
        folded = has_system and turns[0]["content"][0]["text"].strip() not in text
    except TemplateError:
        if not has_system:
            raise
        folded = True
    return (apply_template(_fold_system_turn(turns)) if folded else text), folded


def _fold_system_turn(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    (instruction,) = turns[0]["content"]
    parts = list(turns[1]["content"])
    position = next(index for index, part in enumerate(parts) if part["type"] == "text")
    parts[position] = {"type": "text", "text": f"{instruction['text']}\n\n{parts[position]['text']}"}
    return [{"role": "user", "content": parts}, *turns[2:]]


def _missing_text(rendered: str, turns: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return a description and the text of the first turn that a rendering lacks; None = nothing is missing."""
    texts = [
        (turn["role"], part["text"].strip())
        for turn in turns
        if turn["role"] != "system"
        for part in turn["content"]
        if part["type"] == "text"
    ]
    position = 0
    answer = ""
    for role, text in texts:
        if role == "assistant":
            answer = text[-_END:]
            continue
        begin = rendered.find(text, position)
        if begin < 0:
            return "the user's text", text
        if answer not in rendered[position:begin]:
            return "the assistant's earlier answer", answer
        answer = ""
        position = begin + len(text)
    return None
