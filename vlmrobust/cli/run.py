"""Implement `vlmrobust run`: evaluate a model on data under conditions."""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..catalogue import named_style
from ..locking import DirectoryInUseError
from ..perturbations import expand, paper_conditions
from ..perturbations.catalogue import conditions_named, parts_of
from . import options
from .app import options_of, refusals, write_configuration
from .finishing import finish
from .output import as_json, is_first_process, say, show, show_data

if TYPE_CHECKING:
    from ..evaluator import Evaluator
    from ..perturbations.expansion import Prompts
    from ..report import Report
    from ..types import Sample

__all__ = ["run"]


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
        from ..devices import check_device
        from ..evaluator import Evaluator
        from ..metrics.catalogue import metrics_named
        from .construction import check_flags, encoder_of, model_of, renderer_of, samples_of
        from .preview import ExistingRun, as_text, check_out, is_long, preview

        names = options.listed(conditions)
        parts_of(names)  # refuse unknown names before reading anything
        measured = metrics_named(options.listed(metrics)) or None
        if draws > 1 and not temperature:
            raise ValueError(
                f"--draws: expected --temperature above 0 with {draws} draws, since greedy draws are all the same"
            )
        is_served = base_url is not None or api_key_env is not None
        if not dry_run:
            check_flags(context.params)
            check_device(device, "--device")
            check_out(out, html)
        samples = samples_of(
            data=data,
            benchmark=benchmark,
            split=split,
            columns=columns,
            answer_as=answer_as.value,
            limit=limit,
            check_images=check_images,
            download_urls=download_urls,
            skip_bad_rows=skip_bad_rows,
        )
        for problem in samples.problems:
            say(f"Warning: {problem}")
        if samples.changes:
            more = f" (and {len(samples.changes) - 1} more)" if len(samples.changes) > 1 else ""
            say(f"Note: {samples.changes[0]}{more}")
        if texts is not None:
            from ..written_texts import WrittenTexts

            samples[:] = WrittenTexts.load(texts).given(samples, every_option=runner_up)
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
        source: dict[str, Any] = {"model": model, "is_served": is_served, "trust_remote_code": trust_remote_code}
        if dry_run:
            render, encoder = renderer_of(**source), encoder_of(**source)
            plan = preview(prompts, render, encoder, new_tokens=max_new_tokens, rate=rate)
            show_data(as_json(plan)) if json else show(as_text(plan))
            return
        is_new = not (out / "manifest.json").exists()
        if show_prompts or (show_prompts is None and is_new and is_long(prompts)):
            _show_first_prompts(prompts, **source)
        load = partial(
            model_of,
            model=model,
            engine=engine.value,
            engine_option=engine_option,
            base_url=base_url,
            api_key_env=api_key_env,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            force_answer=force_answer,
            temperature=temperature,
            seed=seed,
        )
        call = options_of(context)
        # A server's model loads no weights, so that wrong options are refused before the directory is created.
        existing, make_model = (None, load()) if is_served else (ExistingRun.in_directory(out), load)
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


def _show_first_prompts(prompts: "Prompts", **source: Any) -> None:
    """Show the first prompts; a failure does not stop the run, whose error rows will say what is wrong."""
    from .construction import renderer_of
    from .preview import first_prompts

    try:
        say(first_prompts(prompts, renderer_of(**source)))
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
