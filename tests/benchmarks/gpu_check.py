"""What holds on a GPU, in one command of at most 8 minutes: numbers, shared prefixes, and vLLM if it is there.

    python tests/benchmarks/gpu_check.py --out gpu_check           on a card
    python tests/benchmarks/gpu_check.py --out tried --dry-run     the same on the CPU, with tiny sizes

It writes `gpu_check.json` and `gpu_check.md`, anew after every part, so that what was measured stays whatever happens:

- *numbers*: the bundled model and tiny models of several families, in float32 and bfloat16: `check_model`, and how far
  texts and letters are from those of float32 on the CPU, with prefixes shared and without;
- *prefixes*: a random Qwen2.5-VL of the 3B and 7B shape in bfloat16, 256 and 1,024 image tokens, K conditions, forced
  answers and decoded texts: a padded batch against `HFModel`, as in prefix.py;
- *vLLM*: `VLLMModel` against `LLM.generate` and `HFModel`, as in vllm_rate.py, on the random model of the 3B shape.

What no time was left for is listed.
"""

import argparse
import gc
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vlmrobust as vr
from vlmrobust.testing import check_model

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "models")]

import prefix  # noqa: E402
import vllm_rate  # noqa: E402
import zoo  # noqa: E402

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava", "internvl", "gemma3")
TOWER = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "3B": {
        "text": {
            "hidden_size": 2048,
            "intermediate_size": 11_008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "vocab_size": 151_936,
        },
        "vision": {**TOWER, "fullatt_block_indexes": [7, 15, 23, 31]},
    },
    "7B": {
        "text": {
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152_064,
        },
        "vision": {**TOWER, "fullatt_block_indexes": [7, 15, 23, 31]},
    },
}
TINY: dict[str, dict[str, Any]] = {
    "text": {
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
    "vision": {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_heads": 2,
        "fullatt_block_indexes": [1],
    },
}


@dataclass(frozen=True)
class Scale:
    """How much is tried.

    Attributes:
        device: where.
        sizes: of the random models.
        image_tokens, conditions, new_tokens: of the prompts about prefixes.
        samples: of the bundled model.
        families: of tiny models.
        ends: when nothing more is begun.
    """

    device: str
    sizes: dict[str, dict[str, dict[str, Any]]]
    image_tokens: tuple[int, ...]
    conditions: tuple[int, ...]
    new_tokens: int
    samples: int
    families: tuple[str, ...]
    ends: float

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()


Row = dict[str, Any]


def numbers(scale: Scale) -> Iterator[Row]:
    """Yield, by model and dtype, how far letters and texts are from those of float32 on the CPU."""
    prompts = list(vr.expand(vr.demo.samples(scale.samples), vr.paper_conditions(), seed=0))
    made: dict[str, Callable[[str, torch.dtype], tuple[Any, Any]]] = {"demo": _demo}
    made |= {family: lambda device, dtype, family=family: _tiny(family, device, dtype) for family in scale.families}
    for name, make in made.items():
        asked = prompts if name == "demo" else prompts[:16]
        expected = vr.HFModel(*make("cpu", torch.float32), {"max_new_tokens": 64}).respond(asked)
        for dtype in (torch.float32, torch.bfloat16):
            model, processor = make(scale.device, dtype)
            shared = vr.HFModel(model, processor, {"max_new_tokens": 64})
            apart = vr.HFModel(model, processor, {"max_new_tokens": 64}, share_prefixes=False)
            row: Row = {"model": name, "dtype": str(dtype).removeprefix("torch.")}
            try:
                row["check_model"] = _checked(shared)
                found = shared.respond(asked)
                row["texts equal"] = (
                    f"{sum(a.text == b.text for a, b in zip(found, expected, strict=True))}/{len(asked)}"
                )
                row["letters, nats"] = _apart(found, expected)
                row["shared against apart, nats"] = _apart(found, apart.respond(asked))
            except Exception as error:  # noqa: BLE001 - what fails is what is looked for
                row["failed"] = _told(error)
            yield row


def _demo(device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    model = vr.demo.model(device=device, dtype=dtype)
    return model.model, model.processor


def _tiny(family: str, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    built = zoo.build(family)
    return built.model.to(device, dtype), built.processor


def _checked(model: Any) -> str:
    try:
        check_model(model)
    except AssertionError as error:
        return f"fails: {error}"[:200]
    return "passes"


def _apart(some: list[vr.Response], others: list[vr.Response]) -> float | None:
    """Return how far letters are apart at most, of responses that have the same text up to them."""
    differences = [
        float(np.abs(np.subtract(one.option_logprobs, other.option_logprobs)).max())
        for one, other in zip(some, others, strict=True)
        if one.option_logprobs and other.option_logprobs and (one.readout != "own_thought" or one.text == other.text)
    ]
    return round(max(differences), 6) if differences else None


def prefixes(scale: Scale) -> Iterator[Row]:
    """Yield, by size, image and number of conditions, the seconds of a padded batch and of `HFModel`."""
    for size, sizes in scale.sizes.items():
        dtype = torch.float32 if scale.device == "cpu" else torch.bfloat16
        model, processor = prefix.build(sizes["text"], sizes["vision"], device=scale.device, dtype=dtype)
        for image_tokens in scale.image_tokens:
            for forced in (True, False):
                for count in scale.conditions:
                    row: Row = {"size": size, "image tokens": image_tokens, "K": count}
                    row["task"] = "forced" if forced else f"{scale.new_tokens} new tokens"
                    if scale.left < 0:
                        yield row | {"left out": "no time was left"}
                        continue
                    try:
                        row |= _timed(model, processor, image_tokens, count, scale, forced=forced)
                    except Exception as error:  # noqa: BLE001 - such as memory that does not suffice; the others go on
                        row["failed"] = _told(error)
                    yield row
        del model
        gc.collect()
        if scale.device != "cpu":
            torch.cuda.empty_cache()


def _timed(model: Any, processor: Any, image_tokens: int, count: int, scale: Scale, *, forced: bool) -> Row:
    prompts = prefix.prompts_of(count, image_tokens, forced=forced)
    ours = vr.HFModel(model, processor, {"max_new_tokens": scale.new_tokens}, self_check=False)

    def batch() -> None:
        prefix.plain(model, processor, prompts, forced=forced, new_tokens=scale.new_tokens)

    repetitions = 3 if forced else 1
    seconds: dict[str, float] = {}
    for name, call in {"padded batch, s": batch, "HFModel, s": lambda: ours.respond(prompts)}.items():
        if forced or name == "HFModel, s":
            call()  # warm, and whether prefixes can be shared is looked at once
        seconds[name] = min(_seconds(call, scale.device) for _ in range(repetitions))
    return {**{name: round(value, 4) for name, value in seconds.items()}, "ratio": _ratio(*seconds.values())}


def _seconds(call: Callable[[], Any], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _ratio(one: float, other: float) -> float:
    return round(one / other, 2)


def vllm(scale: Scale) -> Iterator[Row]:
    """Yield the rates of `VLLMModel`, `LLM.generate` and `HFModel`, each run in a process of its own."""
    if importlib.util.find_spec("vllm") is None:
        yield {"left out": "vLLM is not installed"}
        return
    if scale.left < 60 and scale.device != "cpu":
        yield {"left out": "no time was left"}
        return
    dtype = torch.float32 if scale.device == "cpu" else torch.bfloat16
    with tempfile.TemporaryDirectory() as folder:
        sizes = next(iter(scale.sizes.values()))
        vllm_rate.random_checkpoint(Path(folder), sizes, device=scale.device, dtype=dtype)
        gc.collect()
        if scale.device != "cpu":
            torch.cuda.empty_cache()
        file = Path(folder) / "rate.json"
        command = [
            *(sys.executable, str(HERE / "vllm_rate.py"), "--checkpoint", folder, "--json", str(file)),
            *("--samples", str(scale.samples), "--pairs", "2", "--dtype", str(dtype).removeprefix("torch.")),
        ]
        limit = max(scale.left, 120.0)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            yield {"failed": f"not ended after {limit:.0f} s"}
            return
        yield json.loads(file.read_text()) if file.is_file() else {"failed": done.stderr[-600:]}


def rows_of(part: Callable[[Scale], Iterator[Row]], scale: Scale) -> Iterator[Row]:
    """Yield a part's rows, and one more that says why it ended early if it did: the next part is tried all the same."""
    try:
        yield from part(scale)
    except Exception as error:  # noqa: BLE001 - what fails is what is looked for
        yield {"failed": _told(error)}


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


PARTS = {"numbers": numbers, "prefixes": prefixes, "vllm": vllm}


def written(found: dict[str, Any], out: Path) -> None:
    """Write what was found as JSON, and as a table for each part."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [f"# {found['device']}", "", ", ".join(f"{name} {value}" for name, value in found["versions"].items()), ""]
    for part in PARTS:
        rows = found.get(part, [])
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines += [f"## {part}", ""]
        if columns:
            lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
            lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows]
        lines.append("")
    (out / "gpu_check.md").write_text("\n".join(lines))


def _cell(value: Any) -> str:
    shown = [round(one, 2) for one in value] if isinstance(value, list) else value
    return "" if shown is None else str(shown).replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Try everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=420.0, help="after which nothing more is begun")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with tiny sizes")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    ends = time.monotonic() + given.seconds
    if given.dry_run:
        scale = Scale("cpu", {"tiny": TINY}, (16,), (1, 2), 4, 1, FAMILIES[:1], ends)
        device = "CPU (dry run, tiny sizes)"
    elif torch.cuda.is_available():
        scale = Scale("cuda", SIZES, (256, 1024), (1, 8, 16), 256, 20, FAMILIES, ends)
        device = torch.cuda.get_device_name()
    else:
        parser.error("expected a CUDA card, found none; --dry-run tries everything on the CPU")
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "vlmrobust": vr.__version__}
    found: dict[str, Any] = {"device": device, "versions": versions}
    for part in given.parts:
        found[part] = []
        for row in rows_of(PARTS[part], scale):
            found[part].append(row)
            print(part, json.dumps(row), flush=True)
            written(found, given.out)
    found["seconds"] = round(given.seconds - scale.left, 1)
    written(found, given.out)


if __name__ == "__main__":
    main()
