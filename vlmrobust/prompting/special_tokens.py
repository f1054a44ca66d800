"""Find special tokens and tags in untrusted text, and make them inert.

Chat templates mark turns, images and ends with special tokens, and tokenizers interpret them anywhere, so that
`<|im_end|>` in a question ends the user's turn. A space after the first character turns a special token in data into
plain tokens and keeps it readable. Tags of the style (`</think>`) in an injected thought, and `<image>` marks where no
image belongs, are found with any spacing and get other brackets.
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
