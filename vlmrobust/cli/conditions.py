"""`vlmrobust conditions`: what each condition does, and the text it makes."""

from typing import Annotated, Any, NamedTuple

import typer

from ..catalogue import CONDITIONS, FROM_SAMPLES, conditions_named
from ..naming import readable, snake_case
from ..perturbations import Perturbation, expand
from ..text import wrapped
from ..types import ImageLike, Prompt, Response, Sample
from ..types.image import DerivedImage
from . import options
from .app import refusals
from .output import as_json, show, show_data

__all__ = ["conditions"]


class Described(NamedTuple):
    """A condition as it is listed: what it does, its settings, and what it changes in an example, part by part."""

    name: str
    description: str
    settings: dict[str, Any]
    example: dict[str, str]


def conditions(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Only these.", autocompletion=options.complete_conditions),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Which of the bundled scenes the examples are about; 2 asks for a number.")
    ] = 1,
    json: options.Json = False,
) -> None:
    """List the conditions that `run --conditions` knows, with the text that each makes of an example."""
    with refusals(context):
        from .. import demo as bundled

        scenes = bundled.samples(sample + 2)  # one more, whose image may be swapped in
        chosen = conditions_named(options.listed(names) or [*CONDITIONS, *FROM_SAMPLES], scenes)
        found = [described(condition, scenes[sample]) for condition in chosen]
        if json:
            show_data(as_json([one._asdict() for one in found]))
            return
        for one in found:
            show(_text(one))
        show("\nJoin names with + to apply several, for instance wrong_think+abstain_option.")


def described(condition: Perturbation, sample: Sample) -> Described:
    """Return what a condition does, in general and to one sample."""
    settings = {
        field: value for field, value in condition if field in condition.model_fields_set and field not in _NO_SETTINGS
    }
    return Described(
        condition.condition,
        (condition.__doc__ or "").strip().splitlines()[0],
        settings,
        _example(condition, sample),
    )


_NO_SETTINGS = ("pool", "perturbations", "name")  # samples, parts of a composition: not for a line


def _example(condition: Perturbation, sample: Sample) -> dict[str, str]:
    unperturbed = Prompt.of(sample)
    thought = str(sample.texts["correct_think"])
    said = f"<think>{thought}</think><answer>{unperturbed.style.letters[sample.answer]}</answer>"
    prompts = expand([sample], [condition], base=[Response.parse(unperturbed, said)])
    prompt = prompts[-1]
    if prompt.condition != condition.condition:
        [(_, response)] = prompts.not_applicable
        return {"not applicable": str(response.error)}
    before = _parts(unperturbed)
    if condition.condition == "base":
        return {part: text for part, text in before.items() if text} | {"thought": thought}
    return {part: text for part, text in _parts(prompt).items() if text != before[part]} or {"unchanged": "here"}


def _parts(prompt: Prompt) -> dict[str, str]:
    """Return what a prompt shows, by part; nothing of it holds a line break."""
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


def _text(one: Described) -> str:
    settings = ", ".join(f"{field}={value!r}" for field, value in one.settings.items())
    lines = [
        wrapped(f"{one.description}{f' [{settings}]' if settings else ''}", f"{one.name:<25} ", indent=26),
        *(wrapped(text or "(nothing)", f"    {part + ':':<10} ") for part, text in one.example.items()),
    ]
    return "\n".join(lines)
