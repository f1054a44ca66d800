"""Changes to the list of options."""

import numpy as np

from ..prompting import LETTERS
from ..types import Prompt
from .base import NotApplicable, Perturbation

__all__ = ["AbstainOption"]


class AbstainOption(Perturbation):
    """One more option lets the model say that it is not sure.

    Choosing it gives the status `abstained`, never a right or wrong answer.

    Attributes:
        text: the option's text.

    Source: arXiv:2602.12506, the abstain option; composable with every condition, as in
    `WrongThink() + AbstainOption()`.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> AbstainOption()(Prompt.of(sample)).options
        ('red', 'blue', "I'm not sure")
    """

    text: str = "I'm not sure"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Append the option."""
        if len(prompt.options) == len(LETTERS):
            raise NotApplicable(f"an added option needs a letter, and all {len(LETTERS)} are in use")
        if self.text in prompt.options:
            raise NotApplicable(f"the option {self.text!r} is among the sample's own")
        return prompt.replace(options=(*prompt.options, self.text), order=(*prompt.order, None))
