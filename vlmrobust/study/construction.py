"""Construct the models, samples and judges of a study's entries.

Models and judges are loaded at their first use and released before the next one.
"""

import gc
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from ..catalogue import judge_named, named_style, secret
from ..data import Samples, load_benchmark, read_rows
from ..judges import Judge
from ..models import HFModel, Model, OpenAIModel, VLLMModel
from ..models.generation import greedy_at_zero
from ..naming import imported
from ..types import Style
from .entries import NO_VALUE, BenchmarkEntry, JudgeEntry, ModelEntry, Stage

__all__ = ["Lazy", "free_memory", "function_named", "judge_of", "model_of", "samples_of", "style_of"]


Made = TypeVar("Made")


def model_of(entry: ModelEntry, stage: Stage, seed: int) -> Model:
    """Load the model of an entry at one of its checkpoints.

    Raises:
        ValueError: the key is not set, or a setting is invalid.
        TypeError: the factory did not return a model.
    """
    if entry.factory is not None:
        model = function_named(entry.factory)(**entry.arguments, **stage.arguments)
        if not isinstance(model, Model):
            raise TypeError(
                f"factory {entry.factory!r}: expected a model with respond(prompts) -> list[Response], "
                f"got {type(model).__name__}"
            )
        return model
    name = str(stage.checkpoint or entry.checkpoint)
    settings, options = _with_none(entry.generation), _with_none(entry.options)
    if entry.is_served:
        key = secret(entry.api_key_env, f"model {entry.name!r}, field 'api_key_env'")
        return OpenAIModel(name, entry.base_url, key, generation={"seed": seed} | settings, **options)
    settings = greedy_at_zero(settings)
    sampling = {"seed": seed} if settings.get("do_sample") else {}
    if entry.engine == "vllm":
        return VLLMModel(name, sampling | settings, dtype=entry.dtype, **options)
    return HFModel.from_pretrained(
        name, dtype=entry.dtype, device=entry.device, generation=sampling | settings, **options
    )


def _with_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value == NO_VALUE else value for name, value in settings.items()}


def style_of(entry: ModelEntry) -> Style:
    """Return the style of a model's prompts."""
    return named_style(entry.style) if isinstance(entry.style, str) else entry.style or Style()


def samples_of(entry: BenchmarkEntry, seed: int) -> Samples:
    """Read the samples of an entry; invalid rows are listed in their `problems` and `left_out`.

    Args:
        entry: the entry.
        seed: seed of shuffled options and of drawn rows.
    """
    shared: dict[str, Any] = {
        "split": entry.split,
        "limit": entry.limit,
        "on_error": "record",
        "download_urls": entry.download_urls,
    }
    if entry.data is not None:
        return read_rows(entry.data, dict(entry.columns), answer_as=entry.answer_as, **shared)
    return load_benchmark(
        entry.published,
        source=entry.source,
        configs=entry.configs,
        drawn=entry.drawn,
        root=entry.root,
        seed=seed,
        **shared,
    )


def judge_of(entry: JudgeEntry) -> Judge:
    """Load the judge of an entry."""
    return judge_named(
        entry.name,
        base_url=entry.base_url,
        api_key_env=entry.api_key_env,
        dtype=entry.dtype,
        device=entry.device,
        options=_with_none(entry.options),
        where=f"judge {entry.name!r}",
    )


def function_named(name: str) -> Callable[..., Any]:
    """Return the function `module:function` or `file.py:function`; its module is imported, which runs its code.

    Raises:
        ValueError: the name has another form, or there is no such file or function.

    Example:
        >>> function_named("vlmrobust.demo:model").__name__
        'model'
    """
    found = imported(name, "function", where="field 'factory'")
    if not callable(found):
        raise ValueError(f"field 'factory': expected a function at {name!r}, got {found!r:.100}")
    return found  # type: ignore[no-any-return]


class Lazy(Generic[Made]):
    """Make a value on the first call and return it on every call; a failure is raised again on every call.

    Example:
        >>> value = Lazy(lambda: print("made") or 1)
        >>> value(), value()
        made
        (1, 1)
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = []
        self._error: Exception | None = None

    def __call__(self) -> Made:
        """Return the value."""
        if self._error is not None:
            raise self._error
        if not self._made:
            try:
                self._made.append(self._make())
            except Exception as error:
                self._error = error
                raise
        return self._made[0]


def free_memory() -> None:
    """Release unreferenced memory, also on a GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
