"""Perturbations: the paper's conditions, controls and probes beyond it, and the base class for your own."""

from .base import Compose, NotApplicable, Perturbation
from .caption import CorrectCaption, IrrelevantCaption, NeutralCaption, WrongCaption
from .conditions import Base, paper_conditions
from .cot import AddedMistake, EarlyAnswer, FillerThought, ParaphrasedThought, early_answering
from .distractor import draw_distractor
from .expansion import expand
from .image import BlankImage, BlurredImage, LowContrastImage, NoisyImage, RemovedImage, SwappedImage
from .options import AbstainOption, AnswerFirst, OptionLetters, RotatedOptions, ShuffledOptions, rotations
from .question import Casing, Spacing, SuggestedAnswer, Typos
from .second_turn import AreYouSure, NeutralSecondTurn, SuggestedSecondTurn
from .texts import TextSource
from .think import CorrectThink, NeutralThink, StopThink, WrongThink

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
