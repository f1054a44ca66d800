"""Values that users keep in pickles, made anew; and how an old one is compared with them."""

import base64
import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from vlmrobust.named_conditions import CONDITIONS

import vlmrobust as vr
from vlmrobust.functional import bootstrap_mean, reliability_curve
from vlmrobust.judges import LabelledThought, Panel, RuleJudge, Verdicts
from vlmrobust.metrics.catalogue import METRICS
from vlmrobust.report import Label, Labels
from vlmrobust.testing import FakeModel


def samples(count: int) -> list[vr.Sample]:
    """Return questions whose pictures are never decoded."""
    colours = ("red", "blue", "green")
    return [
        vr.Sample(
            id=f"q{number}",
            images=[b"not decoded"],
            question=f"Which colour has box {number}?",
            options=colours,
            answer=number % 3,
            group=f"picture {number // 2}",
            metadata={"kind": "near" if number % 2 else "far"},
        )
        for number in range(count)
    ]


def value_of(name: str) -> Any:
    """Return the value of a name in the pickles, as today's code makes it.

    Args:
        name: `condition NAME`, `metric COLUMN`, `style NAME`, or one of `OTHERS`.
    """
    kind, _, which = name.partition(" ")
    if name in OTHERS:
        return OTHERS[name]()
    if kind == "condition":
        return CONDITIONS[which]()
    if kind == "metric":
        return METRICS[which]
    if kind == "style":
        return getattr(vr.styles, which)
    raise KeyError(f"expected a condition, a metric, a style or one of {', '.join(OTHERS)}; got {name!r}")


def _sample() -> vr.Sample:
    return vr.Sample(
        id="cube",
        images=["cube.png", b"not decoded"],
        question="Which colour is the cube?",
        options=["red", "blue", "green"],
        answer=1,
        texts={"wrong_caption": {0: "A red cube."}, "neutral_caption": "A cube."},
        distractor=0,
        group="cubes",
        metadata={"kind": "colour"},
    )


def _prompt() -> vr.Prompt:
    sample = _sample()
    base = vr.Response.parse(vr.Prompt.of(sample), "<think>It is blue.</think><answer>B</answer>")
    asked = vr.Prompt.of(sample, draw=2, base=base)
    return asked.replace(condition="wrong_caption", context="A red cube.", asserted=0, order=(2, 1, 0))


def _response() -> vr.Response:
    text = "<think>It is blue.</think><answer>B</answer>"
    letters = {"option_logprobs": (-2.5, -0.25, float("-inf")), "readout": "own_thought", "token_entropy": 0.125}
    return vr.Response.parse(_prompt(), text).replace(**letters, n_tokens=12, finish_reason="stop")


def _report() -> vr.Report:
    prompts = list(vr.expand(samples(4), [vr.perturbations.WrongThink()], seed=3))
    return vr.Report.from_responses(prompts, FakeModel(opens_images=False).respond(prompts), seed=3)


def _verdicts() -> Verdicts:
    return Verdicts.of(torch.tensor([1, -1]), torch.tensor([False, True]))


def _thought() -> LabelledThought:
    return LabelledThought("It is blue.", "Which colour?", ("red", "blue"), 1)


def _labels() -> Labels:
    return Labels(seed=0, labels=(Label(sample_id="q1", condition="base", thought="0" * 32, label=1),))


OTHERS = {
    "sample": _sample,
    "prompt": _prompt,
    "response": _response,
    "response, failed": lambda: vr.Response.failed(_prompt(), OSError("no such file")),
    "responses": lambda: _report().responses,
    "report": _report,
    "style": lambda: vr.Style(mode="direct", answer_tags=None, letters="123456"),
    "composed": lambda: vr.perturbations.WrongCaption(name="two") + vr.perturbations.AbstainOption(),
    "fake model": lambda: FakeModel(accuracy=0.5, seed=7),
    "judge": lambda: RuleJudge(min_contradiction=0.5),
    "panel": lambda: Panel(RuleJudge(), RuleJudge(name="bold", min_probability=0.25), rule="first_sure"),
    "verdicts": _verdicts,
    "labelled thought": _thought,
    "labels": _labels,
    "estimate": lambda: bootstrap_mean([0.0, 1.0, 1.0], rng=np.random.default_rng(0)),
    "reliability": lambda: reliability_curve(torch.tensor([0.25, 0.75]), torch.tensor([0.0, 1.0])),
    "reward": lambda: vr.rl.FaithfulnessReward(),
    "augment": lambda: vr.rl.Augment({vr.perturbations.WrongCaption(): 0.25}),
    "not applicable": lambda: vr.NotApplicable("no wrong option"),
}


def names_of_today() -> list[str]:
    """Return the names of all values, for the pickles."""
    styles = [name for name in vr.styles.__all__ if isinstance(getattr(vr.styles, name), vr.Style)]
    return [
        *OTHERS,
        *(f"condition {name}" for name in CONDITIONS),
        *(f"metric {name}" for name in METRICS),
        *(f"style {name}" for name in styles),
    ]


def pickled(value: Any) -> str:
    """Return a value as one line of text."""
    return base64.b64encode(pickle.dumps(value, protocol=4)).decode()


def unpickled(line: str) -> Any:
    """Return the value of a line."""
    return pickle.loads(base64.b64decode(line))


def difference(old: Any, new: Any, where: str = "") -> str | None:
    """Return where an old value differs from a new one, in words; fields that it did not have yet may be there."""
    if type(old) is not type(new):
        return f"{where}: {type(old).__name__} {old!r:.80}, now {type(new).__name__} {new!r:.80}"
    if isinstance(old, torch.Tensor):
        same = old.dtype == new.dtype and torch.allclose(old.double(), new.double(), equal_nan=True)
        return None if same else f"{where}: {old}, now {new}"
    if isinstance(old, np.ndarray):
        return None if np.array_equal(old, new, equal_nan=old.dtype.kind == "f") else f"{where}: {old}, now {new}"
    if isinstance(old, Mapping):
        return _of_parts(dict(old), dict(new), where)
    if isinstance(old, list | tuple):
        if len(old) != len(new):
            return f"{where}: {len(old)} entries, now {len(new)}"
        return _of_parts(dict(enumerate(old)), dict(enumerate(new)), where)
    if isinstance(old, BaseException):
        return None if old.args == new.args else f"{where}: {old!r}, now {new!r}"
    if isinstance(old, vr.Report):
        return difference(old.responses, new.responses, f"{where}.responses") or difference(
            old.summary.to_dict("list"), new.summary.to_dict("list"), f"{where}.summary"
        )
    if isinstance(old, BaseModel):
        return _of_parts(vars(old), vars(new), where)
    if dataclasses.is_dataclass(old):
        names = [field.name for field in dataclasses.fields(old)]
        return _of_parts(*({name: getattr(side, name) for name in names} for side in (old, new)), where)
    if isinstance(old, float):
        return None if old == new or (old != old and new != new) else f"{where}: {old}, now {new}"
    if type(old).__eq__ is object.__eq__ and hasattr(old, "__iter__"):
        return difference(list(old), list(new), where)
    return None if old == new else f"{where}: {old!r:.80}, now {new!r:.80}"


def _of_parts(old: Mapping[Any, Any], new: Mapping[Any, Any], where: str) -> str | None:
    for name, value in old.items():
        if name not in new:
            return f"{where}.{name}: gone"
        if found := difference(value, new[name], f"{where}.{name}"):
            return found
    return None
