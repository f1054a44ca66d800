"""Whether a perturbation keeps what the library promises of one."""

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..manifest import config_of, prompt_digest, sample_content
from ..perturbations import AbstainOption, NotApplicable, Perturbation, draw_distractor
from ..perturbations.conditions import in_place_of_one
from ..types import Prompt, Sample, Style
from .fake_model import FakeModel
from .requirement import require
from .samples import varied_samples

__all__ = ["check_perturbation"]

_SEED = 3


def check_perturbation(perturbation: Perturbation, samples: Sequence[Sample] | None = None) -> None:
    """Check that a perturbation gives a prompt under its name, keyed, without side effects, whatever the sample.

    Args:
        perturbation: an instance of your class.
        samples: what to try it on; None = samples with 2 to 26 options, foreign letters and several images. A sample
            that it is `NotApplicable` to is passed over, but one has to fit.

    Raises:
        AssertionError: with a sentence that says what is wrong.

    Example:
        >>> from vlmrobust.perturbations import WrongCaption
        >>> check_perturbation(WrongCaption())
    """
    require(
        isinstance(perturbation, Perturbation),
        f"expected an instance of a Perturbation subclass, got {in_place_of_one(perturbation)}",
    )
    name = perturbation.condition
    require(isinstance(name, str) and name.strip() != "", f"{perturbation!r}: expected a condition name, got {name!r}")
    _check_config(perturbation)
    prompts = [_unperturbed(sample) for sample in varied_samples() if samples is None] + [
        _unperturbed(sample) for sample in samples or ()
    ]
    fitting = [prompt for prompt in prompts if _apply(perturbation, prompt) is not None]
    require(
        bool(fitting), f"condition {name!r}: expected it to fit one of the samples at least; pass samples that it fits"
    )
    for prompt in fitting:
        changed = _apply(perturbation, prompt)
        assert changed is not None
        _check_result(perturbation, prompt, changed)
        _check_draws(perturbation, prompt, changed)
        _check_inputs_untouched(perturbation, prompt)
        _check_composition(perturbation, prompt)
        _apply(perturbation, prompt.replace(style=Style(mode="direct")))
    _check_keyed(perturbation, fitting)


def _unperturbed(sample: Sample) -> Prompt:
    bare = Prompt.of(sample, distractor=draw_distractor(sample, _SEED))
    [base] = FakeModel(opens_images=False).respond([bare])
    return bare.replace(base=base)


def _apply(perturbation: Perturbation, prompt: Prompt) -> Prompt | None:
    try:
        return perturbation(prompt, _SEED)
    except NotApplicable:
        return None
    except Exception as error:
        mode = " under Style(mode='direct')," if prompt.style.mode == "direct" else ""
        raise AssertionError(
            f"{_where(perturbation, prompt)}: expected a prompt, or NotApplicable,{mode} "
            f"got {type(error).__name__}: {error}"
        ) from error


def _content(prompt: Prompt) -> tuple[Any, ...]:
    images = sample_content(prompt.sample)["images"]
    return prompt.condition, prompt.draw, prompt.style, prompt_digest(prompt, images)


def _where(perturbation: Perturbation, prompt: Prompt) -> str:
    return f"condition {perturbation.condition!r}, sample {prompt.sample.id!r}"


def _check_config(perturbation: Perturbation) -> None:
    name = perturbation.condition
    try:
        config = config_of(perturbation)
        read_back = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"condition {name!r}: expected fields that JSON can hold, got {error}") from error
    require(
        read_back == config,
        f"condition {name!r}: expected its fields to come back from JSON as they were, "
        f"got {read_back} instead of {config}; a resumed run would be refused",
    )
    copy = perturbation.replace()
    require(
        copy == perturbation and config_of(copy) == config,
        f"condition {name!r}: expected a copy made from its fields to equal it, got {copy!r} from {perturbation!r}",
    )


def _check_result(perturbation: Perturbation, prompt: Prompt, changed: Prompt) -> None:
    where = _where(perturbation, prompt)
    require(
        changed.condition == perturbation.condition,
        f"{where}: expected a prompt under the condition's name, got {changed.condition!r}",
    )
    require(
        changed.sample == prompt.sample,
        f"{where}: expected the sample itself to stay as it is (change the prompt), got another",
    )
    require(changed.draw == prompt.draw, f"{where}: expected draw {prompt.draw} to be kept, got {changed.draw}")
    if changed.asserted is None:
        return
    expected = (changed.distractor, prompt.sample.answer)
    require(
        changed.asserted in expected,
        f"{where}: expected 'asserted' to be the distractor ({expected[0]}) or the answer ({expected[1]}), since all "
        f"conditions of a sample assert the same wrong option, got {changed.asserted}",
    )
    shown = ("context", "question", "prefill", "options", "images")
    require(
        any(getattr(changed, field) != getattr(prompt, field) for field in shown),
        f"{where}: expected a text that asserts option {changed.asserted}, got a prompt that shows nothing new",
    )


def _check_draws(perturbation: Perturbation, prompt: Prompt, changed: Prompt) -> None:
    second = _apply(perturbation, prompt.replace(draw=1))
    require(
        second is not None and _content(second.replace(draw=prompt.draw)) == _content(changed),
        f"{_where(perturbation, prompt)}: expected the same prompt in every draw (they repeat one prompt), got another",
    )


def _check_inputs_untouched(perturbation: Perturbation, prompt: Prompt) -> None:
    def snapshot() -> tuple[Any, ...]:
        return *_content(prompt), json.dumps(sample_content(prompt.sample)), repr(prompt.sample.metadata)

    before = snapshot()
    _apply(perturbation, prompt)
    require(
        snapshot() == before,
        f"{_where(perturbation, prompt)}: expected the prompt and sample it was given to stay as they are, got them "
        "changed; return prompt.replace(…), and copy an image before drawing on it",
    )


def _check_composition(perturbation: Perturbation, prompt: Prompt) -> None:
    where = _where(perturbation, prompt)
    abstain = AbstainOption(text="None of this can be told")
    for composed in (perturbation + abstain, abstain + perturbation):
        changed = _apply(composed, prompt)
        if changed is None:
            continue
        require(
            changed.condition == composed.condition,
            f"{where}: expected the condition {composed.condition!r} of a composition, got {changed.condition!r}",
        )
        own = {option for option in changed.order if option is not None}
        kept = [text for text, option in zip(changed.options, changed.order, strict=True) if option is None]
        require(
            abstain.text in kept or not own,
            f"{where}: expected {composed.condition!r} to keep the added option (None in 'order'), "
            f"got options {changed.options} in order {changed.order}",
        )


def _check_keyed(perturbation: Perturbation, prompts: Sequence[Prompt]) -> None:
    def contents(asked: Sequence[Prompt], global_seed: int) -> dict[str, Any]:
        random.seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002 - the global state is what a perturbation must not use
        torch.manual_seed(global_seed)
        return {
            prompt.sample.id: None if (changed := _apply(perturbation, prompt)) is None else _content(changed)
            for prompt in asked
        }

    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            first = contents(prompts, 0)
            for trial in range(1, 9):
                # An even trial asks in the other order, every third leaves a sample out.
                asked = list(prompts)[:: -1 if trial % 2 == 0 else 1][int(trial % 3 == 0 and len(prompts) > 1) :]
                for sample_id, content in contents(asked, trial).items():
                    require(
                        content == first[sample_id],
                        f"condition {perturbation.condition!r}, sample {sample_id!r}: expected the same prompt "
                        "whatever was asked before, got another; draw from the 'rng' that 'perturb' is given, and "
                        "keep no state",
                    )
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
