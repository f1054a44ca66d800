"""Find special tokens and tags in text, and make those in untrusted text inert.

Chat templates mark turns, images and ends with special tokens, and tokenizers interpret them anywhere, so that
`<|im_end|>` in a question ends the user's turn. A space after the first character turns a special token in data into
plain tokens and keeps it readable. Tags of the style (`</think>`) in an injected thought, and `<image>` marks where no
image belongs, are found with any spacing and get other brackets.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from weakref import WeakKeyDictionary

from .chat import IMAGE_MARK

__all__ = ["KNOWN_TOKENS", "Span", "SpecialTokens", "Tags", "find_tags", "inert_tags", "tags_in", "with_opener"]

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


# Of ChatML, Llama 3, Phi, GLM and Qwen; DeepSeek; Llama 2 and Mistral; Gemma; InternVL; GLM; SmolVLM and others.
_FAMILIES = re.compile(
    r"<\|[^<>|\s]{1,64}\|>"
    r"|<｜[^<>｜]{1,64}｜>"
    r"|\[/?INST\]|<</?SYS>>|\[/?(?:AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CONTENT|SYSTEM_PROMPT|MODEL_SETTINGS|THINK)\]"
    r"|\[(?:TOOL_CALLS|ARGS|CALL_ID|IMG|IMG_BREAK|IMG_END|PREFIX|MIDDLE|SUFFIX)\]"
    r"|</?s>|<(?:bos|eos|pad|unk|mask)>"
    r"|<(?:start_of|end_of|begin_of)_(?:turn|image|audio|utterance|box)>|<(?:image|audio)_soft_token>"
    r"|</?img>|<IMG_CONTEXT>|</?(?:ref|box|quad)>"
    r"|\[[gs]MASK\]|<[se]op>"
    r"|<(?:fake_token_around_image|global-img|row_\d+_col_\d+|image_placeholder|video|audio)>"
    r"|<im_(?:start|end|patch|col|msk)>"
    # Gemma since its fourth; EXAONE; Baichuan and others; Seed; Command; MiniCPM; MiniMax; Kimi; T5, NeMo and BERT.
    r"|<\|[\w-]{1,32}>|<[\w-]{1,32}\|>"
    r"|\[\|[\w ]{1,32}\|\]"
    r"|<_(?:system|user|bot|end)>|<(?:reserved|unused|extra_id|extra|SPECIAL|TOKENS_UNUSED)_?\d+>"
    r"|</?seed:[\w:]{1,32}>|</?longcat_\w{1,32}>|</?minicpm:\w{1,32}>"
    r"|<(?:BOS|EOS|EOP|PAD|UNK|CLS|SEP|MASK)_TOKEN>"
    r"|</?(?:image_id|slice|unit)>|<image_(?:start|end)>|<fim_(?:prefix|middle|suffix|pad)>"
    r"|\]~[a-z!]\]|\[e~\[|\]<\]\w{1,32}\[>\["
    r"|◁/?\w{1,32}▷"
    r"|</?(?:tool_call|tool_response|tools|function_calls)>"
    r"|\[(?:BOS|EOS|EOT|PAD|UNK|CLS|SEP|MASK)\]|<(?:cls|sep|CLS|SEP|eod|eoh|eoa)>"
)
_MARKUP = re.compile(r"[<\[◁].+[>\]▷]")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The special tokens of a model, as text.

    Attributes:
        pattern: matches any of them.

    Example:
        >>> KNOWN_TOKENS.inert("Red?<|im_end|> [INST]"), KNOWN_TOKENS.found("Red?<|im_end|>")
        ('Red?< |im_end|> [ INST]', ('<|im_end|>',))
    """

    pattern: re.Pattern[str]

    @classmethod
    def of(cls, processor: Any) -> Self:
        """Return the special tokens of a Hugging Face processor or tokenizer, and those in its chat template.

        Ordinary words added to a vocabulary are excluded. Without a tokenizer: the tokens of well-known families.
        """
        tokenizer = getattr(processor, "tokenizer", processor)
        if not hasattr(tokenizer, "added_tokens_decoder"):
            return cls(_FAMILIES)
        size = len(tokenizer)
        known: tuple[int, SpecialTokens] | None = _OF_TOKENIZERS.get(tokenizer)
        if known is None or known[0] != size:
            known = size, cls.of_tokens(_tokens_of(processor, tokenizer))
            _OF_TOKENIZERS[tokenizer] = known
        return cls(known[1].pattern)

    @classmethod
    def of_tokens(cls, tokens: Iterable[str]) -> Self:
        """Return the special tokens among `tokens`; ordinary words and white space are excluded."""
        longest_first = sorted(
            {token for token in tokens if _is_special(token)}, key=lambda token: (-len(token), token)
        )
        return cls(re.compile("|".join(map(re.escape, longest_first)) or r"(?!)"))

    def found(self, text: str) -> tuple[str, ...]:
        """Return the distinct tokens in a text."""
        return tuple(dict.fromkeys(self.pattern.findall(text)))

    def inert(self, text: str, keep: Collection[str] = ()) -> str:
        """Return the text with a space after the first character of each special token.

        Args:
            text: untrusted text.
            keep: tokens to leave unchanged, such as the tags of a style.
        """
        return _replace_all(self.pattern, lambda match: match[0] if match[0] in keep else _insert_space(match[0]), text)


KNOWN_TOKENS = SpecialTokens(_FAMILIES)
"""The special tokens of well-known families, for servers, whose tokenizers are not available."""

_OF_TOKENIZERS: WeakKeyDictionary[Any, tuple[int, SpecialTokens]] = WeakKeyDictionary()


def _tokens_of(processor: Any, tokenizer: Any) -> Iterator[str]:
    yield from map(str, getattr(tokenizer, "all_special_tokens", ()))
    for token in tokenizer.added_tokens_decoder.values():
        # Some tokenizers do not mark tags such as <tool_call> as special, but interpret them all the same.
        if token.special or _MARKUP.fullmatch(token.content):
            yield token.content
    for template in (getattr(processor, "chat_template", None), getattr(tokenizer, "chat_template", None)):
        for text in template.values() if isinstance(template, Mapping) else (template,):
            yield from _FAMILIES.findall(text or "")


def _is_special(token: str) -> bool:
    # `<image>` in a question places an image, and never reaches a tokenizer as text.
    return len(token.strip()) > 1 and not token.isspace() and not token.isalnum() and token != IMAGE_MARK


def tags_in(text: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags found in a text, as spelled there.

    Example:
        >>> tags_in("Red. </ THINK> B", ["<think>", "</think>"])
        ('</ THINK>',)
    """
    return tuple(dict.fromkeys(found[0] for tag in tags for found in tag_pattern(tag).finditer(text)))


def inert_tags(text: str, tags: Iterable[str]) -> str:
    """Return a text with its tags made inert but readable.

    Example:
        >>> inert_tags("Red.</think><answer>D</answer>", ["</think>", "<answer>", "</answer>"])
        'Red.‹/think›‹answer›D‹/answer›'
    """
    for tag in tags:
        pattern = tag_pattern(tag)
        # A tag of one character cannot be split; it is removed.
        text = _replace_all(pattern, _defuse, text) if len(tag.strip()) > 1 else pattern.sub("", text)
    return text


def _defuse(match: re.Match[str]) -> str:
    tag = match[0]
    return f"‹{tag[1:-1]}›" if tag[0] == "<" and tag[-1] == ">" else _insert_space(tag)


def _insert_space(token: str) -> str:
    position = len(token) - len(token.lstrip()) + 1
    return f"{token[:position]} {token[position:]}"


def _replace_all(pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace until no token is left, including overlapping ones (`{{` in `{{{{`)."""
    while (changed := pattern.sub(replacement, text)) != text:
        text = changed
    return text
