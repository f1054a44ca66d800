"""The phrases by which a thought concludes, doubts, starts over, confirms or reports; on folded text."""

import re
from bisect import bisect_left

from ..prompting.claims import NEGATIVE_WORDS
from ..prompting.words import WORD, Stems, occurrences

__all__ = [
    "ABBREVIATIONS",
    "ABOUT_IT",
    "ASIDE",
    "BREAKS_OFF",
    "CONCLUSIVE",
    "CONFIRMATION",
    "CONTRAST",
    "COPULA",
    "DOUBT",
    "EITHER",
    "LABEL",
    "LETTER_NAMED",
    "LETTER_VERB",
    "LONE_CAPITAL",
    "PREDICATE",
    "REFERENCE",
    "REPORTED",
    "RESULT",
    "REVISION",
    "SENTENCE_BREAK",
    "STARTS_OVER",
    "SUBJECT_VERB",
    "SUPPOSED",
    "Cues",
]

REVISION = re.compile(
    r"\b(?:wait|hmm+|hold on|on second thought|on closer (?:look|inspection)|let me (?:re-?\w+|double|look again"
    r"|check again)|scratch that|correction|i was wrong|that's (?:wrong|not right|incorrect)|that is (?:wrong"
    r"|not right|incorrect)|i made a mistake|upon (?:re-?\w+|closer))\b|等等|不对|moment mal|attends|espera"
)
STARTS_OVER = re.compile(r"['*\s]*(?:no|actually|nope)\b[,.! ]")
CONFIRMATION = re.compile(
    r"\b(?:yes|yep|yeah|confirmed|confirms|indeed|that's (?:right|correct)|that is (?:right|correct)|makes sense"
    r"|checks out|stands|stick with|still (?:holds|correct|right)|consistent with)\b|没错|确实"
)
DOUBT = re.compile(
    r"\b(?:not (?:\w+ )?(?:sure|certain|clear)|unsure|uncertain|unclear|(?:can't|cannot|can not|couldn't|could not"
    r"|unable to|hard to|difficult to|impossible to|not possible to) (?:\w+ )?(?:tell|say|determine|decide|know|see"
    r"|identify|distinguish)|no idea|don't know|do not know"
    r"|too \w+ to (?:tell|see|say|determine|make out|judge)|it's a toss-?up|either way|i'm guessing|ambiguous)\b"
    r"|不确定|无法确定|nicht sicher"
)
EITHER = re.compile(r"\b(?:or|either|between)\b|还是|或")
CONTRAST = re.compile(r"\b(?:but(?! rather)|however|actually|yet|on second thought|no wait|wait)\b|但|而")
# What is conceded or looked at, and what something is compared with, is not what is asserted.
ASIDE = re.compile(
    r"\b(?:although|though|even if|while|whereas|despite|in spite of)\b[^,;.]*"
    r"|^(?:looking at|comparing|considering|between|among|of)\b[^,.]*,"
)
# What something comes to in the end: of "2 here and 2 there, so 4" the last.
RESULT = re.compile(
    r"\b(?:so|thus|therefore|hence|which means|means|makes|making|gives|giving|leaves|leaving|in total|a total of"
    r"|total|totall?ing|altogether|in all|in sum|adds? up to|also|insgesamt|zusammen|donc|au total|por lo tanto"
    r"|por tanto|en total|quindi|in totale|portanto|no total|итого|всего|значит|поэтому)\b"
    r"|所以|因此|一共|总共|總共|共有|合计|合計|全部で|したがって|よって|총|모두|따라서|[=→]|=>"
)
# A thought that ends in one of these was cut off before it said what it was about to say.
BREAKS_OFF = re.compile(
    r"(?:\b(?:and|or|but|the|an?|is|are|was|were|be|been|of|to|in|on|at|by|with|from|than|that|which|who|its?|his|her"
    r"|their|my|as|about|approximately|roughly|around|exactly|between|behind|see|has|have|had|can|could|would|will|und"
    r"|oder|der|die|das|ist|et|ou|le|la|les|est|y|o|el|es|un|une|una)|,)\s*$"
)
ABOUT_IT = re.compile(
    r"[\s*'-]*(?:(?:it|this|that|he|she|they)(?:'s|'re| is| are| has| must| looks| appears| seems)"
    r"|since|because|given|as)\b"
)
SUBJECT_VERB = re.compile(r"['*]* (?:is|are|appears?|seems?|looks?|has|stands|lies|sits)\b")
REFERENCE = re.compile(
    r"\b(?:than|beside|besides|next to|near|nearer to|of|from|behind|beyond|under|with|by|like)"
    r" (?:the |a |an |this |that )?['*]*$"
)
CONCLUSIVE = re.compile(
    r"^[\s*'#_>-]*(?:and |but )?(?:so|thus|therefore|hence|consequently|accordingly|in conclusion|overall"
    r"|to conclude|in summary|as a result|ultimately|finally|i conclude|we conclude|this means|that means"
    r"|which means|clearly|definitely|also|daher|donc|por lo tanto|por tanto|quindi|portanto|所以|因此|故)\b|\b(?:it"
    r"|this|that|the \w+) (?:must|has to|should|would have to) be\b|\b(?:i think|i believe|i conclude|i'd say"
    r"|i would say) (?:that )?(?:it|this|that|the \w+)?|\b(?:so|therefore|thus|hence),? (?:it|this"
    r"|that|the)\b|所以|因此"
)
REPORTED = re.compile(
    r"\b(?:caption|description|hint|user|prompt|someone|text|note|statement)\b[^.]{0,40}\b(?:says?|said|claims?"
    r"|states?|stated|suggests?|asserts?|mentions?|implies|according)\b|\baccording to the (?:caption|description"
    r"|hint|text)"
)
_QUALIFIERS = (
    r"(?:\s*\b(?:a|an|the|to|in|on|at|of|be|most|\w+ly|option|located|positioned|placed|standing|sitting|lying"
    r"|her|his|its|their|my|your|colou?red|painted|still|also|just|indeed|un|une|ein|eine|el|la|le|der|die|das)\b)*[\s'*(_]*$"
)
_COPULAS = (
    r"\b(?:(?<!there )(?:is|are|was|were)|be|been|as|looks?|appears?|seems?|remains|ist|sind|est|sont|es|son"
    r"|está)\b|(?<!there)(?<=[a-z])'(?:s|re)\b|[=:→]|是|为"
)
COPULA = re.compile(rf"(?:{_COPULAS}){_QUALIFIERS}")
PREDICATE = re.compile(
    rf"(?:{_COPULAS}|\bthere(?: is| are|'s)|\b(?:looking|shows?|showing|see|sees|has|have|contains?|equals?|reads?"
    rf"|says?|depicts?|displays?|leaves|leaving|namely|like|facing|faces|only|exactly|points?|indicates?|total"
    rf"|count|matches|fits|means|becomes|makes|gives|get|find|counted|counting|stands|sits|lies)\b|有){_QUALIFIERS}"
)
LETTER_NAMED = re.compile(
    rf"(?:\b(?:options?|choices?|answers?|letter|candidates?|alternative)|选项|選項|보기)[\s:'*(_\[]*"
    rf"(?<!{WORD})([a-z])(?!{WORD}|'{WORD})"
    r"|[(\[]\s*([a-z])\s*[)\]]|\*\*?\(?([a-z])[.):]?\*\*?"
    r"|(?:(?:^|(?<=[.!?\n] )|(?<=\n)|[,;:] |[>→] ?|\b(?:so|thus|therefore|hence|that|and|but|only|or|not|nor|neither"
    r"|it's|that's|matches|fits|means|than|leaves|leaving|eliminates?|with|out|excludes?|of|is|be|choose|pick|say|both|either|between|clearly|definitely"
    rf"|obviously|probably),? )[\s'*]*)([a-z])(?![-.)]?{WORD}|'{WORD}|\. [A-Z])"
)
LETTER_VERB = re.compile(
    r"[\s'*)\]]*(?:,|;|\.|$|(?:is|are|remains?|fits?|matches|works|seems|looks|appears|describes|agrees|corresponds"
    r"|satisfies|applies|holds|stands|has|does|can|could|must|would|isn't|doesn't|can't|cannot|and|or|nor|but|as|because"
    rf"|since|out)\b)(?!{WORD})"
)
SUPPOSED = re.compile(r"\b(?:if|whether|suppose|supposing|assuming|unless)\b[^,.;:]*$")
# Group 1: without a mark that belongs to the sentence. One set of first characters, so that breaks are found fast.
SENTENCE_BREAK = re.compile(
    r"[.!?;\n](?:(?<=[.!?])['*)\]]*\s+|(?<=[.!?;])(?=[\u2e80-\u9fff\uac00-\ud7af])|((?<=\n)\n*|(?<=;)\s+))"
)
ABBREVIATIONS = ("e.g.", "i.e.", " vs.", "(vs.", " fig.", "(fig.")
LABEL = re.compile(r"(?:(?:^|[\s(*'])[a-z]|(?:^|[\n.,:;!?(*]) ?\d{1,2})\.$")

# What a phrase of a kind begins with: its pattern is tried there alone, and most sentences have none of them.
_CUES = {
    "revision": "wait|hmm|hold on|on second|on closer|let me |scratch|correction|i was wrong|that's|that is|i made"
    "|upon|等等|不对|moment mal|attends|espera",
    "confirmation": "yes|yep|yeah|confirm|indeed|that's|that is|makes sense|checks out|stands|stick with|still "
    "|consistent with|没错|确实",
    "doubt": "not |unsure|uncertain|unclear|can't|cannot|couldn't|could not|can not|unable to|hard to|difficult to"
    "|impossible to|no idea|don't know|do not know|too |it's a toss|either way|i'm guessing|ambiguous|不确定|无法确定"
    "|nicht sicher",
    "report": "caption|description|hint|user|prompt|someone|text|note|statement|according to",
    "contrast": "but|however|actually|yet|on second thought|no wait|wait|但|而",
    "result": "so|thus|therefore|hence|which means|means|mak|giv|leav|in total|a total of|total|altogether|in all"
    "|in sum|add|also|insgesamt|zusammen|donc|au total|por lo tanto|por tanto|en total|quindi|in totale|portanto"
    "|no total|итого|всего|значит|поэтому|所以|因此|一共|总共|總共|共有|合计|合計|全部で|したがって|よって|총|모두"
    "|따라서|=|→",
    # Of these the pattern may begin elsewhere.
    "conclusion": "so|thus|therefore|hence|conse|accord|conclu|overall|summary|result|ultimately|finally|mean|clearly"
    "|definitely|daher|donc|quindi|portanto|por |must|has to|should|would have to|i think|i believe|i'd say"
    "|i would say|所以|因此|故",
    "supposition": "if |whether|suppos|assum|unless",
    "label": "option|choice|answer|letter|candidate|alternative|选项|選項|보기",
    "negation": "|".join(NEGATIVE_WORDS),
}
_WORDS = {kind: tuple(words.split("|")) for kind, words in _CUES.items()}
_STEMS = Stems(word for words in _WORDS.values() for word in words)


class Cues:
    """Where the words of every kind begin in a folded text."""

    def __init__(self, folded: str) -> None:
        self._folded = folded
        self._present = _STEMS.present(folded)
        self._places: dict[str, list[int]] = {}

    def between(self, kind: str, start: int, end: int) -> list[int]:
        """Return where words of a kind begin between two positions."""
        places = self._places.get(kind)
        if places is None:
            words = self._present.intersection(_WORDS[kind])
            places = sorted(place for word in words for place in occurrences(self._folded, word))
            self._places[kind] = places
        return places[bisect_left(places, start) : bisect_left(places, end)] if places else places

    def phrases(self, kind: str, pattern: re.Pattern[str], start: int, end: int) -> list[re.Match[str]]:
        """Return the phrases of a kind between two positions."""
        places = self.between(kind, start, end)
        return [match for place in places if (match := pattern.match(self._folded, place, end))] if places else []


LONE_CAPITAL = re.compile(r"[A-HJ-Z](?![^\W_])")
