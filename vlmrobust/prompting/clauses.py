"""Where a text speaks of its answer: "so the answer is …", "I'd go with …", "… is correct", and in other languages."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Clause", "Kind", "asks", "clauses", "sentence_end"]

Kind = Literal["answer", "direct", "choice", "boxed", "subject"]

_COPULA = (
    r"(?:(?:is|are|was|be|becomes?|would be|should be|must be|will be|has to be|might be|could be|may be|(?:seems?"
    r"|appears?|ought|turns out) to be)\b(?: (?:therefore|thus|then|clearly|indeed)\b)?)"
)
_ADVERBS = "clearly|definitely|therefore|thus|indeed|most likely|likely|probably"
_QUALITIES = "correct|right|best|final|chosen|appropriate|matching|only|accurate|suitable|likely|remaining|true|fitting"


_ALONE = r"(?<!\w)"
# The kind of clause (see `Clause`), words by one of which it is found, what follows them, and what stands before them.
# Words are found by `str.find` and only then matched: ten times faster than one pattern with all of them.
_ROWS: tuple[tuple[Kind, str, str, str], ...] = (
    (
        "answer",
        "answer",
        rf"\b(?: (?:to|for|of) (?:this |the )?'[^\n]{{0,300}}?'| (?!{_COPULA})(?:to|for|of|here|in|based|then|therefore"
        r"|thus|that|i|we|choice|option|letter|must|should|would|will|has|seems|appears|given)\b[^.,;:\n?!]{0,80}?)?"
        rf"[\s*_#)\]']*+(?:{_COPULA}|[:=\n]|-{{1,2}}>?|→)",
        _ALONE,
    ),
    ("direct", "answer", r"[\s*_#)\]']++(?=[(\[]|[a-z]\b)", _ALONE),
    (
        "answer",
        "option choice one response solution statement",
        rf"\b(?: letter)?(?: here| that \w+)?[\s*_]*+(?:{_COPULA}|:)",
        rf"\b(?:{_QUALITIES}) ",
    ),
    ("boxed", "boxed", r"\s*+\{", _ALONE),
    ("boxed", "conclusion verdict decision result final", r"(?: choice| decision)?[\s*_]*+[:\]]", _ALONE),
    (
        "choice",
        "choose pick select go_with going_with opt_for opting_for settle_on settle_for stick_with vote_for conclude",
        r"\b(?: that)?(?! (?:between|from|among))",
        r"\b(?:i|we|i'd|i'll|we'll|let's|let me|let us|i'm|must|should|therefore|thus|so|hence|and)(?: \w+){0,2} "
        r"|^|[.\n] ?",
    ),
    (
        "subject",
        "correct right best accurate appropriate answer final",
        r"\b(?! of\b)",
        rf"\b(?:is|are|must be|would be|should be|has to be|seems|as|being)(?: (?:{_ADVERBS}))?(?: the)?"
        rf"(?: (?:most|only|best|correct|right|final))? ",
    ),
    ("subject", "正确 正確 对 對", r"(?![选選答])", "(?:选项|選項|项|項|是|才)(?:是|才是)?"),
    (
        "boxed",
        "答案 答: 答え 回答 正解 解答 정답 답변 답 选择 選擇 选 選 正确选项 正確選項 最佳选项 最佳選項 最终选项"
        " 最終選項 उत्तर คำตอบ",
        r"(?:应该|應該|应当|应)?(?:选择|選擇|选|選)?(?![项項择擇])(?:是|为|為|就是|は|が|은|는|이|है|คือ)? ?[:,]?",
        "",
    ),
    (
        "boxed",
        "antwort réponse respuesta risposta resposta antwoord svar svaret ответ відповідь odpowiedź odpowiedzią cevap"
        " yanıt jawaban jawabannya đáp_án vastaus válasz odpověď απάντηση الإجابة الجواب",
        r"(?!\w)(?:(?: \w+){0,2}?[\s*_]*+(?::|=|-|(?:est|es|ist|lautet|is|är|это|to|jest|adalah|là|on|je|είναι|è|é|هو"
        r"|هي)\b))?",
        _ALONE,
    ),
)
_HEADS = [
    (kind, stem.replace("_", " "), re.compile(after), re.compile(f"(?:{before})$"))
    for kind, stems, after, before in _ROWS
    for stem in stems.split()
]
_PREFIX = re.compile(
    r"(?:\b(?:so|thus|therefore|hence|consequently|accordingly|and|then|finally|overall"
    r"|in conclusion)\b,? +)?(?:\b(?:the|my|our|la|le|die|der|das|el|il|a|o|l')(?: |(?<=')))?(?:\b(?:final|correct"
    r"|right|best|only|true|likely|most|bonne|richtige|правильный|chosen|appropriate)\b ){0,3}[*#_> ]*\Z"
)
_SUPPOSED = re.compile(
    r"\b(?:if|whether|suppose|supposing|assume|assuming|unless|when|until|could|might|may|is|tempted to|about to"
    r"|going to)(?: \w+){0,2} $"
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s'*)\]]|$)|\n")


class Clause(NamedTuple):
    """A clause that names an answer.

    Attributes:
        kind: "answer" ("the answer is", "the correct option is"), "direct" ("answer B"), "choice" ("I'd go with"),
            "boxed" (or another mark right in front of what it names), "subject" ("… is correct").
        start: where it begins, with its connective; for a "subject", where its verb begins.
        end: where the words end that mark it; what it names begins there, but for a "subject".
    """

    kind: Kind
    start: int
    end: int


def sentence_end(folded: str, position: int, end: int) -> int:
    """Return where the sentence that goes on at `position` ends, at most 400 characters on."""
    limit = min(end, position + 400)
    stop = _SENTENCE_END.search(folded, position, limit)
    return stop.start() if stop else limit


def asks(folded: str, position: int, end: int) -> bool:
    """Whether the sentence that goes on at `position` is a question."""
    stop = _SENTENCE_END.search(folded, position, min(end, position + 200))
    return stop is not None and stop[0] == "?"


def clauses(folded: str, start: int, end: int) -> Iterator[Clause]:
    """Yield the clauses of a folded text that name an answer, in order; suppositions ("if the answer is") are left out.

    Example:
        >>> [clause.kind for clause in clauses("it is red, so the answer is (a). (a) is correct.", 0, 48)]
        ['answer', 'subject']
    """
    hits = []
    for order, (_, stem, *_) in enumerate(_HEADS):
        at = folded.find(stem, start, end)
        while at >= 0:
            hits.append((at, order))
            at = folded.find(stem, at + len(stem), end)
    for at, order in sorted(hits):
        kind, stem, after, before = _HEADS[order]
        text = folded[max(start, at - 60) : at]
        head = after.match(folded, at + len(stem), end)
        lead = before.search(text) if head else None
        if not head or not lead:
            continue
        if kind == "subject":
            yield Clause(kind, at - len(text) + lead.start(), head.end())
            continue
        prefix = _PREFIX.search(text)
        began = at - (len(text) - prefix.start() if prefix else 0)
        if not _SUPPOSED.search(folded[max(start, began - 40) : began]):
            yield Clause(kind, began, head.end())
