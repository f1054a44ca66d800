#!/usr/bin/env bash
# trl 1.16.0: where one of several rewards of a completion is None (or NaN), GRPO counts it as 0 and punishes the
# completion for it.
#
# None stands for "does not apply". A completion for which all functions return None is left out; one for which a single
# function does is not: the sum over functions takes 0 for it, and the group's mean and deviation include that sum. A
# judge that fails on one answer, or a metric that is undefined for it, thus makes it the worst of its group. The logged
# mean of that reward leaves the None out, so that nothing shows there.
# Seen with two functions, a format reward of 1 for all and a judge of 0.8 for all but one of four answers: advantages
# of 0.5, 0.5, 0.5 and -1.5 for the one that the judge did not score, logged mean of the judge 0.8. NaN does the same.
# With the judge alone that answer has an advantage of 0.
# Of use: the group's mean, or a score of "unknown", instead of None where a reward fails on single completions.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0" "accelerate==1.15.0" "datasets==5.2.0" \
    "trl==1.16.0"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home" OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" -W ignore - "$folder/run" <<'PYTHON'
import sys

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

words = ["<pad>", "<s>", "</s>", "which", *(f"word{number}" for number in range(28))]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)


class Kept(GRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        found = super()._generate_and_score_completions(inputs)
        self.kept = [round(advantage, 2) for advantage in found["advantages"].flatten().tolist()]
        return found


def well_formed(completions, **_):
    return [1.0] * len(completions)


def judged(missing):
    def judge(completions, **_):
        return [0.8, 0.8, 0.8, missing]

    return judge


def advantages(*rewards):
    args = GRPOConfig(
        sys.argv[1], max_steps=1, num_generations=4, per_device_train_batch_size=4, max_completion_length=4,
        use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, logging_steps=1, save_strategy="no",
    )
    trainer = Kept(
        LlamaForCausalLM(config), list(rewards), args, processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": ["which word1 word2"] * 4}),
    )
    trainer.train()
    logged = [entry["rewards/judge/mean"] for entry in trainer.state.log_history if "rewards/judge/mean" in entry]
    return trainer.kept, round(logged[0], 2)


none, nan = (advantages(well_formed, judged(missing)) for missing in (None, float("nan")))
alone = advantages(judged(None))
print("format and judge (advantages, logged mean of the judge): None", none, "NaN", nan)
print("judge alone:", alone)
punished = all(found[0][:3] == [0.5] * 3 and found[0][3] == -1.5 and found[1] == 0.8 for found in (none, nan))
raise SystemExit(0 if punished and alone[0] == [0.0] * 4 else 1)
PYTHON
