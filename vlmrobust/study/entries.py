"""What a study is made of, as its file says it: models with their checkpoints, benchmarks, judges, sizes."""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, field_validator, model_validator

from ..catalogue import named_style
from ..data import BENCHMARKS
from ..devices import check_dtype
from ..naming import unknown_name
from ..secrecy import Secrets, variable_shown
from ..types import Style
from ..types.frozen import Address, Frozen, Settings, Told

__all__ = ["BenchmarkEntry", "JudgeEntry", "ModelEntry", "Size", "Stage", "secrets_of"]

NO_VALUE = "none"
"""What stands in a TOML file, which has no null, where a setting is to be left out."""


def _is_folder_name(name: str) -> str:
    if not re.fullmatch(r"[\w][\w. @=+-]*", name):
        raise ValueError(f"expected a name that a folder can have (letters, digits, . _ - + = @), got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_is_folder_name)]


def _without_key(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse a key among the arguments of a client; what else is secret in them is sent, and is not written."""
    if any(re.sub("[^a-z]", "", name.lower()) == "apikey" for name in options):
        raise ValueError(
            "expected no 'api_key' here, since a study is a file to be shared; name the environment variable that "
            "holds the key in 'api_key_env'"
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
            "got one that is not repeated here, since it may be the key itself"
        )
    return name


def _written(name: str | None) -> str | None:
    """Return a variable's name as it is written: a key, given in its place, is not."""
    known = name is None or name in os.environ or variable_shown(name) == repr(name)
    return name if known else variable_shown("")


Variable = Annotated[str, AfterValidator(_is_variable)]
Written = PlainSerializer(_written)


def secrets_of(entry: "ModelEntry | JudgeEntry") -> Secrets:
    """Return what is secret of an entry: the key that its variable holds, and what its settings say so of."""
    variable = entry.api_key_env or "OPENAI_API_KEY"
    mistaken = entry.api_key_env if entry.api_key_env != _written(entry.api_key_env) else None
    settings = [getattr(entry, field, None) for field in ("base_url", "options", "generation", "arguments")]
    stages = [stage.arguments for stage in getattr(entry, "checkpoints", ())]
    return Secrets.of(os.environ.get(variable), mistaken, settings=[settings, stages])


class Size(Frozen):
    """The architecture of a model as far as the cost of answering depends on it, in numbers of weights and dimensions.

    Attributes:
        language: weights of the language model that every token meets: all matrices, the LM head among them, without
            the table of embeddings.
        experts: further weights of the language model that a token does not meet, in a mixture of experts: they lie in
            memory, and are taken to be read in decoding.
        head: those of the LM head, which only the last token of a prompt meets; 0 = all tokens are taken to meet it.
        vision: weights of the vision tower that every patch meets.
        projector: weights that every image token meets.
        layers: of the language model.
        width: of its attention: heads × dimensions of a head.
        kv_width: the same for keys, or values: key-value heads × dimensions.
        patches_per_token: how many patches make one image token.
        image: how many tokens an image takes: Qwen2.5-VL's rule (28 × 28 pixels a token) or InternVL's (tiles of 448 ×
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
        step: of its training; curves are drawn over it.
        label: what it is called; "step …" if empty.
        checkpoint: a hub name or a folder, instead of the model's.
        arguments: for the model's factory, beside the model's.
    """

    step: int | None = None
    label: str = ""
    checkpoint: str | None = None
    arguments: Settings = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, or else the step; empty where a model has no checkpoints of its own."""
        return self.label or ("" if self.step is None else f"step {self.step}")


class ModelEntry(Told):
    """A model, and how it is asked.

    Attributes:
        name: what it is called in tables, and its folder.
        checkpoint: a hub name, a folder, or a server's name for it.
        engine: what computes a checkpoint's answers, `transformers` or `vllm`.
        factory: `module:function` or `file.py:function`, which returns a model: it is imported, and called in a dry run
            as well, so that its tokenizer can be asked.
        arguments: of the factory.
        checkpoints: several stages of its training, each with a `step`.
        base_url: the address of an OpenAI-compatible server.
        api_key_env: the environment variable that holds the server's key.
        style: one of `vlmrobust.styles` by name, or the fields of a `Style`; None = the default one.
        generation: as in `HFModel` (`VLLMModel`) or `OpenAIModel`; "none" leaves a setting out.
        dtype, device: of a checkpoint.
        options: further arguments of `HFModel.from_pretrained`, `VLLMModel` or `OpenAIModel`.
        size: for a dry run where the checkpoint's own configuration isn't at hand: the name of one of the study's
            sizes.
        new_tokens: how many tokens a text has on average, for a dry run; None = the limit.
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
        """Its checkpoints; a model without any has one stage, itself."""
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
            raise ValueError(f"{where}, field 'factory': expected it alone, got a checkpoint or a server beside it")
        if not self.factory and (self.arguments or any(stage.arguments for stage in self.checkpoints)):
            raise ValueError(f"{where}, field 'arguments': expected a 'factory' that they are for, got none")
        if self.engine == "vllm" and (self.factory or self.is_served or self.device):
            raise ValueError(
                f"{where}, field 'engine': expected vllm for a checkpoint alone, got a factory, a server or a 'device' "
                "beside it"
            )
        titles = [stage.title for stage in self.checkpoints]
        if "" in titles or len(set(titles)) < len(titles):
            raise ValueError(f"{where}, field 'checkpoints': expected a 'step' or 'label' that differs, got {titles}")
        for title in titles:
            _is_folder_name(title)
        return self


class BenchmarkEntry(Frozen):
    """Samples: a published benchmark, or rows of one's own.

    Attributes:
        name: a name that `load_benchmark` knows, or any where `data` is given; its folder.
        benchmark: the published one, where `name` is another.
        source: a copy of the benchmark's files.
        data: rows of one's own, as `read_rows` takes them.
        columns: which column of `data` holds a field.
        answer_as: how the answers of `data` are written.
        split, configs, limit, drawn, root: as in `load_benchmark`; `drawn` is for published ones.
        download_urls: fetch images that rows give the address of.
        rows: how many there are, for a dry run without the data.
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
        beside = [field for field in ("benchmark", "source", "drawn") if getattr(self, field) is not None]
        if self.data is not None and beside:
            raise ValueError(
                f"benchmark {self.name!r}, field 'data': expected it alone, got {', '.join(beside)} beside it"
            )
        return self


class JudgeEntry(Told):
    """A judge of thoughts.

    Attributes:
        name: `rules`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), or `openai:NAME` (a model behind a server).
        base_url, api_key_env: of the server.
        dtype, device: of the checkpoint; vLLM takes the cards it sees.
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
    def _vllm_takes_its_cards(self) -> Self:
        if self.name.startswith("vllm:") and self.device is not None:
            raise ValueError(
                f"judge {self.name!r}, field 'device': expected none, since vLLM takes the cards it sees, got "
                f"{self.device!r}"
            )
        return self
