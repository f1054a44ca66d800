"""Implement `vlmrobust conditions`: list the conditions, each with an example."""

from typing import Annotated, Any, NamedTuple

import typer

from ..naming import readable, snake_case
from ..perturbations import Perturbation, expand
from ..perturbations.catalogue import CONDITIONS, FROM_SAMPLES, conditions_named
from ..text import wrapped
from ..types import ImageLike, Prompt, Response, Sample
from ..types.image import DerivedImage
from . import completion, options
from .app import refusals
from .output import as_json, show, show_data

__all__ = ["conditions"]


class Described(NamedTuple):
    """A listed condition: its description, its settings, and the parts of an example prompt that it changes."""

    name: str
    description: str
    settings: dict[str, Any]
    example: dict[str, str]


def conditions(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Conditions to list. Default: all.", autocompletion=completion.complete_conditions
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Bundled scene that the examples show; scene 2 asks for a number.")
    ] = 1,
    json: options.Json = False,
) -> None:
    """List the conditions of `run --conditions`, each with an example of its text."""
    with refusals(context):
        from .. import demo as bundled

        scenes = bundled.samples(sample + 2)  # one more, so that swapped_image has another image
        chosen = conditions_named(options.listed(names) or [*CONDITIONS, *FROM_SAMPLES], scenes)
        descriptions = [described(condition, scenes[sample]) for condition in chosen]
        if json:
            show_data(as_json([description._asdict() for description in descriptions]))
            return
        for description in descriptions:
            show(_text(description))
        show("\nJoin names with + to apply several conditions together, for instance wrong_think+abstain_option.")


def described(condition: Perturbation, sample: Sample) -> Described:
    """Describe a condition and its effect on a sample."""
    settings = {
        field: value for field, value in condition if field in condition.model_fields_set and field not in _NOT_SHOWN
    }
    return Described(
        condition.condition,
        (condition.__doc__ or "").strip().splitlines()[0],
        settings,
        _example(condition, sample),
    )


_NOT_SHOWN = ("pool", "perturbations", "name")  # samples and parts of a composition, too long for a line


def _example(condition: Perturbation, sample: Sample) -> dict[str, str]:
    unperturbed = Prompt.of(sample)
    thought = str(sample.texts["correct_think"])
    text = f"<think>{thought}</think><answer>{unperturbed.style.letters[sample.answer]}</answer>"
    prompts = expand([sample], [condition], base=[Response.parse(unperturbed, text)])
    prompt = prompts[-1]
    if prompt.condition != condition.condition:
        [(_, response)] = prompts.not_applicable
        return {"not applicable": str(response.error)}
    before = _parts(unperturbed)
    if condition.condition == "base":
        return {part: text for part, text in before.items() if text} | {"thought": thought}
    return {part: text for part, text in _parts(prompt).items() if text != before[part]} or {"unchanged": "here"}


def _parts(prompt: Prompt) -> dict[str, str]:
    """Return the contents of a prompt by part, without line breaks."""
    parts = {
        "image": " ".join(_image(image, prompt.sample) for image in prompt.images) or "none",
        "context": prompt.context,
        "question": prompt.question,
        "options": "  ".join(prompt.style.options_text(prompt.options).splitlines()),
        "since": "  ".join(f"{turn.role}: {turn.text}" for turn in prompt.history),
        "prefill": prompt.prefill,
    }
    return {part: " ".join(text.split("\n")) for part, text in parts.items()}


def _image(image: ImageLike, sample: Sample) -> str:
    if isinstance(image, DerivedImage):
        settings = image.model_dump(exclude={"source", "seed"})
        words = ", ".join(f"{name} {value}" for name, value in settings.items())
        return f"{readable(snake_case(type(image).__name__))} ({words})"
    return "the sample's" if any(image is own for own in sample.images) else "another sample's"


def _text(condition: Described) -> str:
    settings = ", ".join(f"{field}={value!r}" for field, value in condition.settings.items())
    description = f"{condition.description}{f' [{settings}]' if settings else ''}"
    lines = [
        wrapped(description, f"{condition.name:<25} ", indent=26),
        *(wrapped(text or "(nothing)", f"    {part + ':':<10} ") for part, text in condition.example.items()),
    ]
    return "\n".join(lines)
