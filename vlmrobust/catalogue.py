"""Look up conditions, styles, judges and text writers by name, and custom classes by `module:Class`."""

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
"""Conditions that use other samples, their `pool`."""


def parts_of(names: Sequence[str]) -> list[list[str]]:
    """Split each name into the names joined with `+`.

    Raises:
        ValueError: a name is unknown (the message suggests the closest and lists all), or a custom class is missing.

    Example:
        >>> parts_of(["base", "wrong_caption+abstain_option"])
        [['base'], ['wrong_caption', 'abstain_option']]
    """
    parts = [[part.strip() for part in name.split("+")] for name in names]
    known = (*CONDITIONS, *FROM_SAMPLES)
    for part in (part for joined in parts for part in joined if part not in known):
        if ":" not in part:
            raise ValueError(
                f"expected a condition, or several joined with +, {unknown_name(part, known)}; name a custom one as "
                "module:Class or file.py:Class"
            )
        made_at(part, (Perturbation,), "condition")
    return parts


def conditions_named(names: Sequence[str], samples: Sequence[Sample] = ()) -> list[Perturbation]:
    """Return conditions by name; `+` joins several into one.

    Args:
        names: names of conditions; `module:Class` or `file.py:Class` for custom ones, whose module is imported, which
            runs its code.
        samples: for conditions that use other samples.

    Raises:
        ValueError: a name is unknown (the message suggests the closest and lists all), or a custom class is missing.

    Example:
        >>> [condition.condition for condition in conditions_named(["base", "wrong_caption+abstain_option"])]
        ['base', 'wrong_caption+abstain_option']
    """
    conditions: list[Perturbation] = []
    for parts in parts_of(names):
        created = [_create(part, samples) for part in parts]
        conditions.append(created[0] if len(created) == 1 else Compose(*created))
    return conditions


def _create(part: str, samples: Sequence[Sample]) -> Perturbation:
    if part in CONDITIONS:
        return CONDITIONS[part]()
    if part in FROM_SAMPLES:
        return FROM_SAMPLES[part](pool=samples)
    custom: Perturbation = made_at(part, (Perturbation,), "condition")
    return custom


STYLES: dict[str, Style] = {
    "think": Style(),
    "direct": Style(mode="direct"),
    **{name: style for name in styles.__all__ if isinstance(style := getattr(styles, name), Style)},
}


def named_style(name: str) -> Style:
    """Return a style by name: the default with a thought ("think"), without ("direct"), or one of `vlmrobust.styles`.

    Raises:
        ValueError: the name is unknown; the message suggests the closest and lists all.

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
    """Return a judge by name.

    Args:
        name: `rules`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), `openai:NAME` (a model behind a server), or
            `self`.
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: data type of a checkpoint.
        device: device of a checkpoint; vLLM uses the GPUs it sees.
        options: further arguments of `LMJudge.from_pretrained` or `OpenAIJudge`.
        itself: the name that `self` refers to, such as `hf:NAME` of the model that wrote the thoughts; None = none.
        where: the name's origin, for messages.

    Raises:
        ValueError: the name has another form, the key is missing, or `self` does not refer to a checkpoint.

    Example:
        >>> judge_named("rules", where="judges").title
        'RuleJudge'
    """
    if name == "self":
        if itself is None:
            raise ValueError(f"{where}: expected self beside a run of a checkpoint, got none; hf:NAME names one")
        name = itself
    kind, _, which = name.partition(":")
    extra = dict(options or {})
    match kind, bool(which):
        case "rules", False:
            return RuleJudge()
        case "hf", True:
            return LMJudge.from_pretrained(which, dtype=dtype, device=device, **extra)
        case "vllm", True:
            return LMJudge.from_pretrained(which, engine="vllm", dtype=dtype, device=device, **extra)
        case "openai", True:
            return OpenAIJudge(model=which, base_url=base_url, api_key=secret(api_key_env, where), **extra)
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
    """Return a model that writes captions and thoughts, by name.

    Args:
        name: `hf:NAME` (a language or vision-language checkpoint), `vllm:NAME` (a vision-language model on vLLM) or
            `openai:NAME` (a model behind a server).
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: data type of a checkpoint.
        device: device of a checkpoint; vLLM uses the GPUs it sees.
        max_new_tokens: maximum number of tokens per text.
        options: further arguments of `VLLMModel` or `OpenAIModel`.
        where: the name's origin, for messages.

    Raises:
        ValueError: the name has another form, or the key is missing.
    """
    kind, _, which = name.partition(":")
    extra = dict(options or {})
    match kind, bool(which):
        case "hf", True:
            if not _is_vision_language(which):
                return TextModel.from_pretrained(which, dtype=dtype, device=device, max_new_tokens=max_new_tokens)
            generation = {"max_new_tokens": max_new_tokens}
            return HFModel.from_pretrained(which, dtype=dtype, device=device, generation=generation)
        case "vllm", True:
            return VLLMModel(which, {"max_new_tokens": max_new_tokens}, dtype=dtype, **extra)
        case "openai", True:
            # Letters are not needed here, and some servers refuse requests for log-probabilities.
            settings: dict[str, Any] = {"generation": {"max_tokens": max_new_tokens}, "top_logprobs": None}
            return OpenAIModel(which, base_url, secret(api_key_env, where), **settings | extra)
    raise ValueError(f"{where}: expected hf:NAME, vllm:NAME or openai:NAME, got {name!r}")


def _is_vision_language(name: str) -> bool:
    """Return whether a checkpoint is a vision-language model; assumed for checkpoints without a readable config."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        return type(AutoConfig.from_pretrained(name)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except (OSError, ValueError):
        return True  # an adapter, or a checkpoint whose loader reports the problem


def slug_of(name: str) -> str:
    """Return a judge's name in a form that is valid in file names and unique.

    Example:
        >>> slug_of("hf:org/model"), slug_of("hf:org-model")
        ('hf-org+model', 'hf-org-model')
    """
    kind, _, which = name.partition(":")
    return "-".join(filter(None, (kind, quote(which, safe="").replace("%2F", "+"))))


def secret(variable: str | None, where: str) -> str | None:
    """Return a key from an environment variable, so that command lines and files never contain the key.

    Args:
        variable: the variable's name; None = no key.
        where: the name's origin, for messages.

    Raises:
        ValueError: the variable is not set.
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
