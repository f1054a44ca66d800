"""The phrases by which a thought concludes, doubts, starts over, confirms or reports; on folded text."""

import re

from ..prompting.claims import NEGATIVE_WORDS
from ..prompting.words import WORD

__all__ = [
    "ABBREVIATION",
    "ASIDE",
    "CONCLUSIVE",
    "CONFIRMATION",
    "CONTRAST",
    "COPULA",
    "CUES",
    "DOUBT",
    "EITHER",
    "LABEL",
    "LETTER_NAMED",
    "LETTER_VERB",
    "LONE_CAPITAL",
    "PREDICATE",
    "REFERENCE",
    "REPORTED",
    "REVISION",
    "SENTENCE_BREAK",
    "STARTS_OVER",
    "SUBJECT_VERB",
    "SUPPOSED",
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
    r"|than|leaves|leaving|eliminates?|with|out|excludes?|of|is|be|choose|pick|say|both|either|between|clearly|definitely"
    rf"|obviously|probably),? )[\s'*]*)([a-z])(?![-.)]?{WORD}|'{WORD}|\. [A-Z])"
)
LETTER_VERB = re.compile(
    r"[\s'*)\]]*(?:,|;|\.|$|(?:is|are|remains?|fits?|matches|works|seems|looks|appears|describes|agrees|corresponds"
    r"|satisfies|applies|holds|stands|has|does|can|could|must|would|isn't|doesn't|can't|cannot|and|or|nor|but|as|because"
    rf"|since|out)\b)(?!{WORD})"
)
SUPPOSED = re.compile(r"\b(?:if|whether|suppose|supposing|assuming|unless)\b[^,.;:]*$")
SENTENCE_BREAK = re.compile(r"(?<=[.!?])['*)\]]*\s+|\n+|(?<=[.!?;])(?=[\u2e80-\u9fff\uac00-\ud7af])|;\s+")
ABBREVIATION = re.compile(r"(?:^|[\s(*'])(?:e\.g|i\.e|vs|fig)\.['*)\]]*$")
LABEL = re.compile(r"(?:^|[\s(*'])(?:[a-z]|\d{1,2})\.['*)\]]*$")

# A pattern is tried only where one of its words occurs: most sentences have none of them.
_CUES = {
    "revision": "wait|hmm|hold on|on second|on closer|let me|scratch|correction|wrong|right|mistake|upon|等等|不对"
    "|moment mal|"
    "attends|espera|incorrect",
    "confirmation": "ye|confirm|indeed|that's|that is|sense|checks|stands|stick|still|consistent|没错|确实",
    "doubt": "sure|certain|clear|can't|cannot|can not|could|unable|hard|difficult|possible|too |no idea|know|toss"
    "|either way|guess|"
    "ambig|不确定|无法|sicher",
    "conclusion": "so|thus|therefore|hence|conse|accord|conclu|overall|summary|result|ultimately|finally|mean|clearly|"
    "definitely|daher|donc|quindi|portanto|por |must|has to|should|would have to|i think|i believe|i'd say|i would say|"
    "所以|因此|故",
    "report": "caption|description|hint|user|prompt|someone|text|note|statement",
    "supposition": "if |whether|suppos|assum|unless",
    "label": "option|choice|answer|letter|candidate|alternative|选项|選項|보기",
}
CUES = {kind: tuple(words.split("|")) for kind, words in _CUES.items()} | {"negation": NEGATIVE_WORDS}
LONE_CAPITAL = re.compile(r"[A-HJ-Z](?![^\W_])")
