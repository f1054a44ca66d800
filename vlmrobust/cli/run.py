"""Implement the commands that evaluate models: `run`, `study`, and `check-server`, which tests a server before them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..locking import DirectoryInUseError
from . import options
from .app import ExitCode, finish, options_of, refusals, write_configuration
from .output import as_json, is_first_process, say, show, show_data

if TYPE_CHECKING:
    from ..data import Samples
    from ..evaluator import Evaluator
    from ..perturbations.expansion import Prompts
    from ..report import Report
    from ..study import Rates
    from ..types import Sample

__all__ = ["check_server", "run", "study"]


def run(
    context: typer.Context,
    *,
    model: options.Model,
    engine: options.EngineName = options.EngineChoice.transformers,
    engine_option: options.EngineOption = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    trust_remote_code: options.TrustRemoteCode = False,
    batch_size: options.BatchSize = None,
    max_new_tokens: options.MaxNewTokens = 512,
    force_answer: options.ForceAnswer = False,
    temperature: options.Temperature = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    data: options.Data = None,
    benchmark: options.Benchmark = None,
    split: options.Split = None,
    columns: options.Columns = None,
    answer_as: options.AnswersAs = options.AnswerAs.any,
    limit: options.Limit = None,
    check_images: options.CheckImages = True,
    download_urls: options.DownloadUrls = False,
    skip_bad_rows: options.SkipBadRows = False,
    texts: options.Texts = None,
    strict: options.Strict = False,
    conditions: options.Conditions = None,
    metrics: options.RunMetrics = None,
    style: options.QuestionStyle = "think",
    runner_up: options.RunnerUp = False,
    draws: options.Draws = 1,
    seed: options.Seed = 0,
    out: options.Out,
    config: options.Configuration = None,
    dry_run: options.DryRun = False,
    show_prompts: options.ShowPrompts = None,
    rate: options.Rate = None,
    progress_every: options.ProgressEvery = 30.0,
    json: options.Json = False,
    html: options.Html = None,
) -> None:
    """Evaluate a model on every sample under every condition, and report differences from base.

    Under torchrun, all ranks share the prompts and the first one prints.
    """
    with refusals(context):
        from ..catalogue import named_style
        from ..evaluator import Evaluator
        from ..metrics.catalogue import metrics_named
        from ..naming import check_device
        from ..perturbations import expand, paper_conditions
        from ..perturbations.catalogue import conditions_named, parts_of
        from .construction import check_flags, encoder_of, is_served, model_of, renderer_of
        from .preview import ExistingRun, as_text, check_out, is_long, preview

        given = context.params
        names = options.listed(conditions)
        parts_of(names)  # refuse unknown names before reading anything
        measured = metrics_named(options.listed(metrics)) or None
        if draws > 1 and not temperature:
            raise ValueError(
                f"--draws: expected --temperature above 0 with {draws} draws, since greedy draws are all the same"
            )
        if not dry_run:
            check_flags(given)
            check_device(device, "--device")
            check_out(out, html)
        samples = _samples(given, texts)
        chosen = conditions_named(names, samples) if names else paper_conditions()
        settings: dict[str, Any] = {
            "style": named_style(style),
            "draws": draws,
            "seed": seed,
            "distractor": "runner_up" if runner_up else "random",
        }
        if rate is not None and not dry_run:
            raise ValueError("--rate: expected --dry-run with it, since it only estimates the duration")
        prompts = expand(samples, chosen, **settings)
        if dry_run:
            plan = preview(prompts, renderer_of(given), encoder_of(given), new_tokens=max_new_tokens, rate=rate)
            show_data(as_json(plan)) if json else show(as_text(plan))
            return
        is_new = not (out / "manifest.json").exists()
        if show_prompts or (show_prompts is None and is_new and is_long(prompts)):
            _show_first_prompts(prompts, given)
        load = partial(model_of, given)
        call = options_of(context)
        # A server's model loads no weights, so that wrong options are refused before the directory is created.
        existing, make_model = (None, load()) if is_served(given) else (ExistingRun.in_directory(out), load)
        evaluator = Evaluator(
            make_model if existing is None else existing.deferred(call, load),
            chosen,
            measured,
            strict=strict,
            progress_every=progress_every or None,
            **settings,
        )
        if existing is not None:
            existing.refuse_changes(evaluator, call)
        report = _evaluate(evaluator, samples, out, call)
        if not is_first_process():
            return
        show_data(as_json(report.summary)) if json else show(report)
        if html is not None:
            report.to_html(html, samples=samples)
    finish(report, responses=out, page=html, problems=len(samples.problems))


def _samples(given: Mapping[str, Any], texts: Path | None) -> "Samples":
    """Read the samples of a run with the texts of a file, and say what is wrong with them."""
    from .construction import samples_of

    samples = samples_of(given)
    for problem in samples.problems:
        say(f"Warning: {problem}")
    if samples.changes:
        more = f" (and {len(samples.changes) - 1} more)" if len(samples.changes) > 1 else ""
        say(f"Note: {samples.changes[0]}{more}")
    if texts is not None:
        from ..written_texts import WrittenTexts

        samples[:] = WrittenTexts.load(texts).given(samples, every_option=given["runner_up"])
    return samples


def _show_first_prompts(prompts: "Prompts", given: Mapping[str, Any]) -> None:
    """Show the first prompts; a failure does not stop the run, whose error rows will say what is wrong."""
    from .construction import renderer_of
    from .preview import first_prompts

    try:
        say(first_prompts(prompts, renderer_of(given)))
    except (OSError, ValueError, ImportError) as error:
        say(f"Note: the first prompts cannot be shown: {error}")


def _evaluate(evaluator: "Evaluator", samples: "Sequence[Sample]", out: Path, call: dict[str, Any]) -> "Report":
    """Run an evaluator and save the options of the call in the run directory."""
    file = out / "run.toml"
    manifest = out / "manifest.json"
    is_new = is_first_process() and not manifest.exists() and not file.exists()
    created = [out / ".running", *([] if out.exists() else [out])]
    if is_first_process() and not manifest.exists():
        write_configuration(file, "run", call)  # before the run, so that an interrupted one has it too
    try:
        report = evaluator.run(samples, out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"The responses so far are in {out}; repeat the call to resume.") from None
    except DirectoryInUseError:
        raise
    except Exception:
        if is_new and not manifest.exists():  # refused before the run started
            file.unlink(missing_ok=True)
            for folder in created:
                with suppress(OSError):  # not empty
                    folder.rmdir()
        raise
    if is_first_process():
        write_configuration(file, "run", call)
        held = json.loads(manifest.read_text(encoding="utf-8"))["conditions"]
        if others := [name for name in held if name not in report.conditions]:
            say(f"Note: {out} also holds {', '.join(others)}; this report covers only the conditions of this call.")
            say(f"`vlmrobust report {out}` shows all of them.")
    return report


_PLAN = "With --dry-run"


def study(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="STUDY.TOML", help="Definition of the study.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for runs, tables and pages; default: the file's. Repeat the call to resume."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="Only these models, separated by commas; several machines may share a folder."),
    ] = None,
    benchmarks: Annotated[list[str] | None, typer.Option(help="Only these benchmarks, separated by commas.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Count prompts, tokens, operations and bytes without loading a checkpoint's weights."
        ),
    ] = False,
    at_most: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of samples counted per benchmark, evenly spread.", rich_help_panel=_PLAN
        ),
    ] = 100,
    throughput: Annotated[
        float | None,
        typer.Option(metavar="TFLOP/S", help="Speed of your machine, to estimate the duration.", rich_help_panel=_PLAN),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(metavar="GB/S", help="Memory bandwidth; required with --throughput.", rich_help_panel=_PLAN),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run a study: every model on every benchmark, judged, with tables and one page. Repeat the call to resume.

    A model, benchmark or judge that fails becomes a row with its error; the others finish, and the exit code is 1.
    The study runs the code that its file names as `factory`.
    """
    with refusals(context):
        from ..study import Study
        from ..study.pages import kept_page

        part = Study.from_toml(path).only(options.listed(models), options.listed(benchmarks))
        if dry_run:
            plan = part.plan(_rates(throughput, bandwidth), at_most=at_most)
            show_data(as_json(plan.table)) if json else show(plan)
            return
        result = part.run(out, tell=say)
        show_data(as_json(result.runs)) if json else show(result)
    say(f"Tables and runs are in {result.out}")
    say(f"The page is {kept_page(result.out)}")
    if result.failed:
        say("Some runs or judges failed, or rows are errors; the page lists them, and the same call retries them.")
        raise typer.Exit(ExitCode.ERROR_ROWS)


def _rates(throughput: float | None, bandwidth: float | None) -> "Rates | None":
    from ..study import Rates

    if throughput is None and bandwidth is None:
        return None
    if throughput is None or bandwidth is None:
        raise ValueError("expected --throughput and --bandwidth together, got one: the duration depends on both")
    return Rates(operations=throughput * 1e12, bytes=bandwidth * 1e9)


def check_server(
    context: typer.Context,
    *,
    model: options.Model,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    tokenizer: options.Tokenizer = None,
    style: options.QuestionStyle = "think",
    max_new_tokens: options.MaxNewTokens = 512,
    temperature: options.Temperature = None,
    json: options.Json = False,
) -> None:
    """Check what an OpenAI-compatible server supports: prefilled thoughts, letters, images, seeds, context.

    Exit codes: 0 the server does not change the experiment; 3 it does, and warnings say how; 2 the server does not
    respond, or its tokens differ from the tokenizer's.
    """
    with refusals(context):
        from ..catalogue import named_style, secret
        from ..models import OpenAIModel

        generation = {"max_tokens": max_new_tokens, "temperature": temperature or 0}
        key = secret(api_key_env, "--api-key-env")
        result = OpenAIModel(model, base_url, key, generation=generation, tokenizer=tokenizer).check(named_style(style))
        if json:
            show_data(as_json(result.model_dump(mode="json")))
        else:
            for name, text in result.rows():
                show(text, f"{name:<20}  ")
        for warning in result.warnings:
            say(f"Warning: {warning}")
    raise typer.Exit(ExitCode.GATE_FAILED if result.warnings else ExitCode.FINISHED)
