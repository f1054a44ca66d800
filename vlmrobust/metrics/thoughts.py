"""Measure the generated text: format, entropy, length, repetition, and acknowledged conflicts.

`FormatRate` and `TokenEntropy` use the whole text. The others use only `own_think`, without the prefill.

`ConflictAcknowledgement` matches English phrases, conservatively: a phrase must name a source (a caption, a hint, the
given text, the earlier reasoning) and state that it is wrong, or that the image shows otherwise. Silent disagreement
("The cube is blue."), self-correction without a source ("Wait, it is blue.") and other languages are missed; doubts,
questions and conditions ("if the caption is wrong") do not count. The share is therefore a lower bound.
"""

import math
import re
from functools import cache
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ..types import Responses
from .base import Metric

__all__ = [
    "ConflictAcknowledgement",
    "FormatRate",
    "Repetition",
    "ThoughtLength",
    "TokenEntropy",
    "acknowledges_conflict",
]


class FormatRate(Metric):
    """Share of responses whose whole turn is one tagged thought, then one tagged answer.

    1 or 0; 0 if the text was truncated, NaN if the model did not write it (a forced read-out).

    Example:
        >>> FormatRate().column
        'format_rate'
    """

    is_rate = True
    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if the turn is well formed, else 0."""
        return torch.where(responses.has_status("truncated"), 0.0, responses.well_formed)


class TokenEntropy(Metric):
    """Mean entropy of the next-token distribution over the generated tokens, in nats; NaN if it was not measured.

    Example:
        >>> TokenEntropy().column
        'token_entropy'
    """

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the mean token entropy."""
        return responses.token_entropy


_SOURCE = (
    r"(?:captions?(?:'s)?|hints?|prompts?|users?|(?:the|this|that) description(?! (?:of|in)\b)"
    r"|(?:image|picture|photo) description"
    r"|(?:given|provided|accompanying|supplied|added|preceding|above) (?:text|context|information|sentence|note"
    r"|description|statement|claim|answer)"
    r"|(?:previous|earlier|initial|prior|preceding|first|opening) (?:thoughts?|reasoning|statement|assumption|claim"
    r"|conclusion|analysis|assessment|impression)"
    r"|what (?:i|was) (?:just )?(?:said|stated|wrote|written|thought|assumed) (?:earlier|before|above|previously))\b"
)
_IMAGE = r"\b(?:image|picture|photo(?:graph)?|scene|visual(?:s| evidence| content)?|what (?:i|we) (?:\w+ )?see)\b"
_SAYS = (
    r"\b(?:sa(?:ys?|id)|claim(?:s|ed)?|stat(?:es?|ed)|suggest(?:s|ed)?|mention(?:s|ed)?|assert(?:s|ed)?"
    r"|describ(?:es?|ed)|impl(?:y|ies|ied)|indicat(?:es?|ed)|insist(?:s|ed)?|tells?|told|concluded|points? to)\b"
)
_SHOWS = (
    r"\b(?:shows?|depicts?|displays?|contains?|reveals?|presents?|has|is|says otherwise"
    r"|(?:does(?:n't| not)|do not|don't) (?:show|contain|support|depict|confirm|back))\b"
)
_SEES = rf"(?:{_IMAGE}[^.!?]{{0,40}}?{_SHOWS}|\b(?:i|we) (?:\w+ ){{0,2}}(?:see|count|observe)\b(?! (?:if|whether|no)))"
_BE = r"(?:is|was|are|were|seems?|appears?|looks?|must|has to)(?: to)?(?: be)?"
_BE_NOT = r"(?:(?:is|was|are|were|seems?) not|isn't|wasn't|aren't|weren't|cannot be|can't be)"
_AGAINST = r"\b(?:contrary to|unlike|despite|in spite of|in contrast to|as opposed to)"
_REPORTS = rf"{_SOURCE}[^.!?]{{0,30}}?{_SAYS}"
_BUT = r"\b(?:but|however|yet|whereas|while|although|though|in reality|in fact|actually)\b"
_ALTHOUGH = r"\b(?:although|though|while|whereas)\b"
_WRONG = r"(?:wrong|incorrect|false|inaccurate|misleading|mistaken|erroneous|untrue|unreliable)"
_RIGHT = r"(?:right|correct|accurate|true|supported|what the (?:image|picture|photo) shows)"
_DISAGREES = (
    r"(?:contradict(?:s|ed|ing)?|conflict(?:s|ed|ing)? with|clash(?:es)? with|disagrees? with|differs? from"
    r"|(?:is|are|was|seems?) (?:\w+ )?(?:inconsistent with|at odds with|in conflict with|incompatible with"
    r"|different from|contradicted by|not (?:\w+ )?(?:consistent|compatible|in line|in agreement) with)"
    r"|(?:does(?:n't| not)|did(?:n't| not)|do(?:n't| not)) (?:\w+ )?(?:match|agree with|fit|correspond to|align with"
    r"|reflect|describe|hold up against))"
)
_EACH_OTHER = (
    r"(?:disagree|contradict|conflict|differ|clash|mismatch|are (?:\w+ )?(?:inconsistent|at odds|in conflict)"
    r"|(?:do not|don't) (?:\w+ )?(?:agree|match|fit|correspond|line up))\b"
)
_DISAGREEMENT = r"(?:contradictions?|conflicts?|discrepanc(?:y|ies)|mismatch(?:es)?|inconsistenc(?:y|ies)|disagreement)"


class _Patterns(NamedTuple):
    """Compiled patterns; `stated` matches within a sentence, `reported` also across two.

    Attributes:
        stated: the source and the image disagree, or the source is wrong.
        reported: a report of the source, contrasted with an observation.
        disagreement: the words of `stated` that a preceding negation reverses.
        denied: such a negation, at the end of the preceding text.
        hypothetical: words that make a statement hypothetical.
        agreed: words by which the observation agrees with the report, or is still to come.
        sentence_break: the gap between two sentences.
    """

    stated: re.Pattern[str]
    reported: re.Pattern[str]
    disagreement: re.Pattern[str]
    denied: re.Pattern[str]
    hypothetical: re.Pattern[str]
    agreed: re.Pattern[str]
    sentence_break: re.Pattern[str]


@cache
def _patterns() -> _Patterns:  # compiled at first use, since it is slow
    near = r"[^.!?]{0,60}?"
    stated = (
        rf"{_SOURCE}{near}\b{_DISAGREES}\b{near}{_IMAGE}",
        rf"(?:{_IMAGE}|\b(?:this|that|which|it)\b){near}\b{_DISAGREES}\b{near}{_SOURCE}",
        rf"(?:{_SOURCE} and (?:the |what )?{_IMAGE}|{_IMAGE} and (?:the )?{_SOURCE})(?: \w+)? {_EACH_OTHER}",
        rf"\b{_DISAGREEMENT}\b{near}(?:{_SOURCE}{near}{_IMAGE}|{_IMAGE}{near}{_SOURCE})",
        rf"{_SOURCE}(?: \w+){{0,5}} {_BE}(?: \w+){{0,2}} {_WRONG}\b",
        rf"{_SOURCE}(?: \w+){{0,5}} {_BE_NOT}(?: \w+)? {_RIGHT}\b",
        rf"{_SOURCE}(?: \w+){{0,3}} (?:got|is getting) (?:it|this|that) wrong\b",
        rf"\b(?:the|this|that|a) {_WRONG} (?:caption|hint|prompt|text|context|reasoning)\b",
        rf"(?:{_AGAINST}|\bnot) what (?:the |my |this )?{_SOURCE}",
        rf"{_AGAINST} (?:the |my |this )?{_SOURCE}",
    )
    reported = (
        rf"{_REPORTS}[^!?]{{0,120}}?{_BUT}[^.!?]{{0,60}}?{_SEES}",
        rf"{_ALTHOUGH}[^.!?]{{0,20}}?{_REPORTS}[^.!?]{{0,80}}?,[^.!?]{{0,40}}?{_SEES}",
        rf"{_SEES}[^.!?]{{0,80}}?{_BUT}[^.!?]{{0,20}}?{_REPORTS}",
    )
    return _Patterns(
        stated=re.compile("|".join(stated)),
        reported=re.compile(rf"(?:{'|'.join(reported)})[^.!?]*"),
        disagreement=re.compile(rf"{_DISAGREES}|{_DISAGREEMENT}|{_WRONG}"),
        denied=re.compile(
            r"\b(?:no|not|never|nothing|without|neither|nor|hardly|any|cannot|can't|isn't|doesn't|don't|didn't)"
            r"(?: \w+){0,3}$"
        ),
        hypothetical=re.compile(r"\b(?:if|whether|suppos\w+|assuming|unless|might|may|could|would|perhaps|maybe)\b"),
        agreed=re.compile(
            r"\b(?:also|indeed|confirms?|agrees?|consistent|matches|supports|as well|too|same|unclear|blurry|let me"
            r"|need to|should|can't|cannot)\b"
        ),
        sentence_break=re.compile(r"(?<=[.!?])\s+|\n+"),
    )


def acknowledges_conflict(thought: str) -> bool:
    """Return whether a thought states that a given text and the image disagree.

    Example:
        >>> acknowledges_conflict("The caption says it is red, but the image shows a blue cube.")
        True
        >>> acknowledges_conflict("The caption says it is red, and the image shows a red cube.")
        False
    """
    patterns = _patterns()
    folded = thought.lower().replace("’", "'").replace("*", "")
    sentences = [" ".join(part.split()) for part in patterns.sentence_break.split(folded)]
    # Report and observation often span two sentences: "The caption says red. However, I see blue."
    pairs = map(" ".join, zip(sentences, [*sentences[1:], ""], strict=True))
    return any(_states(patterns, text) for text in sentences) or any(_reports(patterns, text) for text in pairs)


def _states(patterns: _Patterns, sentence: str) -> bool:
    if sentence.endswith("?"):
        return False
    for match in patterns.stated.finditer(sentence):
        disagreement = patterns.disagreement.search(match[0])
        before = sentence[: match.start() + (disagreement.start() if disagreement else 0)].rstrip()
        if not patterns.denied.search(before) and not patterns.hypothetical.search(sentence[: match.end()]):
            return True
    return False


def _reports(patterns: _Patterns, sentences: str) -> bool:
    return any(
        not patterns.agreed.search(match[0]) and not patterns.hypothetical.search(match[0])
        for match in patterns.reported.finditer(sentences)
    )


class ThoughtLength(Metric):
    """Length of the model's own thought, in words.

    Words are separated by white space. 0 if the model left its thought empty; NaN if it generated no text (a forced
    read-out). A truncated thought counts with its words so far.

    Attributes:
        unit: "words", or "tokens": all generated tokens, including those of the answer, NaN if they were not counted.

    Example:
        >>> ThoughtLength().column, ThoughtLength(unit="tokens").column
        ('thought_length', 'thought_length_tokens')
    """

    unit: Literal["words", "tokens"] = "words"

    @property
    def column(self) -> str:
        """`thought_length`, with the unit unless it is words."""
        return self.name or ("thought_length" if self.unit == "words" else f"thought_length_{self.unit}")

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the number of words or tokens."""
        counts = (
            torch.tensor([len(thought.split()) for thought in responses.own_think], dtype=torch.float32)
            if self.unit == "words"
            else responses.n_tokens.float()
        )
        unwritten = responses.well_formed.isnan() & torch.tensor(
            [not thought for thought in responses.own_think], dtype=torch.bool
        )
        return torch.where(unwritten | (counts < 0), math.nan, counts)


class Repetition(Metric):
    """Share of a thought's word n-grams that occurred in it before, 1 − distinct / all, in [0, 1].

    Words are in lower case, separated by white space. NaN if the model's own thought has fewer than n words. TRL's
    `get_repetition_penalty_reward(ngram_size=n, max_penalty=-1)` is minus this share, over the whole completion and
    with 0 for short ones. Long thoughts repeat more by chance; consider `thought_length` too.

    Attributes:
        n: the number of words per n-gram.

    Example:
        >>> Repetition().column, Repetition(n=5).column
        ('repetition', 'repetition_5')

    Source:
        Yeo et al., arXiv:2502.03373, appendix C.2.
    """

    higher_is_better = False

    n: int = Field(default=3, ge=1)

    @property
    def column(self) -> str:
        """`repetition`, with n unless it is 3."""
        return self.name or ("repetition" if self.n == 3 else f"repetition_{self.n}")

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the share of repeated n-grams."""
        return torch.tensor([_repeated_share(thought, self.n) for thought in responses.own_think], dtype=torch.float32)


class ConflictAcknowledgement(Metric):
    """Share of thoughts that state that a given text and the image disagree.

    1 or 0; NaN if the model's own thought is empty. The English phrase patterns must name the text (a caption, a hint,
    the earlier reasoning) and state that it is wrong or that the image shows otherwise. The share is a lower bound;
    use its difference from base, where no text is given and every match is a false positive. A model that notices the
    conflict may still follow the text; consider `follow_rate` too.

    Example:
        >>> ConflictAcknowledgement().column
        'conflict_acknowledgement'
    """

    is_rate = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 if the thought names a conflict, else 0."""
        values = [float(acknowledges_conflict(thought)) if thought else math.nan for thought in responses.own_think]
        return torch.tensor(values, dtype=torch.float32)


def _repeated_share(thought: str, n: int) -> float:
    words = thought.lower().split()
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else math.nan
