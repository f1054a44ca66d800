"""Describe everything that determines a run's responses as JSON values, and compare the descriptions of two runs.

Samples and prompts are described by their content, with digests of images (`sample_content`, `prompt_digest`).
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field

from .former_paths import FORMER
from .jsonl import json_safe
from .models.base import Model, identity_of
from .perturbations import Perturbation
from .types import ImageLike, Prompt, Sample, Style, image_digest
from .types.frozen import Frozen
from .types.sample import Acting

__all__ = ["Manifest", "config_of", "first_difference", "prompt_digest", "sample_content"]

_ABSENT = "nothing"
_ADDED_STYLE_FIELDS = {"template_opens_thought": False}  # fields that older runs did not record, with their values


class Manifest(Frozen):
    """The settings that a run was started with.

    Attributes:
        format: version of the run directory's layout.
        started: start time of the run (UTC, ISO 8601).
        versions: versions of vlmrobust, Python, and libraries that process images and texts; recorded, not compared.
        resumed: start times and versions of resumptions under other versions.
        notes: what could not be compared when the run was resumed.
        draws, batch_size: recorded, not compared: draws may be added (the maximum is kept), and a smaller GPU may need
            smaller batches.
        model: `models.base.identity_of` the model.
        seed: seeds every random draw.
        distractor: the wrong option that conditions assert, "random" or "runner_up".
        style: style of the prompts.
        conditions: class and fields of every condition, by its name; conditions may be added.
        made_inert: text of samples made inert before the model saw it, by id and field; recorded, not compared.
    """

    format: int = 1
    started: str
    versions: Mapping[str, str] = Field(default_factory=dict)
    resumed: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    draws: int = 1
    batch_size: int = 1
    model: Mapping[str, Any]
    seed: int
    distractor: str = "random"
    style: Mapping[str, Any]
    conditions: Mapping[str, Mapping[str, Any]]
    made_inert: Acting = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Model,
        conditions: Sequence[Perturbation],
        *,
        style: Style,
        seed: int,
        draws: int,
        batch_size: int,
        distractor: str = "random",
        out: Path | None = None,
    ) -> Self:
        """Return the manifest of a new run in the directory `out`.

        Raises:
            ValueError: a condition has a field that JSON cannot hold; the message names both.
        """
        return cls(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=_versions(),
            draws=draws,
            batch_size=batch_size,
            model=_as_json(dict(identity_of(model, out))),
            seed=seed,
            distractor=distractor,
            style=_as_json(style.model_dump(mode="json")),
            conditions={condition.condition: config_of(condition) for condition in conditions},
        )

    def joined(self, other: Self) -> Self:
        """Return this manifest with additions from `other`: conditions, versions, and fields that older runs lack.

        Raises:
            ValueError: model, seed, distractor, style or a condition of the same name differs; the message names the
                field and both values.
        """
        shared = {name: config for name, config in other.conditions.items() if name in self.conditions}
        compared = {"format", "model", "seed", "distractor", "style"}
        old_values, new_values = self.model_dump(include=compared), other.model_dump(include=compared)
        for side in (old_values, new_values):
            side["style"] = {**_ADDED_STYLE_FIELDS, **side["style"]}
        old_values["conditions"] = {name: self.conditions[name] for name in shared}
        new_values["conditions"] = shared
        unknown = [name for name in _ADDED_FIELDS if name in other.model and name not in self.model]
        model = {**self.model, **{name: other.model[name] for name in unknown}}
        old_model, new_model = dict(model), new_values["model"]
        for name in _SETTINGS:
            if name in old_model and name in new_model:
                old_model[name], new_model[name] = common_entries(old_model[name], new_model[name])
        old_values["model"] = old_model
        for side in (old_values, new_values):  # digests last: a dtype or a name is more informative
            side["model"] = dict(sorted(side["model"].items(), key=lambda entry: entry[0] in _DIGESTS))
        if difference := first_difference(old_values, new_values):
            field, old, new = difference
            raise ValueError(f"field {field!r}: expected {old}, as the run was started with, got {new}")
        note = f"started before the model's {', '.join(unknown)} were recorded: whether they changed is unknown"
        return self.replace(
            draws=max(self.draws, other.draws),
            model=model,
            conditions={**self.conditions, **other.conditions},
            made_inert={**self.made_inert, **other.made_inert},
            notes=tuple(dict.fromkeys((*self.notes, note) if unknown else self.notes)),
            resumed=(*self.resumed, *self._under_other_versions(other)),
        )

    def merged(self, other: Self) -> Self:
        """Return the combined manifest of two runs of one model, with the earlier start and all resumptions.

        Raises:
            ValueError: see `joined`.
        """
        joined = self.joined(other)
        for entry in other.resumed:
            resumption = other.replace(versions=entry["versions"], started=entry["started"], resumed=())
            joined = joined.joined(resumption)
        return joined.replace(
            started=min(self.started, other.started), notes=tuple(dict.fromkeys((*joined.notes, *other.notes)))
        )

    def _under_other_versions(self, other: Self) -> Iterator[dict[str, Any]]:
        for before in (self.versions, *(entry["versions"] for entry in self.resumed)):
            if all(before.get(name, version) == version for name, version in other.versions.items()):
                return
        yield {"started": other.started, "versions": dict(other.versions)}


_SETTINGS = ("processor", "config")
_DIGESTS = ("weights", "all_weights", "tokenizer", "chat_template")
# Fields of a model that older runs lack.
_ADDED_FIELDS = (*_SETTINGS, "stop_tokens", "processor_options", "tokenizer", "chat_template", "all_weights")


def common_entries(old: Any, new: Any) -> tuple[Any, Any]:
    """Return two JSON values without entries that only one has, as entries depend on a library's version.

    Example:
        >>> common_entries({"size": 1, "fast": True}, {"size": 2})
        ({'size': 1}, {'size': 2})
    """
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return old, new
    both = {name: common_entries(old[name], new[name]) for name in old if name in new}
    return {name: pair[0] for name, pair in both.items()}, {name: pair[1] for name, pair in both.items()}


def _versions() -> dict[str, str]:
    from . import __version__

    found = {"vlmrobust": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    for package in ("tokenizers", "torchvision", "pillow", "peft", "openai"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(json_safe(value), default=str, sort_keys=True))


def config_of(perturbation: Perturbation) -> dict[str, Any]:
    """Return class and fields of a perturbation as JSON values, with callables by module and qualified name.

    Raises:
        ValueError: a field cannot be written as JSON; the message names condition and field.

    Example:
        >>> from vlmrobust.perturbations import AbstainOption
        >>> config_of(AbstainOption())["text"]
        "I'm not sure"
    """
    return _config(perturbation, f"condition {perturbation.condition!r}")


def _config(model: BaseModel, owner: str) -> dict[str, Any]:
    config: dict[str, Any] = {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
    if isinstance(model, Perturbation) and model.version > 1:  # older runs recorded no version, which means 1
        config["version"] = model.version
    for field in type(model).model_fields:
        value = getattr(model, field)
        if isinstance(value, BaseModel):
            config[field] = _config(value, owner)
        elif isinstance(value, tuple | list) and value and all(isinstance(part, BaseModel) for part in value):
            config[field] = [_config(part, owner) for part in value]
        else:
            config[field] = _field_config(model, field, owner)
    return config


def _field_config(model: BaseModel, field: str, owner: str) -> Any:
    try:
        return model.model_dump(mode="json", include={field})[field]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}, field {field!r}: expected a value that JSON can hold (it becomes part of the run's manifest), "
            f"got {type(getattr(model, field)).__name__}: {error}"
        ) from error


def first_difference(old: Any, new: Any, field: str = "") -> tuple[str, str, str] | None:
    """Return the first difference of two JSON values: the field's path and both values as text; None = equal.

    Modules of this package differ between versions: its classes are compared without them, its functions by the paths
    that they have today.

    Example:
        >>> first_difference({"model": {"dtype": "float32"}}, {"model": {"dtype": "bfloat16"}})
        ('model.dtype', "'float32'", "'bfloat16'")
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            path = f"{field}.{key}" if field else str(key)
            if key not in old or key not in new:
                before, now = (f"{side[key]!r:.300}" if key in side else _ABSENT for side in (old, new))
                return path, before, now
            if difference := first_difference(old[key], new[key], path):
                return difference
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            if difference := first_difference(left, right, f"{field}[{index}]"):
                return difference
        return None
    if old == new or (field.rpartition(".")[2] == "class" and _public_class(old) == _public_class(new)):
        return None
    if _path_today(old) == _path_today(new):
        return None
    return field, f"{old!r:.300}", f"{new!r:.300}"


def _public_class(path: Any) -> str:
    """Return the public path of a class of this package, without its module; other paths are unchanged.

    Example:
        >>> _public_class("vlmrobust.perturbations.conditions.Base"), _public_class("mine.conditions.Base")
        ('vlmrobust.perturbations.Base', 'mine.conditions.Base')
    """
    parts = str(path).split(".")
    return ".".join((*parts[:2], parts[-1]) if parts[0] == "vlmrobust" else parts)


def _path_today(path: Any) -> Any:
    """Return the present path of what a former module of this package held; other values are unchanged.

    Example:
        >>> _path_today("vlmrobust.perturbations.distractor.draw_distractor")
        'vlmrobust.perturbations.wordings.draw_distractor'
    """
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    package, _, former = module.partition(".")
    for target in FORMER.get(former, "").split() if package == "vlmrobust" else ():
        if callable(found := getattr(import_module(f"{package}.{target}"), name, None)):
            return f"{found.__module__}.{name}"
    return path


def _digest_or_none(image: ImageLike) -> str | None:
    # The model that decodes the image reports the problem, in the sample's error row.
    try:
        return image_digest(image)
    except (OSError, ValueError, SyntaxError):
        return None


def sample_content(sample: Sample) -> dict[str, Any]:
    """Return a sample's content as JSON values, with images as digests (None = unreadable).

    Group and metadata are left out: they affect the summary, not the responses.
    """
    content: dict[str, Any] = sample.model_dump(
        mode="json", include={"id", "question", "options", "answer", "distractor", "texts"}
    )
    return {**content, "images": [_digest_or_none(image) for image in sample.images]}


def prompt_digest(prompt: Prompt, images: Sequence[str | None]) -> str:
    """Return a digest of a prompt's content, except for its style, which is the run's or the condition's.

    Args:
        prompt: the prompt.
        images: digests of its sample's images, from `sample_content`.
    """
    known = {id(image): digest for image, digest in zip(prompt.sample.images, images, strict=True)}
    shown = [known[id(image)] if id(image) in known else _digest_or_none(image) for image in prompt.images]
    content: dict[str, Any] = prompt.model_dump(
        mode="json", include={"context", "question", "options", "order", "prefill", "distractor", "asserted"}
    )
    turns = [[turn.role, turn.text] for turn in prompt.history]
    history = {"history": turns} if turns else {}  # older prompts were recorded without this field
    encoded = json.dumps({**content, **history, "images": shown}, sort_keys=True)
    return blake2b(encoded.encode(), digest_size=16).hexdigest()
