"""`VLLMModel` through `Evaluator` against `LLM.generate` given all prompts at once, and against `HFModel`.

    python tests/benchmarks/vllm_rate.py --samples 100                  the bundled model, 100 samples × 8 conditions
    python tests/benchmarks/vllm_rate.py --samples 8 --random           a random Qwen2.5-VL of 81 million parameters
    python tests/benchmarks/vllm_rate.py --uneven --pairs 2             the same model, texts of 20 to 400 tokens

The two ways on vLLM take turns in one process, on one engine whose caches are emptied before each. `LLM.generate` gets
the requests that a run of `VLLMModel` has made for its prompts, rendered and tokenised, all of them at once, and reads
nothing of what comes; a run of `Evaluator` renders, reads letters, parses, and writes every answer to disk. Timed is
the time until the last answer. `HFModel` answers the same once, or as often as `--hf` says. The random model draws
texts that end by chance, of 116 tokens on average and 400 at most.

`--uneven` gives every text its length, which is then the same on both: the 64 prompts of uneven.py, greedy, texts of 20
to 400 tokens, 116 on average. On vLLM a request is told how long its text is; on `HFModel` the model counts down. Both
answer in turn, through `respond`. Not a test: timings depend.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import prefix
import uneven

import vlmrobust as vr
from vlmrobust.metrics import Accuracy

MEAN, LONGEST = 116, 400
IMAGE_TOKENS = 64  # of the uneven texts' prompts


def random_checkpoint(folder: Path, sizes: dict[str, dict[str, Any]] = prefix.SMALL, **options: Any) -> Path:
    """Save a random model whose texts end by chance."""
    model, processor = prefix.build(sizes["text"], sizes["vision"], **options)
    model.generation_config.eos_token_id = list(range(prefix.VOCABULARY - prefix.VOCABULARY // MEAN, prefix.VOCABULARY))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def timed(model: Any, samples: list[vr.Sample]) -> tuple[float, int]:
    """Return the seconds until the last answer of a run, and how many tokens were generated."""
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        last = [begun]

        def mark(_: Any) -> None:
            last[0] = time.perf_counter()

        if hasattr(model, "ask"):
            ask = type(model).ask

            class Marked(type(model)):  # type: ignore[misc]
                def ask(self, prompt: Any) -> Any:
                    future = ask(self, prompt)
                    future.add_done_callback(mark)
                    return future

                def respond(self, prompts: Any) -> Any:
                    raise NotImplementedError

            kind, model.__class__ = type(model), Marked
        report = vr.Evaluator(model, vr.paper_conditions(), [Accuracy()]).run(samples, out=out)
        ended = time.perf_counter()
        if hasattr(model, "ask"):
            model.__class__, ended = kind, last[0]
        assert set(report.responses.error) == {None}, [error for error in report.responses.error if error][:1]
        return ended - begun, int(report.responses.n_tokens.nan_to_num().sum())


class Recorded:
    """An engine of `VLLMModel`, and the requests that it was asked.

    Args:
        checkpoint: a folder.
        generation: as in `HFModel`.
        options: of the engine.
    """

    def __init__(self, checkpoint: str, generation: dict[str, Any], options: dict[str, Any]) -> None:
        import vllm

        self.requests: list[tuple[Any, Any, Any]] = []
        self.is_kept = False
        recorded = self

        class LLM(vllm.LLM):
            def enqueue(self, prompts: Any, params: Any, lora_request: Any = None, **more: Any) -> Any:
                if recorded.is_kept:
                    recorded.requests.append((prompts[0], params.clone(), lora_request))
                return super().enqueue(prompts, params, lora_request=lora_request, **more)

            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                super().__init__(*arguments, **keywords)
                recorded.llm = self

        self.llm: Any = None
        own, vllm.LLM = vllm.LLM, LLM
        try:
            self.model = vr.VLLMModel(checkpoint, generation, **options)
        finally:
            vllm.LLM = own

    def empty(self) -> None:
        """Empty the caches of prefixes and images."""
        self.llm.reset_mm_cache()
        assert self.llm.reset_prefix_cache()

    def all_at_once(self) -> float:
        """Return the seconds that `LLM.generate` takes for what was recorded."""
        prompts, params, _ = zip(*self.requests, strict=True)
        params = [one.clone() for one in params]
        begun = time.perf_counter()
        self.llm.generate(list(prompts), params, use_tqdm=False)
        return time.perf_counter() - begun


def compare(
    checkpoint: str,
    generation: dict[str, Any],
    samples: list[vr.Sample],
    *,
    pairs: int,
    hf: int,
    dtype: str = "float32",
    **engine: Any,
) -> dict[str, Any]:
    """Return the times of all ways, and their ratios."""
    own = Recorded(checkpoint, generation, {"dtype": dtype, **engine})
    timed(own.model, samples[:2])
    own.is_kept = True
    _, tokens = timed(own.model, samples)
    own.is_kept = False
    ours, bare = [], []
    for pair in range(pairs):
        for way in ("ours", "bare") if pair % 2 else ("bare", "ours"):
            own.empty()
            (ours if way == "ours" else bare).append(
                timed(own.model, samples)[0] if way == "ours" else own.all_at_once()
            )
            print(way, f"{(ours if way == 'ours' else bare)[-1]:.2f} s", flush=True)
    own.model.close()
    local = []
    if hf:
        model = vr.HFModel.from_pretrained(checkpoint, dtype=dtype, generation=generation)
        timed(model, samples[:2])
        local = [timed(model, samples)[0] for _ in range(hf)]
    rows = len(samples) * len(vr.paper_conditions())
    ratio = statistics.median(one / other for one, other in zip(bare, ours, strict=True))
    found: dict[str, Any] = {"rows": rows, "tokens": tokens, "requests": len(own.requests)}
    found |= {"VLLMModel s": ours, "LLM.generate s": bare, "HFModel s": local, "rate against LLM.generate": ratio}
    if local:
        found["times as fast as HFModel"] = statistics.median(local) / statistics.median(ours)
    return found


def compare_uneven(folder: Path, *, pairs: int, **engine: Any) -> dict[str, Any]:
    """Return the times of `VLLMModel` and `HFModel` for texts of given lengths."""
    model, processor = prefix.build()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    wanted = uneven.lengths()
    prompts = uneven.prompts_of(wanted, IMAGE_TOKENS)
    lengths = {(one.sample.id, one.condition, one.draw): length for one, length in zip(prompts, wanted, strict=True)}
    own = Recorded(str(folder), {"max_new_tokens": LONGEST}, {"dtype": "float32", **engine})
    sampling = own.model._sampling
    params = sampling.params
    sampling.params = lambda key: params(key) | {"max_tokens": lengths[key], "min_tokens": lengths[key]}
    uneven.counting_down(model, processor.tokenizer)
    local = vr.HFModel(model, processor, {"max_new_tokens": LONGEST})
    short = uneven.prompts_of([3] * len(wanted), IMAGE_TOKENS)[:16]
    local.respond(short)  # what is checked once
    own.model.respond(prompts[:8])
    times: dict[str, list[float]] = {"VLLMModel s": [], "HFModel s": []}
    for pair in range(pairs):
        for name, asked in list({"VLLMModel s": own.model, "HFModel s": local}.items())[:: 1 if pair % 2 else -1]:
            own.empty()
            begun = time.perf_counter()
            responses = asked.respond(prompts)
            times[name].append(time.perf_counter() - begun)
            got = [response.n_tokens for response in responses]
            assert got == wanted, (name, got, wanted)
            print(name, f"{times[name][-1]:.2f}", flush=True)
    own.model.close()
    ratios = [one / other for one, other in zip(times["HFModel s"], times["VLLMModel s"], strict=True)]
    return {"rows": len(prompts), "tokens": sum(wanted), **times, "times as fast as HFModel": statistics.median(ratios)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--hf", type=int, default=1)
    parser.add_argument("--random", action="store_true", help="the random model instead of the bundled one")
    parser.add_argument("--uneven", action="store_true", help="texts of given lengths, against HFModel alone")
    parser.add_argument("--checkpoint", help="a folder instead")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    checkpoint = given.checkpoint or str(Path(vr.demo.__file__).parent / "weights")
    generation: dict[str, Any] = {"max_new_tokens": 96}
    engine: dict[str, Any] = {"max_model_len": 4096, "enforce_eager": True, "block_size": 32}
    if given.max_num_seqs:
        engine["max_num_seqs"] = given.max_num_seqs
    with tempfile.TemporaryDirectory() as folder:
        if given.uneven:
            found = compare_uneven(Path(folder), pairs=given.pairs, **engine)
        else:
            if given.random:
                checkpoint = str(random_checkpoint(Path(folder)))
            if given.random or given.checkpoint:
                generation = {"max_new_tokens": LONGEST, "do_sample": True}
                engine["max_num_batched_tokens"] = 32_768  # vLLM's CPU build draws no text after a prompt in parts
            samples = vr.demo.samples(given.samples)
            settings: dict[str, Any] = {"pairs": given.pairs, "hf": given.hf, "dtype": given.dtype}
            found = compare(checkpoint, generation, samples, **settings, **engine)
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
