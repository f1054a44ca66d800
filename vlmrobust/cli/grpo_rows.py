"""Implement `vlmrobust grpo-rows`: write training rows in the format of a GRPO trainer."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..catalogue import named_style
from . import options
from .app import refusals
from .output import say

__all__ = ["PrefillsAs", "Trainer", "grpo_rows"]


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
        from ..rl import Augment, save_rows
        from ..rl.rows import AUGMENTATION
        from .construction import samples_of

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
        chosen = named_style(style)
        rows: Any = Augment(AUGMENTATION if augment else {}, seed, style=chosen)(samples)
        save_rows(rows, out, trainer.value, prefills=None if prefills is None else prefills.value, style=chosen)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in Augment.shares(rows).items())
        say(f"{len(rows)} rows for {trainer.value} are in {out} ({shares})")
