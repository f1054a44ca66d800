"""`vlmrobust run`: any model, any data, any of the conditions."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..catalogue import conditions_named, named_style, parts_of
from ..perturbations import expand, paper_conditions
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
    engine: options.EngineName = options.Engine.transformers,
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
    metrics: options.Measured = None,
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
    """Ask a model every sample under every condition, and report differences from base.

    Started by torchrun, all its processes answer, and the first one speaks for them.
    """
    with refusals(context):
        from ..devices import check_device
        from ..evaluator import Evaluator
        from ..metrics.catalogue import metrics_named
        from .construction import check_flags, encoder_of, model_of, renderer_of, samples_of
        from .preview import Begun, as_text, check_out, is_long, preview

        names = options.listed(conditions)
        parts_of(names)  # a name that is not known is refused before anything is read
        measured = metrics_named(options.listed(metrics)) or None
        if draws > 1 and not temperature:
            raise ValueError(
                "--draws: expected a --temperature above 0 beside it: greedy draws of a prompt are all the same"
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
        asked: dict[str, Any] = {
            "style": named_style(style),
            "draws": draws,
            "seed": seed,
            "distractor": "runner_up" if runner_up else "random",
        }
        if rate is not None and not dry_run:
            raise ValueError("--rate: expected --dry-run beside it, which says how long a run takes")
        prompts = expand(samples, chosen, **asked)
        known: dict[str, Any] = {"model": model, "is_served": is_served, "trust_remote_code": trust_remote_code}
        if dry_run:
            render, encoder = renderer_of(**known), encoder_of(**known)
            found = preview(prompts, render, encoder, new_tokens=max_new_tokens, rate=rate)
            show_data(as_json(found)) if json else show(as_text(found))
            return
        is_new = not (out / "manifest.json").exists()
        if show_prompts or (show_prompts is None and is_new and is_long(prompts)):
            _announce(prompts, **known)
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
        given = options_of(context)
        # A server's model has no weights: what is wrong with its options is said before the directory is made.
        begun, answering = (None, load()) if is_served else (Begun.found(out), load)
        evaluator = Evaluator(
            answering if begun is None else begun.deferred(given, load),
            chosen,
            measured,
            strict=strict,
            progress_every=progress_every or None,
            **asked,
        )
        if begun is not None:
            begun.refuse_changes(evaluator, given)
        report = _ask(evaluator, samples, out, given)
        if not is_first_process():
            return
        show_data(as_json(report.summary)) if json else show(report)
        if html is not None:
            report.to_html(html, samples=samples)
    finish(report, responses=out, page=html, problems=len(samples.problems))


def _announce(prompts: "Prompts", **known: Any) -> None:
    """Show what a run begins with; what cannot be shown is no reason not to run: what is wrong, its rows say."""
    from .construction import renderer_of
    from .preview import announced

    try:
        say(announced(prompts, renderer_of(**known)))
    except (OSError, ValueError, ImportError) as error:
        say(f"Note: the first prompts cannot be shown: {error}")


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
        held = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["conditions"]
        if left := [name for name in held if name not in report.conditions]:
            say(f"Note: {out} also holds {', '.join(left)}; the report is about what this call names.")
            say(f"`vlmrobust report {out}` is about all of it.")
    return report
