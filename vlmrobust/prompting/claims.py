"""Parse clauses that state an answer, and find out which mentions of options are negated.

Clauses are "the answer is B", "I'd go with C", "(B) is correct", "not A but B" (`claims`), or an answer alone
(`bare_claim`).

Negation is found in any sentence: `by_polarity` splits its mentions into affirmed and negated ones, for the answers'
parser and the rule judge. The words that negate a mention are `_NEGATION` before it ("not", "rather than",
"eliminated") and `_NEGATED_AFTER` behind it ("is wrong", "can't", "✗"), with the phrases in `_REFUSED`; a negation
does not extend past the words in `_BOUNDARY` ("but", "because").
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from .mentions import LIST_JOIN, Mention, Reading, whole_option

__all__ = [
    "Claim",
    "bare_claim",
    "bare_mention",
    "by_polarity",
    "claims",
    "has_alternative",
    "read_claim",
    "sole_claim",
]

_COPULA = (
    r"(?:(?:is|are|was|be|becomes?|would be|should be|must be|will be|has to be|might be|could be|may be|(?:seems?"
    r"|appears?|turns out) to be)\b(?: (?:therefore|thus|then|clearly|indeed)\b)?)"
)
_ALONE = r"(?<!\w)"
# In other languages: the copula, the words between it and the option ("est donc la B", "es la opción B"), and "not".
_IS = r"(?:est|es|ist|lautet|is|är|это|to|jest|adalah|là|on|je|είναι|è|é|هو|هي)\b"
_UP_TO_OPTION = (
    r"(?: (?:donc|alors|also|daher|somit|portanto|então|quindi|entonces)\b)?"
    r"(?: (?:la|el|il|a|o|die|der)(?= [(*'\[]*[a-z][)*'\]]*(?:[.,;:!?\n]|$)| (?:opción|opção|alternativa|letra|lettre"
    r"|lettera|antwort)\b)| l'(?=opt|opz))?"
)
_NO = r"(?!(?:no|não|non|nicht|не|bukan|không|ليس|ليست|ikke|inte|niet|nie)\b|n')"
# Heads of clauses: kind, stems to search for, pattern after the stem, pattern before it.
# After "answer" a sentence may follow ("the answer is …"); the option follows immediately after "direct" ("answer B"),
# "choice" ("I'd go with") and "boxed" or similar markup; a "subject" comes first ("… is correct"). Stems are found with
# `str.find` and only then matched, ten times faster than one pattern with all of them.
_HEAD_TABLE = (
    ("answer", "answer",
     rf"\b(?: (?:to|for|of) (?:this |the )?'[^\n]{{0,300}}?'| (?!{_COPULA})(?:to|for|of|here|in|based|then|therefore"
     r"|thus|that|i|we|choice|option|letter|must|should|would|will|has|seems|appears|given)\b[^.,;:\n?!]{0,80}?)?"
     rf"[\s*_#)\]']*+(?:{_COPULA}|[:=\n]|-{{1,2}}>?|[→⇒⟹])", r"(?<![^\W_])"),
    ("direct", "answer", r"[\s*_#)\]']++(?=[(\[]|[a-z]\b)", _ALONE),
    ("answer", "option choice one response solution statement guess pick",
     rf"\b(?: letter)?(?: here| that \w+)?[\s*_]*+(?:{_COPULA}|:)",
     r"\b(?:correct|right|best|final|chosen|appropriate|matching|only|accurate|suitable|likely|remaining|true|my) "),
    ("choice", "choose pick select go_with going_with opt_for opting_for settle_on settle_for stick_with conclude",
     r"\b(?: that)?(?! (?:between|from|among))",
     r"\b(?:i|we|i'd|i'll|we'll|let's|let me|let us|i'm|must|should|therefore|thus|so|hence|and)(?: \w+){0,2} |^"
     r"|[.\n] ?"),
    ("subject", "correct right best accurate appropriate answer final", r"\b(?! of\b)",
     r"\b(?:is|are|must be|would be|should be|has to be|seems|as|being)(?: (?:\w+ly|therefore|thus|indeed))?"
     r"(?: the)?(?: (?:most|only|best|correct|right|final))? |\bis my (?:final )?"),
    ("subject", "正确 正確 对 對", r"(?![选選答])", "(?:选项|選項|项|項|是|才)(?:是|才是)?"),
    ("boxed", "boxed", r"\s*+\{", _ALONE),
    ("boxed", "ans", r"\.?[\s*_]*+:", _ALONE),
    ("boxed", "conclusion verdict decision result final", r"(?: choice| decision)?[\s*_]*+[:\]]", _ALONE),
    ("boxed", "答案 答: 答え 回答 正解 解答 정답 답변 답 正确选项 正確選項 正确的选项 正確的選項"
     " 最佳选项 正答 उत्तर जवाब คำตอบ",
     r"(?:应该|應該|应当|应)?(?:选择|選擇|选|選)?(?![项項择擇択])(?:是|为|為|就是|は|が|은|는|이| ?है|คือ)? ?[:,]?", ""),
    ("boxed", "选择 選擇 选 選", r"(?![项項择擇択])(?:是|为|為)? ?[:,]?",
     r"(?=$)(?<![不没未])(?<!不[能应應该該可會会要])(?<!不应该|不建议)(?<!无法|無法)"
     r"(?<!(?:[请請你万萬,.;:!?。\s])[别別])(?<!^[别別])"),
    ("boxed", "的选项 的選項", "(?:是|为|為) ?[:,]?",
     r"最(?:合适|合適|恰当|恰當|适合|適合|适当|適當|准确|準確|接近|可能|优|優|好|终|終|符合[^,.;:!?\n]{0,6})"),
    ("boxed", "antwort réponse respuesta risposta resposta antwoord svar svaret ответ відповідь odpowiedź odpowiedzią"
     " cevap yanıt jawaban jawabannya đáp_án vastaus válasz odpověď απάντηση الإجابة الجواب"
     " câu_trả_lời", rf"(?!\w)(?:(?: {_NO}\w+){{0,2}}?[\s*_]*+(?::|=|-|{_IS}){_UP_TO_OPTION})?", _ALONE),
    ("boxed", "option opción opção alternativa opzione letra pilihan الخيار lựa_chọn",
     r" (?:correcte|correcta|correta|certa|corretta|exacte|giusta|esatta|yang benar|yang tepat|الصحيح|đúng)"
     rf"[\s*_]*+(?::|=|{_IS}){_UP_TO_OPTION}", _ALONE),
    ("boxed", "option вариант विकल्प 선택지 選択肢", r"(?: ответа)?(?: ?(?:ist|lautet|[:-]|は|는|은))?",
     "(?:richtige|korrekte|правильный|верный|सही|올바른|正しい|適切な) ?"),
)  # fmt: skip
_HEADS = [
    (kind, stem.replace("_", " "), re.compile(after), re.compile(f"(?:{before})$"))
    for kind, stems, after, before in _HEAD_TABLE
    for stem in stems.split()
]
_PREFIX = re.compile(
    r"(?:\b(?:so|thus|therefore|hence|consequently|accordingly|and|then|finally|overall|in conclusion)\b,? +)?"
    r"(?:\b(?:the|my|our|la|le|die|der|das|el|il|a|o|l')(?: |(?<=')))?(?:\b(?:final|correct|right|best|only|true|likely"
    r"|most|bonne|richtige|правильный|chosen|appropriate)\b ){0,3}[*#_> ]*\Z"
)
_MY = re.compile(r"\bmy $")
_HYPOTHETICAL = re.compile(
    r"\b(?:if|whether|suppos\w+|assum\w+|unless|when|until|could|might|may|is|(?:about|going) to)(?: \w+){0,2} $"
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s'*)\]]|$)|\n")
_EITHER = re.compile(r"[\s*':]*(?:likely |probably |(?:could|may|might) be )?(?:either|somewhere between)\b")
_JOIN = re.compile(
    r"[\s'*)\]}._$]*(?:(?:,\s*)?\b(?:or|and|und|oder|ou|et|y|o|e|или|и|dan|atau|và|hoặc|أو|as well as"
    r"|and/or)\b(?: (?:maybe|perhaps|possibly))?|[,/&+;]|和|或者?|または|と|또는|या)[\s'*]*|[\s'*)\]}.,:_$-]*\s[\s'*]*"
)
_OR = frozenset({"or", "/", "或", "或者", "oder", "ou", "o", "или", "または", "또는", "hoặc", "atau", "أو", "या"})
# After an option of a list by text: a further one, or the end of the list.
_FURTHER = re.compile(r"['*_]*(?:,|,? (?:and|or)\b) *['*_]*")
_STOP = re.compile(r"[ '*_)\]}]*(?:[.;!?\n]|$)")
_DECORATED_END = re.compile(r"[\s*_'#~$\])}>.,:;!|\\-]*")
# A negation covers a few words, but not beyond one of these.
_BOUNDARY = (
    "but|because|since|as|so|and|while|whereas|although|though|which|who|where|if|when|it's|it is|that is|that are|then"
    "|sondern|mais|sino|mas|ma|а|melainkan|بل|mà"
)
_NEGATION = re.compile(
    rf"""(?:\b(?:not|cannot|never|neither|nor|no|without|lack(?:s|ing)?|absence\ of|none\ of|rather\ than|instead\ of
        |(?:eliminat|exclud|reject|discard|dismiss)\w*|rul(?:e|es|ed|ing)\ (?:\w+\ )?out|unlike|other\ than
        |except(?:\ for)?|different\ from|opposed\ to|incorrect|wrong|false|unlikely|hardly|fail(?:s|ed)?\ to
        |(?:anything|everything|all)\ but|nicht|keine?|pas|нет?|não|non|bukan|không(?:\ phải)?|ليست?)\b
        |n't\b|不是|没有|不)
    (?!\ (?:only|just|sure|certain|clear|doubt|matter|necessarily|whether|because)\b)
    (?:['*(]*\ (?!(?:{_BOUNDARY})\b)['*(]*[\w'/-]+['*)]*){{0,7}}[\s'*(\[]*$""",
    re.VERBOSE,
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
    |['*)\]]*\ ?[:=-]\ ?['*]*(?:no\b|{_REFUSED}|[✗❌✘])
    |\)\ (?:wrong|incorrect|false)\b(?!\ (?!because\b|since\b|as\b|and\b|but\b)[a-z]{{2}})
    |['*)\]]*(?:\.?\ ?[✗❌✘]|(?:选项|選項)?是?(?:不|错|錯)|では(?:な|ありません)|じゃな|[이가]\ 아[니닙닌]|\ नहीं
      |\ غير\b|\ n'est\ pas)""",
    re.VERBOSE,
)


class Claim(NamedTuple):
    """The content of a clause: it asserts `option`, is `ambiguous`, rejects options, or none of these.

    Attributes:
        start, end: the clause, from its connective ("so the") to the end of the named option.
        option: the asserted option; None = none.
        letter: the span of the letter that names it; None = it is named by its text.
        ambiguous: the clause names several or contradicting options, or a letter of no option.
        rejected: the options that the clause denies.
    """

    start: int
    end: int
    option: int | None = None
    letter: tuple[int, int] | None = None
    ambiguous: bool = False
    rejected: tuple[int, ...] = ()


def by_polarity(reading: Reading, found: list[Mention], start: int, end: int) -> tuple[list[Mention], list[Mention]]:
    """Split the mentions between `start` and `end` into affirmed and negated ones.

    A negation covers a list ("not red, blue or green"; "red and blue are not"), but does not extend past a
    conjunction, another verb or the sentence.
    """
    folded = reading.folded
    joined = [
        after.start - before.end <= 24 and LIST_JOIN.fullmatch(folded, before.end, after.start) is not None
        for before, after in pairwise(found)
    ]
    negated_before: list[bool] = []
    for mention, in_list in zip(found, [False, *joined], strict=False):
        before = folded[max(start, mention.start - 80) : mention.start]
        negated_before.append(_NEGATION.search(before) is not None or (in_list and negated_before[-1]))
    negated_after = False
    split: tuple[list[Mention], list[Mention]] = ([], [])
    for mention, is_negated, in_list in zip(
        reversed(found), reversed(negated_before), [False, *reversed(joined)], strict=False
    ):
        negated_after = _NEGATED_AFTER.match(folded, mention.end, end) is not None or (in_list and negated_after)
        split[is_negated or negated_after].insert(0, mention)
    return split


def sole_claim(reading: Reading, start: int, position: int, end: int) -> Claim:
    """Return the only option affirmed between `position` and `end`; the clause begins at `start`."""
    positive, negative = by_polarity(reading, reading.named(position, end), position, end)
    options = {mention.option for mention in positive}
    option = options.pop() if len(options) == 1 else None
    letter = next((mention.letter for mention in positive if mention.option == option), None)
    rejected = sorted({m.option for m in negative if m.option is not None and m.option != option})
    return Claim(start, end, option, letter, option is None and bool(positive), tuple(rejected))


def has_alternative(reading: Reading, named: Mention, end: int) -> bool:
    """Return whether another option is coordinated with this one ("B or C", "B, C", "A and B")."""
    join = _JOIN.match(reading.folded, named.end, end)
    other = reading.named_at(join.end(), end) if join else None
    if join is None or other is None or other.option == named.option:
        return False
    words = join[0].strip(" '*)]}.,:_$-\n")
    if not words:
        # "B. Red …" continues with a sentence; "B C", "B\nC" and "red, blue." are two options.
        if other.letter is not None:
            return other.option is not None and reading.ends_at(other.end, end)
        return named.letter is None and "," in join[0] and _ends_list(reading, other.end, end)
    return reading.ends_at(other.end, end) or words in _OR


def _ends_list(reading: Reading, position: int, end: int) -> bool:
    """Return whether a list of options ends with the one before `position`, or with one after it ("red, blue.")."""
    for _ in reading.options:  # a list names each once
        further = _FURTHER.match(reading.folded, position, end)
        other = reading.named_at(further.end(), end) if further else None
        if other is None:
            break
        position = other.end
    return _STOP.match(reading.folded, position, end) is not None


def read_claim(reading: Reading, start: int, position: int, end: int, *, search: bool = True) -> Claim:
    """Read the claim after "the answer is", at `position`, in a clause that begins at `start`.

    If no option is named at `position`, the only option affirmed in the sentence is used, unless `search` is False.
    """
    if _EITHER.match(reading.folded, position, end):
        return Claim(start, position, ambiguous=True)
    named = reading.named_at(position, end)
    if named is not None:
        if named.option is None or has_alternative(reading, named, end):
            return Claim(start, named.end, ambiguous=True)
        if _NEGATED_AFTER.match(reading.folded, named.end, end):
            return Claim(start, named.end, rejected=(named.option,))
        return Claim(start, named.end, named.option, named.letter)
    if not search:
        return Claim(start, position)
    limit = min(end, position + 400)
    stop = _SENTENCE_END.search(reading.folded, position, limit)
    return sole_claim(reading, start, position, stop.start() if stop else limit)


def _subject(reading: Reading, start: int, verb: int, end: int) -> Claim | None:
    """Read "(B) is correct": the option directly before the verb."""
    found = reading.named(max(start, verb - 48), verb)
    if not found or reading.folded[found[-1].end : verb].strip(" '*)]}_.:"):
        return None
    last = found[-1]
    if last.option is None or (len(found) > 1 and LIST_JOIN.fullmatch(reading.folded, found[-2].end, last.start)):
        return Claim(last.start, end, ambiguous=True)
    return Claim(last.start, end, last.option, last.letter)


def claims(reading: Reading, start: int, end: int) -> Iterator[Claim]:
    """Yield the claims of a text's explicit clauses, in order.

    Hypothetical clauses ("if the answer is B") and questions ("is the answer B?") are skipped, and so is a guess where
    another clause states an answer, or another option follows.

    Example:
        >>> text = "It is red, so the answer is (A)."
        >>> [claim.option for claim in claims(Reading.of(text, ("red", "blue")), 0, len(text))]
        [0]
    """
    hits = []
    for order, (_, stem, *_) in enumerate(_HEADS):
        at = reading.folded.find(stem, start, end)
        while at >= 0:
            hits.append((at, order))
            at = reading.folded.find(stem, at + len(stem), end)
    position = start
    certain: list[Claim] = []
    tentative: list[Claim] = []
    for at, order in sorted(hits):
        claim = _claim(reading, order, start, at, end) if at >= position else None
        if claim is not None:
            position = claim.end
            (tentative if _is_tentative(reading, order, at) else certain).append(claim)
    if not certain and tentative:
        further = reading.named(tentative[-1].end, end)
        certain = [] if any(other.option != tentative[-1].option for other in further) else tentative
    yield from certain


def _is_tentative(reading: Reading, order: int, at: int) -> bool:
    """Return whether the head whose stem is at `at` is "my guess" or "my choice", which may be revised."""
    stem = _HEADS[order][1]
    return stem in ("guess", "pick") or (
        stem != "answer" and _MY.search(reading.folded, max(0, at - 4), at) is not None
    )


def _claim(reading: Reading, order: int, start: int, at: int, end: int) -> Claim | None:
    """Read the clause whose head has its stem at `at`."""
    kind, stem, after, before = _HEADS[order]
    folded, text = reading.folded, reading.folded[max(start, at - 60) : at]
    head = after.match(folded, at + len(stem), end)
    lead = before.search(text) if head else None
    if not head or not lead:
        return None
    if kind == "subject":
        claim = _subject(reading, start, at - len(text) + lead.start(), head.end())
    else:
        prefix = _PREFIX.search(text)
        begin = at - (len(text) - prefix.start() if prefix else 0)
        if _HYPOTHETICAL.search(folded[max(start, begin - 40) : begin]):
            return None
        # "Answer B" and "Answer: B" name the option directly; after a verb, a sentence may lead up to it.
        search = kind == "answer" and folded[head.end() - 1].isalpha()
        claim = read_claim(reading, begin, head.end(), end, search=search)
        if kind == "direct" and (claim.option is None or not reading.ends_at(claim.end, end)):
            return None
    stop = _SENTENCE_END.search(folded, claim.end, min(end, claim.end + 200)) if claim else None
    return claim if kind == "boxed" or stop is None or stop[0] != "?" else None


def bare_mention(reading: Reading, start: int, end: int) -> Mention | None:
    """Return the option named by a span that contains nothing else, or None."""
    named = reading.named_at(start, end)
    bare = named is not None and named.option is not None and _DECORATED_END.fullmatch(reading.folded, named.end, end)
    return named if bare else None


def bare_claim(reading: Reading, start: int, end: int) -> Claim | None:
    """Read a span that is only an answer: a letter, an option's text, or both; None if it is not."""
    named = bare_mention(reading, start, end)
    if named is None or named.letter is None or reading.by != "letter":
        whole = whole_option(reading.text[start:end], reading.options)
        if whole is not None and (named is None or named.option != whole):
            return Claim(start, end, whole)
    return None if named is None else Claim(start, named.end, named.option, named.letter)
