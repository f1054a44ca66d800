"""Every perturbation passes the library's checks, alone and composed."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vlmrobust as vr
from vlmrobust import Perturbation, Response, Sample, perturbations
from vlmrobust.perturbations import NeutralCaption, NoisyImage, ParaphrasedThought, RotatedOptions, SwappedImage
from vlmrobust.perturbations.catalogue import CONDITIONS
from vlmrobust.testing import check_perturbation


def reverse_words(thought: str) -> str:
    return " ".join(thought.split()[::-1])


POOL = [Image.new("RGB", (56, 56), colour) for colour in ("red", "pink", "brown")]
ALL = (
    *(make() for make in CONDITIONS.values()),
    SwappedImage(pool=POOL),
    ParaphrasedThought(paraphrase=reverse_words),
    NeutralCaption() + NoisyImage() + RotatedOptions(),
)
# Pixels are not made in these: any bytes will do.
ALL_KINDS = [
    SwappedImage(pool=[bytes([byte]) for byte in range(9)]) if isinstance(kind, SwappedImage) else kind for kind in ALL
]


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: condition.condition)
def test_every_condition_passes_the_checks(condition: Perturbation) -> None:
    check_perturbation(condition)


@settings(max_examples=30)
@given(st.from_type(Sample), st.sampled_from(["", "It is. Or not? Yes.", "左 \n\n右。"]), st.integers(0, 9))
def test_any_sample_gives_a_prompt_or_a_reason(sample: Sample, thought: str, seed: int) -> None:
    base = Response(sample_id=sample.id, condition="base", status="answered", answer=0, own_think=thought)
    prompts = vr.expand([sample], ALL_KINDS, base=[base], seed=seed)
    for prompt in prompts:
        images = [part for part in prompt.messages()[0]["content"] if part["type"] == "image"]
        assert len(images) == len(prompt.images)
        own = [index for index in prompt.order if index is not None]
        assert sorted(own) == list(range(len(sample.options)))
        assert prompt.asserted in (None, prompt.distractor, sample.answer)
    left_out = prompts.not_applicable
    assert all(response.error for _, response in left_out)
    assert len(prompts) + len(left_out) == len(ALL_KINDS)


def test_every_class_is_tested() -> None:
    classes = {getattr(perturbations, name) for name in perturbations.__all__}
    concrete = {kind for kind in classes if isinstance(kind, type) and issubclass(kind, Perturbation)}
    assert {type(condition) for condition in ALL} == concrete - {Perturbation}


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: condition.condition)
def test_conditions_and_prompts_can_be_pickled(condition: Perturbation) -> None:
    sample = vr.demo.samples(1)[0]
    base = vr.testing.FakeModel().respond([vr.Prompt.of(sample)])
    copy = pickle.loads(pickle.dumps(condition))
    assert copy == condition
    [*_, prompt] = vr.expand([sample], [condition], base=base)
    assert pickle.loads(pickle.dumps(prompt)) == prompt
