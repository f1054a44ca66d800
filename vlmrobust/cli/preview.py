"""What a run would ask, without any weights: all of it for `vlmrobust run --dry-run`, briefly before a long run."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..perturbations.expansion import Prompts
from ..types import Prompt, Style
from ..workers.progress import duration

if TYPE_CHECKING:
    from ..models.encoding import Encoder
    from ..study.counting import StandInEncoder

__all__ = ["announced", "as_text", "is_long", "preview"]

_COUNTED = 50  # samples whose tokens are counted; more are taken to be alike

LONG = 1000  # prompts; a run of more shows the first ones before it begins
_SHOWN = 600  # characters of a prompt that is shown before a run

Render = Callable[[Prompt], str]


def preview(
    prompts: Prompts,
    render: Render,
    encoder: "Encoder | StandInEncoder",
    *,
    new_tokens: int,
    rate: float | None = None,
) -> dict[str, Any]:
    """Return how many prompts and tokens there are, and for each condition its first prompt as text.

    Args:
        prompts: all that a run would ask.
        render: how the model gets to see a prompt.
        encoder: what counts tokens.
        new_tokens: the most that are generated for a prompt.
        rate: responses a second, for the time that it takes; None = it is not known.
    """
    return {
        "samples": len(prompts.samples),
        "conditions": len(prompts.conditions),
        "draws": prompts.draws,
        "prompts": prompts.planned,
        "tokens": _tokens(prompts, encoder, new_tokens),
        "seconds": prompts.planned / rate if rate else None,
        "examples": prompts.first_of_each(render),
    }


def _tokens(prompts: Prompts, encoder: "Encoder | StandInEncoder", new_tokens: int) -> dict[str, Any]:
    """Return the tokens of prompts, those of images among them, and of answers at most; of many samples, of some."""
    from ..study.counting import StandInEncoder, count

    step = max(1, math.ceil(len(prompts.samples) / _COUNTED))
    some = list(prompts.samples)[::step]
    counts = count(
        encoder, some, prompts.conditions, style=prompts.style or Style(), seed=prompts.seed, draws=prompts.draws
    ).times(len(prompts.samples) / max(1, len(some)))
    return {
        "prompts": round(counts.plain.tokens),
        "of_images": round(counts.plain.image_tokens),
        "shared": round(counts.shared.tokens),
        "new_at_most": round(counts.texts) * new_tokens,
        "counted_samples": len(some),
        "is_stand_in": isinstance(encoder, StandInEncoder),
    }


def as_text(found: dict[str, Any]) -> str:
    """Return a preview for a terminal."""
    lines = [
        f"{found['samples']} samples × {found['conditions']} conditions × {found['draws']} draws = "
        f"{found['prompts']} prompts",
        *_said_of_tokens(found),
        "The first prompt of each condition:",
        *_headed(found["examples"]),
    ]
    return "\n".join(lines)


def is_long(prompts: Prompts) -> bool:
    """Return whether a run takes so long that what it begins with is worth a look."""
    return prompts.planned > LONG


def announced(prompts: Prompts, render: Render) -> str:
    """Return what is shown before a long run: how much is asked, and the first prompt of each condition, cut short."""
    count = f"{prompts.planned:,} prompts are about to be asked; the first of each condition:"
    return "\n".join([count, *_headed(prompts.first_of_each(lambda prompt: _shortened(render(prompt))))])


def _headed(examples: Mapping[str, str]) -> Iterator[str]:
    for name, text in examples.items():
        yield from (f"\n── {name} ──", text)


def _shortened(text: str) -> str:
    """Return a prompt without its middle: what a condition changes stands at its ends."""
    left_out = len(text) - _SHOWN
    if left_out <= 0:
        return text
    half = _SHOWN // 2
    return f"{text[:half]} […{left_out:,} characters…] {text[-half:]}"


def _said_of_tokens(found: dict[str, Any]) -> list[str]:
    tokens = found["tokens"]
    about = (
        "" if tokens["counted_samples"] == found["samples"] else f"about, from {tokens['counted_samples']} samples: "
    )
    by = " (four characters a token, images by the rule of Qwen2.5-VL)" if tokens["is_stand_in"] else ""
    lines = [
        f"{about}{tokens['prompts']:,} tokens of prompts, {tokens['of_images']:,} of them of images{by}; "
        f"{tokens['shared']:,} where what prompts of a sample share is computed once",
        f"at most {tokens['new_at_most']:,} new tokens",
    ]
    if found["seconds"] is not None:
        lines.append(f"{duration(found['seconds'])} at {found['prompts'] / found['seconds']:g} responses a second")
    else:
        lines.append("how long it takes: --rate RESPONSES, so many a second, as a run prints while it goes on")
    return lines
