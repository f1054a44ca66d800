"""Where a text speaks of its answer: "so the answer is …", "I'd go with …", "… is correct", and in other languages."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Clause", "Kind", "asks", "clauses", "sentence_end"]

Kind = Literal["answer", "named", "boxed", "choice", "subject"]

_COPULA = (
    r"(?:(?:is|are|was|be|becomes?|would be|should be|must be|will be|has to be|might be|could be|may be|(?:seems?"
    r"|appears?|ought|turns out) to be)\b(?: (?:therefore|thus|then|clearly|indeed)\b)?)"
)
_VERBOSE_COPULA = _COPULA.replace(" ", r"\ ")
_ANSWER = re.compile(
    rf"""\banswer\b
    (?:\ (?:to|for|of)\ (?:this\ |the\ )?'[^\n]{{0,300}}?'
      |\ (?!{_VERBOSE_COPULA})(?:to|for|of|here|in|based|then|therefore|thus|that|i|we|choice|option|letter|must
        |should|would|will|has|seems|appears|given)\b[^.,;:\n?!]{{0,80}}?)?
    [\s*_\#)\]']*+(?:{_VERBOSE_COPULA}|[:=\n]|-{{1,2}}>?|→|(?P<direct>(?<![a-z])(?=[(\[]|[a-z]\b)))
    """,
    re.VERBOSE,
)
_OPTION = re.compile(
    rf"\b(?:option|choice|one|response|solution|statement)\b(?: letter)?(?: here| that \w+)?[\s*_]*+(?:{_COPULA}|:)"
)
_BOXED = re.compile(r"\bboxed\s*+\{")
_FINAL = re.compile(r"\b(?:conclusion|verdict|decision|result|final(?: choice| decision)?)[\s*_]*+[:\]]")
_CHOICE = re.compile(
    r"\b(?:choose|pick|select|go with|going with|opt for|opting for|settle on|settle for|stick with|vote for"
    r"|conclude)\b(?: that)?(?! (?:between|from|among))"
)
_FOREIGN = re.compile(
    r"""(?:正确|正確|最佳|最终|最終)(?:选项|選項)(?:应该|应当|应)?(?:是|为|為)?:?
    |(?:正确)?答案(?:应该|應該|应当|应)?(?:选择|選擇|选|選|是|为|為|就是)?(?:项|項)?:?
    |(?:选择|選擇|选|選)(?![项項择擇])(?:是|为|為)?:?
    |(?<!回)答:
    |(?:答え|回答|正解|解答)(?:は|が)?[:,]?
    |(?:정답|답변|답)(?:은|는|이|:)\ ?:?
    |\b(?:antwort|réponse|respuesta|risposta|resposta|antwoord|svar(?:et)?|ответ|відповідь|odpowiedź|odpowiedzią|cevap
      |yanıt|jawaban(?:nya)?|đáp\ án|vastaus|válasz|odpověď|απάντηση)\b
      (?:\ (?:correcta|correcte|corretta|correta|finale?|exacte|exacta|certa|giusta|đúng|yang\ benar)\b)?[\s*_]*+
      (?::|=|-|(?:est|es|ist|lautet|is|är|это|to|jest|adalah|là|on|je|είναι|è|é)\b)?
    |(?:الإجابة|الجواب)(?:\ الصحيحة)?(?:\ (?:هو|هي))?\ ?:?|उत्तर\ ?(?:है)?:?|คำตอบ(?:คือ)?\ ?:?
    """,
    re.VERBOSE,
)
_CORRECT = re.compile(
    r"(?:correct|right|best|accurate|appropriate|answer|final)\b(?! of\b)|(?:正确|正確|对|對)(?!选|選|答)"
)

_CHOICE_WORDS = (
    "choose", "pick", "select", "go with", "going with", "opt for", "opting for", "settle", "stick with", "vote for",
    "conclude",
)  # fmt: skip
_CORRECT_WORDS = ("correct", "right", "best", "accurate", "appropriate", "answer", "final", "正确", "正確")
_FOREIGN_WORDS = (
    "正确", "正確", "最佳", "最终", "最終", "答案", "答:", "选", "選", "答え", "回答", "正解", "解答",
    "정답", "답변", "답", "antwort", "réponse", "respuesta", "risposta", "resposta", "antwoord", "svar", "ответ",
    "відповідь", "odpowied", "cevap", "yanıt", "jawaban", "đáp", "vastaus", "válasz", "odpověď", "απάντηση", "الإجابة",
    "الجواب", "उत्तर", "คำตอบ",
)  # fmt: skip
# Words are found by `str.find` and only then matched: ten times faster than one pattern with all of them.
_STEMS: tuple[tuple[str, Kind, re.Pattern[str]], ...] = (
    ("answer", "answer", _ANSWER),
    ("boxed", "boxed", _BOXED),
    *((stem, "named", _OPTION) for stem in ("option", "choice", "one", "response", "solution", "statement")),
    *((stem, "boxed", _FINAL) for stem in ("conclusion", "verdict", "decision", "result", "final")),
    *((stem, "choice", _CHOICE) for stem in _CHOICE_WORDS),
    *((stem, "subject", _CORRECT) for stem in _CORRECT_WORDS),
    *((stem, "boxed", _FOREIGN) for stem in _FOREIGN_WORDS),
)
_VERB_BEFORE = re.compile(
    r"\b(?:is|are|must be|would be|should be|has to be|seems|as|being)(?: (?:clearly|definitely|therefore|thus"
    r"|indeed|most likely|likely|probably))?(?: the)?(?: (?:most|only|best|correct|right|final))? $"
    r"|(?:选项|選項|项|項)?(?:是|才是|才)?$(?<=[项項是才])"
)
_QUALIFIED = re.compile(
    r"\b(?:correct|right|best|final|chosen|appropriate|matching|only|accurate|suitable|likely|remaining|true"
    r"|fitting) $"
)
_CHOOSER = re.compile(
    r"(?:\b(?:i|we|i'd|i'll|we'll|let's|let me|let us|i'm|must|should|therefore|thus|so|hence|and)(?: \w+){0,2} $"
    r"|(?:^|[.\n] ?)$)"
)
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
        kind: "answer" ("the answer is"), "named" ("the correct option is"), "boxed" (or another mark right in front of
            what it names), "choice" ("I'd go with"), "subject" ("… is correct").
        start: where it begins, with its connective.
        predicate: where what it names begins; for a "subject", where that ends.
        end: where the words end that mark it.
        direct: nothing but space stands between "answer" and what it names.
    """

    kind: Kind
    start: int
    predicate: int
    end: int
    direct: bool = False


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
    for order, (stem, _, _) in enumerate(_STEMS):
        at = folded.find(stem, start, end)
        while at >= 0:
            hits.append((at, order))
            at = folded.find(stem, at + len(stem), end)
    for at, order in sorted(hits):
        _, kind, pattern = _STEMS[order]
        head = pattern.match(folded, at, end)
        clause = _clause(folded, kind, head, start) if head else None
        if clause is not None:
            yield clause


def _clause(folded: str, kind: Kind, head: re.Match[str], start: int) -> Clause | None:
    at = head.start()
    before = folded[max(start, at - 60) : at]
    if kind == "subject":
        verb = _VERB_BEFORE.search(before)
        if verb is None:
            return None
        subject_end = at - len(before) + verb.start()
        return Clause(kind, subject_end, subject_end, head.end())
    if (kind == "named" and not _QUALIFIED.search(before)) or (kind == "choice" and not _CHOOSER.search(before)):
        return None
    prefix = _PREFIX.search(before)
    began = at - (len(before) - prefix.start() if prefix else 0)
    if kind != "boxed" and _SUPPOSED.search(folded[max(start, began - 40) : began]):
        return None
    direct = kind == "answer" and head["direct"] is not None
    return Clause(kind, began, head.end(), head.end(), direct)
