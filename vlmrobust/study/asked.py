"""Who would be asked: a model's processor, size and limit, as far as they are at hand without its weights."""

from dataclasses import dataclass
from typing import Any

from ..models import HFModel
from ..models.encoding import Encoder
from ..secrecy import error_text
from .cost import size_of
from .counting import StandInEncoder
from .entries import ModelEntry, Size, secrets_of
from .loading import model_of
from .study import Study

__all__ = ["Asked", "asked", "one_line"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan knows of a model.

    Attributes:
        encoder: counts its tokens.
        size: None = not known, or a server's own.
        limit: of new tokens; None = not known.
        bytes_per_value: of its weights and its cache.
        stand_ins: what was not at hand, `what: what stands in for it`.
    """

    encoder: Any
    size: Size | None
    limit: int | None
    bytes_per_value: int
    stand_ins: tuple[str, ...]


def asked(entry: ModelEntry, study: Study) -> Asked:
    """Return what is known of a model without downloading, and without loading a checkpoint's weights.

    A factory is called: its model knows the tokenizer.
    """
    stated = study.sizes.get(entry.size or "")
    names = ("max_new_tokens", "max_tokens", "max_completion_tokens")
    limit = next((int(entry.generation[name]) for name in names if name in entry.generation), None)
    stand_ins = []
    width = 4 if entry.dtype == "float32" else 2
    encoder: Any = None
    size: Size | None = None
    if entry.factory is not None:
        try:
            with secrets_of(entry).held():
                model: Any = model_of(entry, entry.stages[0], study.seed)
        except Exception as error:  # noqa: BLE001 - a plan says what is missing, whatever it is
            model = None
            stand_ins.append(f"model: none, its factory failed ({secrets_of(entry).hidden(one_line(error))})")
        if isinstance(model, HFModel):
            encoder, size = Encoder(model.processor), size_of(model.model)
            width = model.model.dtype.itemsize
            limit = limit or model.identity()["generation"]["max_new_tokens"]
    elif not entry.is_served:
        name = str(entry.stages[0].checkpoint or entry.checkpoint)
        encoder, size = _processor(name, entry), _size(name, entry)
    if encoder is None:
        rule = (
            "InternVL's tiles" if stated is not None and stated.image == "internvl" else "Qwen2.5-VL's 28 × 28 pixels"
        )
        stand_ins.append(f"tokenizer: 4 characters a token, images by {rule} a token")
        encoder = StandInEncoder("qwen2_5_vl" if stated is None else stated.image)
    if size is None and stated is not None:
        size = stated
        stand_ins.append("size: of the study's sizes")
    elif size is None:
        whose = "a server's own" if entry.is_served else "none, give 'size'"
        stand_ins.append(f"size: {whose}, so that no operations are counted")
    return Asked(encoder, size, limit, width, tuple(stand_ins))


def one_line(error: Exception) -> str:
    r"""Return an error as a part of a line whose parts are set apart by semicolons.

    Example:
        >>> one_line(ValueError("first;\nsecond"))
        'ValueError: first, second'
    """
    return " ".join(error_text(error).replace(";", ",").split())


def _processor(name: str, entry: ModelEntry) -> Encoder | None:
    from transformers import AutoProcessor

    trusted = bool(entry.options.get("trust_remote_code", False))
    try:
        return Encoder(AutoProcessor.from_pretrained(name, local_files_only=True, trust_remote_code=trusted))
    except Exception:  # noqa: BLE001 - whatever is missing, a stand-in is named in its place
        return None


def _size(name: str, entry: ModelEntry) -> Size | None:
    """Return the size of a checkpoint whose configuration is at hand, from a model without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    trusted = bool(entry.options.get("trust_remote_code", False))
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=trusted)
        with torch.device("meta"):
            return size_of(AutoModelForImageTextToText.from_config(config, trust_remote_code=trusted))
    except Exception:  # noqa: BLE001 - the same
        return None
