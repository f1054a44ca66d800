"""Define the record of a written text, a line of the file."""

from collections.abc import Mapping
from typing import Literal

from ..perturbations.texts import CAPTIONS, THOUGHTS, Wording
from ..types.frozen import Frozen

__all__ = ["WORDINGS", "Kind", "WrittenText"]

Kind = Literal["caption", "thought"]

WORDINGS: Mapping[Kind, tuple[Wording, str]] = {"caption": (CAPTIONS, "caption"), "thought": (THOUGHTS, "think")}
"""By kind: the library's wording, and the suffix of its keys in `Sample.texts` (`wrong_…`), which also seeds it."""


class WrittenText(Frozen):
    """A caption or a thought that asserts one option of a sample: a line of the file.

    Attributes:
        id: the sample's id.
        kind: `caption` or `thought`.
        option: index in the sample's options of the asserted option.
        asserts: that option.
        question, options: those of the sample; texts for other data are rejected by them.
        text: the text as shown.
        form: "written" by the model, or "rules": the library's wording, since the model's text failed the check.
        attempts: number of requests to the model.
        writer: the model's name.
        judge: the name of the judge that checked the text.
        verdict: index of the option that the judge found asserted; None = none, or the judge was unsure.
        refused: the model's texts that failed the check.
    """

    id: str
    kind: Kind
    option: int
    asserts: str
    question: str
    options: tuple[str, ...]
    text: str
    form: Literal["written", "rules"]
    attempts: int
    writer: str
    judge: str
    verdict: int | None = None
    refused: tuple[str, ...] = ()
