"""Parse a completion: the span of the thought, the answered option, and the letter that names it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .claims import Claim, bare_claim, claims, has_alternative, read_claim, sole_claim
from .mentions import Reading
from .tags import Span, Tags, find_tags
from .words import LETTERS

__all__ = ["Parsed", "parse_completion"]

# Number of characters that are searched for an answer.
_REACH = 20_000
_SENTENCE = 160
_SPECIAL_TOKEN = re.compile(r"(?:<\|[^<>|\s]{1,40}\|>|</s>|<eos>|<end_of_turn>|<pad>)\Z")
_PLAIN_LETTER = re.compile(r"\s*(?:<\|begin_of_box\|>)?[(\[（【「]?(\w)[)\]）】」]?[.。]?(?:<\|end_of_box\|>)?\s*")
_FINAL = re.compile(r"final|boxed|最终|最終")
_REVISION = re.compile(
    r"[.!?,;\n-][\s*_]*(?:no|nope|actually)(?:[,.!:;]| -|[ -]*(?: (?:i|we)(?:'\w+)?(?: \w+){0,2})? ?$)"
    r"|\bwait(?:[,.!:-]| no\b)|\b(?:correction|on second thought|scratch that|i was wrong|i made a mistake)\b"
    r"|[.!?,;。\n]\s*(?:等等|不对|不對)[.!,:;。]"
)
_LABELLED = re.compile(
    r"[\s*_'#>-]*(?:(?:option|choice|选项|選項) ?)?(?:[(\[]\s*\w\s*[)\]]|\w[.):,;]|\w(?= (?:because|since|as)\b))"
    r"[*_']*(?=\s)"
)
# Words before a clause that attribute it to somebody else: a source, which may also "suggest" it, or a person. What a
# person in the image does is no report: "the way she sits suggests the answer is B".
_SOURCES = r"(?:captions?|descriptions?|hints?|prompts?|suggestions?|notes?|statements?|users?|experts?)"
_PERSONS = r"(?:someone|somebody|you|they|he|she)"
_SAYS = r"says?|said|states?|stated|claims?|claimed|insists?|insisted|thinks?|thought|believes?|believed"
_SUGGESTS = (
    r"suggests?|suggested|asserts?|asserted|mentions?|mentioned|implies|implied|indicates?|indicated"
    r"|(?:tells?|told)(?: (?:me|us|you))?"
)
_REPORTED = re.compile(
    rf"\b(?:(?:{_SOURCES}|{_PERSONS})'s (?:claim|statement|suggestion|opinion|hint)"
    rf"|{_SOURCES}(?: (?:who|of|for|in|on|at|to|with|from|above|below|under)\b"
    rf"(?:(?!\b(?:i|we|my|our|but|and|so|which)\b)[^.,;:!?\n]){{0,24}}?)?(?: (?:\w+ly|also))? (?:{_SAYS}|{_SUGGESTS})"
    rf"|{_PERSONS}(?: (?:\w+ly|also))? (?:{_SAYS}|suggested|mentioned))(?: that)?[,:]? '?$"
    rf"|\baccording to (?:(?:the|this|that|your) )?(?:{_SOURCES}|{_PERSONS})\b,? $"
)
_REJECTION = re.compile(
    rf"\b(?:but|however|yet|disagree|(?:this|that|it|which|{_SOURCES}|{_PERSONS})(?:'s| is| are| was| were)(?: \w+ly)?"
    r" (?:wrong|incorrect|false|mistaken))\b|(?:\bnot|n't) (?:what|true|correct|agree)\b"
)
_POLAR = re.compile(r"[\s*_'#>-]*(?:yes|no|true|false)\b[*_']*[,.;:]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of an assistant's turn; all positions are character offsets into it.

    Attributes:
        think: (start, end) of the thought's text, without its tags; None = no thought.
        answer: index of the answered option among those shown; None = no answer, or an ambiguous one.
        letter: (start, end) of the letter that names the answer; None = the answer is the option's text.
        well_formed: the turn is exactly one tagged thought, then one tagged answer (in "direct" mode: the answer
            alone).
        open_thought: a thought was opened and never closed.
        tagged: (start, end) of the text between the answer's tags; None = the answer was read elsewhere.
    """

    think: Span | None
    answer: int | None
    letter: Span | None
    well_formed: bool
    open_thought: bool
    tagged: Span | None = None


def _text_end(turn: str, tags: Tags) -> int:
    """Return the end of the text, without trailing special tokens that some decoders leave."""
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
    """Read the text between the answer's tags."""
    end = min(end, start + _REACH)
    bare = bare_claim(reading, start, end)
    if bare is not None:
        return bare
    if found := _own_claims(reading, start, end):
        return _settled(reading, found, first=True)
    claim = read_claim(reading, start, start, end, search=False)
    by_text = claim.option is not None and claim.letter is None
    if by_text and not reading.ends_at(claim.end, end):
        # "The red cube is next to the blue one" begins with one option, but names two.
        return sole_claim(reading, start, start, end)
    if claim.option is not None or claim.ambiguous or claim.rejected:
        return claim
    return sole_claim(reading, start, start, end)


def _own_claims(reading: Reading, start: int, end: int) -> list[Claim]:
    """Return the claims of a text, except those of others ("the caption says the answer is A").

    If there are only those, the text agrees with them, unless they differ or it rejects one ("But it is darker.").
    """
    found = [claim for claim in claims(reading, start, end) if claim.option is not None or claim.ambiguous]
    own = [claim for claim in found if not _REPORTED.search(reading.folded, max(start, claim.start - 80), claim.start)]
    if own or not found:
        return own
    differ = len({claim.option for claim in found}) > 1
    if differ or any(_is_rejected(reading, claim, start, end) for claim in found):
        return [found[0]._replace(option=None, letter=None, ambiguous=True)]
    return found


def _is_rejected(reading: Reading, claim: Claim, start: int, end: int) -> bool:
    """Return whether a text rejects a claim that it reports: "contrary to the caption's claim", "that is wrong"."""
    before = reading.folded[max(start, claim.start - 80) : claim.start]
    after = reading.folded[claim.end : min(end, claim.end + _SENTENCE)]
    return "contrary to" in before or _REJECTION.search(after) is not None


def _bare_lines(reading: Reading, start: int, end: int) -> Claim | None:
    """Read a line that is only an answer: the first, the last, or one after "The answer is:".

    Lines with different answers are no answer.
    """
    longest = max(map(len, reading.options), default=0) + 40
    lines: list[Claim | None] = []
    announced: list[Claim] = []
    position, previous = start, ""
    for line in reading.text[start:end].split("\n"):
        if line.strip():
            stop = position + len(line)
            lines.append(bare_claim(reading, position, stop) if len(line) <= longest else None)
            if lines[-1] is not None and previous.rstrip("* ").endswith(":"):
                announced.append(lines[-1])
            previous = line
        position += len(line) + 1
    named = [claim for claim in lines if claim is not None]
    if not named or len({claim.option for claim in named}) != 1:
        return None
    candidates = [claim for claim in (lines[0], lines[-1], *announced) if claim is not None]
    return next((claim for claim in candidates if claim.letter), candidates[0] if candidates else None)


def _read_untagged(reading: Reading, start: int, end: int, *, after_thought: bool) -> Claim | None:
    """Read a text without answer tags: an explicit clause, or else a line that is only the answer.

    A last line such as "Answer: B" always counts, since prompts ask for it. Otherwise, after a thought the first clause
    counts, if no other revises it. Without a tagged thought, reasoning and answer are one text, and all clauses must
    agree unless the last is called final.
    """
    if end - start > _REACH:
        start, end = (start, start + _REACH) if after_thought else (end - _REACH, end)
    whole = bare_claim(reading, start, end)
    if whole is not None:
        return whole
    line = _bare_lines(reading, start, end)
    found = _own_claims(reading, start, end)
    if not found:
        # A short text after a thought is its answer; elsewhere, a sentence that mentions an option may not be one.
        short = after_thought and end - start <= _SENTENCE and "\n" not in reading.text[start:end].strip()
        if line is None and short:
            labelled = _LABELLED.match(reading.folded, start, end) is not None
            return _read_label(reading, start, end) if labelled else _read_short(reading, start, end)
        return line or _read_polar(reading, start, end)
    clause = found[-1]
    if not _is_answer_line(reading, clause, start):
        clause = _settled(reading, found, first=after_thought)
    if clause.option is None:
        return None
    if line is None:
        return clause
    if line.option != clause.option:
        return None
    if (line.letter is None) != (clause.letter is None):
        return clause if clause.letter else line
    return line if line.start < clause.start else clause


def _settled(reading: Reading, found: Sequence[Claim], *, first: bool) -> Claim:
    """Return the first claim if `first` and no other revises it, otherwise the last.

    The last is ambiguous unless all agree or it is called final.
    """
    if first and not _is_revised(reading, found):
        return found[0]
    last = found[-1]
    agreed = len({claim.option for claim in found if not claim.ambiguous}) == 1
    final = agreed or _FINAL.search(reading.folded, last.start, last.end)
    return last if final else last._replace(option=None, letter=None, ambiguous=True)


def _is_revised(reading: Reading, found: Sequence[Claim]) -> bool:
    """Return whether a clause revises the one before by another option: "A. Actually, the answer is B"."""
    return any(
        before.option != after.option and _REVISION.search(reading.folded, before.end, after.start)
        for before, after in pairwise(found)
    )


def _is_answer_line(reading: Reading, claim: Claim, start: int) -> bool:
    """Return whether a clause is a line of its own: "Answer: B"."""
    line = reading.folded.rfind("\n", start, claim.start) + 1 or start
    before = reading.folded[line : claim.start].strip(" *_#>")
    return (
        not before and ":" in reading.folded[claim.start : claim.end] and reading.ends_at(claim.end, len(reading.text))
    )


def _read_short(reading: Reading, start: int, end: int) -> Claim:
    """Read the only option that a short answer affirms; "A/B" begins with two."""
    named = reading.named_at(start, end)
    if named is not None and named.option is not None and has_alternative(reading, named, end):
        return Claim(start, named.end, ambiguous=True)
    return sole_claim(reading, start, start, end)


def _read_label(reading: Reading, start: int, end: int) -> Claim | None:
    """Read the label at the beginning of a short answer: "(B) the blue one, because …"."""
    claim = read_claim(reading, start, start, end, search=False)
    return claim if claim.option is not None and claim.letter is not None else None


def _read_polar(reading: Reading, start: int, end: int) -> Claim | None:
    """Read a yes-or-no word at the beginning, where the options are such words: "No, the cat is under it."."""
    if _POLAR.match(reading.folded, start, end) is None:
        return None
    claim = read_claim(reading, start, start, end, search=False)
    others = {mention.option for mention in reading.mentions(start, end)} - {claim.option}
    return claim if claim.option is not None and not others else None


def _is_plain(turn: str, start: int, end: int, claim: Claim, options: Sequence[str]) -> bool:
    """Return whether a span is only the answer: its letter, maybe with a stop or brackets, or its exact text."""
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
    r"""Parse the thought and the answer of an assistant's turn (prefill and completion together).

    The first tagged answer after the thought takes precedence; then an explicit clause ("the answer is B",
    `\boxed{B}`); then a line that is only the answer. Ambiguous text ("B or C", a letter that contradicts its text, a
    letter that is not shown) is no answer, never a guess. Linear in the turn's length.

    Args:
        turn: the assistant's turn.
        options: the options' texts as shown.
        letters: their letters, in the same order; there may be more.
        think_tags: opening and closing tag of the thought; case does not matter.
        answer_tags: opening and closing tag of the answer; None = the answer follows the thought without tags.
        answer_by: "letter" or "text": how to read a single letter that is also an option's text.
        mode: "think", or "direct" where only the answer is expected.
        written: the offset where the model's own text begins; the prefill before it is never an answer.
        opened: whether the chat template opened the thought; a turn without thought tags is then a truncated thought.

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
    # Some models close the thought twice, or open another one: everything before the answer is the thought.
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
        # The answer is at the end of the thought, whose closing tag comes too late.
        after = tags.following("answer_close", inner[1][0])
        if not turn[after[1] if after else inner[1][1] : closed[0]].strip():
            return (start, inner[0][0]), inner[1], _read_tagged(reading, *inner[1])
    first = tags.block(0, start, turn, written) if inner is None else None
    return (start, closed[0]), None, _read_tagged(reading, *first[1]) if first else None


def _until_close(tags: Tags, start: int, end: int) -> int:
    close = tags.following("answer_close", start)
    return min(close[0], end) if close else end


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
