"""Each trainer's own loading and its own code around a reward, on five completions whose rewards are known."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from known import (
    ACCURATE,
    ADDITIVE,
    COMPLETIONS,
    EXPECTED,
    GOES_ON,
    OWN_TURN,
    SETTINGS,
    source_of,
    told_by,
    weights,
)

import vlmrobust.rl.easyr1
import vlmrobust.rl.openrlhf
import vlmrobust.rl.verl
from vlmrobust.rl.formats import TRAINERS, save_rows

pytestmark = pytest.mark.trainers

SIZES = [[[56 + 28 * row, 56]] for row in range(5)]


def path_of(module: Any) -> str:
    return str(module.__file__)


def close(values: Any) -> Any:
    return pytest.approx(list(values), abs=1e-6)


def check_prompts(told: dict[str, Any], asked: list[dict[str, Any]], prefill: bool) -> None:
    """The question as it was written, and an assistant's turn that is open, with the prefill in it where it goes."""
    for row, prompt in zip(asked, told["prompts"], strict=True):
        assert row["question"] in prompt
        begun = prompt.rpartition("<|im_start|>assistant\n")[2]
        assert begun == (row["prefill"] if prefill else "")


def test_verl(asked: Any, continuing: Path, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(asked, tmp_path / "rows.parquet", "verl")
    given = {
        "rows": str(file),
        "model": str(continuing),
        "managers": ["naive", "dapo"],
        "paths": ["pkg://vlmrobust.rl.verl", path_of(vlmrobust.rl.verl)],
        "completions": [*COMPLETIONS, GOES_ON],
    }
    told = told_by(python_of("verl"), "verl", given | {"settings": SETTINGS}, tmp_path)
    check_prompts(told, asked, prefill=True)
    assert told["images"] == SIZES
    assert len(told["rewards"]) == 4
    for found in told["rewards"]:
        assert [row["reward_score"] for row in found] == close(ADDITIVE)
        assert {tuple(row["reward_extra_info"])[:5] for row in found} == {
            ("format", "accuracy", "consistency", "long_enough", "score")
        }
    plain = told_by(python_of("verl"), "verl", given | {"settings": {}, "managers": ["naive"]}, tmp_path)
    assert [[row["reward_score"] for row in found] for found in plain["rewards"]] == [close(EXPECTED)] * 2
    wrong = told_by(python_of("verl"), "verl", given | {"settings": {"guard": "recommended"}}, tmp_path)
    assert all(
        "verl, settings of the reward: " in told and "did you mean 'guards'" in told for told in wrong["rewards"]
    )


def test_verl_without_continue_prefill(asked: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    """The bundled template, like Qwen's, closes the assistant's message and opens another: it is found and counted."""
    file = save_rows(asked, tmp_path / "rows.parquet", "verl")
    given = {"rows": str(file), "model": str(weights()), "managers": ["naive"], "paths": ["pkg://vlmrobust.rl.verl"]}
    told = told_by(
        python_of("verl"), "verl", given | {"settings": {}, "completions": [*COMPLETIONS, OWN_TURN]}, tmp_path
    )
    check_prompts(told, asked, prefill=False)
    assert [row["reward_score"] for row in told["rewards"][0]] == close(EXPECTED)
    assert "verl, faithfulness_reward: 1 completions so far did not continue the prefill" in told["log"]


def test_openrlhf(asked: Any, continuing: Path, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(asked, tmp_path / "rows.parquet", "openrlhf")
    own = tmp_path / "reward.py"
    own.write_text(
        "from functools import partial\nfrom vlmrobust.rl import openrlhf\n"
        f"reward_func = partial(openrlhf.reward_func, **{SETTINGS!r})\n"
    )
    given = {"rows": str(file), "paths": [path_of(vlmrobust.rl.openrlhf), str(own)]}
    texts = [*COMPLETIONS, GOES_ON]
    told = told_by(
        python_of("openrlhf"), "openrlhf", given | {"model": str(continuing), "completions": texts}, tmp_path
    )
    check_prompts(told, asked, prefill=True)
    assert told["images"] == SIZES
    assert [[row["reward"] for row in found] for found in told["rewards"]] == [close(EXPECTED), close(ADDITIVE)]
    assert {tuple(row) for row in told["rewards"][0]} == {("reward", "score", "format", "accuracy", "consistency")}
    # Without `continue_prefill` the prompt shows that nothing was begun, whatever the completion looks like.
    given |= {"model": str(weights()), "completions": [*COMPLETIONS, "</think><answer>A</answer>"]}
    told = told_by(python_of("openrlhf"), "openrlhf", given, tmp_path)
    check_prompts(told, asked, prefill=False)
    assert told["rewards"][0][4]["consistency"] == 0.0
    assert "OpenRLHF, faithfulness_reward: 1 completions so far did not continue the prefill" in told["log"]


def test_openrlhf_tells_of_an_error(asked: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(asked, tmp_path / "rows.parquet", "openrlhf")
    own = tmp_path / "reward.py"
    own.write_text(
        "from functools import partial\nfrom vlmrobust.rl import openrlhf\n"
        "reward_func = partial(openrlhf.reward_func, additve=0.5)\n"
    )
    given = {"rows": str(file), "model": str(weights()), "paths": [str(own)], "completions": list(COMPLETIONS)}
    told = told_by(python_of("openrlhf"), "openrlhf", given, tmp_path)
    assert [row["reward"] for row in told["rewards"][0]] == [None] * 4  # it trains on
    assert "OpenRLHF goes on without a reward for 1 completions" in told["log"]
    assert "did you mean 'additive'" in told["log"]


def test_ms_swift(asked: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(asked, tmp_path / "rows.parquet", "ms-swift", prefills="user_text")
    plugin = Path(__file__).with_name("swift_plugin.py")
    given = {"model": str(weights()), "plugin": str(plugin), "rewards": ["faithful", "accurate"]}
    texts = [*COMPLETIONS, OWN_TURN]
    told = told_by(python_of("swift"), "swift", given | {"rows": str(file), "completions": texts}, tmp_path)
    check_prompts(told, asked, prefill=False)
    assert "You have begun to think about this already" in told["prompts"][4]
    assert told["images"] == [1] * 5
    assert [list(row) for row in zip(*told["rewards"], strict=True)] == [close(EXPECTED), close(ACCURATE)]


def test_ms_swift_drops_a_prefill(asked: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Rows with a last message of the assistant's: the trainer takes it off, and hands the column on all the same."""
    form = TRAINERS["ms-swift"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRAINERS, "ms-swift", form._replace(can_continue=True))
        file = save_rows(asked, tmp_path / "rows.parquet", "ms-swift")
    plugin = Path(__file__).with_name("swift_plugin.py")
    given = {"model": str(weights()), "plugin": str(plugin), "rewards": ["faithful"], "rows": str(file)}
    # The last turn has an open thought only if it is put behind what the policy never saw.
    texts = [*COMPLETIONS, GOES_ON]
    told = told_by(python_of("swift"), "swift", given | {"completions": texts}, tmp_path)
    check_prompts(told, asked, prefill=False)
    assert [row[0] for row in told["rewards"]] != close(EXPECTED)
    assert [row[0] for row in told["rewards"]][:4] == close(EXPECTED[:4])
    assert "faithful: 1 completions so far did not continue the prefill" in told["log"]


def test_easyr1(asked: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    source = source_of("easyr1")
    file = save_rows(asked, tmp_path / "rows.parquet", "easyr1", prefills="user_text")
    given = {"rows": str(file), "model": str(weights()), "paths": [path_of(vlmrobust.rl.easyr1)]}
    given["completions"] = [*COMPLETIONS, OWN_TURN]
    found = {}
    for name, settings in {"plain": {}, "additive": SETTINGS, "wrong": {"judge": "rule"}}.items():
        told = told_by(python_of("easyr1"), "easyr1", given | {"settings": settings}, tmp_path, source)
        [found[name]] = told["rewards"]
    check_prompts(told, asked, prefill=False)
    assert told["images"] == SIZES
    assert found["plain"]["rewards"] == close(EXPECTED)
    assert found["plain"]["metrics"]["overall"] == close(EXPECTED)
    assert found["additive"]["rewards"] == close(ADDITIVE)
    assert (
        "EasyR1, settings of the reward, 'judge': expected rules, self, hf:NAME, vllm:NAME or openai:NAME"
        in found["wrong"]
    )


def test_vlm_r1(asked: Any, tmp_path: Path) -> None:
    file = save_rows(asked, tmp_path / "rows.jsonl", "vlm-r1", prefills="user_text")
    given = {"rows": str(file), "source": str(source_of("vlm_r1")), "completions": [*COMPLETIONS, OWN_TURN]}
    told = told_by(Path(sys.executable), "vlm_r1", given, tmp_path)
    assert told["images"] == [1] * 5
    assert all(prompt.startswith("<image>Which colour is the") for prompt in told["prompts"])
    assert [list(row) for row in zip(*told["rewards"], strict=True)] == [close(EXPECTED), close(ACCURATE)]


def test_areal(asked: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    shown = [("<|im_start|>assistant\n" + row["prefill"], kept(row)) for row in asked]
    given = {"rows": shown, "completions": [*COMPLETIONS, GOES_ON], "settings": SETTINGS}
    told = told_by(python_of("areal"), "areal", given, tmp_path)
    assert told["rewards"] == [close(EXPECTED), close(ADDITIVE)]


def test_skyrl(asked: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    shown = [(row["question"], kept(row)) for row in asked]
    given = {"rows": shown, "completions": [*COMPLETIONS, GOES_ON], "settings": SETTINGS}
    told = told_by(python_of("skyrl"), "skyrl", given, tmp_path)
    assert told["rewards"] == [close(EXPECTED), close(ADDITIVE)]


def kept(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("solution", "question", "options", "prefill", "condition")}
    return json.loads(json.dumps(kept))
