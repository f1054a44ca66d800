"""The flags that commands share, or that one has many of: their kinds, help texts and completions."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ..catalogue import CONDITIONS, FROM_SAMPLES, STYLES, named_style
from ..metrics import JudgedMetric
from ..metrics.catalogue import METRICS
from .app import read_configuration

__all__ = ["AnswerAs", "Engine", "PanelRule", "PrefillsAs", "Trainer", "listed", "pairs"]


class AnswerAs(StrEnum):
    """How the rows' answers are written."""

    any = "any"
    index = "index"  # type: ignore[assignment]  # it hides the method of strings
    letter = "letter"
    text = "text"


class Engine(StrEnum):
    """What computes a checkpoint's answers."""

    transformers = "transformers"
    vllm = "vllm"


class PanelRule(StrEnum):
    """How a panel of judges decides."""

    majority = "majority"
    strict = "strict"
    first_sure = "first_sure"


class Trainer(StrEnum):
    """Whose form training rows have."""

    trl = "trl"
    ms_swift = "ms-swift"
    verl = "verl"
    easyr1 = "easyr1"
    vlm_r1 = "vlm-r1"
    openrlhf = "openrlhf"


class PrefillsAs(StrEnum):
    """Where thoughts that others began stand in training rows."""

    assistant = "assistant"
    user_text = "user_text"


def listed(values: Iterable[str] | None) -> list[str]:
    """Return the names in values that may each hold several, separated by commas.

    Example:
        >>> listed(["base, wrong_think", "blank_image"])
        ['base', 'wrong_think', 'blank_image']
    """
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def pairs(flag: str, form: str, values: Iterable[str] | None) -> dict[str, str]:
    """Return what stands on both sides of the equals sign in each value.

    Raises:
        ValueError: a value has not the form; the message names the flag.

    Example:
        >>> pairs("--columns", "field=column", ["question=prompt"])
        {'question': 'prompt'}
    """
    found = {}
    for value in values or ():
        name, equals, rest = value.partition("=")
        if not equals or not name or not rest:
            raise ValueError(f"{flag}: expected {form}, got {value!r}")
        found[name] = rest
    return found


def _completed(incomplete: str, names: Iterable[str], separators: str) -> list[str]:
    """Return what a list of names may go on to: the names that begin like its last, each behind the others."""
    start = max(incomplete.rfind(separator) for separator in separators) + 1
    return [incomplete[:start] + name for name in names if name.startswith(incomplete[start:])]


def complete_styles(incomplete: str) -> list[str]:
    """Return the names of styles that begin so.

    Example:
        >>> complete_styles("vi")
        ['video_r1', 'vigorl_spatial', 'vision_r1']
    """
    return [name for name in STYLES if name.startswith(incomplete)]


def _known_style(name: str) -> str:
    try:
        named_style(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name


def complete_conditions(incomplete: str) -> list[str]:
    """Return the names of conditions that a list, with commas and plus signs, may go on with.

    Example:
        >>> complete_conditions("blank_image,wrong_think+abs")
        ['blank_image,wrong_think+abstain_option']
    """
    return _completed(incomplete, (*CONDITIONS, *FROM_SAMPLES), ",+")


def complete_metrics(incomplete: str) -> list[str]:
    """Return the names of metrics that a list may go on with."""
    return _completed(incomplete, METRICS, ",")


def complete_judged_metrics(incomplete: str) -> list[str]:
    """Return the names of metrics that depend on the judge that a list may go on with.

    Example:
        >>> complete_judged_metrics("consistency,consistent_c")
        ['consistency,consistent_correct']
    """
    return _completed(incomplete, [name for name, one in METRICS.items() if isinstance(one, JudgedMetric)], ",")


def complete_judges(incomplete: str) -> list[str]:
    """Return how a judge may begin."""
    return [name for name in ("rules", "self", "hf:", "vllm:", "openai:") if name.startswith(incomplete)]


def complete_writers(incomplete: str) -> list[str]:
    """Return how a writer of texts may begin."""
    return [name for name in ("hf:", "vllm:", "openai:") if name.startswith(incomplete)]


def complete_benchmarks(incomplete: str) -> list[str]:
    """Return the names of published benchmarks."""
    from ..data import BENCHMARKS

    return [name for name in BENCHMARKS if name.startswith(incomplete)]


def complete_dtypes(incomplete: str) -> list[str]:
    """Return the names of number formats."""
    return [name for name in ("auto", "bfloat16", "float16", "float32") if name.startswith(incomplete)]


def _known_dtype(name: str) -> str:
    from ..devices import check_dtype

    try:
        check_dtype(name, where="")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name


def _without_credentials(url: str | None) -> str | None:
    """Refuse an address that holds a password: it would be written beside the run."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        raise typer.BadParameter(
            "expected an address such as http://localhost:8000/v1, got one whose host cannot be read (it is not "
            "repeated here, since a key may stand in it)"
        ) from None
    if parts.username or parts.password:
        raise typer.BadParameter("expected an address without user and password; name the key with --api-key-env")
    return url


_ASKED, _DATA, _MODEL, _OUTPUT = "What is asked", "Samples", "Model", "Output"

Model = Annotated[
    str,
    typer.Option(
        help="Checkpoint of an image-text-to-text model (a hub name or a folder), or a server's name for it.",
        rich_help_panel=_MODEL,
    ),
]
EngineName = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="What computes a checkpoint's answers: transformers, or vLLM (extra vllm).",
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
        autocompletion=complete_dtypes,
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cuda, cpu, …; default: CUDA where there is one.", rich_help_panel=_MODEL)
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Prompts processed together at most.", rich_help_panel=_MODEL)
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest completion, in tokens.", rich_help_panel=_MODEL)]
Temperature = Annotated[
    float | None,
    typer.Option(min=0, help="Sample instead of decoding greedily, which 0 is; for --draws.", rich_help_panel=_MODEL),
]
ForceAnswer = Annotated[
    bool,
    typer.Option(
        "--force-answer",
        help="Close thoughts that run into the token limit; read the letters.",
        rich_help_panel=_MODEL,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.", rich_help_panel=_MODEL),
]

BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ask a model behind this OpenAI-compatible server; its address, without a key in it.",
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
        help="The served checkpoint (a hub name or a folder), for its tokenizer; default: the server is asked.",
        rich_help_panel=_MODEL,
    ),
]

Data = Annotated[
    str | None,
    typer.Option(
        help="rows.jsonl, .csv or .tsv, an image folder with metadata, or a Hugging Face dataset.",
        rich_help_panel=_DATA,
    ),
]
Benchmark = Annotated[
    str | None,
    typer.Option(
        help="A published benchmark by name, from the hub, or from the file or folder that --data names.",
        autocompletion=complete_benchmarks,
        rich_help_panel=_DATA,
    ),
]
DownloadUrls = Annotated[
    bool,
    typer.Option("--download-urls", help="Fetch images that a benchmark gives the address of.", rich_help_panel=_DATA),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.", rich_help_panel=_DATA)]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=COLUMN",
        help="Where a field is, e.g. question=prompt or options=A,B,C,D.",
        rich_help_panel=_DATA,
    ),
]
Split = Annotated[str | None, typer.Option(help="Split of a dataset, e.g. test.", rich_help_panel=_DATA)]
AnswersAs = Annotated[
    AnswerAs, typer.Option(help="How answers are written, if that can be read in two ways.", rich_help_panel=_DATA)
]
CheckImages = Annotated[
    bool, typer.Option(help="Decode every image before the model is loaded.", rich_help_panel=_DATA)
]
SkipBadRows = Annotated[
    bool,
    typer.Option(
        "--skip-bad-rows",
        help="Leave bad rows out and list them, instead of refusing the file.",
        rich_help_panel=_DATA,
    ),
]

Texts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Captions and thoughts that `vlmrobust texts` had written for these samples.",
        rich_help_panel=_DATA,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse data in which special tokens of the model stand, instead of making them inert.",
        rich_help_panel=_DATA,
    ),
]

Conditions = Annotated[
    list[str] | None,
    typer.Option(
        help="Names, separated by commas; join with + to apply several; one of your own is module:Class or "
        "file.py:Class. Default: the paper's eight.",
        autocompletion=complete_conditions,
        rich_help_panel=_ASKED,
    ),
]
QuestionStyle = Annotated[
    str,
    typer.Option(
        help="think: ask for a thought; direct: for the answer alone; or a ready-made one, such as video_r1.",
        metavar="NAME",
        callback=_known_style,
        autocompletion=complete_styles,
        rich_help_panel=_ASKED,
    ),
]
Draws = Annotated[
    int, typer.Option(min=1, help="How often each prompt is asked; needs --temperature.", rich_help_panel=_ASKED)
]
RunnerUp = Annotated[
    bool,
    typer.Option(
        "--runner-up",
        help="Assert the likeliest wrong option under base instead of a random one.",
        rich_help_panel=_ASKED,
    ),
]
Seed = Annotated[int, typer.Option(help="Keys every random draw.", rich_help_panel=_ASKED)]

Configuration = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        is_eager=True,
        callback=read_configuration,
        help="TOML file with any of these options, such as the run.toml of an earlier run; flags override it.",
        rich_help_panel=_OUTPUT,
    ),
]
Out = Annotated[
    Path,
    typer.Option(help="Run directory: responses and report. The same call resumes.", rich_help_panel=_OUTPUT),
]
ProgressEvery = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Between two lines on how far the run is, where there is no terminal to draw a bar in; 0 = no lines.",
        min=0,
        rich_help_panel=_OUTPUT,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        metavar="RESPONSES",
        help="With --dry-run: how long it takes at so many responses a second.",
        min=0,
        rich_help_panel=_OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be asked, and load no weights.", rich_help_panel=_OUTPUT),
]
ShowPrompts = Annotated[
    bool | None,
    typer.Option(
        "--preview/--no-preview",
        help="Show the first prompt of each condition before a run begins. Default: of more than 1,000 prompts.",
        rich_help_panel=_OUTPUT,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.", rich_help_panel=_OUTPUT)
]
Csv = Annotated[
    bool, typer.Option("--csv", help="Print CSV, and nothing else, to standard output.", rich_help_panel=_OUTPUT)
]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the report as one self-contained page.", rich_help_panel=_OUTPUT),
]
ImagesFrom = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="ROWS",
        help="With --html: where the images are, as for run. By default what the run was asked with.",
        rich_help_panel=_OUTPUT,
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        help="Names, separated by commas; one of your own is module:Class or file.py:Class. What the report lacks is "
        "measured on its responses.",
        autocompletion=complete_metrics,
    ),
]
Measured = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics",
        help="What is measured, by name, separated by commas, in place of the default metrics; one of your own is "
        "module:Class or file.py:Class.",
        autocompletion=complete_metrics,
        rich_help_panel=_ASKED,
    ),
]
