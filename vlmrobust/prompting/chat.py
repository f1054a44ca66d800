"""A question put as chat turns, and those turns rendered through a model's own chat template.

The user's turns go through the template with `add_generation_prompt=True`; what the assistant is to continue from is
appended as raw text. `continue_final_message` is not used: thinking templates insert an empty, closed thought before
the continued message, cut it, or raise.
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

_END = 8  # characters of an earlier answer that tell whether it is there; its thought may be left out


class ChatTemplate(Protocol):
    """What rendering needs of a Hugging Face processor (or tokenizer)."""

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Render a conversation."""


def chat_turns(
    text: str, image_count: int, *, system: str | None = None, image_position: str = "first"
) -> list[dict[str, Any]]:
    """Return the system turn (if any) and the user's turn, their content always a list of parts.

    A plain string as content is dropped without a word by some templates; a list of parts is understood by all.

    Args:
        text: the user's text; `<image>` marks in it, as many as there are images, say where these stand.
        image_count: how many images go with it.
        system: the system turn's text.
        image_position: images "first" or "last", where the text has no marks.

    Raises:
        ValueError: the text has marks, but not as many as there are images.

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
        written = [{"type": "text", "text": text}]
        parts = images + written if image_position == "first" else written + images
    turns = [{"role": "user", "content": parts}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return turns


def _fold_system_turn(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    (instruction,) = turns[0]["content"]
    parts = list(turns[1]["content"])
    position = next(index for index, part in enumerate(parts) if part["type"] == "text")
    parts[position] = {"type": "text", "text": f"{instruction['text']}\n\n{parts[position]['text']}"}
    return [{"role": "user", "content": parts}, *turns[2:]]


def template_of(processor: Any) -> Any:
    """Return whichever has the chat template: the processor, or the tokenizer in it."""
    tokenizer = getattr(processor, "tokenizer", None)
    on_tokenizer = not getattr(processor, "chat_template", None) and getattr(tokenizer, "chat_template", None)
    return tokenizer if on_tokenizer else processor


def template_source(processor: Any) -> str:
    """Return the chat template of a processor as it is written; empty where there is none, or several."""
    source = getattr(template_of(processor), "chat_template", None)
    return source if isinstance(source, str) else ""


def check_template_arguments(processor: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a chat template never mentions: it would leave them out without a word.

    Args:
        processor: has the template.
        arguments: for it.

    Raises:
        ValueError: the template mentions no such argument; the message has the nearest name that it mentions.
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
    """Render chat turns up to the point where the assistant begins to write.

    A template without a system role raises or drops that turn; then its text is put in front of the user's. One that
    takes earlier turns of the assistant as plain strings alone is given these.

    Args:
        processor: anything with `apply_chat_template`; where only its tokenizer has a template, that is used.
        turns: as made by `chat_turns`, perhaps with further ones of the assistant and the user.
        **arguments: for the template, such as `enable_thinking`.

    Returns:
        The rendered text, and whether the system turn had to be folded into the user's.

    Raises:
        ValueError: the processor has no chat template, or its template drops the user's text, or what the assistant
            said before. Thoughts of earlier turns it may leave out.
    """
    from jinja2.exceptions import TemplateError

    plain = [_with_plain_text(turn) if turn["role"] == "assistant" else turn for turn in turns]
    forms = [turns] if plain == list(turns) else [turns, plain]
    lost = None
    for form in forms:
        try:
            text, folded = _rendered(processor, form, arguments)
        except (TemplateError, TypeError):
            if form is forms[-1]:
                raise
            continue
        if (lost := _lost(text, turns)) is None:
            return text, folded
    assert lost is not None, "a form that was rendered has lost something, or is returned"
    raise ValueError(
        f"expected the chat template of {type(processor).__name__} to keep {lost[0]}, "
        f"got a rendering without {lost[1]!r:.80}"
    )


def _rendered(
    processor: ChatTemplate, turns: Sequence[dict[str, Any]], arguments: Mapping[str, Any]
) -> tuple[str, bool]:
    """Return turns rendered, and whether the system turn had to be folded into the user's."""
    from jinja2.exceptions import TemplateError

    template = template_of(processor)
    asked = {**arguments, "add_generation_prompt": True, "tokenize": False}

    def rendered(conversation: Sequence[dict[str, Any]]) -> str:
        try:
            return str(template.apply_chat_template(conversation, **asked))
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
        text = rendered(turns)
        folded = has_system and turns[0]["content"][0]["text"].strip() not in text
    except TemplateError:
        if not has_system:
            raise
        folded = True
    return (rendered(_fold_system_turn(turns)) if folded else text), folded


def _with_plain_text(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {**turn, "content": "".join(part["text"] for part in turn["content"])}


def _lost(text: str, turns: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return what of the turns is not in a rendering, in their order: whose text, and the text; None = all is there."""
    said = [
        (turn["role"], part["text"].strip())
        for turn in turns
        if turn["role"] != "system"
        for part in turn["content"]
        if part["type"] == "text"
    ]
    place = 0
    answer = ""
    for role, wanted in said:
        if role == "assistant":
            answer = wanted[-_END:]
            continue
        begin = text.find(wanted, place)
        if begin < 0:
            return "the user's text", wanted
        if answer not in text[place:begin]:
            return "what the assistant said before", answer
        answer = ""
        place = begin + len(wanted)
    return None
