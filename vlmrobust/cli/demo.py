"""Implement `vlmrobust demo`: evaluate the bundled model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..perturbations import expand, paper_conditions
from ..text import wrapped
from . import options
from .app import refusals
from .finishing import finish
from .output import say, show

if TYPE_CHECKING:
    from ..report import Report
    from ..types import Sample

__all__ = ["demo"]

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

    say("Loading a small bundled vision-language model (a Qwen2.5-VL with a few million weights) …")
    with refusals(context):
        model = bundled.model()
        scenes = bundled.samples(samples, seed)
        report = Evaluator(model, paper_conditions(), seed=seed).run(scenes, out)
        show(f"{_example(report, scenes, seed)}\n\n{report}\n\n{_HOW_TO_READ}")
        if html is not None:
            report.to_html(html, samples=scenes)
    finish(report, responses=out, page=html)


def _example(report: "Report", samples: "Sequence[Sample]", seed: int) -> str:
    """Return the model's responses to one sample, preferably one where it adopts the answer of the wrong thought."""
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
