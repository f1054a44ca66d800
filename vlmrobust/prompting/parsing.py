"""A completion read: where the thought is, which option was answered, and which character says so."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .claims import Claim, bare_claim, claims, read_claim, sole_claim
from .mentions import Reading
from .tags import Span, Tags, find_tags
from .words import LETTERS

__all__ = ["Parsed", "parse_completion"]

# An answer stands within this many characters; what a model rambles beyond is not searched.
_REACH = 20_000
_SENTENCE = 160
_SPECIAL_TOKEN = re.compile(r"(?:<\|[^<>|\s]{1,40}\|>|</s>|<eos>|<end_of_turn>|<pad>)\Z")
_PLAIN_LETTER = re.compile(r"\s*(?:<\|begin_of_box\|>)?[(\[（【「]?(\w)[)\]）】」]?[.。]?(?:<\|end_of_box\|>)?\s*")
_FINAL = re.compile(r"final|boxed|最终|最終")
_LABELLED = re.compile(
    r"[\s*_'#>-]*(?:(?:option|choice|选项|選項) ?)?(?:[(\[]\s*\w\s*[)\]]|\w[.):,;]|\w(?= (?:because|since|as)\b))"
    r"[*_']*(?=\s)"
)
_POLAR = re.compile(r"[\s*_'#>-]*(?:yes|no|true|false)\b[*_']*[,.;:]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was found in an assistant's turn; all positions are character offsets into it.

    Attributes:
        think: (start, end) of the thought's text, without its tags; None = no thought.
        answer: index of the shown option that was answered; None = no answer, or an ambiguous one.
        letter: (start, end) of the one letter that names the answer; None = the option's text was written instead.
        well_formed: the turn is exactly one thought in its tags, then one answer in its tags (in "direct" mode: the
            answer alone).
        open_thought: a thought was opened and never closed.
        tagged: (start, end) of what stands between the answer's tags; None = the answer was read elsewhere.
    """

    think: Span | None
    answer: int | None
    letter: Span | None
    well_formed: bool
    open_thought: bool
    tagged: Span | None = None


def _text_end(turn: str, tags: Tags) -> int:
    """Where the text ends, without the special tokens that some decoders leave at its end."""
    end = len(turn)
    last_tag = max((spans[-1][1] for spans in (tags.think_close, tags.answer_close) if spans), default=0)
    for _ in range(16):
        token = _SPECIAL_TOKEN.search(turn, max(last_tag, end - 48), end)
        if token is None:
            break
        end = token.start()
        while end and turn[end - 1].isspace():
            end -= 1
    return end


def _read_tagged(reading: Reading, start: int, end: int) -> Claim | None:
    """Read what stands between the answer's tags."""
    end = min(end, start + _REACH)
    bare = bare_claim(reading, start, end)
    if bare is not None:
        return bare
    for claim in claims(reading, start, end):
        if claim.option is not None or claim.ambiguous:
            return claim
    claim = read_claim(reading, start, start, end, search=False)
    by_text = claim.option is not None and claim.letter is None
    if by_text and not reading.ends_at(claim.end, end):
        # "The red cube is next to the blue one" begins with an option, and names two.
        return sole_claim(reading, start, start, end)
    if claim.option is not None or claim.ambiguous or claim.rejected:
        return claim
    return sole_claim(reading, start, start, end)


def _bare_lines(reading: Reading, start: int, end: int) -> Claim | None:
    """Read the line that is an answer and nothing else: the first or the last, or one that "The answer is:" announces.

    Two that differ are no answer.
    """
    longest = max(map(len, reading.options), default=0) + 40
    lines: list[Claim | None] = []
    announced: list[Claim] = []
    position, before = start, ""
    for line in reading.text[start:end].split("\n"):
        if line.strip():
            stop = position + len(line)
            lines.append(bare_claim(reading, position, stop) if len(line) <= longest else None)
            if lines[-1] is not None and before.rstrip("* ").endswith(":"):
                announced.append(lines[-1])
            before = line
        position += len(line) + 1
    named = [claim for claim in lines if claim is not None]
    if not named or len({claim.option for claim in named}) != 1:
        return None
    ends = [claim for claim in (lines[0], lines[-1], *announced) if claim is not None]
    return next((claim for claim in ends if claim.letter), ends[0] if ends else None)


def _read_untagged(reading: Reading, start: int, end: int, *, after_thought: bool) -> Claim | None:
    """Read a text without tags for the answer: an explicit clause, or else a line that is the answer alone.

    A last line that begins as an answer ("Answer: B") counts in any case: that is what prompts ask for. Else, after a
    thought the first clause counts. Where the thought has no tags, reasoning and answer are one text: then all clauses
    have to agree, unless the last is called final.
    """
    if end - start > _REACH:
        start, end = (start, start + _REACH) if after_thought else (end - _REACH, end)
    whole = bare_claim(reading, start, end)
    if whole is not None:
        return whole
    line = _bare_lines(reading, start, end)
    said = [claim for claim in claims(reading, start, end) if claim.option is not None or claim.ambiguous]
    if not said:
        # What follows a thought is meant as its answer; without one, a sentence that mentions an option need not be.
        short = after_thought and end - start <= _SENTENCE and "\n" not in reading.text[start:end].strip()
        if line is None and short:
            labelled = _LABELLED.match(reading.folded, start, end) is not None
            return _read_label(reading, start, end) if labelled else sole_claim(reading, start, start, end)
        return line or _read_polar(reading, start, end)
    last = said[-1]
    if not _is_answer_line(reading, last, start):
        last = said[0] if after_thought else last
        agreed = after_thought or len({claim.option for claim in said if not claim.ambiguous}) == 1
        if not (agreed or _FINAL.search(reading.folded, max(start, last.start), last.end)):
            return None
    if last.option is None:
        return None
    if line is None:
        return last
    if line.option != last.option:
        return None
    if (line.letter is None) != (last.letter is None):
        return last if last.letter else line
    return line if line.start < last.start else last


def _is_answer_line(reading: Reading, claim: Claim, start: int) -> bool:
    """Whether a clause begins a line and is all that it says: "Answer: B"."""
    line = reading.folded.rfind("\n", start, claim.start) + 1 or start
    before = reading.folded[line : claim.start].strip(" *_#>")
    return (
        not before and ":" in reading.folded[claim.start : claim.end] and reading.ends_at(claim.end, len(reading.text))
    )


def _read_label(reading: Reading, start: int, end: int) -> Claim | None:
    """Read a label that a short answer begins with: "(B) the blue one, because …"."""
    claim = read_claim(reading, start, start, end, search=False)
    return claim if claim.option is not None and claim.letter is not None else None


def _read_polar(reading: Reading, start: int, end: int) -> Claim | None:
    """Read the word that a text begins with, where the options are such words: "No, the cat is under it."."""
    if _POLAR.match(reading.folded, start, end) is None:
        return None
    claim = read_claim(reading, start, start, end, search=False)
    others = {mention.option for mention in reading.mentions(start, end)} - {claim.option}
    return claim if claim.option is not None and not others else None


def _is_plain(turn: str, start: int, end: int, claim: Claim, options: Sequence[str]) -> bool:
    """Whether a part of the turn is the answer alone: its letter, maybe with a stop or brackets, or its exact text."""
    if claim.option is None:
        return False
    if claim.letter is not None:
        match = _PLAIN_LETTER.fullmatch(turn, start, end)
        return match is not None and match.start(1) == claim.letter[0]
    return turn[start:end].strip().rstrip(".") == options[claim.option].strip().rstrip(".")


def parse_completion(
    turn: str,
    *,
    options: Sequence[str],
    letters: str = LETTERS,
    think_tags: tuple[str, str] = ("<think>", "</think>"),
    answer_tags: tuple[str, str] | None = ("<answer>", "</answer>"),
    answer_by: str = "letter",
    mode: str = "think",
    written: int = 0,
    opened: bool = False,
) -> Parsed:
    r"""Read an assistant's turn, prefill and completion together: its thought and its answer.

    An answer in tags counts first, the first one after the thought; then an explicit clause ("the answer is B",
    `\boxed{B}`); then a line that is the answer and nothing else. Ambiguous text ("B or C", a letter and a text that
    contradict, a letter that is not shown) is no answer, never a guess. Linear in the turn's length.

    Args:
        turn: the assistant's turn.
        options: the options' texts as shown.
        letters: their letters, in the same order; there may be more.
        think_tags: opening and closing tag of the thought; case does not matter.
        answer_tags: opening and closing tag of the answer; None = it follows the thought without any.
        answer_by: "letter" or "text": how a single letter is read that is also an option's text.
        mode: "think", or "direct" where the answer alone is expected.
        written: where the model's own text begins; what stands before it was put into its mouth, and is no answer.
        opened: whether the chat template opened the thought: then a turn without any tag of it is a thought that was
            cut off.

    Example:
        >>> parse_completion("<think>It is blue.</think><answer>B</answer>", options=("red", "blue"))
        Parsed(think=(7, 18), answer=1, letter=(34, 35), well_formed=True, open_thought=False, tagged=(34, 35))
        >>> parse_completion("It is blue. So the answer is (B).", options=("red", "blue")).answer
        1
        >>> parse_completion("<answer>A or B</answer>", options=("red", "blue")).answer is None
        True
    """
    reading = Reading.of(turn, options, letters, answer_by)
    tags = find_tags(turn, think_tags, answer_tags)
    end = _text_end(turn, tags)
    think: Span | None
    opening = tags.think_open[0] if tags.think_open else None
    closed = tags.following("think_close", opening[1] if opening else 0)
    if closed is None and tags.think_close:
        opening, closed = None, tags.think_close[0]
    if opening is None and closed is None and opened and mode == "think":
        opening = (0, 0)
    if opening is None and closed is None:
        think, region, claim = _without_thought(reading, tags, written, end, direct=mode == "direct")
    elif closed is None:
        assert opening is not None
        block = tags.block(opening[1], end, turn, written)
        region = block[1] if block else None
        claim = _read_tagged(reading, *block[1]) if block else None
        think = (opening[1], block[0][0] if block else len(turn))
    else:
        think, region, claim = _after_thought(reading, tags, opening[1] if opening else 0, closed, written, end)
    claim = claim if claim is not None and claim.option is not None else None
    expected = think_tags + (answer_tags or ())
    well_formed = claim is not None and _is_well_formed(turn, tags, expected, region, end, claim, options)
    if mode == "direct":
        well_formed = claim is not None and _is_plain(turn, 0, end, claim, options)
        well_formed = well_formed and claim is not None and (claim.letter is not None or answer_by == "text")
    return Parsed(
        think=think,
        answer=claim.option if claim else None,
        letter=claim.letter if claim else None,
        well_formed=well_formed,
        open_thought=opening is not None and closed is None,
        tagged=region,
    )


def _without_thought(
    reading: Reading, tags: Tags, written: int, end: int, *, direct: bool
) -> tuple[Span | None, Span | None, Claim | None]:
    block = tags.block(0, end, reading.text, written)
    if block:
        return _before(reading.text, block[0][0]), block[1], _read_tagged(reading, *block[1])
    claim = _read_untagged(reading, written, _until_close(tags, written, end), after_thought=direct)
    return _before(reading.text, claim.start) if claim and claim.option is not None else None, None, claim


def _after_thought(
    reading: Reading, tags: Tags, start: int, closed: Span, written: int, end: int
) -> tuple[Span | None, Span | None, Claim | None]:
    turn = reading.text
    block = tags.block(closed[1], end, turn, written)
    # Some models close the thought twice, or open another one: all of it, up to the answer, is the thought.
    closes = [span for span in tags.think_close if span[0] >= closed[0] and (block is None or span[0] < block[0][0])]
    closed = closes[-1]
    if block:
        return (start, closed[0]), block[1], _read_tagged(reading, *block[1])
    rest = max(closed[1], written)
    if turn[rest:end].strip():
        stop = _until_close(tags, rest, end)
        return (start, closed[0]), None, _read_untagged(reading, rest, stop, after_thought=True)
    inner = tags.block(start, closed[0], turn, written)
    if inner and tags.following("answer_open", inner[1][1]) is None:
        # The answer stands at the thought's end: the tag that closes the thought came too late.
        after = tags.following("answer_close", inner[1][0])
        if not turn[after[1] if after else inner[1][1] : closed[0]].strip():
            return (start, inner[0][0]), inner[1], _read_tagged(reading, *inner[1])
    first = tags.block(0, start, turn, written) if inner is None else None
    return (start, closed[0]), None, _read_tagged(reading, *first[1]) if first else None


def _until_close(tags: Tags, start: int, end: int) -> int:
    stray = tags.following("answer_close", start)
    return min(stray[0], end) if stray else end


def _before(turn: str, end: int) -> Span | None:
    return (0, end) if turn[:end].strip() else None


def _is_well_formed(
    turn: str,
    tags: Tags,
    expected: tuple[str, ...],
    region: Span | None,
    end: int,
    claim: Claim,
    options: Sequence[str],
) -> bool:
    found = (tags.think_open, tags.think_close, tags.answer_open, tags.answer_close)[: len(expected)]
    if any(len(spans) != 1 for spans in found):
        return False
    spans = [span for (span,) in found]
    if any(turn[span[0] : span[1]] != tag.strip() for span, tag in zip(spans, expected, strict=True)):
        return False
    if len(spans) == 2:  # without answer tags: one thought, and an answer after it
        return not turn[: spans[0][0]].strip() and spans[0][1] <= spans[1][0] and claim.start >= spans[1][1]
    opened, closed, answer_opened, answer_closed = spans
    if not opened[1] <= closed[0] < answer_opened[0] or region != (answer_opened[1], answer_closed[0]):
        return False
    outside = turn[: opened[0]] + turn[closed[1] : answer_opened[0]] + turn[answer_closed[1] : end]
    return not outside.strip() and _is_plain(turn, answer_opened[1], answer_closed[0], claim, options)
