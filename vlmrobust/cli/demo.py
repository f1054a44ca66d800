"""Implement the commands on the bundled scenes: `demo` evaluates a bundled model, `conditions` lists conditions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..text import readable, snake_case, wrapped
from . import options
from .app import finish, refusals
from .output import as_json, say, show, show_data

if TYPE_CHECKING:
    from ..perturbations import Perturbation
    from ..report import Report
    from ..types import ImageLike, Prompt, Sample

__all__ = ["conditions", "demo"]

_HOW_TO_READ = """\
How to read it: every difference compares a condition with base on the same samples, with its 95 % interval. A fall \
under wrong_think or wrong_caption whose interval stays below 0 means that injected text took over answers that the \
image had given.

The model is tiny and was trained for this demo, partly with captions that were always true, so it trusts text: this \
shows what the numbers look like and is no evidence about large models. For those:

vlmrobust run --model NAME --data FILE --out FOLDER"""


def demo(
    context: typer.Context,
    samples: Annotated[int, typer.Option(min=1, help="Number of samples, each under eight conditions.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for responses and report; resumable.")] = None,
    html: options.Html = None,
) -> None:
    """Evaluate a small bundled model on scenes of coloured shapes under the paper's eight conditions."""
    from .. import demo as bundled
    from ..evaluator import Evaluator
    from ..perturbations import paper_conditions
    from .preview import check_out

    with refusals(context):
        check_out(out, html)
        say("Loading a small bundled vision-language model (a Qwen2.5-VL with a few million weights) …")
        model = bundled.model()
        scenes = bundled.samples(samples, seed)
        report = Evaluator(model, paper_conditions(), seed=seed).run(scenes, out)
        show(f"{_responses_to_one(report, scenes, seed)}\n\n{report}\n\n{_HOW_TO_READ}")
        if html is not None:
            report.to_html(html, samples=scenes)
    finish(report, responses=out, page=html)


def _responses_to_one(report: "Report", samples: "Sequence[Sample]", seed: int) -> str:
    """Return the model's responses to one sample, preferably one where it adopts the answer of the wrong thought."""
    from ..perturbations import expand, paper_conditions

    rows = {(row["sample_id"], row["condition"]): row for row in report.frame.to_dict("records")}
    sample = next(
        (
            sample
            for sample in samples
            if rows[sample.id, "base"]["answer"] == sample.answer
            and rows[sample.id, "wrong_think"]["answer"] == rows[sample.id, "wrong_think"]["asserted"]
        ),
        samples[0],
    )
    prompts = {prompt.condition: prompt for prompt in expand([sample], paper_conditions(), seed=seed)}
    options = "   ".join(prompts["base"].style.options_text(sample.options).splitlines())
    lines = [
        ("  question       ", f"{sample.question}   {options}   (correct: {sample.options[sample.answer]})"),
        ("  base           ", rows[sample.id, "base"]["text"]),
        ("  wrong caption  ", prompts["wrong_caption"].context),
        ("    → model      ", rows[sample.id, "wrong_caption"]["text"]),
        ("  wrong thought  ", prompts["wrong_think"].prefill),
        ("    → model      ", rows[sample.id, "wrong_think"]["text"]),
    ]
    return "\n".join([f"One of {len(samples)} samples", *(wrapped(text, label) for label, text in lines)])


class _Description(NamedTuple):
    """A condition: what it does, its settings, and the parts of an example prompt that it changes."""

    name: str
    description: str
    settings: dict[str, Any]
    example: dict[str, str]


def conditions(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Conditions to list. Default: all.", autocompletion=options.complete_conditions
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
        from ..perturbations.catalogue import CONDITIONS, FROM_SAMPLES, conditions_named

        scenes = bundled.samples(sample + 2)  # one more, so that swapped_image has another image
        chosen = conditions_named(options.listed(names) or [*CONDITIONS, *FROM_SAMPLES], scenes)
        descriptions = [_described(condition, scenes[sample]) for condition in chosen]
        if json:
            show_data(as_json([description._asdict() for description in descriptions]))
            return
        for description in descriptions:
            show(_text(description))
        show("\nJoin names with + to apply several conditions together, for instance wrong_think+abstain_option.")


_NOT_SHOWN = ("pool", "perturbations", "name")  # samples and parts of a composition, too long for a line


def _described(condition: "Perturbation", sample: "Sample") -> _Description:
    settings = {
        field: value for field, value in condition if field in condition.model_fields_set and field not in _NOT_SHOWN
    }
    summary = (condition.__doc__ or "").strip().splitlines()[0]
    return _Description(condition.condition, summary, settings, _example(condition, sample))


def _example(condition: "Perturbation", sample: "Sample") -> dict[str, str]:
    """Return the parts of a prompt that a condition changes, as they are under it."""
    from ..perturbations import expand
    from ..types import Prompt, Response

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


def _parts(prompt: "Prompt") -> dict[str, str]:
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


def _image(image: "ImageLike", sample: "Sample") -> str:
    from ..types.image import DerivedImage

    if isinstance(image, DerivedImage):
        settings = image.model_dump(exclude={"source", "seed"})
        words = ", ".join(f"{name} {value}" for name, value in settings.items())
        return f"{readable(snake_case(type(image).__name__))} ({words})"
    return "the sample's" if any(image is own for own in sample.images) else "another sample's"


def _text(condition: _Description) -> str:
    settings = ", ".join(f"{field}={value!r}" for field, value in condition.settings.items())
    description = f"{condition.description}{f' [{settings}]' if settings else ''}"
    lines = [
        wrapped(description, f"{condition.name:<25} ", indent=26),
        *(wrapped(text or "(nothing)", f"    {part + ':':<10} ") for part, text in condition.example.items()),
    ]
    return "\n".join(lines)
