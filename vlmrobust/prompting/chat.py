"""Convert a question to chat turns, render them with a model's chat template, and find the thought that it opens.

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
    "assistant_prefix",
    "chat_turns",
    "check_template_arguments",
    "marks_thoughts",
    "render_turns",
    "template_of",
    "template_source",
    "template_tags",
    "thought_note",
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


# The thought tags of chat templates in transformers; other tags are recognised by their names.
_THOUGHT_TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
)
_TAG = r"<\|?[^\s<>|]+\|?>|\[[^\s\[\]]+\]|◁[^\s◁▷]+▷"
_PARTS_OF_TAG = re.compile(r"(<\|?|\[|◁)(.+?)(\|?>|\]|▷)")
_OF_THOUGHTS = re.compile(r"think|thought|reason|reflect|rationale|deliberat|analysis|scratchpad", re.IGNORECASE)
_OF_TURNS = re.compile(
    r"assistant|model|bot|\bai\b|role|header|turn|message|inst|im_|answer|response|output|final|content|text|eos|bos",
    re.IGNORECASE,
)
_CLOSING = re.compile(r"/|end|close|stop|.*_(?:end|close|stop)$", re.IGNORECASE)
_WORDS_OF_OPENERS = (("begin", "end"), ("start", "end"), ("open", "close"))


def template_tags(rendered: str, think_tags: tuple[str, str], source: str = "") -> tuple[str, str]:
    r"""Return the tags of the thought that a template has opened (and maybe closed) for the assistant.

    Args:
        rendered: the template's output, ending where the assistant begins.
        think_tags: the style's tags, returned if the template has opened no thought with other tags.
        source: the template, which may contain the closing tag; otherwise it is derived from the opening tag.

    Example:
        >>> template_tags("[/INST][THINK]", ("<think>", "</think>"))
        ('[THINK]', '[/THINK]')
        >>> template_tags("<|assistant|>\n<|begin_of_thought|>\n", ("<think>", "</think>"))
        ('<|begin_of_thought|>', '<|end_of_thought|>')
        >>> template_tags("[/INST]", ("<think>", "</think>"))
        ('<think>', '</think>')
    """
    for pair in (think_tags, *_THOUGHT_TAGS):
        if _opener(rendered, pair[0]) or _closed_thought(rendered, pair):
            return pair
    if (last := _last_tag(rendered)) and _opens_thought(last) and (closing := _closing_tag(last, source)):
        return last, closing
    if closed := re.search(rf"({_TAG})\s*({_TAG})\s*\Z", rendered):
        opening, closing = closed.groups()
        if _opens_thought(opening) and closing in _closing_tags(opening):
            return opening, closing
    return think_tags


def marks_thoughts(token: str) -> bool:
    """Return whether a special token opens or closes thoughts, by its name or by known templates.

    Example:
        >>> [marks_thoughts(token) for token in ("</think>", "<|end_of_thought|>", "<channel|>", "<|im_end|>")]
        [True, True, True, False]
    """
    return any(token in tag for pair in _THOUGHT_TAGS for tag in pair) or bool(_OF_THOUGHTS.search(_tag_name(token)))


def _last_tag(rendered: str) -> str:
    """Return the opening tag of any kind at the end of a rendering; empty if there is none."""
    found = re.search(rf"({_TAG})\s*\Z", rendered)
    return found[1] if found and not _CLOSING.match(_tag_name(found[1])) else ""


def _tag_name(tag: str) -> str:
    found = _PARTS_OF_TAG.fullmatch(tag)
    return found[2] if found else ""


def _opens_thought(tag: str) -> bool:
    """Return whether a tag opens thoughts, by its name."""
    return bool(_OF_THOUGHTS.search(_tag_name(tag))) and not _CLOSING.match(_tag_name(tag))


def _closing_tags(opening: str) -> list[str]:
    """Return the possible closing tags for an opening tag, the most likely first."""
    found = _PARTS_OF_TAG.fullmatch(opening)
    if found is None:
        return []
    left, name, right = found.groups()
    for begins, ends in _WORDS_OF_OPENERS:
        word = name[: len(begins)] if name.lower().startswith(begins) else name[-len(begins) :]
        if word.lower() == begins:
            other = ends.upper() if word.isupper() else ends.capitalize() if word.istitle() else ends
            return [left + name.replace(word, other, 1) + right]
    if left == "<|" and right == ">":
        return [f"<{name}|>"]
    tags = [f"{left}/{name}{right}"]
    if left == "<|":
        words = ("end_of_", "END_OF_") if name.isupper() else ("end_of_", "end_", "endof", "/")
        tags += [f"<|{word}{name}|>" for word in words] + [f"</|{name}|>", f"<|{name}_end|>", f"</{name}|>"]
    return tags


def _closing_tag(opening: str, source: str) -> str | None:
    """Return the closing tag for an opening tag: the one in the template, or else the only possible one."""
    tags = _closing_tags(opening)
    return next((tag for tag in tags if tag in source), tags[0] if len(tags) == 1 else None)


def _opener(rendered: str, think_open: str) -> str:
    return rendered[rendered.rindex(think_open) :] if rendered.rstrip().endswith(think_open) else ""


def _closed_thought(rendered: str, think_tags: tuple[str, str]) -> str:
    """Return the empty, closed thought at the end of a rendering, as templates add it if thinking is off."""
    opening, closing = map(re.escape, think_tags)
    found = re.search(rf"{opening}\s*{closing}\s*\Z", rendered)
    return found[0] if found else ""


def thought_note(processor: Any, rendered: str, think_tags: tuple[str, str]) -> str | None:
    """Return a note if a chat template handles thoughts differently from the style, or None.

    Args:
        processor: the processor with the template.
        rendered: its output, ending where the assistant begins.
        think_tags: the style's tags.
    """
    source = template_source(processor)
    opened = template_tags(rendered, think_tags, source)
    if opened != think_tags:
        return f"the chat template begins thoughts with {opened[0]!r}, which takes the place of {think_tags[0]!r}"
    if _closed_thought(rendered, think_tags):
        advice = "; template={'enable_thinking': True} leaves it open" if "enable_thinking" in source else ""
        return f"the chat template puts an empty thought, closed, before what the model writes{advice}"
    last = _last_tag(rendered)
    if last and last != think_tags[0] and not _OF_TURNS.search(_tag_name(last)):
        closing = _closing_tag(last, source)
        if _opens_thought(last) or (closing and closing in source):
            closing = closing or "its closing tag"
            return (
                f"the chat template begins what the model writes with {last!r}, which is not taken for a thought; "
                f"Style(think_tags=({last!r}, {closing!r})) takes it for one"
            )
    openers = filter(_opens_thought, dict.fromkeys(re.findall(_TAG, source)))
    pairs = (*_THOUGHT_TAGS, *((opening, closing) for opening in openers for closing in _closing_tags(opening)))
    others = [pair for pair in pairs if pair[0] in source and pair[1] in source]
    if others and think_tags[0] not in source:
        return (
            f"the chat template knows thoughts in {others[0][0]!r} and {others[0][1]!r}, the style's tags are "
            f"{think_tags[0]!r} and {think_tags[1]!r}; Style(think_tags={others[0]!r}) asks for the model's own"
        )
    return None


def assistant_prefix(rendered: str, prefill: str, think_open: str, think_close: str | None = None) -> tuple[str, str]:
    r"""Return the rendered text to continue, and the beginning of the assistant's turn in it.

    If the template opens the thought (`…<think>\n`), the prefill's own opening tag is dropped and the template's counts
    as prefilled, so that thoughts of all models are parsed alike. If the template adds an empty, closed thought before
    a prefill that begins with a thought, the empty one is dropped.

    Args:
        rendered: the template's output, ending where the assistant begins.
        prefill: raw text for the assistant to continue.
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
