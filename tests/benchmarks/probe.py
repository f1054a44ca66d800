"""What reading letters and entropies on the way costs: plain `generate` against the same with the probe, in turn.

Not a test: timings depend on what else the machine does.

    python tests/benchmarks/probe.py --rows 8 --repetitions 5
"""

import argparse
from typing import Any

import prefix
import torch

from vlmrobust import HFModel
from vlmrobust.models.probe import DecodingLog, GenerationProbe, captured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    model, processor = prefix.build()
    prompts = prefix.prompts_of(arguments.rows, 28 * 8, forced=False)
    engine = HFModel(model, processor, {"max_new_tokens": prefix.NEW_TOKENS})
    texts, images = [p.render(processor) for p in prompts], [list(p.images) for p in prompts]
    inputs = engine._encoder.encode(texts, images)
    kept: list[int] = []

    def without() -> Any:
        with engine._decoding.in_force() as config, torch.inference_mode():
            return model.generate(**inputs, generation_config=config)

    def with_probe() -> Any:
        with captured(model, engine._engine.runner.head) as seen, torch.inference_mode():
            logs = [DecodingLog() for _ in prompts]
            probe = GenerationProbe(engine._engine.runner.head, seen, engine._engine.runner.letter_tokens, logs)
            written = engine._decoding.generate(inputs, prompts, probe)
        kept.append(sum(len(log.entropies) + sum(rows.numel() for rows in log.kept.values()) for log in logs))
        return written

    without(), with_probe()
    times = [(prefix.seconds(without), prefix.seconds(with_probe)) for _ in range(arguments.repetitions)]
    plain, probed = (min(column) for column in zip(*times, strict=True))
    print(f"{arguments.rows} rows × {prefix.NEW_TOKENS} tokens, vocabulary of {prefix.VOCABULARY}")
    print(f"generate {plain:.3f} s, with the probe {probed:.3f} s: {probed / plain - 1:+.1%}")
    every = arguments.rows * prefix.NEW_TOKENS * prefix.VOCABULARY
    print(f"numbers kept after decoding: {kept[-1]:,}; the logits of all steps would be {every:,}")


if __name__ == "__main__":
    main()
