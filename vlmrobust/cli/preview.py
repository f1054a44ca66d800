"""`vlmrobust run --dry-run`: what would be asked, without any weights."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..perturbations import NotApplicable
from ..perturbations.expansion import Prompts
from ..prompting import KNOWN_TOKENS
from ..types import Prompt, Style
from ..workers.progress import duration

if TYPE_CHECKING:
    from ..models.encoding import Encoder
    from ..study.counting import StandInEncoder

__all__ = ["as_text", "preview"]

_COUNTED = 50  # samples whose tokens are counted; more are taken to be alike

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
        "examples": {
            condition.condition: _example(prompts, index, render) for index, condition in enumerate(prompts.conditions)
        },
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


def _example(prompts: Prompts, index: int, render: Render) -> str:
    condition = prompts.conditions[index]
    if prompts.needs_base(condition):
        return "(made of the model's own answer under base)"
    reason = "no samples"
    for sample in prompts.samples:
        try:
            return render(prompts.make(sample, condition))
        except NotApplicable as error:
            reason = str(error)
    return f"(not applicable to any sample: {reason})"


def as_text(found: dict[str, Any]) -> str:
    """Return a preview for a terminal."""
    lines = [
        f"{found['samples']} samples × {found['conditions']} conditions × {found['draws']} draws = "
        f"{found['prompts']} prompts",
        *_said_of_tokens(found),
        "The first prompt of each condition:",
    ]
    for name, text in found["examples"].items():
        lines += [f"\n── {name} ──", text]
    return "\n".join(lines)


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


def turns(prompt: Prompt) -> str:
    """Return a prompt as chat turns, as a server gets it."""
    lines = []
    prompt = prompt.with_inert(KNOWN_TOKENS)
    for turn in prompt.messages():
        parts = ["<image>" if part["type"] == "image" else part["text"] for part in turn["content"]]
        lines.append(f"[{turn['role']}] {' '.join(parts)}")
    return "\n".join([*lines, *([f"[assistant begins] {prompt.prefill}"] if prompt.prefill else [])])
