"""What a clause says about the options: "the answer is B", "(B) is correct", "not A but B", "B or C"."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from .clauses import Clause, asks, clauses, sentence_end
from .mentions import Mention, Named, Reading, whole_option
from .words import WORD

__all__ = [
    "LIST_JOIN",
    "Claim",
    "bare_claim",
    "claims",
    "claims_of",
    "ends_naming",
    "polarities",
    "read_claim",
]

_NEGATED_HEAD = re.compile(
    r"[\s*_':]*(?:n't|not|never|neither|nor|no longer|anything but|nicht|kein\w*|pas|ne|no es|non|não|не|不是|不"
    r"|除了)\b[\s*_']*"
)
_CONTRAST = re.compile(r"\b(?:but(?: rather)?|rather(?! than)|instead(?! of)|sondern|mais|sino|ma|mas)\b|而是|，而")
_EITHER = re.compile(r"[\s*':]*(?:likely |probably |(?:could|may|might) be )?(?:either|somewhere between)\b")
_JOIN = re.compile(
    r"[\s'*)\]}._$]*(?:(?:,\s*)?\b(?:or|and|und|oder|ou|et|y|o|e|или|и|as well as|and/or)\b(?: (?:maybe|perhaps"
    r"|possibly))?|[,/&+;]|和|或者?|または|と|또는)[\s'*]*|[\s'*)\]}.,:_$-]*\s[\s'*]*"
)
_LABEL = re.compile(r"[\s'*)\]}_]*[.:)=,-]*[\s'*(\[_]*")
_LETTER_LABEL = re.compile(
    r"[\s'*_.]*(?:[(\[]\s*(?:option |choice |answer |letter )?(?=[a-z]\s*[)\]])|,?\s*(?:which is |that's |that is "
    r"|i\.e\. |so )?(?:option|choice|answer|letter) (?=[a-z](?![a-z]))|\s+[-=]\s+(?=[a-z](?![a-z'])))"
)
_ENDS = re.compile(r"[\s'*)\]}_$\\]*(?:[.,;:!)\]|\n]|<|$|\b(?:or|and|because|since|as|but)\b|或|和)")
_DECORATED_END = re.compile(r"[\s*_'#~$\])}>.,:;!|\\-]*")
_SUBJECT_LETTER = re.compile(rf"(?<!{WORD})(?<!{WORD}')([a-z])[\s'*)\]}}.:_]*$")
_JOINED = re.compile(
    rf"(?<!{WORD})[b-hj-z][\s'*)\]]*(?:\b(?:and|or)\b|[,/&])[\s'*(\[]*(?:(?:option|choice) )?[(\['*]*$|\b(?:both"
    rf"|either|option|choice)s? [(\['*]*[a-z][\s'*)\]]*(?:and|or)\b[\s'*(\[]*(?:(?:option|choice) )?[(\['*]*$"
    rf"|(?<!{WORD})a[\s'*)\]]*\b(?:and|or)[\s'*(\[]*$"
)
LIST_JOIN = re.compile(r"[\s'*(),]*(?:\b(?:or|nor|and)\b)?[\s'*(]*(?:\b(?:option|a|an|the|in|on|at|to)\b ?)*['(*]*$")
# A negation does not cross one of these, and reaches over a few words.
_BOUNDARY = (
    "but|because|since|as|so|and|while|whereas|although|though|which|who|where|if|when|it's|it is|that is|that are|then"
)
_NEGATION = re.compile(
    rf"""(?:\b(?:not|cannot|never|neither|nor|no|without|lack(?:s|ing)?|absence\ of|none\ of|rather\ than|instead\ of
        |(?:eliminat|exclud|reject|discard|dismiss)\w*|rul(?:e|es|ed|ing)\ (?:\w+\ )?out|unlike|other\ than
        |except(?:\ for)?|different\ from|opposed\ to|incorrect|wrong|unlikely|hardly|fail(?:s|ed)?\ to|nicht|keine?|pas
        |нет?)\b
        |n't\b|不是|没有|不)
    (?!\ (?:only|just|sure|certain|clear|doubt|matter|necessarily|whether|because)\b)
    (?:['*(]*\ (?!(?:{_BOUNDARY})\b)['*(]*[\w'/-]+['*)]*){{0,7}}[\s'*(\[]*$""",
    re.VERBOSE,
)
_NEGATIVE = re.compile(
    r"not|n't|no |nor|never|neither|without|lack|absen|none|rul|elimin|exclu|rejec|discard|dismiss|rather|instead|other"
    r"|unlike|except|differ|oppos|incorrect|inconsistent|inaccurate|wrong|false|impossible|out|hardly|contradict|fail"
    r"|less likely|miss|irrelevant|unrelated|nicht|kein|pas|не|нет|不|没|✗|❌|✘"
)
_REFUSED = (
    r"(?:not\b|wrong|incorrect|ruled out|eliminated|excluded|dismissed|discarded|false|impossible|unlikely|out\b"
    r"|rejected|inconsistent|contradict|absent|missing|irrelevant|unrelated|less likely|inaccurate)"
)
_NEGATED_AFTER = re.compile(
    rf"""['*)\]]*(?:\ \([^()]{{0,40}}\))?(?:\ (?!(?:{_BOUNDARY})\b)\w+){{0,3}}?\ (?:
      (?:is|are|was|were|can|could|must|may|do|does|did|would|will|seems?|has|have)
        (?:\ (?:be|to\ be|also|all|both|therefore|thus|\w+ly)){{0,2}}\ {_REFUSED}
      |(?:is|are|was|were|do|does|did|ca|wo|could|would|has|have)n't\b|cannot\b|contradicts?\b|fails?\b|lacks?\b|misses\b)
    |['*)\]]*\ ?[:=-]\ ?['*]*(?:incorrect|wrong|no\b|not\b|false|ruled\ out|eliminated|excluded|✗|❌|✘)
    |['*)\]]*(?:\ ?[✗❌✘]|不)""",
    re.VERBOSE,
)


class Claim(NamedTuple):
    """What a clause says: it asserts `option`, or it is `ambiguous`, or it rejects options, or nothing of these.

    Attributes:
        start, end: the clause, with its connective ("so the"), up to the end of what it names.
        option: the option that is asserted; None = none.
        letter: where the letter stands that names it; None = it is named by its text.
        ambiguous: several options, contradicting ones, or a letter of no option are named.
        rejected: the options that are said not to be it.
    """

    start: int
    end: int
    option: int | None = None
    letter: tuple[int, int] | None = None
    ambiguous: bool = False
    rejected: tuple[int, ...] = ()


def polarities(reading: Reading, found: list[Mention], start: int, end: int) -> list[bool]:
    """Return for each mention between `start` and `end` whether it stands un-negated.

    A negation reaches over a list ("not red, blue or green"; "red and blue are not"), but not past a conjunction, a
    verb of its own or the sentence.
    """
    folded = reading.folded
    if not found or _NEGATIVE.search(folded, start, end) is None:
        return [True] * len(found)
    joined = [
        after.start - before.end <= 24 and LIST_JOIN.fullmatch(folded, before.end, after.start) is not None
        for before, after in pairwise(found)
    ]
    flags = [_NEGATION.search(folded[max(start, m.start - 80) : m.start]) is None for m in found]
    for position in range(1, len(found)):
        if joined[position - 1] and not flags[position - 1] and not folded.startswith("but", found[position - 1].end):
            flags[position] = False
    refused = False
    for position in reversed(range(len(found))):
        refused = _NEGATED_AFTER.match(folded, found[position].end, end) is not None or (
            refused and position < len(joined) and joined[position]
        )
        flags[position] = flags[position] and not refused
    return flags


def _same_option(reading: Reading, named: Named, end: int) -> tuple[Named, bool]:
    """Read letter and text together ("B. red", "red (B)"); return what is named, and whether the two contradict."""
    folded = reading.folded
    if named.letter is not None:
        label = _LABEL.match(folded, named.end, end)
        at = label.end() if label else named.end
        mention = next(iter(reading.mentions(at, min(end, at + 240))), None)
        if mention is None or mention.start > at + 4 or "\n" in folded[named.end : mention.start]:
            return named, False
        if not re.fullmatch(r"[\\($]*(?:an?|the)? ?", folded[at : mention.start]):
            return named, False
        if mention.option == named.option:
            return named._replace(end=mention.end), False
        separated = folded[named.end : at].strip() not in ("", ".", ",")
        return named, separated or _ENDS.match(folded, mention.end, end) is not None
    label = _LETTER_LABEL.match(folded, named.end, end)
    letter = reading.letter_at(label.end(), end) if label else None
    if label is None or letter is None:
        return named, False
    at = label.end()
    if reading.lettered(letter) != named.option:
        return named, True
    return Named(named.start, at + 1, named.option, (at, at + 1)), False


def _alternative(reading: Reading, named: Named, end: int) -> bool:
    """Whether another option is named on a par with this one ("B or C", "B, C", "A and B")."""
    join = _JOIN.match(reading.folded, named.end, end)
    if join is None:
        return False
    words = join[0].strip(" '*)]}.,:_$-\n")
    other = reading.named_at(join.end(), end)
    if other is None or other.option == named.option:
        return False
    if not words and (other.letter is None or not join[0].strip(" '*")):
        # "B. Red …" goes on with a sentence; "B C" and "B\nC" are two letters.
        return other.letter is not None and _ENDS.match(reading.folded, other.end, end) is not None
    return _ENDS.match(reading.folded, other.end, end) is not None or words in ("or", "/", "或", "或者", "oder", "ou")


def read_claim(reading: Reading, start: int, position: int, end: int, *, search: bool = True) -> Claim:
    """Read what is claimed from `position` on.

    Args:
        reading: the text.
        start: where the clause begins.
        position: where its predicate begins, after "the answer is".
        end: where the text ends.
        search: if no option is named right at `position`, take the only one that the sentence mentions un-negated.
    """
    folded = reading.folded
    negation = _NEGATED_HEAD.match(folded, position, end)
    if _EITHER.match(folded, position, end):
        return Claim(start, position, ambiguous=True)
    named = reading.named_at(position, end)
    # An option may itself begin with "not" or "neither".
    if negation and (named is None or named.start >= negation.end()):
        return _read_rejection(reading, start, negation.end(), end)
    if named is not None:
        if named.option is None:
            return Claim(start, named.end, ambiguous=True)
        named, contradicts = _same_option(reading, named, end)
        if contradicts or _alternative(reading, named, end):
            return Claim(start, named.end, ambiguous=True)
        if _NEGATED_AFTER.match(folded, named.end, end) and named.option is not None:
            return Claim(start, named.end, rejected=(named.option,))
        return Claim(start, named.end, named.option, named.letter)
    if not search:
        return Claim(start, position)
    limit = sentence_end(folded, position, end)
    found = reading.mentions(position, limit)
    flags = polarities(reading, found, position, limit)
    options = {mention.option for mention, positive in zip(found, flags, strict=True) if positive}
    rejected = {mention.option for mention, positive in zip(found, flags, strict=True) if not positive}
    option = options.pop() if len(options) == 1 else None
    outside = tuple(sorted(index for index in rejected if index is not None and index != option))
    return Claim(start, limit, option, ambiguous=option is None and bool(found) and not rejected, rejected=outside)


def _read_rejection(reading: Reading, start: int, position: int, end: int) -> Claim:
    rejected: list[int] = []
    at = position
    while (named := reading.named_at(at, end)) is not None and named.option is not None:
        rejected.append(named.option)
        join = _JOIN.match(reading.folded, named.end, end)
        at = named.end if join is None or "." in join[0] else join.end()
        if at == named.end:
            break
    contrast = _CONTRAST.search(reading.folded, at, sentence_end(reading.folded, at, end))
    if contrast:
        instead = read_claim(reading, start, contrast.end(), end, search=False)
        return instead._replace(rejected=(*instead.rejected, *rejected))
    return Claim(start, at, rejected=tuple(rejected))


def _subject(reading: Reading, start: int, position: int, end: int) -> Claim | None:
    """Read "(B) is correct": the option right before the verb at `position`."""
    folded = reading.folded
    before = folded[max(start, position - 48) : position]
    offset = position - len(before)
    match = _SUBJECT_LETTER.search(before)
    if match:
        at = offset + match.start(1)
        lead = before[: match.start()]
        labelled = re.search(r"\b(?:option|choice|answer|letter)[ '*(\[]*$|[(\[*']$", lead)
        if labelled or (reading.text[at].isupper() and match[1] != "i"):
            option = None if _JOINED.search(lead) else reading.lettered(match[1])
            return Claim(at, at + 1, option, None if option is None else (at, at + 1), option is None)
    found = reading.mentions(offset, position)
    if not found or folded[found[-1].end : position].strip(" '*)]_"):
        return None
    last = found[-1]
    joined = len(found) > 1 and LIST_JOIN.fullmatch(folded, found[-2].end, last.start) is not None
    return Claim(last.start, last.end, None if joined else last.option, ambiguous=joined or last.option is None)


def claims(reading: Reading, start: int, end: int) -> Iterator[Claim]:
    """Yield what a text says about its answer by an explicit clause, in order.

    Clauses that suppose ("if the answer is B") or ask ("is the answer B?") are left out.

    Example:
        >>> text = "It is red, so the answer is (A)."
        >>> [claim.option for claim in claims(Reading.of(text, ("red", "blue")), 0, len(text))]
        [0]
    """
    yield from claims_of(reading, clauses(reading.folded, start, end), start, end)


def claims_of(reading: Reading, found: Iterable[Clause], start: int, end: int) -> Iterator[Claim]:
    """Yield what the clauses `found` between `start` and `end` say, see `claims`."""
    position = start
    for clause in found:
        if clause.end <= position and position > start:
            continue
        claim = _claim_of(reading, clause, start, end)
        if claim is not None:
            position = max(position, claim.end)
            yield claim


def _claim_of(reading: Reading, clause: Clause, start: int, end: int) -> Claim | None:
    if clause.kind == "subject":
        claim = _subject(reading, start, clause.predicate, end)
        return None if claim is None or asks(reading.folded, claim.end, end) else claim._replace(end=clause.end)
    # "Answer B" and "Answer: B" name the option itself; where a verb follows, a sentence may lead up to it.
    search = clause.kind in ("answer", "named") and reading.folded[clause.end - 1].isalpha() and not clause.direct
    claim = read_claim(reading, clause.start, clause.predicate, end, search=search)
    if clause.direct and (claim.option is None or not _ENDS.match(reading.folded, claim.end, end)):
        return None
    return None if clause.kind != "boxed" and asks(reading.folded, claim.end, end) else claim


def ends_naming(reading: Reading, position: int, end: int) -> bool:
    """Whether what is named ends at `position`: a stop, a bracket, or a reason follows."""
    return _ENDS.match(reading.folded, position, end) is not None


def bare_claim(reading: Reading, start: int, end: int) -> Claim | None:
    """Read a part that is an answer and nothing else: a letter, an option's text, or both; None if it is not.

    Example:
        >>> bare_claim(Reading.of("(B) blue.", ("red", "blue")), 0, 9).letter
        (1, 2)
    """
    named = reading.named_at(start, end)
    if named is not None and named.option is not None:
        named, contradicts = _same_option(reading, named, end)
        if contradicts or not _DECORATED_END.fullmatch(reading.folded, named.end, end):
            named = None
    else:
        named = None
    whole = whole_option(reading.text[start:end], reading.options)
    by_letter = named is not None and named.letter is not None and reading.by == "letter"
    if whole is not None and not by_letter and (named is None or named.option != whole):
        return Claim(start, end, whole)
    return None if named is None else Claim(start, named.end, named.option, named.letter)
