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
    "assistant_prefix",
    "chat_turns",
    "check_template_arguments",
    "render_turns",
    "template_of",
    "template_tags",
    "thought_note",
]

IMAGE_MARK = "<image>"

# What chat templates of transformers open and close thoughts with.
_THOUGHT_TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
)


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


def check_template_arguments(processor: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a chat template never mentions: it would leave them out without a word.

    Args:
        processor: has the template.
        arguments: for it.

    Raises:
        ValueError: the template mentions no such argument; the message has the nearest name that it mentions.
    """
    source = getattr(template_of(processor), "chat_template", None)
    words = set(re.findall(r"[A-Za-z_]\w*", source)) if isinstance(source, str) else set(arguments)
    for name in arguments:
        if name not in words:
            near = difflib.get_close_matches(name, sorted(words), n=1)
            raise ValueError(
                f"field 'template': expected arguments that the chat template of {type(processor).__name__} knows, "
                f"got {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )


def render_turns(processor: ChatTemplate, turns: Sequence[dict[str, Any]], **arguments: Any) -> tuple[str, bool]:
    """Render chat turns up to the point where the assistant begins to write.

    A template without a system role raises or drops that turn; then its text is put in front of the user's.

    Args:
        processor: anything with `apply_chat_template`; where only its tokenizer has a template, that is used.
        turns: as made by `chat_turns`.
        **arguments: for the template, such as `enable_thinking`.

    Returns:
        The rendered text, and whether the system turn had to be folded into the user's.

    Raises:
        ValueError: the processor has no chat template, or its template drops the user's text.
    """
    from jinja2.exceptions import TemplateError

    template = template_of(processor)
    asked = arguments | {"add_generation_prompt": True, "tokenize": False}

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
    if folded:
        text = rendered(_fold_system_turn(turns))
    for part in turns[-1]["content"]:
        if part["type"] == "text" and part["text"].strip() not in text:
            raise ValueError(
                f"expected the chat template of {type(processor).__name__} to keep the user's text, "
                f"got a rendering without {part['text'].strip()!r:.80}"
            )
    return text, folded


def template_tags(rendered: str, think_tags: tuple[str, str]) -> tuple[str, str]:
    r"""Return the tags of the thought that a template has opened, or closed again, where the assistant begins.

    Args:
        rendered: the template's output, ending where the assistant begins.
        think_tags: the style's, which are returned where the template has begun no thought of other tags.

    Example:
        >>> template_tags("[/INST][THINK]", ("<think>", "</think>"))
        ('[THINK]', '[/THINK]')
        >>> template_tags("[/INST]", ("<think>", "</think>"))
        ('<think>', '</think>')
    """
    tags = (think_tags, *_THOUGHT_TAGS)
    return next((pair for pair in tags if _opener(rendered, pair[0]) or _closed_thought(rendered, pair)), think_tags)


def _opener(rendered: str, think_open: str) -> str:
    return rendered[rendered.rindex(think_open) :] if rendered.rstrip().endswith(think_open) else ""


def _closed_thought(rendered: str, think_tags: tuple[str, str]) -> str:
    """Return the empty thought, closed, that a rendering ends with: what it says where thinking is switched off."""
    opening, closing = map(re.escape, think_tags)
    found = re.search(rf"{opening}\s*{closing}\s*\Z", rendered)
    return found[0] if found else ""


def thought_note(processor: Any, rendered: str, think_tags: tuple[str, str]) -> str | None:
    """Return what a chat template says of thoughts that a style does not expect, None if nothing.

    Args:
        processor: has the template.
        rendered: its output, ending where the assistant begins.
        think_tags: the style's.
    """
    source = getattr(template_of(processor), "chat_template", None)
    source = source if isinstance(source, str) else ""
    opened = template_tags(rendered, think_tags)
    if opened != think_tags:
        return f"the chat template begins thoughts with {opened[0]!r}, which takes the place of {think_tags[0]!r}"
    if _closed_thought(rendered, think_tags):
        advice = "; template={'enable_thinking': True} leaves it open" if "enable_thinking" in source else ""
        return f"the chat template puts an empty thought, closed, before what the model writes{advice}"
    others = [pair for pair in _THOUGHT_TAGS if pair[0] in source and pair[1] in source]
    if others and think_tags[0] not in source:
        return (
            f"the chat template knows thoughts in {others[0][0]!r} and {others[0][1]!r}, the style's tags are "
            f"{think_tags[0]!r} and {think_tags[1]!r}; Style(think_tags={others[0]!r}) asks for the model's own"
        )
    return None


def assistant_prefix(rendered: str, prefill: str, think_open: str, think_close: str | None = None) -> tuple[str, str]:
    r"""Return the rendered text to continue, and what of the assistant's turn stands in it.

    Where the template itself opens the thought (`…<think>\n`), the prefill's own opener is dropped, and the template's
    counts as prefilled: then the thought is read the same way for every model. Where it puts an empty thought, closed,
    before a prefill that begins with a thought, that is dropped: the turn would hold two.

    Args:
        rendered: the template's output, ending where the assistant begins.
        prefill: raw text that the assistant is to continue from.
        think_open: the tag that opens a thought.
        think_close: the tag that closes it.

    Example:
        >>> assistant_prefix("<assistant><think>\n", "<think>It is red.", "<think>")
        ('<assistant><think>\nIt is red.', '<think>\nIt is red.')
        >>> assistant_prefix("<assistant>", "<think>It is red.", "<think>")
        ('<assistant><think>It is red.', '<think>It is red.')
        >>> assistant_prefix("<assistant><think>\n\n</think>\n\n", "<think>It is red.", "<think>", "</think>")
        ('<assistant><think>It is red.', '<think>It is red.')
    """
    begins = prefill.lstrip().startswith(think_open)
    if opener := _opener(rendered, think_open):
        rest = prefill.lstrip().removeprefix(think_open) if begins else prefill
        return rendered + rest, opener + rest
    if begins and think_close is not None:
        rendered = rendered.removesuffix(_closed_thought(rendered, (think_open, think_close)))
    return rendered + prefill, prefill
