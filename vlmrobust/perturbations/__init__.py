"""Export the perturbations: the paper's conditions, further controls and probes, and the base class for custom ones."""

from .base import Compose, NotApplicable, Perturbation
from .caption import CorrectCaption, IrrelevantCaption, NeutralCaption, WrongCaption
from .expansion import Base, expand, paper_conditions
from .image import BlankImage, BlurredImage, LowContrastImage, NoisyImage, RemovedImage, SwappedImage
from .options import AbstainOption, AnswerFirst, OptionLetters, RotatedOptions, ShuffledOptions, rotations
from .question import AreYouSure, Casing, NeutralSecondTurn, Spacing, SuggestedAnswer, SuggestedSecondTurn, Typos
from .think import (
    AddedMistake,
    CorrectThink,
    EarlyAnswer,
    FillerThought,
    NeutralThink,
    ParaphrasedThought,
    StopThink,
    WrongThink,
    early_answering,
)
from .wordings import TextSource, draw_distractor

__all__ = [
    "AbstainOption",
    "AddedMistake",
    "AnswerFirst",
    "AreYouSure",
    "Base",
    "BlankImage",
    "BlurredImage",
    "Casing",
    "Compose",
    "CorrectCaption",
    "CorrectThink",
    "EarlyAnswer",
    "FillerThought",
    "IrrelevantCaption",
    "LowContrastImage",
    "NeutralCaption",
    "NeutralSecondTurn",
    "NeutralThink",
    "NoisyImage",
    "NotApplicable",
    "OptionLetters",
    "ParaphrasedThought",
    "Perturbation",
    "RemovedImage",
    "RotatedOptions",
    "ShuffledOptions",
    "Spacing",
    "StopThink",
    "SuggestedAnswer",
    "SuggestedSecondTurn",
    "SwappedImage",
    "TextSource",
    "Typos",
    "WrongCaption",
    "WrongThink",
    "draw_distractor",
    "early_answering",
    "expand",
    "paper_conditions",
    "rotations",
]
