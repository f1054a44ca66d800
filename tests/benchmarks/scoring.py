"""Fused scoring against `log_softmax` over all logits: seconds and peak memory, each way in a process of its own.

Memory is the process's peak resident size beyond what it held before (read from /proc: Linux). Not a test: timings
depend on what else the machine does.

    python tests/benchmarks/scoring.py --tokens 1024 2048 4096 --vocabulary 152064 --width 512
"""

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from vlmrobust.functional import TokenScores, score_tokens


def from_all_logits(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> TokenScores:
    """Score with the logits of all tokens at once."""
    logprobs = torch.log_softmax((hidden @ weight.T).float(), dim=-1)
    entropies = -(logprobs.exp() * logprobs).sum(-1)
    return TokenScores(logprobs.gather(1, targets[:, None])[:, 0], entropies)


WAYS = {"log_softmax": from_all_logits, "fused": score_tokens}


def memory(name: str) -> float:
    """Return a number of MiB from the process's status: VmRSS = now, VmHWM = at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def run(way: str, tokens: int, vocabulary: int, width: int, dtype: str, answers: Connection) -> None:
    """Score once to warm up on a few tokens, once for the measurement; send seconds, MiB and a checksum."""
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width).to(getattr(torch, dtype))
    weight = (torch.randn(vocabulary, width) / width**0.5).to(getattr(torch, dtype))
    targets = torch.randint(vocabulary, (tokens,))
    with torch.inference_mode():
        WAYS[way](hidden[:8], weight, targets[:8])
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak that drawing the inputs left
        before = memory("VmRSS")
        start = time.perf_counter()
        scores = WAYS[way](hidden, weight, targets)
        taken = time.perf_counter() - start
    answers.send(
        (
            taken,
            memory("VmHWM") - before,
            float(scores.logprobs.double().mean()),
            float(scores.entropies.double().mean()),
        )
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--vocabulary", type=int, default=152_064)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(f"vocabulary {arguments.vocabulary}, width {arguments.width}, {arguments.dtype}")
    for tokens in arguments.tokens:
        measured = {}
        for way in WAYS:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=run, args=(way, tokens, arguments.vocabulary, arguments.width, arguments.dtype, theirs)
            )
            process.start()
            measured[way] = ours.recv()
            process.join()
        (slow, much, *expected), (fast, little, *got) = measured["log_softmax"], measured["fused"]
        difference = max(abs(one - other) for one, other in zip(expected, got, strict=True))
        print(
            f"{tokens:>5} tokens: log_softmax {slow:6.2f} s {much:7.0f} MiB, fused {fast:6.2f} s {little:6.0f} MiB: "
            f"{slow / fast:.2f}x the speed, "
            f"{much / little:.0f}x less memory, means differ by {difference:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
