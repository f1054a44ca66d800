"""LoRA adapters: of one that was made for another base vLLM may copy what fits, so it is looked at here."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from ..base import UnfitError
from ..loading import adapter_config

__all__ = ["Adapter"]

_FILE = "adapter_model.safetensors"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM has places
_PART = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.\w+)?\.weight$")
_TOWER = re.compile(r"(?:^|\.)(?:visual|vision\w*|multi_modal_projector)\.")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a folder.

    Attributes:
        name: of the folder.
        base: the name of the model that it was made for.
        rank: the largest of its ranks.
        settings: its PEFT config.
    """

    name: str
    base: str
    rank: int
    settings: Mapping[str, Any]

    @classmethod
    def found(cls, name: str, options: Mapping[str, Any]) -> Self | None:
        """Return what is in a folder; None = no adapter.

        Raises:
            UnfitError: it is none that vLLM takes.
        """
        config = adapter_config(name, options)
        if config is None:
            return None
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if kind != "LORA":
            raise UnfitError(f"expected a LoRA adapter, which is what vLLM takes, got {kind} (adapter {name!r})")
        if not (Path(name) / _FILE).is_file():
            raise UnfitError(f"adapter {name!r}: expected a folder here with {_FILE}, found none")
        rank = max([int(config.r), *map(int, (getattr(config, "rank_pattern", None) or {}).values())])
        settings = json.loads(json.dumps(config.to_dict(), sort_keys=True, default=_plain))
        return cls(name, str(config.base_model_name_or_path), rank, settings)

    @property
    def file(self) -> Path:
        """The file of its weights."""
        return Path(self.name) / _FILE

    def options(self) -> dict[str, Any]:
        """Return what the engine is told."""
        rank = next((size for size in _RANKS if size >= self.rank), self.rank)
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}

    def request(self) -> Any:
        """Return vLLM's `LoRARequest`."""
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(Path(self.name).absolute()))

    def check(self, base: str, config: Any, *, tower: bool = False) -> None:
        """Refuse an adapter whose matrices are not those of a base.

        Args:
            base: the base's name.
            config: the base's, of transformers.
            tower: the engine is told to take matrices of the image encoder as well.

        Raises:
            UnfitError: a module is not there, or has other dimensions, or is one that vLLM leaves out.
        """
        modules = _modules(config)
        for module, part, shape in self._shapes():
            if _TOWER.search(module) and not tower:
                raise UnfitError(
                    f"adapter {self.name!r}: expected modules of the language model alone, got {module!r}; vLLM leaves "
                    "those of the image encoder out unless enable_tower_connector_lora=True is given"
                )
            found = modules.get(module)
            if found is None:
                raise UnfitError(
                    f"adapter {self.name!r}, made for {self.base!r}: expected modules of {base!r}, got {module!r}"
                )
            ends = found[1] if part == "A" else found[0]
            own = shape[1] if part == "A" else shape[0]
            if own != ends:
                raise UnfitError(
                    f"adapter {self.name!r}, made for {self.base!r}: expected {ends} "
                    f"{'inputs' if part == 'A' else 'outputs'} of {module!r} as in {base!r}, got {own}"
                )

    def _shapes(self) -> list[tuple[str, str, tuple[int, ...]]]:
        from safetensors import safe_open

        with safe_open(self.file, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        parts = [(_PART.match(name), shape) for name, shape in shapes.items()]
        return [(found["module"], found["part"], shape) for found, shape in parts if found is not None]


def _modules(config: Any) -> dict[str, tuple[int, int]]:
    """Return outputs and inputs of a model's linear layers, without its weights."""
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
