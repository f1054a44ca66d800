"""The phrases by which a thought concludes, doubts, starts over, confirms or reports; on folded text."""

import re

from ..prompting.words import WORD

__all__ = [
    "ABBREVIATION",
    "CONCLUSIVE",
    "CONFIRMATION",
    "CONTRAST",
    "CUES",
    "DOUBT",
    "EITHER",
    "LABEL",
    "LETTER_NAMED",
    "LETTER_VERB",
    "LONE_CAPITAL",
    "PREDICATE",
    "REPORTED",
    "REVISION",
    "SENTENCE_BREAK",
    "STARTS_OVER",
    "SUPPOSED",
]

REVISION = re.compile(
    r"\b(?:wait|hmm+|hold on|on second thought|on closer (?:look|inspection)|let me (?:re-?\w+|double|look again"
    r"|check again)"
    r"|scratch that|correction|i was wrong|that's (?:wrong|not right|incorrect)|that is (?:wrong|not right|incorrect)"
    r"|i made a mistake|upon (?:re-?\w+|closer))\b|等等|不对|moment mal|attends|espera"
)
STARTS_OVER = re.compile(r"['*\s]*(?:no|actually|nope)\b[,.! ]")
CONFIRMATION = re.compile(
    r"\b(?:yes|yep|yeah|confirmed|confirms|indeed|that's (?:right|correct)|that is (?:right|correct)|makes sense"
    r"|checks out"
    r"|stands|stick with|still (?:holds|correct|right)|consistent with)\b|没错|确实"
)
DOUBT = re.compile(
    r"\b(?:not (?:\w+ )?(?:sure|certain|clear)|unsure|uncertain|unclear|(?:can't|cannot|can not|couldn't|could not"
    r"|unable to"
    r"|hard to|difficult to|impossible to|not possible to) (?:\w+ )?(?:tell|say|determine|decide|know|see|identify"
    r"|distinguish)"
    r"|no idea|don't know|do not know|it's a toss-?up|either way|i'm guessing|ambiguous)\b|不确定|无法确定|nicht sicher"
)
EITHER = re.compile(r"\b(?:or|either|between)\b|还是|或")
CONTRAST = re.compile(
    r"\b(?:but(?! rather)|however|although|though|actually|while|whereas|yet|on second thought|no wait|wait)\b|但|而"
)
CONCLUSIVE = re.compile(
    r"^[\s*'#_>-]*(?:and |but )?(?:so|thus|therefore|hence|consequently|accordingly|in conclusion|overall"
    r"|to conclude|in summary"
    r"|as a result|ultimately|finally|i conclude|we conclude|this means|that means|which means|clearly|definitely"
    r"|also|daher"
    r"|donc|por lo tanto|por tanto|quindi|portanto|所以|因此|故)\b"
    r"|\b(?:it|this|that|the \w+) (?:must|has to|should|would have to) be\b|\b(?:i think|i believe|i conclude"
    r"|i'd say|i would say)"
    r" (?:that )?(?:it|this|that|the \w+)?|\b(?:so|therefore|thus|hence),? (?:it|this|that|the)\b|所以|因此"
)
REPORTED = re.compile(
    r"\b(?:caption|description|hint|user|prompt|someone|text|note|statement)\b[^.]{0,40}\b(?:says?|said|claims?"
    r"|states?|stated"
    r"|suggests?|asserts?|mentions?|implies|according)\b|\baccording to the (?:caption|description|hint|text)"
)
PREDICATE = re.compile(
    r"(?:\b(?:is|are|was|were|be|been|as|looks?|looking|appears?|seems?|shows?|showing|see|sees|has|have|contains?"
    r"|equals?|reads?"
    r"|says?|depicts?|displays?|leaves|leaving|remains|namely|like|facing|faces|only|exactly|points?|indicates?"
    r"|total|count"
    r"|matches|fits|means|becomes|makes|gives|get|find|counted|counting|stands|sits|lies|ist|sind|est|sont|es|son"
    r"|está)\b"
    r"|(?<=[a-z])'(?:s|re)\b|[=:→]|是|为|有)"
    r"(?:\s*\b(?:a|an|the|to|in|on|at|of|be|clearly|most|likely|\w+ly|option|located|positioned|placed|standing"
    r"|sitting|lying"
    r"|colou?red|painted|still|also|just|indeed|un|une|ein|eine|el|la|le|der|die|das)\b)*[\s'*(_]*$"
)
LETTER_NAMED = re.compile(
    rf"(?:\b(?:options?|choices?|answers?|letter|candidates?|alternative)|选项|選項"
    rf"|보기)[\s:'*(_\[]*(?<!{WORD})([a-z])(?!{WORD}|'{WORD})"
    r"|[(\[]\s*([a-z])\s*[)\]]|\*\*?\(?([a-z])[.):]?\*\*?"
    rf"|(?:(?:^|[,;:.] |\b(?:so|thus|therefore|hence|that|and|but|only|or|not|nor|neither|than|leaves|leaving"
    rf"|eliminates?|with|out"
    rf"|exclude|excludes|of|is|be|choose|pick|say|both|either|between),?) [\s'*]*)([a-z])(?![-.)]?{WORD}|'{WORD}"
    rf"|\. [A-Z])"
)
LETTER_VERB = re.compile(
    rf"[\s'*)\]]*(?:,|;|\.|$|(?:is|are|remains?|fits?|matches|works|seems|looks|does|can|could|must|would|isn't"
    rf"|doesn't|can't"
    rf"|cannot|and|or|nor|but|as|because|since|out)\b)(?!{WORD})"
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
    "doubt": "sure|certain|clear|can't|cannot|can not|could|unable|hard|difficult|possible|no idea|know|toss"
    "|either way|guess|"
    "ambig|不确定|无法|sicher",
    "report": "caption|description|hint|user|prompt|someone|text|note|statement",
    "supposition": "if |whether|suppos|assum|unless",
    "label": "option|choice|answer|letter|candidate|alternative|选项|選項|보기",
}
CUES = {kind: tuple(words.split("|")) for kind, words in _CUES.items()}
LONE_CAPITAL = re.compile(r"[A-HJ-Z](?![^\W_])")
