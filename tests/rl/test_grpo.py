"""Run TRL's GRPO trainer with the bundled model on the CPU."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import known
import pandas as pd
import pytest
import torch

import vlmrobust as vr
from vlmrobust.judges.evidence import concluded_option
from vlmrobust.perturbations import WrongThink
from vlmrobust.rl.guards import LongEnough, Sufficient, Untemplated
from vlmrobust.rl.scoring import reward_of

# TRL still sets options that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

GUARDED = vr.rl.FaithfulnessReward(guards=(LongEnough(words=8), Untemplated(), Sufficient()), name="guarded_reward")
REWARDS = [
    vr.rl.accuracy_reward,
    vr.rl.format_reward,
    vr.rl.consistency_reward,
    vr.rl.faithfulness_reward,
    vr.rl.FaithfulnessReward(additive=0.5, name="additive_reward"),
    GUARDED,
]
STEPS = 3


class Run:
    """A finished training: what it logged, and what went into its loss."""

    def __init__(self, build: Callable[..., Any], out: Path) -> None:
        callback = vr.rl.RobustnessCallback(
            [WrongThink()], vr.demo.samples(5, seed=3), every=2, batch_size=5, budget=None
        )
        self.trainer = build(out, list(REWARDS), max_steps=STEPS, log_completions=True)
        callback.attach(self.trainer)
        self.before = {name: value.clone() for name, value in self.trainer.model.state_dict().items()}
        self.losses: list[dict[str, Any]] = []
        compute = self.trainer._compute_loss

        def watched(model: Any, inputs: dict[str, Any]) -> Any:
            self.losses.append(inputs)
            return compute(model, inputs)

        self.trainer._compute_loss = watched
        self.trainer.train()
        self.history = self.trainer.state.log_history
        files = sorted((out / "completions").glob("*.parquet"))
        self.completions = {int(file.stem.split("_")[-1]): pd.read_parquet(file) for file in files}


@pytest.fixture(scope="module")
def grpo_run(grpo: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trl.trainer.grpo_trainer.print_prompt_completions_sample", lambda *args, **kwargs: None)
        return Run(grpo, tmp_path_factory.mktemp("grpo"))


def user_text(prompt: Any) -> str:
    return "".join(part["text"] or "" for part in prompt[0]["content"] if part["type"] == "text")


def expected_rewards(turn: str, row: dict[str, Any]) -> dict[str, float]:
    """Reward a turn with regular expressions, and the judge's own reading of its thought."""
    formed = re.fullmatch(r"<think>(.*)</think>\s*<answer>\s*([A-D])\s*</answer>\s*", turn, re.DOTALL)
    clean = formed is not None and not re.search(r"</?(?:think|answer)", formed[1])
    if clean and formed is not None:
        found = concluded_option(formed[1].strip(), row["options"], question=row["question"])
        consistent = float(found.option == "ABCD".index(formed[2]))
        return {"format": 1.0, "accuracy": float(formed[2] == row["solution"]), "consistency": consistent}
    return {}


def test_the_logged_rewards_are_those_computed_by_hand(grpo_run: Run, rows: list[dict[str, Any]]) -> None:
    known = {(user_text(row["prompt"]), row["prefill"]): row for row in rows}
    checked = 0
    for step, table in grpo_run.completions.items():
        [logged] = [entry for entry in grpo_run.history if entry["step"] == step and "reward" in entry]
        total = [0.0] * len(table)
        for reward in REWARDS:
            total = [first + second for first, second in zip(total, table[reward.__name__], strict=True)]
            mean = table[reward.__name__].mean()
            assert logged[f"rewards/{reward.__name__}/mean"] == pytest.approx(mean, abs=1e-5)
        assert logged["reward"] == pytest.approx(sum(total) / len(total), abs=1e-5)
        for _, line in table.iterrows():
            prefill = line["prompt"][1]["content"][0]["text"] if len(line["prompt"]) > 1 else ""
            row = known[user_text(line["prompt"]), prefill]
            values = expected_rewards(prefill + line["completion"][0]["content"], row)
            if not values:
                assert line["format_reward"] == 0
                continue
            checked += 1
            base = 0.1 * values["format"] + values["accuracy"]
            assert line["accuracy_reward"] == values["accuracy"]
            assert line["format_reward"] == pytest.approx(0.1)
            assert line["consistency_reward"] == values["consistency"]
            assert line["faithfulness_reward"] == pytest.approx(base * values["consistency"])
            assert line["additive_reward"] == pytest.approx(base + 0.5 * values["consistency"])
    assert set(grpo_run.completions) == set(range(1, STEPS + 1))
    assert checked >= 8


def test_rollouts_continue_the_thought_and_only_their_tokens_are_trained(
    grpo_run: Run, rows: list[dict[str, Any]]
) -> None:
    tokenizer = grpo_run.trainer.processing_class.tokenizer
    prefills = {row["prefill"] for row in rows}
    continued = set()
    assert len(grpo_run.losses) == STEPS
    for inputs in grpo_run.losses:
        for prompt, mask, completion, trained in zip(
            *(inputs[name] for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")), strict=True
        ):
            text = tokenizer.decode(prompt[mask.bool()])
            turn = text.rpartition("<|im_start|>assistant\n")[2]
            assert turn in prefills  # the prompt ends with exactly the prefill, or with the opened turn
            if turn:
                tokens = tokenizer(turn, add_special_tokens=False)["input_ids"]
                assert prompt[-len(tokens) :].tolist() == tokens
                continued.add(turn)
            own = completion[trained.bool()]
            ends = (own == tokenizer.eos_token_id).nonzero().flatten().tolist()
            assert ends in ([], [len(own) - 1])
            written = tokenizer.decode(own, skip_special_tokens=True)
            assert not turn or turn not in written
        # One advantage and one row of log-probabilities per completion: none for tokens of the prompt.
        assert inputs["completion_mask"].shape == inputs["completion_ids"].shape
    assert len(continued) >= 2


def test_the_reward_rises(grpo_run: Run) -> None:
    after = grpo_run.trainer.model.state_dict()
    assert any(not torch.equal(before, after[name]) for name, before in grpo_run.before.items())
    assert any(entry.get("grad_norm", 0) > 0 for entry in grpo_run.history)


def test_all_conditions_are_evaluated_during_training(grpo_run: Run) -> None:
    evaluations = [entry for entry in grpo_run.history if "robustness/base/accuracy" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 2, STEPS]
    assert evaluations[0]["robustness/wrong_think/follow_rate"] >= 0.8  # the bundled model follows its thought
    for entry in evaluations:
        report = vr.Report.load(Path(grpo_run.trainer.args.output_dir) / "robustness" / f"step-{entry['step']}")
        assert report.conditions == ("base", "wrong_think")
        frame = report.frame
        for condition in report.conditions:
            mean = frame[frame["condition"] == condition]["accuracy"].mean()
            assert entry[f"robustness/{condition}/accuracy"] == pytest.approx(mean)
        assert not any(isinstance(value, float) and math.isnan(value) for value in entry.values())
    # The trainer's own entry of the step in between is whole: what the callback logs does not take from it.
    assert all("reward" in entry for entry in grpo_run.history if "grad_norm" in entry)
    assert [entry["step"] for entry in grpo_run.history if "grad_norm" in entry] == [1, 2, 3]


def test_terms_are_logged(grpo_run: Run) -> None:
    [entry] = [entry for entry in grpo_run.history if entry["step"] == 1 and "reward" in entry]
    names = ("format", "accuracy", "consistency", "long_enough", "untemplated", "sufficient", "score")
    assert all(0 <= entry[f"guarded_reward/{name}"] <= 1.1 for name in names)
    assert entry["guarded_reward/score"] == pytest.approx(entry["rewards/guarded_reward/mean"], abs=1e-5)


# --- five completions whose rewards are known ------------------------------------------------------------------------


@pytest.mark.parametrize("as_parts", [False, True], ids=("text", "parts"))
def test_trls_own_code_on_rows_as_they_are_loaded(grpo: Callable[..., Any], tmp_path: Path, as_parts: bool) -> None:
    """The file is opened as `trl grpo` opens it, and the trainer asks for the rewards."""
    from datasets import load_dataset

    file = vr.rl.save_rows(known.make_rows(), tmp_path / "rows.parquet", "trl")
    data = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    additive = reward_of({**known.SETTINGS, "name": "additive"}, where="TRL")
    trainer = grpo(tmp_path, [vr.rl.faithfulness_reward, vr.rl.accuracy_reward, additive], train_dataset=data)
    rows = [data[number] for number in range(5)]
    texts = [*known.COMPLETIONS, known.GOES_ON]
    contents = [[{"type": "text", "text": text}] if as_parts else text for text in texts]
    completions = [[{"role": "assistant", "content": content}] for content in contents]
    found = trainer._calculate_rewards(rows, [row["prompt"] for row in rows], completions, [[1]] * 5)
    expected = zip(known.EXPECTED, known.ACCURATE, known.ADDITIVE, strict=True)
    assert found.tolist() == [pytest.approx(values, abs=1e-6) for values in expected]
    for row in rows:
        del row["options"]
    with pytest.raises(ValueError, match=r"^TRL, faithfulness_reward: expected a column 'options', got the columns "):
        trainer._calculate_rewards(rows, [row["prompt"] for row in rows], completions, [[1]] * 5)


# --- ten steps, with an adapter, and in two processes ----------------------------------------------------------------

SMALL = {"max_steps": 10, "per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 40}


@pytest.mark.parametrize("adapter", [False, True], ids=("whole", "adapter"))
def test_ten_steps(grpo: Callable[..., Any], tmp_path: Path, adapter: bool) -> None:
    from peft import LoraConfig

    settings = {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])} if adapter else {}
    trainer = grpo(tmp_path, [vr.rl.faithfulness_reward, vr.rl.format_reward], **SMALL, **settings)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert [entry["step"] for entry in logged] == list(range(1, 11))
    for entry in logged:
        parts = [entry[f"rewards/{name}/mean"] for name in ("faithfulness_reward", "format_reward")]
        assert entry["reward"] == pytest.approx(sum(parts), abs=1e-5)
        assert 0 <= parts[0] <= 1.1
        assert parts[0] == pytest.approx(entry["faithfulness_reward/score"], abs=1e-5)
        assert entry.get("faithfulness_reward/prefill_not_continued", 0.0) <= 0.5
    changed = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora" in name for name in changed) is adapter


def test_a_prefill_needs_a_wrapped_template(grpo: Callable[..., Any], tmp_path: Path) -> None:
    """What the documentation says of TRL without `continue_prefill`, for Qwen2.5-VL."""
    trainer = grpo(tmp_path, **SMALL)
    trainer.processing_class.chat_template = vr.demo.model().processor.chat_template
    with pytest.raises(IndexError):
        trainer.train()


def test_two_processes(tmp_path: Path) -> None:
    """What is logged is the mean over both processes' completions, each rewarded where it was sampled."""
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert len(ranks[0]["rewards"]) == len(ranks[1]["rewards"]) == ranks[0]["steps"] * 4
    logged = [entry for entry in ranks[0]["history"] if "reward" in entry]
    assert [entry["step"] for entry in logged] == list(range(1, ranks[0]["steps"] + 1))
    for number, entry in enumerate(logged):
        both = [value for rank in ranks for value in rank["rewards"][4 * number : 4 * number + 4]]
        assert entry["rewards/faithfulness_reward/mean"] == pytest.approx(sum(both) / len(both), abs=1e-5)
    assert ranks[0]["weights"] == ranks[1]["weights"]  # one model, in two processes
    evaluated = [[entry["step"] for entry in rank["history"] if "robustness/base/accuracy" in entry] for rank in ranks]
    assert evaluated == [[0, 5, 10], []]  # by the first, while the second waits
