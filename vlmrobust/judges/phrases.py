"""Define patterns for phrases that conclude, compare, doubt or start over, to be matched on folded text."""

import re

# Sentence breaks. Group 1: a break without a mark that belongs to the sentence.
SENTENCE_BREAK = re.compile(
    r"[.!?;\n](?:(?<=[.!?])['*)\]]*\s+|(?<=[.!?;])(?=[\u2e80-\u9fff\uac00-\ud7af])|((?<=\n)\n*|(?<=;)\s+))"
)
ABBREVIATIONS = ("e.g.", "i.e.", " vs.", "(vs.", " fig.", "(fig.")
LABEL = re.compile(r"(?:(?:^|[\s(*'])[a-z]|(?:^|[\n.,:;!?(*]) ?\d{1,2})\.$")

# Sentences without content: announcements of an answer, remarks in brackets, lists of the options, confirmations.
ANNOUNCEMENT = re.compile(
    r"(?s:.*:|\(.{40,}\))|[\W_]*(?:(?:so|therefore,?|the|my|final|correct) )*(?:answer|conclusion|verdict)?(?: is)?\W*"
)
RESTATED = re.compile(
    r"\b(?:options?|choices|candidates|possibilities|possible answers)\b[^.]{0,60}(?::|\b(?:are|include|given|provided"
    r"|listed|were)\b)|\bchoose (?:between|from|among)"
)
CONFIRMATION = re.compile(
    r"\b(?:ye[sp]|yeah|confirm(?:s|ed)|indeed|that(?:'s| is) (?:right|correct)|makes sense|checks out|stick with"
    r"|confident|still (?:holds|correct|right)|the (?:one|option|answer|choice) (?:that|which|matching))\b|没错|确实"
)
THE_OTHERS = re.compile(r"\W*(?:and |but |all |of |the )*(?:others|rest|remaining|other (?:option|image|one)s)\b")

# Revision, contrast and doubt.
REVISION = re.compile(
    r"^['*\s]*(?:no|actually|nope|but|however|yet)\b[,.! ]|\b(?:wait|hmm+|hold on|on second thought|(?:on|upon) closer"
    r"|let me (?:re-?\w+|double|look again|check again)|scratch that|correction|i was wrong|i made a mistake"
    r"|that(?:'s| is) (?:wrong|not right|incorrect))\b|等等|不对"
)
CONTRAST = re.compile(r"\b(?:but(?! rather)|however|actually|yet|on second thought|no wait|wait)\b|但|而")
DOUBT = re.compile(
    r"\b(?:not (?:\w+ )?(?:sure|certain|clear)|unsure|uncertain|unclear|ambiguous|no idea|(?:do not|don't) know"
    r"|(?:can't|cannot|can not|couldn't|could not|unable to|hard to|difficult to|impossible to) (?:\w+ )?(?:tell|say"
    r"|determine|decide|know|see|read|judge|identify|distinguish)|too \w+ to (?:tell|say|determine|judge)|either way"
    r"|(?:no such|none of the(?:se)?) (?:option|choice|answer)s?|(?:not|n't) (?:listed|offered|an option|among"
    r"|in the (?:list|options)|one of the)|toss-?up|i'm guessing)\b|不确定|无法确定"
)

# Claims attributed to others (up to a contrast), and hypotheses.
NOT_ITS_OWN = re.compile(
    r"\b(?:caption|description|hint|user|prompt|someone|text|note|statement)\b[^.']{0,40}\b(?:says?|said|claims?|states?"
    r"|suggests?|asserts?|mentions?|implies|according)\b|\baccording to the (?:caption|description|hint|text)"
    r"|\b(?:doubt|deny|no longer (?:think|believe|say)|(?:wrong|mistake) to (?:say|think)|nobody (?:would )?says?)\b"
    r"|\bif (?!(?:i|we) (?:had|have) to|forced|pressed)[^.]{0,120}\bwould\b|ではな|ではありませ|じゃな|아닙니다|아니다"
)
UNREAL = re.compile(
    r"\b(?:would|could|might|may|if|whether|suppos\w+|assuming|unless|yet|should have|at first|initially|originally"
    r"|i thought|seemed|also|besides|followed by|after that|tempt\w+|confus\w+)\b"
)
NOT = re.compile(
    r"\b(?:not(?! only)|no|never|nor|neither|nothing|nobody|none|without|cannot|lacks?|false|wrong|incorrect)\b|n't\b"
    r"|[✗❌✘]"
)

# Text after a cue is a conclusion; after a weak cue it is an inference.
_LEAD = r"[\s*'#_>-]*(?:and |but |ok,? |okay,? )?"
CUE = re.compile(
    rf"(?P<strong>(?:^|(?<=[.;:,] )|\band |\bbut ){_LEAD}(?:therefore|thus|consequently|accordingly|in conclusion"
    r"|overall|to conclude|in summary|as a result|ultimately|finally|to sum up|conclusion|final|given (?:all )?this"
    r"|based on (?:this|these|the|all))\b|\bit (?:must|has to) be\b"
    r"|\b(?:i|we)(?:'d| can| would| will| must| therefore| thus)? (?:think|believe|conclude|say|deduce|infer|choose"
    rf"|pick)\b|所以|因此|故)|(?:^|(?<=[.;:,] )|(?<=[.;:,])|\band ){_LEAD}(?:so|hence|which means|meaning"
    r"|(?:this|that) means)\b|\b(?:must|has to) be\b"
)
WEAK_CUE = re.compile(
    r"\b(?:(?:indicat|suggest)\w*|(?:impl|identif)(?:y|ies|ied|ying)|(?:confirm|reveal|demonstrat)\w*|means?|meaning"
    r"|known as|points? (?:to|towards)|show(?:s|ing) that|(?:it|this|that) is (?:clear|evident)|likely|probably"
    r"|best (?:described|explained|matche?[sd]?|fits?|represent\w*|classified)|(?:appears|seems) to be)\b"
)

# A sentence does not assert what it concedes, gives as a reason or compares with.
ASIDE = re.compile(
    r"(?:^|(?<=[,;:(] ))(?:as|given|if|unlike|compared|looking at|comparing|considering|among|of|in contrast|apart from"
    r"|besides|to (?:determine|find|decide|see)|which|where|who|with|without|not|but not|causing|making|bringing"
    r"|revealing|seen|indicated|shown|than|between)\b[^,;.]*"
    r"|\b(?:although|though|even if|while|whereas|despite|in spite of|because|since|rather than|instead of)\b[^,;.]*"
)
COMPARED = re.compile(
    r"\b(?:than|(?:compared|in comparison|in contrast|as opposed|relative) (?:to|with)|versus|vs\.?|rather than"
    r"|instead of|unlike) (?:(?:that |those |the one |the ones )(?:of|in|on|with) )?(?:[\w-]+ ){0,3}['*(]*$"
)
REFERENCE = re.compile(
    r"\b(?:besides?|next to|near|of|from|behind|beyond|under|with|by|like) (?:the |an? |this |that )?['*]*$"
)

# The option as predicate (matched before it), or as subject (matched after it).
EQUALS = re.compile(r"(?:[=≈→]|\\approx)[\s\\$*({]*$")
PREDICATE = re.compile(
    r"(?:\b(?:is|are|was|were|be|been|as|looks?|looking|appears?|seems?|remains|shows?|showing|sees?|has|have|contains?"
    r"|equals?|reads?|says?|depicts?|displays?|leaves|leaving|namely|like|fac(?:es|ing)|only|exactly|points?|indicates?"
    r"|total|count(?:ed|ing)?|matches|fits|means|becomes|makes|gives|get|find|stands|sits|lies)\b|(?<=[a-z])'(?:s|re)\b"
    r"|[=:→≈]|\\approx\b|是|为|有)(?:\s*\b(?:an?|the|to|in|on|at|of|be|most|\w+ly|option|located|positioned|placed"
    r"|standing|sitting|lying|her|his|its|their|my|your|colou?red|painted|still|also|just|indeed)\b)*[\s'*(_$]*$"
)
_PARENTHESIS = r"['*)\]]*(?: \([^()]{0,40}\))?"
SUBJECT = re.compile(
    rf"'s|{_PARENTHESIS}(?:,[^,.]{{0,60}},)?(?: (?:clearly|actually|also|then|therefore|definitely|really|still"
    r"|itself))* (?:is|are|was|has|have|had|does|do|must|can|could|would|will|should|[a-z]+(?<!s)s)\b"
)
ABOUT_IT = re.compile(
    r"[\s*'-]*(?:(?:no|but|actually|however|yes|wait),? )*(?:(?:it|this|that|he|she|they)(?:'s|'re| is| are| has"
    r"| must| looks| appears| seems)|since|because|given|as)\b"
)

# Options that are named by letter as fitting; letters that name points.
NAMED_BEFORE = re.compile(
    r"\b(?:is|are|be|by|match(?:es)?|fits?|with|choose|pick|select|as|to|only|namely|supports?|favou?rs?|leaves|at"
    r"|on|for|in)[\s:*'(\[]*(?:the )?(?:option|choice|answer|letter|statement|candidate)s? ?[*'(\[]*$|\bonly ?[*'(\[]*$"
)
NAMED_AFTER = re.compile(
    rf"{_PARENTHESIS},? (?:is|are|correctly|accurately|best|clearly|exactly|only|therefore|fits?|match(?:es)?|depicts?"
    r"|represents?|shows? (?:the correct|this|exactly)|it is|works|wins)\b(?! (?:not|wrong|incorrect))|[*')\]]* ?[✓✅✔]"
)

# A list that assesses the options: the beginning of an item, and its verdict.
ITEM = re.compile(r"[\s*•#>-]*(?:\d{1,2}[.)] *)?[\s*'(\[]*(?:(?:option|choice|answer|statement) )?[*'(\[]*")
ITEM_LETTER = re.compile(r"[a-z0-9][*)\].:]")
ITEM_SAYS = re.compile(r"['*)\]]*(?: \([^()\n]{0,40}\))?['*]* ?(?::|-|\?|→|\(| -)|['*)\]]*[.)] ")
FITS = re.compile(r"\b(?:yes|correct(?:ly)?|match(?:es|ing)?|fits?|exactly|works?|right|true|best)\b|[✓✅✔]")


def _pole(words: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns for one direction of a comparison: in questions (comparatives, superlatives), and in any form."""
    either = "|".join(words.split())
    compared = rf"\b(?:(?:{either})(?:e?r|e?st)|(?:more|most) (?:{either}))\b"
    return re.compile(compared), re.compile(rf"\b(?:{either})(?:e?r|e?st)?\b")


_OPPOSITES = """
near close front foreground foremost: far farthe furthe behind back background distant
bigg? large great tall high long wide thick deep more most: small short low narrow thinn? shallow few less least
old: young new
bright: dark dimm?
heav[iy]: light(?=e)
fast quick: slow
warm hott?: cold cool
"""
POLES = [tuple(map(_pole, line.split(":"))) for line in _OPPOSITES.split("\n") if line]
