"""`vlmrobust grpo-rows`: training rows, as the file that a trainer's own loader takes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..catalogue import named_style
from . import options
from .app import refusals
from .options import PrefillsAs, Trainer
from .output import say

__all__ = ["grpo_rows"]


def grpo_rows(
    context: typer.Context,
    *,
    trainer: Annotated[Trainer, typer.Option("--for", help="Whose form the rows have.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new .parquet; for vlm-r1 a new .jsonl.")],
    augment: Annotated[
        bool,
        typer.Option(
            "--augment", help="A correct or wrong caption or thought in 10 % of the rows each, as in the paper."
        ),
    ] = False,
    prefills: Annotated[
        PrefillsAs | None,
        typer.Option(
            help="Where thoughts stand that others began; by default where the trainer lets them be gone on from."
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
    """Write samples as training rows for a GRPO trainer, in the form that its own loader takes."""
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
        shown = named_style(style)
        rows: Any = Augment(AUGMENTATION if augment else {}, seed, style=shown)(samples)
        save_rows(rows, out, trainer.value, prefills=None if prefills is None else prefills.value, style=shown)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in Augment.shares(rows).items())
        say(f"{len(rows)} rows for {trainer.value} are in {out} ({shares})")
