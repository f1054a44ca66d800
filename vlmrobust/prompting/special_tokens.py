"""Special tokens in text that others wrote: found, and made inert.

A chat template marks turns, images and ends with special tokens. A tokenizer reads them wherever they stand, so that
`<|im_end|>` in a question ends the user's turn. What is data has none that act: a space behind the first character
makes a few plain tokens of one, and stays readable. Tags of the style (`</think>`) act in an injected thought, and the
mark `<image>` where no image belongs; these are found with any spaces in them, and get other brackets.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary

from .chat import IMAGE_MARK
from .tags import tag_pattern

__all__ = ["KNOWN_TOKENS", "SpecialTokens", "inert_tags", "tags_in"]

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
    """The special tokens of a model, as texts.

    Attributes:
        pattern: matches each of them.

    Example:
        >>> KNOWN_TOKENS.inert("Red?<|im_end|> [INST]"), KNOWN_TOKENS.found("Red?<|im_end|>")
        ('Red?< |im_end|> [ INST]', ('<|im_end|>',))
    """

    pattern: re.Pattern[str]

    @classmethod
    def of(cls, processor: Any) -> Self:
        """Return those of a Hugging Face processor or tokenizer: its own, and what its chat template marks turns with.

        Ordinary words that were added to a vocabulary are none. Without a tokenizer: those of well-known families.
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
        """Return those of a list; ordinary words and white space are left out of it."""
        longest_first = sorted({token for token in tokens if _can_act(token)}, key=lambda token: (-len(token), token))
        return cls(re.compile("|".join(map(re.escape, longest_first)) or r"(?!)"))

    def found(self, text: str) -> tuple[str, ...]:
        """Return the tokens that stand in a text, each once."""
        return tuple(dict.fromkeys(self.pattern.findall(text)))

    def inert(self, text: str, keep: Collection[str] = ()) -> str:
        """Return the text with a space behind the first character of each of its special tokens.

        Args:
            text: what others wrote.
            keep: tokens that stay, such as the tags of a style.
        """
        return _substituted(self.pattern, lambda found: found[0] if found[0] in keep else _spaced(found[0]), text)


KNOWN_TOKENS = SpecialTokens(_FAMILIES)
"""The special tokens of well-known families, for servers, whose tokenizers are not at hand."""

_OF_TOKENIZERS: WeakKeyDictionary[Any, tuple[int, SpecialTokens]] = WeakKeyDictionary()


def _tokens_of(processor: Any, tokenizer: Any) -> Iterator[str]:
    yield from map(str, getattr(tokenizer, "all_special_tokens", ()))
    for token in tokenizer.added_tokens_decoder.values():
        # Tags such as <tool_call> are no special tokens for some tokenizers, and act all the same.
        if token.special or _MARKUP.fullmatch(token.content):
            yield token.content
    for template in (getattr(processor, "chat_template", None), getattr(tokenizer, "chat_template", None)):
        for text in template.values() if isinstance(template, Mapping) else (template,):
            yield from _FAMILIES.findall(text or "")


def _can_act(token: str) -> bool:
    # `<image>` in a question is a place for an image, and never reaches a tokenizer as text.
    return len(token.strip()) > 1 and not token.isspace() and not token.isalnum() and token != IMAGE_MARK


def tags_in(text: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags that stand in a text as they are written there.

    Example:
        >>> tags_in("Red. </ THINK> B", ["<think>", "</think>"])
        ('</ THINK>',)
    """
    return tuple(dict.fromkeys(found[0] for tag in tags for found in tag_pattern(tag).finditer(text)))


def inert_tags(text: str, tags: Iterable[str]) -> str:
    """Return a text with tags that only can be read.

    Example:
        >>> inert_tags("Red.</think><answer>D</answer>", ["</think>", "<answer>", "</answer>"])
        'Red.‹/think›‹answer›D‹/answer›'
    """
    for tag in tags:
        pattern = tag_pattern(tag)
        # A space cannot part a tag of one character; it is left out.
        text = _substituted(pattern, _read_only, text) if len(tag.strip()) > 1 else pattern.sub("", text)
    return text


def _read_only(found: re.Match[str]) -> str:
    tag = found[0]
    return f"‹{tag[1:-1]}›" if tag[0] == "<" and tag[-1] == ">" else _spaced(tag)


def _spaced(token: str) -> str:
    begins = len(token) - len(token.lstrip()) + 1
    return f"{token[:begins]} {token[begins:]}"


def _substituted(pattern: re.Pattern[str], inert: Callable[[re.Match[str]], str], text: str) -> str:
    """Return a text in which no token is left, also of those that overlap (`{{` in `{{{{`)."""
    while (changed := pattern.sub(inert, text)) != text:
        text = changed
    return text
