"""What it saves to share prefixes where caches are hybrid, against another build.

Random models of Qwen3.5's architecture (linear attention) and of LFM2-VL's (convolutions), of about 80 million
parameters each, are asked about one image of 256 tokens under eight conditions, whose prompts differ in 40 to 100
tokens: as forced answers, as 16 new tokens, or as both in one call, as the paper's conditions are.

Counted are the tokens that go through the language model but for those that were decoded (the ideal is the prefix once,
and every suffix), and floating-point operations, vision tower included: no way can be faster than another by more than
the ratio of their operations, as long as these take longer than reading the weights. Timed is the CPU time of all
threads. Not a test: timings depend on what else the machine does.

    python tests/benchmarks/hybrid.py run                                     # this build: counts, and a time
    python tests/benchmarks/hybrid.py pairs --other FOLDER                    # both, in turn, each a process of its own
    python tests/benchmarks/hybrid.py pairs --other FOLDER --architecture lfm2_vl --task forced
    python tests/benchmarks/hybrid.py pairs --task forced                     # against this build, nothing shared
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import prefix
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.flop_counter import FlopCounterMode

from vlmrobust import HFModel, Prompt

NEW_TOKENS = 16
CONDITIONS = 8
SIDE = 512  # pixels: 256 tokens of 32 × 32
TEXT = {
    "vocab_size": prefix.VOCABULARY,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
VISION = {"hidden_size": 512, "intermediate_size": 1536}
LFM_NAMED = {
    "image_token": "<image>",
    "image_start_token": "<|image_start|>",
    "image_end_token": "<|image_end|>",
    "image_thumbnail_token": "<|img_thumbnail|>",
    "image_thumbnail": "<|img_thumbnail|>",
}


def tokenizer_of(special: list[str], **named: Any) -> Any:
    """Return a small byte-level tokenizer."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    made.train_from_iterator([" " + " ".join(prefix.WORDS), "A. B. C. D. Answer.\n", "user assistant"] * 50, trainer)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|endoftext|>", **named
    )


def qwen3_5() -> tuple[Any, Any]:
    """Return Qwen3.5's config, three layers of linear attention to one of full attention, and its processor."""
    tokenizer = tokenizer_of(prefix.SPECIAL)
    tokens = dict(zip(prefix.SPECIAL, tokenizer.convert_tokens_to_ids(prefix.SPECIAL), strict=True))
    config = hf.Qwen3_5Config(
        text_config=TEXT
        | {
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "head_dim": 64,
            "linear_key_head_dim": 64,
            "linear_value_head_dim": 64,
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 8,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
                "rope_theta": 1e6,
                "partial_rotary_factor": 0.25,
            },
            "tie_word_embeddings": True,
        },
        vision_config=VISION | {"depth": 6, "num_heads": 8, "out_hidden_size": 512},
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    images = hf.Qwen2VLImageProcessor(patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": SIDE * SIDE})
    return config, hf.Qwen3VLProcessor(images, tokenizer, hf.Qwen3VLVideoProcessor(), chat_template=prefix.TEMPLATE)


def lfm2_vl() -> tuple[Any, Any]:
    """Return LFM2-VL's config, ten short convolutions and six layers of full attention, and its processor."""
    special = [*prefix.SPECIAL[:3], *sorted(set(LFM_NAMED.values()))]
    special += [f"<|img_row_{row}_col_{column}|>" for row in range(1, 4) for column in range(1, 4)]
    tokenizer = tokenizer_of(special, **LFM_NAMED)
    config = hf.Lfm2VlConfig(
        text_config=hf.Lfm2Config(
            **TEXT,
            intermediate_size=2048,
            num_hidden_layers=16,
            # as LFM2-VL-450M has them
            full_attn_idxs=[2, 5, 8, 10, 12, 14],
            tie_word_embeddings=True,
        ),
        vision_config=hf.Siglip2VisionConfig(**VISION, num_hidden_layers=6, num_attention_heads=8, patch_size=16),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    images = hf.Lfm2VlImageProcessor(max_image_tokens=256, tile_size=SIDE)
    template = prefix.TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")
    return config, hf.Lfm2VlProcessor(images, tokenizer, chat_template=template)


ARCHITECTURES = {"qwen3_5": qwen3_5, "lfm2_vl": lfm2_vl}


def build(architecture: str) -> tuple[Any, Any]:
    """Return a random model, whose texts do not end before their limit, and its processor."""
    config, processor = ARCHITECTURES[architecture]()
    torch.manual_seed(0)
    model = hf.AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.eos_token_id = prefix.VOCABULARY - 1
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return model, processor


def prompts_of(task: str) -> list[Prompt]:
    """Return eight prompts of one sample: all forced, none, or every second one."""
    forced = prefix.prompts_of(CONDITIONS, SIDE, forced=True)
    free = prefix.prompts_of(CONDITIONS, SIDE, forced=False)
    return {"forced": forced, "generation": free, "both": [*forced[::2], *free[1::2]]}[task]


def run(architecture: str, task: str, repetitions: int, *, shares: bool) -> dict[str, Any]:
    """Return counts and the CPU time of a call of the build that is imported, after one that checks what it checks."""
    model, processor = build(architecture)
    prompts = prompts_of(task)
    engine = HFModel(model, processor, {"max_new_tokens": NEW_TOKENS}, share_prefixes=shares)
    engine.respond(prompts)
    passes: list[int] = []
    hook = model.get_decoder().register_forward_hook(
        lambda module, arguments, keywords, output: passes.append(output.last_hidden_state.shape[:2]), with_kwargs=True
    )
    times = []
    for _ in range(repetitions):
        passes.clear()
        begun = time.process_time()
        responses = engine.respond(prompts)
        times.append(time.process_time() - begun)
    hook.remove()
    with FlopCounterMode(display=False) as counter:
        engine.respond(prompts)
    assert not any(response.error for response in responses), responses
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "seconds": statistics.median(times),
        "passes": len(passes),
        "prefilled": sum(rows * length for rows, length in passes if length > 1),
        "operations": counter.get_total_flops(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "pairs"])
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="qwen3_5")
    parser.add_argument("--task", choices=["forced", "generation", "both"], default="generation")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--other", type=Path, help="the folder of another build; without, nothing is shared")
    parser.add_argument("--plain", action="store_true", help="share nothing")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.what == "run":
        print(
            json.dumps(run(arguments.architecture, arguments.task, arguments.repetitions, shares=not arguments.plain))
        )
        return
    own = Path(__file__).parents[2]
    command = [sys.executable, __file__, "run", "--architecture", arguments.architecture, "--task", arguments.task]
    command += ["--repetitions", str(arguments.repetitions)]

    def measured(other: bool) -> dict[str, Any]:
        done = subprocess.run(
            [*command, "--plain"] if other and arguments.other is None else command,
            env=os.environ | {"PYTHONPATH": str(arguments.other if other and arguments.other else own)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        counted: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return counted

    ratios = []
    for pair in range(arguments.pairs):
        both = {other: measured(other) for other in ((True, False) if pair % 2 == 0 else (False, True))}
        ratios.append(both[True]["seconds"] / both[False]["seconds"])
        print(json.dumps({"other": both[True], "own": both[False], "ratio": ratios[-1]}), flush=True)
    print(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times as fast")


if __name__ == "__main__":
    main()
