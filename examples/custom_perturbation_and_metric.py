"""A perturbation and a metric of one's own, checked against their contracts, then run on the bundled model."""

import numpy as np
import torch

import vlmrobust as vr
from vlmrobust.perturbations import WrongCaption


class Anonymous(vr.Perturbation):
    """Attributes whatever stands before the question to somebody unknown."""

    speaker: str = "Somebody on the internet"

    def perturb(self, prompt: vr.Prompt, rng: np.random.Generator) -> vr.Prompt:
        if not prompt.context:
            raise vr.NotApplicable("there is no text before the question")
        return prompt.replace(context=f'{self.speaker} wrote: "{prompt.context}"')


class ThoughtLength(vr.Metric):
    """Number of words that the model itself thought."""

    def per_sample(self, responses: vr.Responses) -> torch.Tensor:
        return torch.tensor([float(len(thought.split())) for thought in responses.own_think])


vr.testing.check_metric(ThoughtLength())

anonymous = WrongCaption() + Anonymous()
vr.testing.check_perturbation(anonymous)

report = vr.Evaluator(
    vr.demo.model(), [WrongCaption(), anonymous], [vr.metrics.Accuracy(), vr.metrics.FollowRate(), ThoughtLength()]
).run(vr.demo.samples(40))
print(report)
print(report.contrast(anonymous.condition, reference="wrong_caption"))
