"""`vlmrobust run`: any model, any data, any of the conditions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..named_conditions import conditions_named, parts_of
from ..perturbations import expand, paper_conditions
from . import options
from .app import refusals
from .configuration import options_of, write_configuration
from .finishing import finish
from .output import as_json, is_first_process, say, show

if TYPE_CHECKING:
    from ..evaluator import Evaluator
    from ..report import Report
    from ..types import Prompt, Sample

__all__ = ["run"]


def run(
    context: typer.Context,
    *,
    model: options.Model,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    trust_remote_code: options.TrustRemoteCode = False,
    batch_size: options.BatchSize = None,
    max_new_tokens: options.MaxNewTokens = 512,
    force_answer: options.ForceAnswer = False,
    temperature: options.Temperature = None,
    data: options.Data,
    split: options.Split = None,
    columns: options.Columns = None,
    answer_as: options.AnswersAs = options.AnswerAs.any,
    limit: options.Limit = None,
    check_images: options.CheckImages = True,
    skip_bad_rows: options.SkipBadRows = False,
    conditions: options.Conditions = None,
    style: options.QuestionStyle = options.Mode.think,
    runner_up: options.RunnerUp = False,
    draws: options.Draws = 1,
    seed: options.Seed = 0,
    out: options.Out,
    config: options.Configuration = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    html: options.Html = None,
) -> None:
    """Ask a model every sample under every condition, and report differences from base."""
    from ..data import read_rows
    from ..evaluator import Evaluator
    from ..models import HFModel
    from ..types import Style
    from .preview import as_text, preview

    with refusals(context):
        names = options.listed(conditions)
        parts_of(names)  # a name that is not known is refused before anything is read
        if draws > 1 and temperature is None:
            raise ValueError("--draws: expected --temperature beside it: greedy draws of a prompt are all the same")
        samples = read_rows(
            data,
            _columns(columns),
            split=split,
            limit=limit,
            on_error="record" if skip_bad_rows else "raise",
            check_images=check_images,
            answer_as=answer_as.value,
        )
        for problem in samples.problems:
            say(f"Warning: {problem}")
        chosen = conditions_named(names, samples) if names else paper_conditions()
        asked: dict[str, Any] = {
            "style": Style(mode=style.value),
            "seed": seed,
            "draws": draws,
            "distractor": "runner_up" if runner_up else "random",
        }
        if dry_run:
            found = preview(expand(samples, chosen, **asked), _renderer(model, trust_remote_code))
            show(as_json(found) if json else as_text(found))
            return
        loaded = HFModel.from_pretrained(
            model,
            dtype=dtype,
            device=device,
            generation={"max_new_tokens": max_new_tokens} | _sampling(temperature, seed),
            force_answer=force_answer,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
        )
        report = _ask(Evaluator(loaded, chosen, **asked), samples, out, options_of(context))
        show(as_json(report.summary) if json else report)
        if html is not None and is_first_process():
            report.to_html(html, samples=samples)
    finish(report, responses=out, page=html, problems=len(samples.problems))


def _columns(values: Sequence[str] | None) -> dict[str, str | list[str]]:
    columns = options.pairs("--columns", "field=column", values)
    return {field: column.split(",") if "," in column else column for field, column in columns.items()}


def _sampling(temperature: float | None, seed: int) -> dict[str, Any]:
    return {} if temperature is None else {"do_sample": True, "temperature": temperature, "seed": seed}


def _renderer(model: str, trust_remote_code: bool) -> "Callable[[Prompt], str]":
    """Return what renders prompts through a checkpoint's chat template; its weights are not loaded."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model, trust_remote_code=trust_remote_code)
    return lambda prompt: prompt.render(processor)


def _ask(evaluator: "Evaluator", samples: "Sequence[Sample]", out: Path, given: dict[str, Any]) -> "Report":
    """Run, and keep beside the report the options that it was made with."""
    file = out / "run.toml"
    if is_first_process() and not (out / "manifest.json").exists():
        write_configuration(file, "run", given)  # at once, so that a run that is cut off has it too
    try:
        report = evaluator.run(samples, out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"What was answered is in {out}; the same call goes on where this one stopped."
        ) from None
    if is_first_process():
        write_configuration(file, "run", given)
    return report
