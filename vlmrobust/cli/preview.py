"""`vlmrobust run --dry-run`: what would be asked, without any weights."""

from collections.abc import Callable
from typing import Any

from ..perturbations import NotApplicable
from ..perturbations.expansion import Prompts
from ..prompting import KNOWN_TOKENS
from ..types import Prompt

__all__ = ["as_text", "preview"]

Render = Callable[[Prompt], str]


def preview(prompts: Prompts, render: Render) -> dict[str, Any]:
    """Return the numbers of samples, conditions and prompts, and for each condition its first prompt as text.

    Args:
        prompts: all that a run would ask.
        render: how the model gets to see a prompt.
    """
    return {
        "samples": len(prompts.samples),
        "conditions": len(prompts.conditions),
        "draws": prompts.draws,
        "prompts": prompts.planned,
        "examples": {
            condition.condition: _example(prompts, index, render) for index, condition in enumerate(prompts.conditions)
        },
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
        f"{found['prompts']} prompts; the first of each condition:"
    ]
    for name, text in found["examples"].items():
        lines += [f"\n── {name} ──", text]
    return "\n".join(lines)


def turns(prompt: Prompt) -> str:
    """Return a prompt as chat turns, as a server gets it."""
    lines = []
    prompt = prompt.with_inert(KNOWN_TOKENS)
    for turn in prompt.messages():
        parts = ["<image>" if part["type"] == "image" else part["text"] for part in turn["content"]]
        lines.append(f"[{turn['role']}] {' '.join(parts)}")
    return "\n".join([*lines, *([f"[assistant begins] {prompt.prefill}"] if prompt.prefill else [])])
