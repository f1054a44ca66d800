"""Show, before any weights are loaded, what a run would ask, and whether it goes on with the run in its directory."""

import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..perturbations.expansion import Prompts
from ..types import Prompt, Style
from ..workers.progress import duration

if TYPE_CHECKING:
    from ..evaluator import Evaluator
    from ..manifest import Manifest
    from ..models import Model
    from ..models.encoding import Encoder
    from ..study.counting import StandInEncoder

__all__ = ["Begun", "announced", "as_text", "check_out", "is_long", "preview"]


_OF_THE_MODEL = ("model", "engine", "engine_option", "dtype", "max_new_tokens", "force_answer", "temperature", "seed")
_CLASSES = {
    "transformers": "vlmrobust.models.huggingface.HFModel",
    "vllm": "vlmrobust.models.vllm.model.VLLMModel",
}


def check_out(out: Path, page: Path | None = None) -> None:
    """Refuse a run directory, or a page, that cannot be written.

    Raises:
        ValueError: a file is in its place or on its way, or nothing may be written there; the message says where.
    """
    for flag, folder in (("--out", out), ("--html", None if page is None else page.parent)):
        if folder is None:
            continue
        whole = folder.resolve()  # `new/../file` is below a file as well
        there = next(place for place in (whole, *whole.parents) if place.exists())
        if not there.is_dir():
            raise ValueError(f"{flag}: expected a folder, or a place for one, got {str(folder)!r}: {there} is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ValueError(f"{flag}: expected a folder to write to, got {str(folder)!r}: {there} is read-only")
    if page is not None and page.is_dir():
        raise ValueError(f"--html: expected a file, got the folder {str(page)!r}")


@dataclass(frozen=True)
class Begun:
    """A run that was begun by this command.

    Attributes:
        out: its directory.
        manifest: what it was begun with.
        options: the options of its last call, as far as they are kept.
    """

    out: Path
    manifest: "Manifest"
    options: Mapping[str, Any]

    @classmethod
    def found(cls, out: Path) -> Self | None:
        """Return the run in a directory, None where there is none, or none that can be read: others say why."""
        from ..manifest import Manifest

        try:
            manifest = Manifest.model_validate_json((out / "manifest.json").read_bytes())
        except (OSError, ValueError):
            return None
        try:
            options = tomllib.loads((out / "run.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            options = {}
        return cls(out, manifest, options)

    def refuse_changes(self, evaluator: "Evaluator", given: Mapping[str, Any]) -> None:
        """Refuse what is not the run's, as far as that is known without the model.

        Args:
            evaluator: what is asked now.
            given: the options of this call.

        Raises:
            ValueError: something differs; the message names the field and both values.
        """
        from ..manifest import Manifest, config_of

        known = {name: value for name, value in self._known(given).items() if name in self.manifest.model}
        self._join(
            Manifest(
                started=self.manifest.started,
                model={**self.manifest.model, **known},
                seed=evaluator.seed,
                distractor=evaluator.distractor,
                style=evaluator.style.model_dump(mode="json"),
                conditions={condition.condition: config_of(condition) for condition in evaluator.conditions},
            )
        )

    def deferred(self, given: Mapping[str, Any], load: "Callable[[], Model]") -> "Callable[[], Model]":
        """Return what makes the model: at once, or, where it is the run's as far as can be seen, when it is asked.

        Args:
            given: the options of this call.
            load: loads it.
        """
        same = all((self.options.get(name) or None) == (given.get(name) or None) for name in _OF_THE_MODEL)
        if not self.options or not same or given.get("engine") != "transformers" or not self._weights_are_kept(given):
            return load
        from ..models.identity import DeferredModel
        from ..models.loading import load_processor
        from ..prompting import SpecialTokens

        trusted = {"trust_remote_code": bool(given.get("trust_remote_code"))}
        model = DeferredModel(
            load,
            self.manifest.model,
            lambda: SpecialTokens.of(load_processor(str(given["model"]), {}, trusted)),
            lambda identity: self._join(self.manifest.replace(model=json.loads(json.dumps(dict(identity))))),
        )
        return lambda: model

    def _known(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model's identity will have, as far as the options of a call say it."""
        if self.manifest.model.get("class") not in _CLASSES.values():
            return {}
        sampling = {"do_sample": True, "temperature": given.get("temperature"), "seed": given["seed"]}
        known: dict[str, Any] = {
            "class": _CLASSES[given["engine"]],
            "generation": {"do_sample": False, "max_new_tokens": given["max_new_tokens"]}
            | (sampling if given.get("temperature") else {}),
            "force_answer": given["force_answer"],
        }
        # What a checkpoint is in by itself, or where an adapter's base is, is known when it is loaded.
        before = self.options.get("dtype", "auto")
        if given["dtype"] != before and "auto" not in (given["dtype"], before):
            import torch

            known["dtype"] = str(getattr(torch, given["dtype"])).removeprefix("torch.")
        if given["model"] != self.options.get("model", given["model"]):
            from ..models.loading import adapter_config

            known |= {"name": given["model"]} if adapter_config(given["model"], {}) is None else {}
        return known

    def _weights_are_kept(self, given: Mapping[str, Any]) -> bool:
        """Return whether a folder's files of weights are those that have answered, by name, size and time."""
        from ..models.identity import weights_files

        files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weights_files(given["model"])]
        try:
            kept = json.loads((self.out / "weights.json").read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, LookupError):
            kept = []
        return bool(files == kept)

    def _join(self, asked: "Manifest") -> None:
        try:
            self.manifest.joined(asked)
        except ValueError as error:
            raise ValueError(f"run directory {self.out}: {error}; use another directory") from None


_COUNTED = 50  # samples whose tokens are counted; more are taken to be alike

LONG = 1000  # prompts; a run of more shows the first ones before it begins
_SHOWN = 600  # characters of a prompt that is shown before a run

Render = Callable[[Prompt], str]


def preview(
    prompts: Prompts,
    render: Render,
    encoder: "Encoder | StandInEncoder",
    *,
    new_tokens: int,
    rate: float | None = None,
) -> dict[str, Any]:
    """Return how many prompts and tokens there are, and for each condition its first prompt as text.

    Args:
        prompts: all that a run would ask.
        render: how the model gets to see a prompt.
        encoder: what counts tokens.
        new_tokens: the most that are generated for a prompt.
        rate: responses a second, for the time that it takes; None = it is not known.
    """
    return {
        "samples": len(prompts.samples),
        "conditions": len(prompts.conditions),
        "draws": prompts.draws,
        "prompts": prompts.planned,
        "tokens": _tokens(prompts, encoder, new_tokens),
        "seconds": prompts.planned / rate if rate else None,
        "examples": prompts.first_of_each(render),
    }


def _tokens(prompts: Prompts, encoder: "Encoder | StandInEncoder", new_tokens: int) -> dict[str, Any]:
    """Return the tokens of prompts, those of images among them, and of answers at most; of many samples, of some."""
    from ..study.counting import StandInEncoder, count

    step = max(1, math.ceil(len(prompts.samples) / _COUNTED))
    some = list(prompts.samples)[::step]
    counts = count(
        encoder, some, prompts.conditions, style=prompts.style or Style(), seed=prompts.seed, draws=prompts.draws
    ).times(len(prompts.samples) / max(1, len(some)))
    return {
        "prompts": round(counts.plain.tokens),
        "of_images": round(counts.plain.image_tokens),
        "shared": round(counts.shared.tokens),
        "new_at_most": round(counts.texts) * new_tokens,
        "counted_samples": len(some),
        "is_stand_in": isinstance(encoder, StandInEncoder),
    }


def as_text(found: dict[str, Any]) -> str:
    """Return a preview for a terminal."""
    lines = [
        f"{found['samples']} samples × {found['conditions']} conditions × {found['draws']} draws = "
        f"{found['prompts']} prompts",
        *_said_of_tokens(found),
        "The first prompt of each condition:",
        *_headed(found["examples"]),
    ]
    return "\n".join(lines)


def is_long(prompts: Prompts) -> bool:
    """Return whether a run takes so long that what it begins with is worth a look."""
    return prompts.planned > LONG


def announced(prompts: Prompts, render: Render) -> str:
    """Return what is shown before a long run: how much is asked, and the first prompt of each condition, cut short."""
    count = f"{prompts.planned:,} prompts are about to be asked; the first of each condition:"
    return "\n".join([count, *_headed(prompts.first_of_each(lambda prompt: _shortened(render(prompt))))])


def _headed(examples: Mapping[str, str]) -> Iterator[str]:
    for name, text in examples.items():
        yield from (f"\n── {name} ──", text)


def _shortened(text: str) -> str:
    """Return a prompt without its middle: what a condition changes stands at its ends."""
    left_out = len(text) - _SHOWN
    if left_out <= 0:
        return text
    half = _SHOWN // 2
    return f"{text[:half]} […{left_out:,} characters…] {text[-half:]}"


def _said_of_tokens(found: dict[str, Any]) -> list[str]:
    tokens = found["tokens"]
    about = (
        "" if tokens["counted_samples"] == found["samples"] else f"about, from {tokens['counted_samples']} samples: "
    )
    by = " (four characters a token, images by the rule of Qwen2.5-VL)" if tokens["is_stand_in"] else ""
    lines = [
        f"{about}{tokens['prompts']:,} tokens of prompts, {tokens['of_images']:,} of them of images{by}; "
        f"{tokens['shared']:,} where what prompts of a sample share is computed once",
        f"at most {tokens['new_at_most']:,} new tokens",
    ]
    if found["seconds"] is not None:
        lines.append(f"{duration(found['seconds'])} at {found['prompts'] / found['seconds']:g} responses a second")
    else:
        lines.append("how long it takes: --rate RESPONSES, so many a second, as a run prints while it goes on")
    return lines
