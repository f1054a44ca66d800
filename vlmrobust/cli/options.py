"""Define the flags that several commands share, and those of `run`: types, help texts and checks."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ..catalogue import named_style
from . import completion
from .app import read_configuration

__all__ = ["AnswerAs", "EngineChoice", "listed", "pairs"]


class AnswerAs(StrEnum):
    """How answers are written in the rows."""

    any = "any"
    index = "index"  # type: ignore[assignment]  # it hides the method of strings
    letter = "letter"
    text = "text"


class EngineChoice(StrEnum):
    """The library that runs a checkpoint."""

    transformers = "transformers"
    vllm = "vllm"


def listed(values: Iterable[str] | None) -> list[str]:
    """Split values at their commas and return the names.

    Example:
        >>> listed(["base, wrong_think", "blank_image"])
        ['base', 'wrong_think', 'blank_image']
    """
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def pairs(flag: str, form: str, values: Iterable[str] | None) -> dict[str, str]:
    """Return values of the form `name=value` as a dictionary.

    Raises:
        ValueError: a value has another form; the message names the flag.

    Example:
        >>> pairs("--columns", "field=column", ["question=prompt"])
        {'question': 'prompt'}
    """
    parsed = {}
    for value in values or ():
        name, _, rest = value.partition("=")
        if not name or not rest:
            raise ValueError(f"{flag}: expected {form}, got {value!r}")
        parsed[name] = rest
    return parsed


def _known_style(name: str) -> str:
    try:
        named_style(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name


def _known_dtype(name: str) -> str:
    from ..devices import check_dtype

    try:
        check_dtype(name, where="")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name


def _without_credentials(url: str | None) -> str | None:
    """Refuse an address with a password in it, which the run directory would record."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        raise typer.BadParameter(
            "expected an address such as http://localhost:8000/v1, got one without a valid host (not shown here, "
            "since it may contain a key)"
        ) from None
    if parts.username or parts.password:
        raise typer.BadParameter("expected an address without user and password; give the key with --api-key-env")
    return url


_PROMPTS, _DATA, _MODEL, _OUTPUT = "Prompts", "Samples", "Model", "Output"

Model = Annotated[
    str,
    typer.Option(
        help="Checkpoint of an image-text-to-text model (hub name or folder), or the server's name for the model.",
        rich_help_panel=_MODEL,
    ),
]
EngineName = Annotated[
    EngineChoice,
    typer.Option(
        "--engine",
        help="Library that runs a checkpoint: transformers, or vLLM (extra vllm).",
        rich_help_panel=_MODEL,
    ),
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="An option of vLLM's LLM, e.g. tensor_parallel_size=2 or max_model_len=8192.",
        rich_help_panel=_MODEL,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (the checkpoint's own), bfloat16, float16 or float32.",
        callback=_known_dtype,
        autocompletion=completion.complete_dtypes,
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[str | None, typer.Option(help="cuda, cpu, …; default: CUDA if available.", rich_help_panel=_MODEL)]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of prompts per batch.", rich_help_panel=_MODEL)
]
MaxNewTokens = Annotated[
    int, typer.Option(min=1, help="Maximum length of a response in tokens.", rich_help_panel=_MODEL)
]
Temperature = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Sampling temperature; 0 decodes greedily. --draws above 1 needs one above 0.",
        rich_help_panel=_MODEL,
    ),
]
ForceAnswer = Annotated[
    bool,
    typer.Option(
        "--force-answer",
        help="Close thoughts that reach the token limit and read the letters.",
        rich_help_panel=_MODEL,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run the code in the checkpoint's repository.", rich_help_panel=_MODEL),
]

BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Address of an OpenAI-compatible server that runs the model, without a key in it.",
        callback=_without_credentials,
        rich_help_panel=_MODEL,
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Environment variable that holds the server's key; default: OPENAI_API_KEY.",
        rich_help_panel=_MODEL,
    ),
]

Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Checkpoint whose tokenizer the server uses (hub name or folder); default: ask the server.",
        rich_help_panel=_MODEL,
    ),
]

Data = Annotated[
    str | None,
    typer.Option(
        help="A .jsonl, .csv or .tsv file, an image folder with metadata, or a Hugging Face dataset.",
        rich_help_panel=_DATA,
    ),
]
Benchmark = Annotated[
    str | None,
    typer.Option(
        help="Name of a published benchmark, read from the hub or from the file or folder given with --data.",
        autocompletion=completion.complete_benchmarks,
        rich_help_panel=_DATA,
    ),
]
DownloadUrls = Annotated[
    bool,
    typer.Option("--download-urls", help="Download images that a benchmark gives as URLs.", rich_help_panel=_DATA),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Read only the first N rows.", rich_help_panel=_DATA)]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=COLUMN",
        help="Column of a field, e.g. question=prompt or options=A,B,C,D.",
        rich_help_panel=_DATA,
    ),
]
Split = Annotated[str | None, typer.Option(help="Split of a dataset, e.g. test.", rich_help_panel=_DATA)]
AnswersAs = Annotated[
    AnswerAs, typer.Option(help="How answers are written, in case they are ambiguous.", rich_help_panel=_DATA)
]
CheckImages = Annotated[bool, typer.Option(help="Decode every image before loading the model.", rich_help_panel=_DATA)]
SkipBadRows = Annotated[
    bool,
    typer.Option(
        "--skip-bad-rows",
        help="Skip bad rows and list them instead of refusing the file.",
        rich_help_panel=_DATA,
    ),
]

Texts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Captions and thoughts written by `vlmrobust texts` for these samples.",
        rich_help_panel=_DATA,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse data that contains special tokens of the model instead of making them inert.",
        rich_help_panel=_DATA,
    ),
]

Conditions = Annotated[
    list[str] | None,
    typer.Option(
        help="Names, separated by commas; + applies several together; your own as module:Class or file.py:Class. "
        "Default: the paper's eight.",
        autocompletion=completion.complete_conditions,
        rich_help_panel=_PROMPTS,
    ),
]
QuestionStyle = Annotated[
    str,
    typer.Option(
        help="think: ask for a thought first; direct: for the answer only; or a predefined style such as video_r1.",
        metavar="NAME",
        callback=_known_style,
        autocompletion=completion.complete_styles,
        rich_help_panel=_PROMPTS,
    ),
]
Draws = Annotated[
    int, typer.Option(min=1, help="Responses per prompt; more than 1 needs --temperature.", rich_help_panel=_PROMPTS)
]
RunnerUp = Annotated[
    bool,
    typer.Option(
        "--runner-up",
        help="Assert the wrong option that is likeliest under base instead of a random one.",
        rich_help_panel=_PROMPTS,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", rich_help_panel=_PROMPTS)]

Configuration = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        is_eager=True,
        callback=read_configuration,
        help="TOML file with any of these options, such as the run.toml of a run; flags override it.",
        rich_help_panel=_OUTPUT,
    ),
]
Out = Annotated[
    Path,
    typer.Option(help="Run directory for responses and report. Repeat the call to resume.", rich_help_panel=_OUTPUT),
]
ProgressEvery = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Time between two progress lines where no terminal shows a bar; 0 = none.",
        min=0,
        rich_help_panel=_OUTPUT,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        metavar="RESPONSES",
        help="With --dry-run: estimate the duration from this many responses per second.",
        min=0,
        rich_help_panel=_OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the prompts and count tokens without loading weights.", rich_help_panel=_OUTPUT
    ),
]
ShowPrompts = Annotated[
    bool | None,
    typer.Option(
        "--preview/--no-preview",
        help="Show the first prompt of each condition before the run. Default: if there are more than 1,000 prompts.",
        rich_help_panel=_OUTPUT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON to standard output.", rich_help_panel=_OUTPUT)]
Csv = Annotated[bool, typer.Option("--csv", help="Print only CSV to standard output.", rich_help_panel=_OUTPUT)]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the report as a self-contained HTML page.", rich_help_panel=_OUTPUT),
]
ImagesFrom = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="ROWS",
        help="With --html: source of the images, as for run. Default: the data of the run.",
        rich_help_panel=_OUTPUT,
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        help="Names, separated by commas; your own as module:Class or file.py:Class. Metrics that the report lacks "
        "are computed from its responses.",
        autocompletion=completion.complete_metrics,
    ),
]
RunMetrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics",
        help="Metrics instead of the default ones: names, separated by commas; your own as module:Class or "
        "file.py:Class.",
        autocompletion=completion.complete_metrics,
        rich_help_panel=_PROMPTS,
    ),
]
