"""Preview a run before loading weights: prompts, token counts, and whether it resumes the run in its directory."""

import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from ..perturbations.expansion import Prompts
from ..types import Prompt, Style
from ..workers.progress import duration

if TYPE_CHECKING:
    from ..evaluator import Evaluator
    from ..manifest import Manifest
    from ..models import Model
    from ..models.encoding import Encoder
    from ..study.cost import StandInEncoder

__all__ = ["ExistingRun", "as_text", "check_out", "first_prompts", "is_long", "preview"]


_MODEL_OPTIONS = ("model", "engine", "engine_option", "dtype", "max_new_tokens", "force_answer", "temperature", "seed")
_CLASSES = {
    "transformers": "vlmrobust.models.huggingface.HFModel",
    "vllm": "vlmrobust.models.vllm.model.VLLMModel",
}


def check_out(out: Path | None, page: Path | None = None) -> None:
    """Refuse a run directory or page that cannot be written.

    Raises:
        ValueError: the path or one of its parents is a file or is not writable; the message names it.
    """
    for flag, folder in (("--out", out), ("--html", None if page is None else page.parent)):
        if folder is None:
            continue
        resolved = folder.resolve()  # `new/../file` is below a file as well
        existing = next(place for place in (resolved, *resolved.parents) if place.exists())
        expected = f"{flag}: expected a folder to write to, got {str(folder)!r}"
        if not existing.is_dir():
            raise ValueError(f"{expected}: {existing} is a file")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise ValueError(f"{expected}: {existing} is read-only")
        if existing != resolved:
            try:  # file systems such as /proc refuse new folders whatever the permissions say
                TemporaryDirectory(dir=existing).cleanup()
            except OSError as error:
                raise ValueError(f"{expected}: no folder can be created in {existing} ({error.strerror})") from None
    if page is not None and page.is_dir():
        raise ValueError(f"--html: expected a file, got the folder {str(page)!r}")


@dataclass(frozen=True)
class ExistingRun:
    """A run in the output directory.

    Attributes:
        out: its directory.
        manifest: its manifest.
        options: the recorded options of its last call.
    """

    out: Path
    manifest: "Manifest"
    options: Mapping[str, Any]

    @classmethod
    def in_directory(cls, out: Path) -> Self | None:
        """Return the run in a directory; None if there is none or its manifest is unreadable, reported elsewhere."""
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

    def refuse_changes(self, evaluator: "Evaluator", options: Mapping[str, Any]) -> None:
        """Refuse settings that differ from the run's, as far as they are known without loading the model.

        Args:
            evaluator: the evaluator of this call.
            options: the options of this call.

        Raises:
            ValueError: a setting differs; the message names the field and both values.
        """
        from ..manifest import Manifest, config_of

        known = {name: value for name, value in self._identity(options).items() if name in self.manifest.model}
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

    def deferred(self, options: Mapping[str, Any], load: "Callable[[], Model]") -> "Callable[[], Model]":
        """Return a loader of the model; if it seems to be the run's model, weights are loaded at the first prompt only.

        Args:
            options: the options of this call.
            load: loads the model.
        """
        is_same = all((self.options.get(name) or None) == (options.get(name) or None) for name in _MODEL_OPTIONS)
        is_checkpoint = options.get("engine") == "transformers"
        if not self.options or not is_same or not is_checkpoint or not self._weights_are_unchanged(options):
            return load
        from ..models.base import DeferredModel
        from ..models.loading import load_processor
        from ..prompting import SpecialTokens

        trusted = {"trust_remote_code": bool(options.get("trust_remote_code"))}
        model = DeferredModel(
            load,
            self.manifest.model,
            lambda: SpecialTokens.of(load_processor(str(options["model"]), {}, trusted)),
            lambda identity: self._join(self.manifest.replace(model=json.loads(json.dumps(dict(identity))))),
        )
        return lambda: model

    def _identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of the model's identity that the options determine."""
        if self.manifest.model.get("class") not in _CLASSES.values():
            return {}
        sampling = {"do_sample": True, "temperature": options.get("temperature"), "seed": options["seed"]}
        identity: dict[str, Any] = {
            "class": _CLASSES[options["engine"]],
            "generation": {"do_sample": False, "max_new_tokens": options["max_new_tokens"]}
            | (sampling if options.get("temperature") else {}),
            "force_answer": options["force_answer"],
        }
        # A checkpoint's own dtype and the base model of an adapter are only known once the model is loaded.
        before = self.options.get("dtype", "auto")
        if options["dtype"] != before and "auto" not in (options["dtype"], before):
            import torch

            identity["dtype"] = str(getattr(torch, options["dtype"])).removeprefix("torch.")
        if options["model"] != self.options.get("model", options["model"]):
            from ..models.loading import adapter_config

            identity |= {"name": options["model"]} if adapter_config(options["model"], {}) is None else {}
        return identity

    def _weights_are_unchanged(self, options: Mapping[str, Any]) -> bool:
        """Return whether a folder's weight files match those of the run in name, size and modification time."""
        from ..models.identity import weights_files

        files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weights_files(options["model"])]
        try:
            recorded = json.loads((self.out / "weights.json").read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, LookupError):
            recorded = []
        return bool(files == recorded)

    def _join(self, manifest: "Manifest") -> None:
        try:
            self.manifest.joined(manifest)
        except ValueError as error:
            raise ValueError(f"run directory {self.out}: {error}; use another directory") from None


_COUNTED = 50  # number of samples whose tokens are counted and scaled to all

LONG = 1000  # number of prompts above which a run shows the first ones before it starts
_SHOWN = 600  # number of characters of a prompt shown before a run

Render = Callable[[Prompt], str]


def preview(
    prompts: Prompts,
    render: Render,
    encoder: "Encoder | StandInEncoder",
    *,
    new_tokens: int,
    rate: float | None = None,
) -> dict[str, Any]:
    """Return the numbers of prompts and tokens, and the first prompt of each condition as text.

    Args:
        prompts: the prompts of the run.
        render: renders a prompt as the model sees it.
        encoder: counts tokens.
        new_tokens: maximum number of new tokens per prompt.
        rate: responses per second, to estimate the duration; None = unknown.
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
    """Count the tokens of prompts and images and the maximum of new tokens, from at most `_COUNTED` samples."""
    from ..study.cost import StandInEncoder, count

    step = max(1, math.ceil(len(prompts.samples) / _COUNTED))
    counted = list(prompts.samples)[::step]
    counts = count(
        encoder, counted, prompts.conditions, style=prompts.style or Style(), seed=prompts.seed, draws=prompts.draws
    ).times(len(prompts.samples) / max(1, len(counted)))
    return {
        "prompts": round(counts.plain.tokens),
        "of_images": round(counts.plain.image_tokens),
        "shared": round(counts.shared.tokens),
        "new_at_most": round(counts.texts) * new_tokens,
        "counted_samples": len(counted),
        "is_stand_in": isinstance(encoder, StandInEncoder),
    }


def as_text(plan: dict[str, Any]) -> str:
    """Return a preview as text for a terminal."""
    factors = " × ".join(_counted(plan[f"{name}s"], name) for name in ("sample", "condition", "draw"))
    lines = [
        f"{factors} = {_counted(plan['prompts'], 'prompt')}",
        *_token_lines(plan),
        "The first prompt of each condition:",
        *_with_titles(plan["examples"]),
    ]
    return "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def is_long(prompts: Prompts) -> bool:
    """Return whether a run has so many prompts that it shows the first ones before it starts."""
    return prompts.planned > LONG


def first_prompts(prompts: Prompts, render: Render) -> str:
    """Return the text shown before a long run: the number of prompts and the first of each condition, shortened."""
    title = f"{prompts.planned:,} prompts in all; the first of each condition:"
    return "\n".join([title, *_with_titles(prompts.first_of_each(lambda prompt: _shortened(render(prompt))))])


def _with_titles(examples: Mapping[str, str]) -> Iterator[str]:
    for name, text in examples.items():
        yield from (f"\n── {name} ──", text)


def _shortened(text: str) -> str:
    """Cut out the middle of a prompt, since conditions change its ends."""
    left_out = len(text) - _SHOWN
    if left_out <= 0:
        return text
    half = _SHOWN // 2
    return f"{text[:half]} […{left_out:,} characters…] {text[-half:]}"


def _token_lines(plan: dict[str, Any]) -> list[str]:
    tokens = plan["tokens"]
    is_exact = tokens["counted_samples"] == plan["samples"]
    about = "" if is_exact else f"estimated from {tokens['counted_samples']} samples: "
    rule = " (4 characters per token, images by the rule of Qwen2.5-VL)" if tokens["is_stand_in"] else ""
    lines = [
        f"{about}{tokens['prompts']:,} prompt tokens, {tokens['of_images']:,} of them image tokens{rule}; "
        f"{tokens['shared']:,} if the prefixes that prompts of a sample share are computed once",
        f"at most {tokens['new_at_most']:,} new tokens",
    ]
    if plan["seconds"] is not None:
        lines.append(f"{duration(plan['seconds'])} at {plan['prompts'] / plan['seconds']:g} responses per second")
    else:
        lines.append("to estimate the duration, give --rate RESPONSES (per second, as a run prints it)")
    return lines
