"""Split a thought into sentences, and define the words of its question and the phrases that its sentences turn on.

The patterns are matched on folded text (`prompting.words.fold`). `NOT` has the words that reject an item of a list of
options or deny a yes-no statement. The words that negate a mention in any other sentence are in `prompting.claims`, and
`evidence` combines both.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ..prompting.mentions import OUTER_WORDS, Mention, Reading
from ..prompting.units import unit_at
from ..prompting.words import WORD, WORDS, fold, plain_form

__all__ = ["QuestionContext", "breaks_off", "plain_words", "sentences"]

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

_COMMON_WORDS = """
been am had do does did can could will would should may might must them these those and or but not no nor so if then
than which who what when where why how very more most some any all both each other another one because while during
about after before through just only also too i you we my your our me us him s t yes image picture photo video show
shown follow question option answer object look seem appear
"""
_COMMON_FORMS = frozenset(map(plain_form, (OUTER_WORDS + _COMMON_WORDS).split()))
_POLAR = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
# Words of a statement that may be missing or differ.
_UNSTATED = re.compile("an?|the|is|are|was|were|be|being|do|does|did|can|has|have|there|this|that|statement")


def plain_words(folded: str) -> set[str]:
    """Return the normal forms of a text's words, without function words."""
    return {form for word in WORDS.findall(folded) if (form := plain_form(word)) and form not in _COMMON_FORMS}


class QuestionContext(NamedTuple):
    """The features of a question and its options that are needed to parse thoughts about them.

    Attributes:
        content: normal forms of the question's words, without those of the options.
        poles: patterns for the property that the question asks for ("nearer"), and its opposite; None = no comparison.
        distinctive: normal form of a word → the only option that contains it.
        measured: the numbers in options that have a unit.
        shared: for each option, its words that other options also contain.
        broken: an option contains a sentence break.
        statement: the statement in question, where the options are yes and no or true and false.
        polar: the options that affirm and deny it.
    """

    content: frozenset[str]
    poles: tuple[re.Pattern[str], re.Pattern[str]] | None
    distinctive: dict[str, int]
    measured: frozenset[str]
    shared: tuple[frozenset[str], ...]
    broken: bool
    statement: re.Pattern[str] | None
    polar: tuple[int, int]

    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, question: str, options: tuple[str, ...]) -> "QuestionContext":
        """Parse a question."""
        folded, texts = fold(question), [fold(option.strip()) for option in options]
        all_options, words = " ".join(texts), plain_words(folded)
        poles = (
            (stated, opposite)
            for pair in POLES
            for (asked, stated), (denied, opposite) in (pair, pair[::-1])
            if asked.search(folded) and not denied.search(folded)
            if not stated.search(all_options) and not opposite.search(all_options)
        )
        option_words = [plain_words(text) for text in texts]
        counts = Counter(word for words_of_one in option_words for word in words_of_one)
        distinctive = {
            word: option
            for option, words_of_one in enumerate(option_words)
            for word in words_of_one
            if counts[word] == 1
        }
        if len({option for word, option in distinctive.items() if word in words}) < 2:
            # A question that contains words of one option is about that option; words of several are the choice.
            distinctive = {word: option for word, option in distinctive.items() if word not in words}
        polar = [_POLAR.get(text.strip(".")) for text in texts]
        is_polar = len(texts) == 2 and {*polar} == {True, False}
        content = plain_words(folded[-240:]) - plain_words(all_options)
        # The noun of "which colour" and "what kind of animal" is the category of the options, and rarely repeated.
        categories = re.findall(r"\b(?:which|what)(?: (?:kind|type|sort)s? of)? (\w+)", folded)
        return cls(
            frozenset(content.difference(map(plain_form, categories)) or content),
            next(poles, None),
            {word: option for word, option in distinctive.items() if not NOT.search(texts[option])},
            frozenset(
                form
                for text in texts
                for word in WORDS.finditer(text)
                if (form := plain_form(word[0])).startswith("#") and unit_at(text, word.end(), len(text))
            ),
            tuple(frozenset(word for word in words_of_one if counts[word] > 1) for words_of_one in option_words),
            any(map(SENTENCE_BREAK.search, texts)),
            _statement([folded, *re.findall(r"[^.?!\n]+\?", folded)][-1]) if is_polar else None,
            (polar.index(True), polar.index(False)) if is_polar else (0, 0),
        )

    def distinctive_words(self, folded: str, start: int, end: int) -> list[Mention]:
        """Return the mentions in a part of a text by words that only one option contains.

        Of an option in a unit, its number with a unit is none: the option would be named in full, or this is another
        quantity.
        """
        owner = self.distinctive
        words = WORDS.finditer(folded, start, end) if owner else ()
        return [
            Mention(*word.span(), owner[form])
            for word in words
            if (form := plain_form(word[0])) in owner
            if not (form in self.measured and unit_at(folded, word.end(), end))
        ]


def _statement(folded: str) -> re.Pattern[str] | None:
    """Return a pattern for a statement, or that of a question ("is the cat on the mat?"), with words in between."""
    parts = [
        [word for word in WORDS.findall(part) if not _UNSTATED.fullmatch(word)] for part in folded.split(" is ", 1)
    ]
    between = rf"\W+(?:{WORD}+\W+){{0,5}}?"
    subject, *rest = (between.join(re.escape(word) + WORD + "{0,3}" for word in words) for words in parts)
    if len(parts[-1]) > 1 and rest:
        subject = f"(?:{subject}|it)"  # "… the cat, and it is on the mat"
    return re.compile(rf"\b{between.join([subject, *rest])}\b") if 2 < sum(map(len, parts)) <= 12 else None


def sentences(reading: Reading, context: QuestionContext) -> Iterator[tuple[int, int]]:
    """Yield the sentences of a text from the last to the first.

    There is no break inside an option's text, after "B.", or inside a list item that begins with a letter.
    """
    folded = reading.folded
    end = len(folded)
    for match in reversed(list(SENTENCE_BREAK.finditer(folded))):
        stop, resume = match.start() + (match[1] is None), match.end()
        near = reading.mentions(max(0, stop - 400), resume + 400) if context.broken else []
        if any(mention.start < stop < mention.end for mention in near):
            continue
        if "\n" in match[0] or not _continues(reading, stop, resume):
            if resume < end and not folded[resume:end].isspace():
                yield resume, end
            end = stop
    if folded[:end].strip():
        yield 0, end


def _continues(reading: Reading, stop: int, resume: int) -> bool:
    """Return whether a sentence continues after a mark that looks like its end."""
    folded = reading.folded
    item = ITEM.match(folded, folded.rfind("\n", 0, stop) + 1, stop)
    if item is not None and ITEM_LETTER.match(folded, item.end(), stop):
        return True
    if not LABEL.search(folded[max(0, stop - 8) : stop]):
        return folded.endswith(ABBREVIATIONS, 0, stop)
    named = reading.named_at(resume, len(folded))
    return reading.text[resume : resume + 1].islower() or (named is not None and named.start <= resume + 3)


def breaks_off(text: str) -> bool:
    """Return whether a text ends in the middle of a sentence; a single sentence may lack its stop."""
    text = text.rstrip("*_' \n)]}$\\")
    return ". " in text and (text[-1] in ";-" or text[-1].isalnum())
