"""`HFModel` beside lmms-eval's own Hugging Face class, on the same prompts: thoughts of uneven lengths.

The random Qwen2.5-VL of `uneven.py` (about 80 million parameters) counts down from a number in its prompt: 64 prompts
of 8 samples, thoughts of 20 to 400 tokens (mean 116), written out as "⟨115⟩⟨114⟩…⟨1⟩". Both ways load one checkpoint in
float32, render the same prompts (compared), and write the same texts (compared). lmms-eval 0.7.3 lies in an environment
that is made for it, with the torch and the transformers of this one.

Counted are passes and row-steps; of lmms-eval's batches, rows that have ended too, since they go on to be computed.
Timed is the CPU time of all threads, and how long it took, of one call that answers all prompts, after one that answers
a few. Not a test: timings depend on what else the machine does.

    python tests/benchmarks/lmms_class.py pairs --environments FOLDER              # in turn, each a process of its own
    python tests/benchmarks/lmms_class.py pairs --environments FOLDER --task equal --length 64
    python tests/benchmarks/lmms_class.py pairs --environments FOLDER --rows 1     # lmms-eval's batch_size
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import prefix
import torch
import transformers
import uneven
from tokenizers import AddedToken

from vlmrobust import HFModel, Prompt, Response

HERE = Path(__file__).parent
OPTIONS = {"max_new_tokens": uneven.LONGEST}


def save(folder: str) -> None:
    """Save the random model, and a processor whose tokenizer has a token with a text for each number."""
    torch.manual_seed(0)
    model, processor = prefix.build()
    processor.tokenizer.add_tokens(
        [AddedToken(f"⟨{number}⟩", special=False) for number in range(1, uneven.LONGEST + 1)]
    )
    # lmms-eval ends a text at the tokenizer's own token, whatever the model's config says.
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def load(folder: str) -> Any:
    """Return the saved model, which counts down."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    uneven.counting_down(model, tokenizer, tokenizer.convert_tokens_to_ids("⟨1⟩") - 1)
    return model


Respond = Callable[[Sequence[Prompt]], Sequence[Response]]


def own(folder: str) -> tuple[Any, list[str], Respond]:
    """Return the model that runs, the prompts as they are rendered from now on, and what answers."""
    model, processor = load(folder), transformers.AutoProcessor.from_pretrained(folder)
    engine = HFModel(model, processor, OPTIONS)
    rendered: list[str] = []

    def respond(prompts: Sequence[Prompt]) -> Sequence[Response]:
        responses = engine.respond(prompts)
        rendered[:] = [prompt.render(processor) for prompt in prompts]
        return responses

    return model, rendered, respond


class Noting:
    """A processor that notes the texts that it is given.

    lmms-eval 0.7.3 hands on lists of videos and sounds that transformers 5.24 does not take when they are empty: these
    are left out.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.texts: list[str] = []

    def __call__(self, *, text: list[str], videos: list[Any], audios: list[Any], **keywords: Any) -> Any:
        assert not videos
        assert not audios
        self.texts += text
        return self.processor(text=text, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)


def harness(folder: str, rows: int) -> tuple[Any, list[str], Respond]:
    """Return the same of lmms-eval's class, which loads in bfloat16: its model is replaced by one in float32."""
    from lmms_eval.models.chat.huggingface import Huggingface

    from vlmrobust.harnesses.lmms_eval import LmmsModel

    made = Huggingface(pretrained=folder, device="cpu", device_map="cpu", batch_size=rows)
    made._model = load(folder)
    made.processor.tokenizer.padding_side = "left"  # its class leaves that to the checkpoint
    made.processor = Noting(made.processor)
    return made._model, made.processor.texts, LmmsModel(made, OPTIONS).respond


def run(way: str, folder: str, task: str, length: int, rows: int, image_tokens: int) -> dict[str, Any]:
    """Return counts, times, prompts and texts of one way."""
    model, rendered, respond = own(folder) if way == "own" else harness(folder, rows)
    count = uneven.SAMPLES * uneven.CONDITIONS
    wanted = [length] * count if task == "equal" else uneven.lengths()
    prompts = uneven.prompts_of(wanted, image_tokens)
    respond(uneven.prompts_of([3] * count, image_tokens)[: 2 * uneven.CONDITIONS])  # what is checked or made once
    rendered.clear()
    found = uneven.counted(model)
    begun = time.process_time(), time.perf_counter()
    responses = respond(prompts)
    ended = time.process_time(), time.perf_counter()
    assert not any(response.error for response in responses), responses
    return {
        "cpu": ended[0] - begun[0],
        "seconds": ended[1] - begun[1],
        **found,
        "prompts": rendered,
        "texts": [response.text for response in responses],
        "wanted": wanted,
    }


def pairs(given: argparse.Namespace) -> None:
    """Run both ways in turn, compare what they were asked and what they wrote, and print the ratios."""
    sys.path.append(str(HERE.parent / "engines"))
    import environments

    python = environments.make("lmms_eval", given.environments)
    env = environments.plain() | {"PYTHONPATH": str(HERE.parents[1])}

    def measured(way: str, folder: str) -> dict[str, Any]:
        command: list[Any] = [python, __file__, "run", "--way", way, "--checkpoint", folder, "--task", given.task]
        command += ["--length", given.length, "--rows", given.rows, "--image-tokens", given.image_tokens]
        done = subprocess.run(list(map(str, command)), env=env, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    ratios: dict[str, list[float]] = {"cpu": [], "seconds": []}
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        for pair in range(given.pairs):
            both = {way: measured(way, folder) for way in (("lmms", "own") if pair % 2 == 0 else ("own", "lmms"))}
            (prompts, texts, wanted), others = (
                [found.pop(name) for name in ("prompts", "texts", "wanted")] for found in both.values()
            )
            assert [prompts, texts, wanted] == others, "both have to be asked the same and to write the same"
            expected = ["".join(f"⟨{number}⟩" for number in range(length - 1, 0, -1)) for length in wanted]
            assert texts == expected, texts
            for name, found in ratios.items():
                found.append(both["lmms"][name] / both["own"][name])
            print(json.dumps(both), flush=True)
    for name, found in ratios.items():
        middle = statistics.median(found)
        print(f"{name}: {middle:.2f} ({min(found):.2f} to {max(found):.2f}) times as fast as lmms-eval's class")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "pairs"])
    parser.add_argument("--way", choices=["own", "lmms"], default="own", help="of `run`")
    parser.add_argument("--checkpoint", help="of `run`: a folder")
    parser.add_argument("--task", choices=["uneven", "equal"], default="uneven")
    parser.add_argument("--length", type=int, default=uneven.EQUAL, help="of the texts of `--task equal`")
    parser.add_argument("--rows", type=int, default=8, help="lmms-eval's batch_size")
    parser.add_argument("--image-tokens", type=int, default=64)
    parser.add_argument("--environments", type=Path, help="the folder in which lmms-eval's environment is made")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    if given.what == "run":
        print(json.dumps(run(given.way, given.checkpoint, given.task, given.length, given.rows, given.image_tokens)))
    else:
        pairs(given)


if __name__ == "__main__":
    main()
