"""Look up conditions, styles, judges and text writers by name, or by `module:Class` for one's own."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from . import styles
from .functional import QUADRANTS
from .judges import Judge, LMJudge, OpenAIJudge, RuleJudge
from .metrics import (
    Consistency,
    ConsistencyCoverage,
    ConsistencyGivenCorrect,
    ConsistentAccuracy,
    Metric,
    Quadrant,
)
from .models import HFModel, Model, OpenAIModel, VLLMModel
from .naming import made_at, unknown_name
from .perturbations import (
    AbstainOption,
    AddedMistake,
    AnswerFirst,
    AreYouSure,
    Base,
    BlankImage,
    BlurredImage,
    Casing,
    Compose,
    CorrectCaption,
    CorrectThink,
    EarlyAnswer,
    FillerThought,
    IrrelevantCaption,
    LowContrastImage,
    NeutralCaption,
    NeutralSecondTurn,
    NeutralThink,
    NoisyImage,
    OptionLetters,
    Perturbation,
    RemovedImage,
    RotatedOptions,
    ShuffledOptions,
    Spacing,
    StopThink,
    SuggestedAnswer,
    SuggestedSecondTurn,
    SwappedImage,
    Typos,
    WrongCaption,
    WrongThink,
)
from .secrecy import variable_shown
from .types import Sample, Style
from .written_texts import TextModel

__all__ = [
    "CONDITIONS",
    "FROM_SAMPLES",
    "STYLES",
    "conditions_named",
    "judge_named",
    "judged_metrics",
    "named_style",
    "parts_of",
    "secret",
    "slug_of",
    "writer_named",
]


CONDITIONS: dict[str, Callable[[], Perturbation]] = {
    "base": Base,
    "stop_think": StopThink,
    "wrong_think": WrongThink,
    "wrong_think_but": lambda: WrongThink(hedge="but I think"),
    "wrong_caption": WrongCaption,
    "wrong_caption_disclaimer": lambda: WrongCaption(disclaimer="but I could be wrong"),
    "correct_caption": CorrectCaption,
    "correct_think": CorrectThink,
    "abstain_option": AbstainOption,
    "neutral_caption": NeutralCaption,
    "irrelevant_caption": IrrelevantCaption,
    "neutral_think": NeutralThink,
    "blank_image": BlankImage,
    "removed_image": RemovedImage,
    **{f"noisy_image_{severity}": partial(NoisyImage, severity=severity) for severity in range(1, 6)},
    **{f"blurred_image_{severity}": partial(BlurredImage, severity=severity) for severity in range(1, 6)},
    **{f"low_contrast_image_{severity}": partial(LowContrastImage, severity=severity) for severity in range(1, 6)},
    **{f"typos_{severity}": partial(Typos, severity=severity) for severity in range(1, 6)},
    "casing": Casing,
    "spacing": Spacing,
    "suggested_answer": SuggestedAnswer,
    "suggested_answer_expert": lambda: SuggestedAnswer(by="expert"),
    **{f"rotated_options_{by}": partial(RotatedOptions, by=by) for by in range(1, 6)},
    "shuffled_options": ShuffledOptions,
    "answer_first": AnswerFirst,
    "option_letters": OptionLetters,
    **{f"early_answer_{percent}": partial(EarlyAnswer, fraction=percent / 100) for percent in (0, 25, 50, 75, 100)},
    "added_mistake": AddedMistake,
    "filler_thought": FillerThought,
    "are_you_sure": AreYouSure,
    "suggested_second_turn": SuggestedSecondTurn,
    "neutral_second_turn": NeutralSecondTurn,
}

FROM_SAMPLES: dict[str, Callable[..., Perturbation]] = {"swapped_image": SwappedImage}
"""Conditions that show something of other samples, which are their `pool`."""


def parts_of(names: Sequence[str]) -> list[list[str]]:
    """Return the names that are joined with `+` in each of some names.

    Raises:
        ValueError: a name is not known (the message has the nearest, and lists all), or one's own class is not there.

    Example:
        >>> parts_of(["base", "wrong_caption+abstain_option"])
        [['base'], ['wrong_caption', 'abstain_option']]
    """
    parts = [[part.strip() for part in name.split("+")] for name in names]
    known = (*CONDITIONS, *FROM_SAMPLES)
    for part in (part for joined in parts for part in joined if part not in known):
        if ":" not in part:
            raise ValueError(
                f"expected a condition, or several joined with +, {unknown_name(part, known)}; one of your own is "
                "module:Class or file.py:Class"
            )
        made_at(part, (Perturbation,), "condition")
    return parts


def conditions_named(names: Sequence[str], samples: Sequence[Sample] = ()) -> list[Perturbation]:
    """Return the conditions of some names, each from the tables or one's own, or several of them joined with `+`.

    Args:
        names: of conditions; `module:Class` or `file.py:Class` of one's own, whose module is imported, which runs its
            code.
        samples: for conditions that show something of other samples.

    Raises:
        ValueError: a name is not known (the message has the nearest, and lists all), or one's own class is not there.

    Example:
        >>> [condition.condition for condition in conditions_named(["base", "wrong_caption+abstain_option"])]
        ['base', 'wrong_caption+abstain_option']
    """
    conditions: list[Perturbation] = []
    for parts in parts_of(names):
        made = [_made(part, samples) for part in parts]
        conditions.append(made[0] if len(made) == 1 else Compose(*made))
    return conditions


def _made(part: str, samples: Sequence[Sample]) -> Perturbation:
    if part in CONDITIONS:
        return CONDITIONS[part]()
    if part in FROM_SAMPLES:
        return FROM_SAMPLES[part](pool=samples)
    own: Perturbation = made_at(part, (Perturbation,), "condition")
    return own


STYLES: dict[str, Style] = {
    "think": Style(),
    "direct": Style(mode="direct"),
    **{name: style for name in styles.__all__ if isinstance(style := getattr(styles, name), Style)},
}


def named_style(name: str) -> Style:
    """Return the library's own style that asks for a thought ("think") or not ("direct"), or one of `vlmrobust.styles`.

    Raises:
        ValueError: there is none of this name; the message has the nearest, and lists all.

    Example:
        >>> named_style("vigorl_spatial").answer_by
        'text'
    """
    if name not in STYLES:
        raise ValueError(f"expected a style, {unknown_name(name, STYLES)}")
    return STYLES[name]


def judge_named(
    name: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    itself: str | None = None,
    where: str,
) -> Judge:
    """Return the judge of a name: the table of what a name stands for.

    Args:
        name: `rules`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), `openai:NAME` (a model behind a server), or
            `self`.
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: of a checkpoint.
        device: of a checkpoint; vLLM takes the cards it sees.
        options: further arguments of `LMJudge.from_pretrained` or `OpenAIJudge`.
        itself: the name that `self` means, such as `hf:NAME` of the model that had the thoughts; None = there is none.
        where: what errors call the place that the name stands at.

    Raises:
        ValueError: the name is of none of these forms, the key is not there, or `self` means no checkpoint.

    Example:
        >>> judge_named("rules", where="judges").title
        'RuleJudge'
    """
    if name == "self":
        if itself is None:
            raise ValueError(f"{where}: expected self beside a run of a checkpoint, got none; hf:NAME names one")
        name = itself
    kind, _, which = name.partition(":")
    further = dict(options or {})
    match kind, bool(which):
        case "rules", False:
            return RuleJudge()
        case "hf", True:
            return LMJudge.from_pretrained(which, dtype=dtype, device=device, **further)
        case "vllm", True:
            return LMJudge.from_pretrained(which, engine="vllm", dtype=dtype, device=device, **further)
        case "openai", True:
            return OpenAIJudge(model=which, base_url=base_url, api_key=secret(api_key_env, where), **further)
    raise ValueError(f"{where}: expected rules, self, hf:NAME, vllm:NAME or openai:NAME, got {name!r}")


def writer_named(
    name: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    max_new_tokens: int = 512,
    options: Mapping[str, Any] | None = None,
    where: str,
) -> Model:
    """Return who writes captions and thoughts, of a name.

    Args:
        name: `hf:NAME` (a checkpoint, with or without eyes), `vllm:NAME` (a vision-language model on vLLM) or
            `openai:NAME` (a model behind a server).
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: of a checkpoint.
        device: of a checkpoint; vLLM takes the cards it sees.
        max_new_tokens: the most that is written for a text.
        options: further arguments of `VLLMModel` or `OpenAIModel`.
        where: what errors call the place that the name stands at.

    Raises:
        ValueError: the name is of none of these forms, or the key is not there.
    """
    kind, _, which = name.partition(":")
    further = dict(options or {})
    match kind, bool(which):
        case "hf", True:
            if not _sees(which):
                return TextModel.from_pretrained(which, dtype=dtype, device=device, max_new_tokens=max_new_tokens)
            generation = {"max_new_tokens": max_new_tokens}
            return HFModel.from_pretrained(which, dtype=dtype, device=device, generation=generation)
        case "vllm", True:
            return VLLMModel(which, {"max_new_tokens": max_new_tokens}, dtype=dtype, **further)
        case "openai", True:
            # Letters are of no use here, and some servers refuse to tell probabilities.
            told: dict[str, Any] = {"generation": {"max_tokens": max_new_tokens}, "top_logprobs": None}
            return OpenAIModel(which, base_url, secret(api_key_env, where), **told | further)
    raise ValueError(f"{where}: expected hf:NAME, vllm:NAME or openai:NAME, got {name!r}")


def _sees(name: str) -> bool:
    """Return whether a checkpoint is one of a vision-language model; of what has no config of its own, that it is."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        return type(AutoConfig.from_pretrained(name)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except (OSError, ValueError):
        return True  # an adapter, or one that its own loader says more about


def slug_of(name: str) -> str:
    """Return a judge's name as a part of a file's name; no two names have the same.

    Example:
        >>> slug_of("hf:org/model"), slug_of("hf:org-model")
        ('hf-org+model', 'hf-org-model')
    """
    kind, _, which = name.partition(":")
    return "-".join(filter(None, (kind, quote(which, safe="").replace("%2F", "+"))))


def secret(variable: str | None, where: str) -> str | None:
    """Return the value of an environment variable: a key is named on a command line or in a file, never written there.

    Args:
        variable: its name; None = no key.
        where: what errors call the place that the name stands at.

    Raises:
        ValueError: it is not set.
    """
    if variable is None:
        return None
    if not os.environ.get(variable):
        shown = variable_shown(variable)
        raise ValueError(f"{where}: expected an environment variable that holds the key, {shown} is not set")
    return os.environ[variable]


def judged_metrics(judge: Judge) -> tuple[Metric, ...]:
    """Return the metrics that depend on the judge.

    Example:
        >>> [metric.column for metric in judged_metrics(RuleJudge())][:3]
        ['consistency', 'consistency_coverage', 'consistency_given_correct']
    """
    return (
        Consistency(judge=judge),
        ConsistencyCoverage(judge=judge),
        ConsistencyGivenCorrect(judge=judge),
        *(Quadrant(kind=kind, judge=judge) for kind in QUADRANTS),
        ConsistentAccuracy(judge=judge),
    )
