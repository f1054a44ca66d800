"""Implement `vlmrobust texts`: let a model write captions and thoughts once, for all runs on some data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import completion, options
from .app import refusals
from .output import as_json, say, show, show_data

__all__ = ["texts"]


def texts(
    context: typer.Context,
    *,
    writer: Annotated[
        str,
        typer.Option(
            metavar="WRITER",
            help="Model that writes: hf:NAME (a checkpoint, which may be the evaluated one), vllm:NAME (one on vLLM) "
            "or openai:NAME (a model behind a server).",
            autocompletion=completion.complete_writers,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File of texts, .jsonl. Texts already in it are not written again.")
    ],
    judge: Annotated[
        str,
        typer.Option(
            metavar="JUDGE",
            help="Judge that checks what the texts assert: rules, hf:NAME, vllm:NAME or openai:NAME.",
            autocompletion=completion.complete_judges,
        ),
    ] = "rules",
    every_option: Annotated[
        bool, typer.Option("--every-option", help="Write texts for all wrong options, for run --runner-up.")
    ] = False,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    engine_option: options.EngineOption = None,
    max_new_tokens: options.MaxNewTokens = 512,
    data: options.Data = None,
    benchmark: options.Benchmark = None,
    split: options.Split = None,
    columns: options.Columns = None,
    answer_as: options.AnswersAs = options.AnswerAs.any,
    limit: options.Limit = None,
    check_images: options.CheckImages = True,
    download_urls: options.DownloadUrls = False,
    skip_bad_rows: options.SkipBadRows = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Let a model write captions and thoughts of samples once; run --texts FILE then uses them without that model."""
    with refusals(context):
        from ..catalogue import judge_named, writer_named
        from ..written_texts import WrittenTexts
        from .construction import engine_options, samples_of

        if engine_option and not any(name.startswith("vllm:") for name in (writer, judge)):
            raise ValueError("--engine-option: expected a writer or judge on vLLM (vllm:NAME), got none")
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
        shared: dict[str, Any] = {"base_url": base_url, "api_key_env": api_key_env, "dtype": dtype, "device": device}
        on_vllm = engine_options(engine_option)
        written = WrittenTexts.write(
            samples,
            writer_named(
                writer,
                **shared,
                max_new_tokens=max_new_tokens,
                options=on_vllm if writer.startswith("vllm:") else {},
                where="--writer",
            ),
            out,
            judge=judge_named(judge, **shared, options=on_vllm if judge.startswith("vllm:") else {}, where="--judge"),
            seed=seed,
            every_option=every_option,
        )
        counts = written.counts
        if json:
            show_data(as_json({"file": str(out), "digest": written.digest, **counts}))
        else:
            show(", ".join(f"{number} {name}" for name, number in counts.items()))
    say(f"The texts are in {out}; vlmrobust run --texts {out} uses them")
