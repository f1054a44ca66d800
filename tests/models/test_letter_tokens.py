import base64
import importlib.metadata
import string
from collections.abc import Callable
from functools import cache
from typing import Any

import oracle
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlmrobust.models.letter_tokens import ForcedPrefix, LetterVocabulary, forced_letter_logprobs, letter_logprobs

LETTERS = string.ascii_uppercase
MARKS = LETTERS + string.digits
OPENERS = (
    "<think>It is red.</think><answer>",
    "<answer>",
    "Answer:",
    "**Answer: ",
    "(",
    "\\boxed{",
    "ASSISTANT:",
    "\n\n",
)


def members(families: Tensor) -> list[set[int]]:
    return [set(row[row >= 0].tolist()) for row in families]


def enumerated(texts: list[str], rest: str) -> list[set[int]]:
    """Return each letter's tokens, found by looking at all of them."""
    found: dict[str, set[int]] = {letter: set() for letter in MARKS}
    for token, text in enumerate(texts):
        if text.startswith(rest) and (match := oracle.ONE_LETTER.fullmatch(text[len(rest) :])):
            found[match[1]].add(token)
    return list(found.values())


def test_families_of_the_zoo_equal_enumeration(
    tiny: Callable[[str], zoo.Tiny], texts_of: Callable[[Any], list[str]]
) -> None:
    for family in zoo.FAMILIES:
        tokenizer = tiny(family).processor.tokenizer
        vocabulary, texts = LetterVocabulary(tokenizer), texts_of(tokenizer)
        assert members(vocabulary.families) == enumerated(texts, ""), family
        for opener in OPENERS:
            prefix = vocabulary.forced_prefix(opener)
            for place, families in enumerate(prefix.families):
                rest = "".join(texts[token] for token in prefix.tokens[place:])
                assert members(families) == enumerated(texts, rest), (family, opener, place)


def test_letters_of_a_sentence_piece_vocabulary_may_begin_a_word() -> None:
    tokenizer = zoo.sentence_piece_tokenizer({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"})
    family = members(LetterVocabulary(tokenizer).families)[0]
    assert {tokenizer.convert_tokens_to_ids(piece) for piece in ("A", "▁A", "<0x41>")} <= family


@pytest.mark.parametrize("prepended", [True, False], ids=["Llama's", "Gemma's"])
def test_a_letter_that_was_added_with_its_space_ends_the_letter_before_it(prepended: bool) -> None:
    usual = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    tokenizer = zoo.sentence_piece_tokenizer(usual, prepended=prepended)
    tokenizer.add_tokens([AddedToken(" B", normalized=False), "C"])
    vocabulary = LetterVocabulary(tokenizer)
    pieces = {" B": True, "▁B": True, "<0x20>": True, "B": False, "C": False, "<0x42>": False}
    ends = vocabulary.ending(("B", ""))  # "B B" has a letter first, "BB" a word
    assert {piece: bool(ends[tokenizer.convert_tokens_to_ids(piece)]) for piece in pieces} == pieces
    [b] = tokenizer(" B", add_special_tokens=False)["input_ids"][-1:]
    assert tokenizer.convert_ids_to_tokens(b) == " B"
    assert b in members(vocabulary.families)[1]


def test_the_mask_covers_rows_that_pad_the_vocabulary(tiny: Callable[[str], zoo.Tiny]) -> None:
    vocabulary = LetterVocabulary(tiny("qwen2_vl").processor.tokenizer)
    mask = vocabulary.reads_as_letter(1000)
    assert mask.shape == (1000,)
    texts = oracle.token_texts(tiny("qwen2_vl").processor.tokenizer)
    either = {token for token, text in enumerate(texts) if oracle.EITHER_CASE.fullmatch(text)}
    assert set(mask.nonzero()[:, 0].tolist()) == either
    assert either > set().union(*members(vocabulary.families))


def test_a_vocabulary_without_letters_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"yes": 0, "no": 1, "AB": 2}, unk_token="no"))
    with pytest.raises(ValueError, match="expected a vocabulary in which a token reads as 'A', got none in"):
        LetterVocabulary(PreTrainedTokenizerFast(tokenizer_object=words))


def test_what_ends_a_letter_is_looked_up_as_the_parser_says_it_of_that_letter() -> None:
    following = [" can", " can't", " could", " is", " and", " red", "'ll", "-", ".", ":", "\n", ")", "xy", "55"]
    words = {text: token for token, text in enumerate([*string.ascii_letters, *string.digits, *following])}
    backend = Tokenizer(models.WordLevel(words, unk_token="x"))
    backend.decoder = decoders.Fuse()  # without one, decoding puts a space between tokens
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    vocabulary = LetterVocabulary(tokenizer)
    for (row, column), ending in vocabulary.either.ends.items():
        letter = tokenizer.decode([int(vocabulary.either.tokens[row, column])])
        ends = vocabulary.ending(ending)
        assert {text for text in following if ends[words[text]]} == {
            text for text in following if oracle.ends(letter, text)
        }, letter
    assert len(vocabulary.either.ends) == len(string.ascii_letters + string.digits)


# ------------------------------------------------------------------------------------------- a real vocabulary


def from_ranks(ranks: dict[bytes, int], pattern: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer from byte sequences and their merge ranks, as tiktoken keeps them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in printable}
    alphabet |= {byte: chr(256 + index) for index, byte in enumerate(sorted(set(range(256)) - set(printable)))}
    spelt = {token: "".join(alphabet[byte] for byte in token) for token in ranks}
    merges = [
        (spelt[token[:cut]], spelt[token[cut:]])
        for token in ranks
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]
    bpe = models.BPE({text: ranks[token] for token, text in spelt.items()}, merges, ignore_merges=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@cache
def qwen() -> tuple[PreTrainedTokenizerFast, list[str], LetterVocabulary]:
    """Return Qwen's tokenizer, the text of each of its tokens, and the letters' families."""
    file = importlib.metadata.distribution("dashscope").locate_file("dashscope/resources/qwen.tiktoken")
    with open(str(file), "rb") as lines:  # noqa: PTH123 - locate_file promises no Path
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = from_ranks(ranks, pattern)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    texts = [token.decode(errors="replace") for token in ranks] + [""] * 3
    return tokenizer, texts, LetterVocabulary(tokenizer)


def test_qwen_merges_letters_with_the_tags_bracket() -> None:
    tokenizer, texts, _ = qwen()
    merged = [letter for letter in LETTERS if f">{letter}" in texts]
    assert len(merged) == 22
    assert tokenizer.convert_ids_to_tokens(tokenizer("<answer>A")["input_ids"]) == ["<", "answer", ">A"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("<answer>")["input_ids"]) == ["<", "answer", ">"]


def test_qwen_families_equal_enumeration() -> None:
    _, texts, vocabulary = qwen()
    assert members(vocabulary.families) == enumerated(texts, "")
    assert min(map(len, members(vocabulary.families)[:26])) >= 3
    assert min(map(len, members(vocabulary.families)[26:])) >= 1


def test_qwen_letters_after_the_tag_sum_both_ways_to_write_them() -> None:
    tokenizer, texts, vocabulary = qwen()
    prefix = vocabulary.forced_prefix("<think>Okay let's see. It is red.</think><answer>")
    assert tokenizer.convert_ids_to_tokens(list(prefix.tokens)) == [">"]
    after_answer, after_bracket = enumerated(texts, ">"), enumerated(texts, "")
    assert [members(table) for table in prefix.families] == [after_answer, after_bracket]
    logits = torch.randn(3, 2, len(texts) + 8, generator=torch.Generator().manual_seed(0)) * 4
    p = logits.double().softmax(-1)
    want = torch.stack(
        [
            p[:, 0, sorted(merged)].sum(-1) + p[:, 0, prefix.tokens[0]] * p[:, 1, sorted(alone)].sum(-1)
            for merged, alone in zip(after_answer, after_bracket, strict=True)
        ],
        dim=1,
    )
    torch.testing.assert_close(forced_letter_logprobs(logits, prefix).double(), want.log(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("<|im_start|>assistant\n", []),
        ("</think>\n\n<answer>", [">"]),
        ("</think><answer> ", ["Ġ"]),
        ("Answer:", [":"]),
        ("Answer: ", ["Ġ"]),
        ("(", ["("]),
        ("\\boxed{", ["{"]),
    ],
)
def test_qwen_prefixes_that_a_letter_may_merge_with(text: str, tokens: list[str]) -> None:
    tokenizer, _, vocabulary = qwen()
    assert tokenizer.convert_ids_to_tokens(list(vocabulary.forced_prefix(text).tokens)) == tokens


def test_what_stands_far_back_does_not_change_a_prefix() -> None:
    tokenizer, _, vocabulary = qwen()
    for opener in OPENERS:
        near = vocabulary.forced_prefix("It is red." + opener)
        far = vocabulary.forced_prefix("<|im_start|>user\n" + "Which colour, sir? " * 40 + "It is red." + opener)
        assert near.tokens == far.tokens
        assert near.tokens == tuple(tokenizer("It is red." + opener)["input_ids"])[-len(near.tokens) or 10**6 :]
        assert [members(a) for a in near.families] == [members(b) for b in far.families]


# ------------------------------------------------------------------------------------------- sums over families


@st.composite
def prefixes(draw: st.DrawFn) -> tuple[ForcedPrefix, Tensor]:
    """Draw a prefix of up to three tokens over a small vocabulary, and logits at each place."""
    size, count = 40, draw(st.integers(0, 3))
    tokens = tuple(draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count)))
    tables = []
    for _ in range(count + 1):
        owner = draw(st.lists(st.integers(-1, 35), min_size=size, max_size=size))
        rows = [[token for token, letter in enumerate(owner) if letter == index] for index in range(36)]
        width = max(1, *map(len, rows))
        tables.append(torch.tensor([row + [-1] * (width - len(row)) for row in rows]))
    seed = draw(st.integers(0, 2**31))
    logits = torch.randn(2, count + 1, size, generator=torch.Generator().manual_seed(seed)) * draw(st.floats(0.1, 10))
    return ForcedPrefix(tokens, tuple(tables)), logits


@given(prefixes())
@settings(max_examples=60, deadline=None)
def test_forced_letters_sum_over_all_ways(drawn: tuple[ForcedPrefix, Tensor]) -> None:
    prefix, logits = drawn
    p = logits.double().softmax(-1)
    want = torch.zeros(len(logits), 36, dtype=torch.float64)
    for row in range(len(logits)):
        for place, table in enumerate(prefix.families):
            reached = 1.0
            for step in range(place):
                reached *= float(p[row, step, prefix.tokens[step]])
            for letter, family in enumerate(members(table)):
                want[row, letter] += reached * sum(float(p[row, place, token]) for token in family)
    got = forced_letter_logprobs(logits, prefix)
    assert got.shape == (len(logits), 36)
    torch.testing.assert_close(got.double().exp(), want, atol=1e-6, rtol=1e-4)
    assert torch.equal(torch.isneginf(got), want == 0)


@given(prefixes(), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_letters_do_not_change_with_a_constant_and_leave_the_rest_out(
    drawn: tuple[ForcedPrefix, Tensor], constant: float
) -> None:
    prefix, logits = drawn
    got = letter_logprobs(logits[:, 0], prefix.families[0])
    torch.testing.assert_close(letter_logprobs(logits[:, 0] + constant, prefix.families[0]), got, atol=1e-4, rtol=1e-4)
    assert (got.exp().sum(-1) <= 1 + 1e-5).all()
