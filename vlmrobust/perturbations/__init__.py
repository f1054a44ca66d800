"""Perturbations: the paper's conditions, and the base class for your own."""

from .base import Compose, NotApplicable, Perturbation
from .caption import CorrectCaption, WrongCaption
from .conditions import Base, draw_distractor, expand, paper_conditions
from .options import AbstainOption
from .texts import TextSource
from .think import CorrectThink, StopThink, WrongThink

__all__ = [
    "AbstainOption",
    "Base",
    "Compose",
    "CorrectCaption",
    "CorrectThink",
    "NotApplicable",
    "Perturbation",
    "StopThink",
    "TextSource",
    "WrongCaption",
    "WrongThink",
    "draw_distractor",
    "expand",
    "paper_conditions",
]
