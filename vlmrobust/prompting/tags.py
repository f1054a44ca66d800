"""Find the tags of thoughts and answers in a turn, and the thought that a chat template opens itself."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .chat import template_source

__all__ = [
    "Span",
    "Tags",
    "assistant_prefix",
    "find_tags",
    "marks_thoughts",
    "tag_pattern",
    "template_tags",
    "thought_note",
    "with_opener",
]

Span = tuple[int, int]

_MAX_BLANK_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Tags:
    """The positions of the four tags in a turn, as (start, end)."""

    think_open: list[Span]
    think_close: list[Span]
    answer_open: list[Span]
    answer_close: list[Span]

    def following(self, kind: str, position: int) -> Span | None:
        """Return the first tag of a kind that begins at `position` or later."""
        spans: list[Span] = getattr(self, kind)
        index = bisect_left(spans, (position, position))
        return spans[index] if index < len(spans) else None

    def block(self, position: int, end: int, turn: str, written: int = 0) -> tuple[Span, Span] | None:
        """Return the first non-blank answer block from `position` on: its opening tag, and its content.

        Text before `written` is not the model's, and a block that ends there does not count.
        """
        opened = self.following("answer_open", position)
        for _ in range(_MAX_BLANK_BLOCKS):
            if opened is None or opened[0] >= end:
                break
            limits = [self.following(kind, opened[1]) for kind in self.__slots__]
            stop = min((span[0] for span in limits if span is not None), default=end)
            start = max(opened[1], written)
            if turn[start : min(stop, end)].strip():
                return opened, (start, min(stop, end))
            opened = self.following("answer_open", opened[1])
        return None


@lru_cache(maxsize=256)
def tag_pattern(tag: str) -> re.Pattern[str]:
    """Return a pattern for a tag that ignores case and spacing."""
    named = re.fullmatch(r"<(/?)([\w:.-]+)>", tag.strip())
    if named is None:
        return re.compile(re.escape(tag.strip()), re.IGNORECASE)
    slash = r"/\s*+" if named[1] else ""
    return re.compile(rf"<\s*+{slash}{re.escape(named[2])}\s*+>", re.IGNORECASE)


def find_tags(turn: str, think_tags: tuple[str, str], answer_tags: tuple[str, str] | None) -> Tags:
    """Find the opening and closing tags of thought and answer, ignoring case.

    If the opening and closing tags of a pair are equal, they alternate. `answer_tags` = None: no answer tags are found.

    Example:
        >>> find_tags("<think>x</THINK>", ("<think>", "</think>"), ("<answer>", "</answer>")).think_close
        [(8, 16)]
    """
    found: list[list[Span]] = []
    for opening, closing in filter(None, (think_tags, answer_tags)):
        opens = [match.span() for match in tag_pattern(opening).finditer(turn)]
        if opening.strip().lower() == closing.strip().lower():
            found += [opens[::2], opens[1::2]]
        else:
            found += [opens, [match.span() for match in tag_pattern(closing).finditer(turn)]]
    if answer_tags is None:
        found += [[], []]
    return Tags(*found)


def with_opener(turn: str, think_tags: tuple[str, str]) -> str:
    """Return a model's turn with the opening thought tag, which is missing if the template opened the thought.

    Example:
        >>> with_opener("It is red.</think>A", ("<think>", "</think>"))
        '<think>It is red.</think>A'
        >>> with_opener("A", ("<think>", "</think>"))
        'A'
    """
    opening, closing = think_tags
    thought, closed, _ = turn.partition(closing)
    return opening + turn if closed and opening not in thought else turn


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
