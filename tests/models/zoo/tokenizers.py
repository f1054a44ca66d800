"""Small tokenizers of the two kinds that VLMs have, trained on a few sentences."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# Qwen2's rule for splitting text before merging: a punctuation mark goes with the letters after it, so ">A" can merge.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Some letters are written right after the tag and merge with its ">", some after a space, some never.
_CORPUS = (
    *(f"<think> The cube is {colour}. </think><answer>{letter}</answer>"
      for letter, colour in zip("ABCD", ("red", "blue", "green", "yellow"), strict=True) for _ in range(40)),
    *(f"Answer: {letter}. Option ({letter}) is right, and {letter} is the answer.\n" for letter in "ABCEFG" * 20),
    *(f"**{letter}** \n{letter}" for letter in "ABH" * 20),
    *("Which colour is the cube? Think about the question first, then answer. Write your thought between the tags, "
      "and only the letter of the correct option.",) * 20,
    *("A photo of a red cube and a blue ball. I see two shapes, so it cannot be green.",) * 20,
)  # fmt: skip


@cache
def _byte_level() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=560, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return str(tokenizer.to_str())


@cache
def _sentence_piece(prepended: bool) -> str:
    """Return a BPE over `▁` pieces with byte fallback, as Llama's (a space prepended) and Gemma's (none) are."""
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    scheme = "first" if prepended else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *byte_pieces], show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prepended else steps)
    return str(tokenizer.to_str())


def byte_level_tokenizer(
    special: Mapping[str, str], added: tuple[str, ...] = (), *, kind: str = "PreTrainedTokenizerFast"
) -> Any:
    """Return a byte-level BPE as Qwen's, with the family's special tokens.

    Args:
        special: attribute (`eos_token`, `image_token`, …) → token; those of other names than transformers' own become
            attributes of the tokenizer all the same.
        added: further special tokens.
        kind: the class that the family's processor of transformers 4 insists on.
    """
    return _wrapped(_byte_level(), special, added, kind)


def sentence_piece_tokenizer(
    special: Mapping[str, str],
    added: tuple[str, ...] = (),
    *,
    prepended: bool = True,
    kind: str = "PreTrainedTokenizerFast",
) -> Any:
    """Return a `▁` tokenizer as Llama's or Gemma's that puts a BOS in front, with the family's special tokens."""
    wrapped = _wrapped(_sentence_piece(prepended), special, added, kind)
    bos = wrapped.bos_token
    wrapped.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, wrapped.bos_token_id)]
    )
    return wrapped


_STANDARD = ("bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "unk_token")


def _wrapped(trained: str, special: Mapping[str, str], added: tuple[str, ...], kind: str) -> Any:
    # In transformers 5 the families' classes build a tokenizer of their own, and processors take any.
    wrapper = getattr(transformers, kind if transformers.__version__.startswith("4.") else "PreTrainedTokenizerFast")
    standard = {name: token for name, token in special.items() if name in _STANDARD}
    named = {name: token for name, token in special.items() if name not in standard}
    tokenizer = Tokenizer.from_str(trained)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (*special.values(), *added)])
    return wrapper(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens=named,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        **standard,
    )
