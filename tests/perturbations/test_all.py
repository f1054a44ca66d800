"""Every perturbation keeps what the library promises of one, alone and composed."""

import pickle

import pytest
from PIL import Image

import vlmrobust as vr
from vlmrobust import Perturbation, perturbations
from vlmrobust.named_conditions import CONDITIONS
from vlmrobust.perturbations import NeutralCaption, NoisyImage, ParaphrasedThought, RotatedOptions, SwappedImage
from vlmrobust.testing import check_perturbation


def reversed_words(thought: str) -> str:
    return " ".join(thought.split()[::-1])


POOL = [Image.new("RGB", (56, 56), colour) for colour in ("red", "pink", "brown")]
ALL = (
    *(make() for make in CONDITIONS.values()),
    SwappedImage(pool=POOL),
    ParaphrasedThought(paraphrase=reversed_words),
    NeutralCaption() + NoisyImage() + RotatedOptions(),
)


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: condition.condition)
def test_every_condition_keeps_the_promises(condition: Perturbation) -> None:
    check_perturbation(condition)


def test_every_class_is_among_them() -> None:
    classes = {getattr(perturbations, name) for name in perturbations.__all__}
    concrete = {kind for kind in classes if isinstance(kind, type) and issubclass(kind, Perturbation)}
    assert {type(condition) for condition in ALL} == concrete - {Perturbation}


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: condition.condition)
def test_every_condition_and_its_prompt_can_be_sent_to_another_process(condition: Perturbation) -> None:
    sample = vr.demo.samples(1)[0]
    base = vr.testing.FakeModel().respond([vr.Prompt.of(sample)])
    copy = pickle.loads(pickle.dumps(condition))
    assert copy == condition
    [*_, prompt] = vr.expand([sample], [condition], base=base)
    assert pickle.loads(pickle.dumps(prompt)) == prompt
