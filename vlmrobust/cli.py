"""The command line: `vlmrobust demo`, `vlmrobust run`, `vlmrobust conditions`.

Exit codes: 0 = finished; 1 = finished, but some rows are errors (a bad image, a failed call; they are listed in the
report); 2 = wrong usage or input that was refused, with a message and without a report.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from . import __version__
from .named_conditions import CONDITIONS, FROM_SAMPLES, conditions_named, parts_of
from .perturbations import expand, paper_conditions
from .perturbations.distractor import Distractor

if TYPE_CHECKING:
    from .report import Report
    from .types import Sample

__all__ = ["app", "main"]

_HOW_TO_READ = """\
How to read it: every difference compares a condition with base on the same samples, with its 95 % interval. A fall
under wrong_think or wrong_caption whose interval stays below 0 means that injected text took over answers that the
image had given.
The model is tiny and was trained for this demo, partly with captions that were always true, so it trusts text: this
shows what the numbers look like and is no evidence about large models. For those:
vlmrobust run --model NAME --data FILE --out FOLDER"""

app = typer.Typer(
    name="vlmrobust",
    help="Does a vision-language model still look at the image, and does its answer follow from its chain of thought?",
    epilog="Exit codes: 0 finished; 1 finished, but some rows are errors; 2 wrong usage, or input that was refused.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Mode(StrEnum):
    """How questions are put."""

    think = "think"
    direct = "direct"


class AnswerAs(Enum):
    """How the rows' answers are written."""

    any = "any"
    index = "index"
    letter = "letter"
    text = "text"


def main() -> None:
    """Run the command line."""
    app()


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vlmrobust {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj = debug


@app.command()
def conditions() -> None:
    """List the conditions that `run --conditions` knows."""
    for name, make in CONDITIONS.items():
        condition = make()
        settings = ", ".join(f"{field}={value!r}" for field, value in condition if field in condition.model_fields_set)
        doc = (condition.__doc__ or "").strip().splitlines()[0]
        typer.echo(f"{name:<25} {doc}{f' [{settings}]' if settings else ''}")
    for name, make_from in FROM_SAMPLES.items():
        doc = (make_from.__doc__ or "").strip().splitlines()[0]
        typer.echo(f"{name:<25} {doc}")
    typer.echo("\nJoin names with + to apply several, for instance wrong_think+abstain_option.")


@app.command()
def demo(
    context: typer.Context,
    samples: Annotated[int, typer.Option(min=1, help="How many samples, each under eight conditions.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other scenes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Keep responses and report here; resumable.")] = None,
) -> None:
    """Ask a small bundled model about scenes of coloured shapes, under the paper's eight conditions."""
    from . import demo as bundled
    from .evaluator import Evaluator

    typer.echo("Loading a small bundled vision-language model (a Qwen2.5-VL with a few million weights) …", err=True)
    model = bundled.model()
    drawn = bundled.samples(samples, seed)
    with _refusals(context):
        report = Evaluator(model, paper_conditions(), seed=seed).run(drawn, out)
    typer.echo(f"{_example(report, drawn, seed)}\n")
    typer.echo(f"{report}\n")
    typer.echo(_HOW_TO_READ)
    _finish(report, out)


@app.command()
def run(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Checkpoint of an image-text-to-text model: a hub name or a folder.")],
    data: Annotated[
        str, typer.Option(help="rows.jsonl, .csv or .tsv, an image folder with metadata, or a Hugging Face dataset.")
    ],
    out: Annotated[Path, typer.Option(help="Run directory: responses and report. The same call resumes.")],
    conditions: Annotated[
        list[str] | None,
        typer.Option(help="Names, separated by commas; join with + to apply several. Default: the paper's eight."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Keys every random draw.")] = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Prompts processed together at most.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest completion, in tokens.")] = 512,
    dtype: Annotated[str, typer.Option(help="auto (the checkpoint's own), bfloat16, float16 or float32.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cuda, cpu, …; default: CUDA where there is one.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="Where a field is, e.g. question=prompt or options=A,B,C,D."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of a dataset, e.g. test.")] = None,
    answer_as: Annotated[AnswerAs, typer.Option(help="How answers are written, if that can be read in two ways.")] = (
        AnswerAs.any
    ),
    check_images: Annotated[bool, typer.Option(help="Decode every image before the model is loaded.")] = True,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and list them, instead of refusing the file.")
    ] = False,
    runner_up: Annotated[
        bool, typer.Option("--runner-up", help="Assert the likeliest wrong option under base instead of a random one.")
    ] = False,
    style: Annotated[Mode, typer.Option(help="Ask for a thought, or for the answer alone.")] = Mode.think,
    force_answer: Annotated[
        bool, typer.Option("--force-answer", help="Close thoughts that run into the token limit; read the letters.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")
    ] = False,
) -> None:
    """Ask a model every sample under every condition, and report differences from base."""
    from .data import read_rows
    from .evaluator import Evaluator
    from .models import HFModel
    from .types import Style

    with _refusals(context):
        names = _listed(conditions or [])
        parts_of(names)  # a name that is not known is refused before anything is read
        samples = read_rows(
            data,
            _columns(columns or []),
            split=split,
            limit=limit,
            on_error="record" if skip_bad_rows else "raise",
            check_images=check_images,
            answer_as=answer_as.value,
        )
        for problem in samples.problems:
            typer.echo(f"Warning: {problem}", err=True)
        chosen = conditions_named(names, samples) if names else paper_conditions()
        loaded = HFModel.from_pretrained(
            model,
            dtype=dtype,
            device=device,
            generation={"max_new_tokens": max_new_tokens},
            force_answer=force_answer,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
        )
        asserted: Distractor = "runner_up" if runner_up else "random"
        evaluator = Evaluator(loaded, chosen, style=Style(mode=style.value), seed=seed, distractor=asserted)
        report = evaluator.run(samples, out)
    typer.echo(str(report))
    _finish(report, out, problems=len(samples.problems))


def _listed(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _columns(pairs: Sequence[str]) -> dict[str, str | list[str]]:
    columns: dict[str, str | list[str]] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not field or not column:
            raise ValueError(f"--columns: expected field=column, got {pair!r}")
        columns[field] = column.split(",") if "," in column else column
    return columns


def _example(report: "Report", samples: "Sequence[Sample]", seed: int) -> str:
    """Return what the model said about one sample, preferably one whose answer a wrong thought took over."""
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
    return "\n".join(
        [
            f"One of {len(samples)} samples",
            f"  question       {sample.question}   {options}   (correct: {sample.options[sample.answer]})",
            f"  base           {rows[sample.id, 'base']['text']}",
            f"  wrong caption  {prompts['wrong_caption'].context}",
            f"    → model      {rows[sample.id, 'wrong_caption']['text']}",
            f"  wrong thought  {prompts['wrong_think'].prefill}",
            f"    → model      {rows[sample.id, 'wrong_think']['text']}",
        ]
    )


def _finish(report: "Report", out: Path | None, problems: int = 0) -> None:
    if out is not None:
        typer.echo(f"Responses and report are in {out}", err=True)
    errors = int((report.frame["status"] == "error").sum())
    if errors or problems:
        typer.echo(f"Error rows: {errors}; problems in the data: {problems}. No number above counts them.", err=True)
        raise typer.Exit(1)


@contextmanager
def _refusals(context: typer.Context) -> Iterator[None]:
    """Show refused input as a message instead of a traceback."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if context.obj:
            raise
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    typer.echo(f"Error: {error}", err=True)
    raise typer.Exit(2) from error


if __name__ == "__main__":
    main()
