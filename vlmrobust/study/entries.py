"""Define the parts that a study lists, and check each alone: models with their checkpoints, benchmarks, judges, sizes.

`secrets_of` collects the secrets in their settings.
"""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, field_validator, model_validator

from ..catalogue import named_style
from ..data import BENCHMARKS
from ..naming import check_dtype, unknown_name
from ..secrecy import Secrets, variable_shown
from ..types import Style
from ..types.frozen import Address, Frozen, Settings, Told

__all__ = ["BenchmarkEntry", "JudgeEntry", "ModelEntry", "Size", "Stage", "secrets_of"]

NO_VALUE = "none"
"""The value that omits a setting in a TOML file, which has no null."""


def _is_folder_name(name: str) -> str:
    if not re.fullmatch(r"[\w][\w. @=+-]*", name):
        raise ValueError(f"expected a valid folder name (letters, digits, . _ - + = @), got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_is_folder_name)]


def _without_key(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse an API key among the arguments of a client; other secrets are sent but never written."""
    if any(re.sub("[^a-z]", "", name.lower()) == "apikey" for name in options):
        raise ValueError(
            "expected no 'api_key' here, since studies are shared as files; give the name of an environment variable "
            "that holds the key in 'api_key_env'"
        )
    return options


def _is_dtype(name: str) -> str:
    check_dtype(name, where="")
    return name


Dtype = Annotated[str, AfterValidator(_is_dtype)]
Options = Annotated[Settings, AfterValidator(_without_key)]


def _is_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(
            "expected the name of an environment variable that holds the key, "
            "got a text that is not shown here, since it may be the key itself"
        )
    return name


def _written(name: str | None) -> str | None:
    """Return a variable's name to write to files, without a key given in its place."""
    known = name is None or name in os.environ or variable_shown(name) == repr(name)
    return name if known else variable_shown("")


Variable = Annotated[str, AfterValidator(_is_variable)]
Written = PlainSerializer(_written)


def secrets_of(entry: "ModelEntry | JudgeEntry") -> Secrets:
    """Return the secrets of an entry: the key in its environment variable, and the secret settings."""
    variable = entry.api_key_env or "OPENAI_API_KEY"
    mistaken = entry.api_key_env if entry.api_key_env != _written(entry.api_key_env) else None
    settings = [getattr(entry, field, None) for field in ("base_url", "options", "generation", "arguments")]
    stages = [stage.arguments for stage in getattr(entry, "checkpoints", ())]
    return Secrets.of(os.environ.get(variable), mistaken, settings=[settings, stages])


class Size(Frozen):
    """The architecture of a model, as far as the cost of inference depends on it, in numbers of weights and dimensions.

    Attributes:
        language: active weights of the language model per token: all matrices, including the LM head, without the
            embedding table.
        experts: further weights of a mixture of experts, inactive for a token: they occupy memory, and decoding is
            assumed to read them.
        head: weights of the LM head, applied only to the last token of a prompt; 0 = assume all tokens use it.
        vision: weights of the vision tower, applied to every patch.
        projector: weights applied to every image token.
        layers: number of layers of the language model.
        width: width of its attention: heads × head dimension.
        kv_width: width of keys, or values: key-value heads × head dimension.
        patches_per_token: number of patches per image token.
        image: rule for the tokens of an image: Qwen2.5-VL's (28 × 28 pixels per token) or InternVL's (tiles of 448 ×
            448 pixels, 256 tokens each).
    """

    language: Annotated[float, Field(gt=0)]
    experts: Annotated[float, Field(ge=0)] = 0.0
    head: Annotated[float, Field(ge=0)] = 0.0
    vision: Annotated[float, Field(ge=0)] = 0.0
    projector: Annotated[float, Field(ge=0)] = 0.0
    layers: Annotated[int, Field(ge=0)] = 0
    width: Annotated[int, Field(ge=0)] = 0
    kv_width: Annotated[int, Field(ge=0)] = 0
    patches_per_token: Annotated[int, Field(ge=1)] = 4
    image: Literal["qwen2_5_vl", "internvl"] = "qwen2_5_vl"


class Stage(Told):
    """One of a model's checkpoints.

    Attributes:
        step: its training step, the x-axis of curves.
        label: its name; "step …" if empty.
        checkpoint: a hub name or a folder, instead of the model's.
        arguments: further arguments of the model's factory.
    """

    step: int | None = None
    label: str = ""
    checkpoint: str | None = None
    arguments: Settings = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, or else the step; empty for a model without checkpoints."""
        return self.label or ("" if self.step is None else f"step {self.step}")


class ModelEntry(Told):
    """A model and its settings.

    Attributes:
        name: its name in tables, and its folder.
        checkpoint: a hub name, a folder, or the server's name for the model.
        engine: the library that runs a checkpoint, `transformers` or `vllm`.
        factory: `module:function` or `file.py:function`, which returns a model. It is imported and called, in a dry run
            too, which uses the model's tokenizer.
        arguments: arguments of the factory.
        checkpoints: several stages of its training, each with a `step`.
        base_url: the address of an OpenAI-compatible server.
        api_key_env: the environment variable that holds the server's key.
        style: one of `vlmrobust.styles` by name, or the fields of a `Style`; None = the default one.
        generation: as in `HFModel` (`VLLMModel`) or `OpenAIModel`; "none" omits a setting.
        dtype, device: of a checkpoint.
        options: further arguments of `HFModel.from_pretrained`, `VLLMModel` or `OpenAIModel`.
        size: for a dry run without the checkpoint's configuration: the name of one of the study's sizes.
        new_tokens: average number of tokens per response, for a dry run; None = the limit.
    """

    name: Name
    checkpoint: str | None = None
    engine: Literal["transformers", "vllm"] = "transformers"
    factory: str | None = None
    arguments: Settings = Field(default_factory=dict)
    checkpoints: tuple[Stage, ...] = ()
    base_url: Address | None = None
    api_key_env: Annotated[Variable | None, Written] = None
    style: str | Style | None = None
    generation: Settings = Field(default_factory=dict)
    dtype: Dtype = "auto"
    device: str | None = None
    options: Options = Field(default_factory=dict)
    size: str | None = None
    new_tokens: Annotated[int | None, Field(ge=1)] = None

    @property
    def is_served(self) -> bool:
        """Whether a server is asked."""
        return self.base_url is not None or self.api_key_env is not None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Its checkpoints; the model itself if it has none."""
        return self.checkpoints or (Stage(),)

    @field_validator("style")
    @classmethod
    def _style_is_known(cls, style: str | Style | None) -> str | Style | None:
        if isinstance(style, str):
            named_style(style)
        return style

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        where = f"model {self.name!r}"
        missing = [stage for stage in self.stages if not (stage.checkpoint or self.checkpoint or self.factory)]
        if missing:
            raise ValueError(f"{where}: expected 'checkpoint' or 'factory', got neither")
        if self.factory and (self.checkpoint or self.is_served or any(stage.checkpoint for stage in self.checkpoints)):
            raise ValueError(f"{where}, field 'factory': expected no checkpoint or server with it, got one")
        if not self.factory and (self.arguments or any(stage.arguments for stage in self.checkpoints)):
            raise ValueError(f"{where}, field 'arguments': expected a 'factory' to pass them to, got none")
        if self.engine == "vllm" and (self.factory or self.is_served or self.device):
            raise ValueError(
                f"{where}, field 'engine': expected vllm only for a checkpoint, got it with a factory, a server or a "
                "'device'"
            )
        titles = [stage.title for stage in self.checkpoints]
        if "" in titles or len(set(titles)) < len(titles):
            raise ValueError(f"{where}, field 'checkpoints': expected a distinct 'step' or 'label', got {titles}")
        for title in titles:
            _is_folder_name(title)
        return self


class BenchmarkEntry(Frozen):
    """Samples: a published benchmark or your own rows.

    Attributes:
        name: a name that `load_benchmark` knows, or any name with `data`; also its folder.
        benchmark: the name of the published benchmark if `name` differs from it.
        source: a copy of the benchmark's files.
        data: your own rows, as in `read_rows`.
        columns: the columns of `data` by field.
        answer_as: how the answers of `data` are written.
        split, configs, limit, drawn, root: as in `load_benchmark`; `drawn` is for published benchmarks.
        download_urls: download images that rows give as URLs.
        rows: number of rows, for a dry run without the data.
    """

    name: Name
    benchmark: str | None = None
    source: str | None = None
    data: str | None = None
    columns: Mapping[str, str | tuple[str, ...]] = Field(default_factory=dict)
    answer_as: Literal["any", "index", "letter", "text"] = "any"
    split: str | None = None
    configs: tuple[str, ...] = ()
    limit: Annotated[int | None, Field(ge=1)] = None
    drawn: Annotated[int | None, Field(ge=1)] = None
    root: str | None = None
    download_urls: bool = False
    rows: Annotated[int | None, Field(ge=1)] = None

    @property
    def published(self) -> str:
        """The published benchmark's name."""
        return self.benchmark or self.name

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.data is None and self.published not in BENCHMARKS:
            raise ValueError(
                f"benchmark {self.name!r}: expected a benchmark, or rows of your own in 'data', "
                f"{unknown_name(self.published, sorted(BENCHMARKS))}"
            )
        others = [field for field in ("benchmark", "source", "drawn") if getattr(self, field) is not None]
        if self.data is not None and others:
            raise ValueError(f"benchmark {self.name!r}, field 'data': cannot be combined with {', '.join(others)}")
        return self


class JudgeEntry(Told):
    """A judge of thoughts.

    Attributes:
        name: `rules`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), or `openai:NAME` (a model behind a server).
        base_url, api_key_env: of the server.
        dtype, device: of the checkpoint; vLLM uses all visible GPUs.
        options: further arguments of `LMJudge.from_pretrained` (such as `device_map`) or `OpenAIJudge`.
        size: for a dry run, the name of one of the study's sizes.
    """

    name: str
    base_url: Address | None = None
    api_key_env: Annotated[Variable | None, Written] = None
    dtype: Dtype = "auto"
    device: str | None = None
    options: Options = Field(default_factory=dict)
    size: str | None = None

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        kind, _, which = name.partition(":")
        if (kind, bool(which)) not in (("rules", False), ("hf", True), ("vllm", True), ("openai", True)):
            raise ValueError(f"expected rules, hf:NAME, vllm:NAME or openai:NAME, got {name!r}")
        return name

    @model_validator(mode="after")
    def _no_device_for_vllm(self) -> Self:
        if self.name.startswith("vllm:") and self.device is not None:
            raise ValueError(
                f"judge {self.name!r}, field 'device': expected none, since vLLM uses all visible GPUs, got "
                f"{self.device!r}"
            )
        return self
