"""Define the flags that several commands share, and those of `run`: types, help texts, checks, completion."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from .app import read_configuration

__all__ = [
    "AnswerAs",
    "EngineChoice",
    "complete_benchmarks",
    "complete_conditions",
    "complete_judged_metrics",
    "complete_judges",
    "complete_metrics",
    "complete_styles",
    "complete_writers",
    "completion",
    "listed",
    "pairs",
]


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
        ValueError: a value has another form, or two have the same name; the message names the flag.

    Example:
        >>> pairs("--columns", "field=column", ["question=prompt"])
        {'question': 'prompt'}
    """
    parsed: dict[str, str] = {}
    for value in values or ():
        name, _, rest = value.partition("=")
        if not name or not rest:
            raise ValueError(f"{flag}: expected {form}, got {value!r}")
        if name in parsed:
            raise ValueError(f"{flag}: expected {name!r} once, got {name}={parsed[name]} and {value}")
        parsed[name] = rest
    return parsed


def completion(names: Callable[[], Iterable[str]], separators: str = "") -> Callable[[str], list[str]]:
    """Return a function that completes a name, or the last one of several.

    Args:
        names: returns the names that there are.
        separators: characters that stand between several names; empty = one name.

    Example:
        >>> completion(lambda: ["base", "blank_image"], ",+")("wrong_think+bl")
        ['wrong_think+blank_image']
    """

    def complete(incomplete: str) -> list[str]:
        start = 1 + max((incomplete.rfind(separator) for separator in separators), default=-1)
        return [incomplete[:start] + name for name in names() if name.startswith(incomplete[start:])]

    return complete


def _styles() -> Iterable[str]:
    from ..catalogue import STYLES

    return STYLES


def _conditions() -> Iterable[str]:
    from ..perturbations.catalogue import CONDITIONS, FROM_SAMPLES

    return *CONDITIONS, *FROM_SAMPLES


def _metrics() -> Iterable[str]:
    from ..metrics.catalogue import METRICS

    return METRICS


def _judged_metrics() -> Iterable[str]:
    from ..metrics import JudgedMetric
    from ..metrics.catalogue import METRICS

    return (name for name, metric in METRICS.items() if isinstance(metric, JudgedMetric))


def _benchmarks() -> Iterable[str]:
    from ..data import BENCHMARKS

    return BENCHMARKS


complete_styles = completion(_styles)
complete_conditions = completion(_conditions, ",+")
complete_metrics = completion(_metrics, ",")
complete_judged_metrics = completion(_judged_metrics, ",")
complete_judges = completion(lambda: ("rules", "self", "hf:", "vllm:", "openai:"))
complete_writers = completion(lambda: ("hf:", "vllm:", "openai:"))
complete_benchmarks = completion(_benchmarks)


def _known_style(name: str) -> str:
    from ..catalogue import named_style

    try:
        named_style(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name


def _known_dtype(name: str) -> str:
    from ..naming import check_dtype

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


_prompts, _data, _model, _output = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Prompts", "Samples", "Model", "Output")
)

Model = Annotated[
    str,
    _model(help="Checkpoint of an image-text-to-text model (hub name or folder), or the server's name for the model."),
]
EngineName = Annotated[
    EngineChoice, _model("--engine", help="Library that runs a checkpoint: transformers, or vLLM (extra vllm).")
]
EngineOption = Annotated[
    list[str] | None,
    _model(metavar="NAME=VALUE", help="An option of vLLM's LLM, e.g. tensor_parallel_size=2 or max_model_len=8192."),
]
Dtype = Annotated[
    str,
    _model(
        help="auto (the checkpoint's own), bfloat16, float16 or float32.",
        callback=_known_dtype,
        autocompletion=completion(lambda: ("auto", "bfloat16", "float16", "float32")),
    ),
]
Device = Annotated[str | None, _model(help="cuda, cpu, …; default: CUDA if available.")]
BatchSize = Annotated[int | None, _model(min=1, help="Maximum number of prompts per batch.")]
MaxNewTokens = Annotated[int, _model(min=1, help="Maximum length of a response in tokens.")]
Temperature = Annotated[
    float | None, _model(min=0, help="Sampling temperature; 0 decodes greedily. --draws above 1 needs one above 0.")
]
ForceAnswer = Annotated[
    bool, _model("--force-answer", help="Close thoughts that reach the token limit and read the letters.")
]
TrustRemoteCode = Annotated[bool, _model("--trust-remote-code", help="Run the code in the checkpoint's repository.")]

BaseUrl = Annotated[
    str | None,
    _model(
        metavar="URL",
        help="Address of an OpenAI-compatible server that runs the model, without a key in it.",
        callback=_without_credentials,
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    _model(metavar="NAME", help="Environment variable that holds the server's key; default: OPENAI_API_KEY."),
]

Tokenizer = Annotated[
    str | None,
    _model(
        metavar="NAME", help="Checkpoint whose tokenizer the server uses (hub name or folder); default: ask the server."
    ),
]

Data = Annotated[
    str | None, _data(help="A .jsonl, .csv or .tsv file, an image folder with metadata, or a Hugging Face dataset.")
]
Benchmark = Annotated[
    str | None,
    _data(
        help="Name of a published benchmark, read from the hub or from the file or folder given with --data.",
        autocompletion=complete_benchmarks,
    ),
]
DownloadUrls = Annotated[bool, _data("--download-urls", help="Download images that a benchmark gives as URLs.")]
Limit = Annotated[int | None, _data(min=1, help="Read only the first N rows.")]
Columns = Annotated[
    list[str] | None, _data(metavar="FIELD=COLUMN", help="Column of a field, e.g. question=prompt or options=A,B,C,D.")
]
Split = Annotated[str | None, _data(help="Split of a dataset, e.g. test.")]
AnswersAs = Annotated[AnswerAs, _data(help="How answers are written, in case they are ambiguous.")]
CheckImages = Annotated[bool, _data(help="Decode every image before loading the model.")]
SkipBadRows = Annotated[
    bool, _data("--skip-bad-rows", help="Skip bad rows and list them instead of refusing the file.")
]

Texts = Annotated[
    Path | None, _data(metavar="FILE", help="Captions and thoughts written by `vlmrobust texts` for these samples.")
]
Strict = Annotated[
    bool, _data("--strict", help="Refuse data that contains special tokens of the model instead of making them inert.")
]

Conditions = Annotated[
    list[str] | None,
    _prompts(
        help="Names, separated by commas; + applies several together; your own as module:Class or file.py:Class. "
        "Default: the paper's eight.",
        autocompletion=complete_conditions,
    ),
]
QuestionStyle = Annotated[
    str,
    _prompts(
        help="think: ask for a thought first; direct: for the answer only; or a predefined style such as video_r1.",
        metavar="NAME",
        callback=_known_style,
        autocompletion=complete_styles,
    ),
]
Draws = Annotated[int, _prompts(min=1, help="Responses per prompt; more than 1 needs --temperature.")]
RunnerUp = Annotated[
    bool, _prompts("--runner-up", help="Assert the wrong option that is likeliest under base instead of a random one.")
]
Seed = Annotated[int, _prompts(help="Seed of every random draw.")]

Configuration = Annotated[
    Path | None,
    _output(
        metavar="FILE",
        is_eager=True,
        callback=read_configuration,
        help="TOML file with any of these options, such as the run.toml of a run; flags override it.",
    ),
]
Out = Annotated[Path, _output(help="Run directory for responses and report. Repeat the call to resume.")]
ProgressEvery = Annotated[
    float,
    _output(metavar="SECONDS", help="Time between two progress lines where no terminal shows a bar; 0 = none.", min=0),
]
Rate = Annotated[
    float | None,
    _output(
        metavar="RESPONSES", help="With --dry-run: estimate the duration from this many responses per second.", min=0
    ),
]
DryRun = Annotated[bool, _output("--dry-run", help="Show the prompts and count tokens without loading weights.")]
ShowPrompts = Annotated[
    bool | None,
    _output(
        "--preview/--no-preview",
        help="Show the first prompt of each condition before the run. Default: if there are more than 1,000 prompts.",
    ),
]
Json = Annotated[bool, _output("--json", help="Print only JSON to standard output.")]
Csv = Annotated[bool, _output("--csv", help="Print only CSV to standard output.")]
Html = Annotated[Path | None, _output(metavar="FILE", help="Write the report as a self-contained HTML page.")]
ImagesFrom = Annotated[
    str | None,
    _output(
        "--data", metavar="ROWS", help="With --html: source of the images, as for run. Default: the data of the run."
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        help="Names, separated by commas; your own as module:Class or file.py:Class. Metrics that the report lacks "
        "are computed from its responses.",
        autocompletion=complete_metrics,
    ),
]
RunMetrics = Annotated[
    list[str] | None,
    _prompts(
        "--metrics",
        help="Metrics instead of the default ones: names, separated by commas; your own as module:Class or "
        "file.py:Class.",
        autocompletion=complete_metrics,
    ),
]
