"""Implement the commands that prepare data: `texts`, with texts for runs, and `grpo-rows`, with rows for training."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .app import refusals
from .output import as_json, say, show, show_data

if TYPE_CHECKING:
    from ..data import Samples

__all__ = ["PrefillsAs", "Trainer", "grpo_rows", "texts"]


def texts(
    context: typer.Context,
    *,
    writer: Annotated[
        str,
        typer.Option(
            metavar="WRITER",
            help="Model that writes: hf:NAME (a checkpoint, which may be the evaluated one), vllm:NAME (one on vLLM) "
            "or openai:NAME (a model behind a server).",
            autocompletion=options.complete_writers,
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
            autocompletion=options.complete_judges,
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
        from .construction import engine_options

        if engine_option and not any(name.startswith("vllm:") for name in (writer, judge)):
            raise ValueError("--engine-option: expected a writer or judge on vLLM (vllm:NAME), got none")
        samples = _samples(context)
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


def _samples(context: typer.Context) -> "Samples":
    """Read the samples that a call names, and say what is wrong with them."""
    from .construction import samples_of

    samples = samples_of(context.params)
    for problem in samples.problems:
        say(f"Warning: {problem}")
    return samples


class Trainer(StrEnum):
    """The trainer that reads the rows."""

    trl = "trl"
    ms_swift = "ms-swift"
    verl = "verl"
    easyr1 = "easyr1"
    vlm_r1 = "vlm-r1"
    openrlhf = "openrlhf"


class PrefillsAs(StrEnum):
    """The turn in which training rows carry prefilled thoughts."""

    assistant = "assistant"
    user_text = "user_text"


def grpo_rows(
    context: typer.Context,
    *,
    trainer: Annotated[Trainer, typer.Option("--for", help="Trainer whose format the rows have.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new .parquet; for vlm-r1 a new .jsonl.")],
    augment: Annotated[
        bool,
        typer.Option(
            "--augment", help="Put a correct or wrong caption or thought into 10 % of the rows each, as in the paper."
        ),
    ] = False,
    prefills: Annotated[
        PrefillsAs | None,
        typer.Option(
            help="Turn that carries prefilled thoughts. Default: assistant if the trainer can continue that turn."
        ),
    ] = None,
    data: options.Data = None,
    benchmark: options.Benchmark = None,
    split: options.Split = None,
    columns: options.Columns = None,
    answer_as: options.AnswersAs = options.AnswerAs.any,
    limit: options.Limit = None,
    check_images: options.CheckImages = True,
    download_urls: options.DownloadUrls = False,
    skip_bad_rows: options.SkipBadRows = False,
    style: options.QuestionStyle = "think",
    seed: options.Seed = 0,
) -> None:
    """Write samples as training rows in the format of a GRPO trainer's own loader."""
    with refusals(context):
        from ..catalogue import named_style
        from ..rl import Augment, save_rows
        from ..rl.rows import AUGMENTATION

        samples = _samples(context)
        chosen = named_style(style)
        rows: Any = Augment(AUGMENTATION if augment else {}, seed, style=chosen)(samples)
        save_rows(rows, out, trainer.value, prefills=None if prefills is None else prefills.value, style=chosen)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in Augment.shares(rows).items())
        say(f"{len(rows)} rows for {trainer.value} are in {out} ({shares})")
