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
    output_of,
    source_of,
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


def check_prompts(output: dict[str, Any], rows: list[dict[str, Any]], prefill: bool) -> None:
    """The question as it was written, and an assistant's turn that is open, with the prefill in it where it goes."""
    for row, prompt in zip(rows, output["prompts"], strict=True):
        assert row["question"] in prompt
        opened = prompt.rpartition("<|im_start|>assistant\n")[2]
        assert opened == (row["prefill"] if prefill else "")


def test_verl(rows: Any, continuing: Path, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(rows, tmp_path / "rows.parquet", "verl")
    request = {
        "rows": str(file),
        "model": str(continuing),
        "managers": ["naive", "dapo"],
        "paths": ["pkg://vlmrobust.rl.verl", path_of(vlmrobust.rl.verl)],
        "completions": [*COMPLETIONS, GOES_ON],
    }
    output = output_of(python_of("verl"), "verl", request | {"settings": SETTINGS}, tmp_path)
    check_prompts(output, rows, prefill=True)
    assert output["images"] == SIZES
    assert len(output["rewards"]) == 4
    for found in output["rewards"]:
        assert [row["reward_score"] for row in found] == close(ADDITIVE)
        assert {tuple(row["reward_extra_info"])[:5] for row in found} == {
            ("format", "accuracy", "consistency", "long_enough", "score")
        }
    plain = output_of(python_of("verl"), "verl", request | {"settings": {}, "managers": ["naive"]}, tmp_path)
    assert [[row["reward_score"] for row in found] for found in plain["rewards"]] == [close(EXPECTED)] * 2
    wrong = output_of(python_of("verl"), "verl", request | {"settings": {"guard": "recommended"}}, tmp_path)
    for message in wrong["rewards"]:
        assert "verl, settings of the reward: " in message
        assert "did you mean 'guards'" in message


def test_verl_without_continue_prefill(rows: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    """The bundled template, like Qwen's, closes the assistant's message and opens another: it is found and counted."""
    file = save_rows(rows, tmp_path / "rows.parquet", "verl")
    request = {"rows": str(file), "model": str(weights()), "managers": ["naive"], "paths": ["pkg://vlmrobust.rl.verl"]}
    output = output_of(
        python_of("verl"), "verl", request | {"settings": {}, "completions": [*COMPLETIONS, OWN_TURN]}, tmp_path
    )
    check_prompts(output, rows, prefill=False)
    assert [row["reward_score"] for row in output["rewards"][0]] == close(EXPECTED)
    assert "verl, faithfulness_reward: 1 completions so far did not continue the prefill" in output["log"]


def test_openrlhf(rows: Any, continuing: Path, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(rows, tmp_path / "rows.parquet", "openrlhf")
    own = tmp_path / "reward.py"
    own.write_text(
        "from functools import partial\nfrom vlmrobust.rl import openrlhf\n"
        f"reward_func = partial(openrlhf.reward_func, **{SETTINGS!r})\n"
    )
    request = {"rows": str(file), "paths": [path_of(vlmrobust.rl.openrlhf), str(own)]}
    texts = [*COMPLETIONS, GOES_ON]
    output = output_of(
        python_of("openrlhf"), "openrlhf", request | {"model": str(continuing), "completions": texts}, tmp_path
    )
    check_prompts(output, rows, prefill=True)
    assert output["images"] == SIZES
    assert [[row["reward"] for row in found] for found in output["rewards"]] == [close(EXPECTED), close(ADDITIVE)]
    assert {tuple(row) for row in output["rewards"][0]} == {("reward", "score", "format", "accuracy", "consistency")}
    # Without `continue_prefill` the prompt shows that nothing was begun, whatever the completion looks like.
    request |= {"model": str(weights()), "completions": [*COMPLETIONS, "</think><answer>A</answer>"]}
    output = output_of(python_of("openrlhf"), "openrlhf", request, tmp_path)
    check_prompts(output, rows, prefill=False)
    assert output["rewards"][0][4]["consistency"] == 0.0
    assert "OpenRLHF, faithfulness_reward: 1 completions so far did not continue the prefill" in output["log"]


def test_openrlhf_tells_of_an_error(rows: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(rows, tmp_path / "rows.parquet", "openrlhf")
    own = tmp_path / "reward.py"
    own.write_text(
        "from functools import partial\nfrom vlmrobust.rl import openrlhf\n"
        "reward_func = partial(openrlhf.reward_func, additve=0.5)\n"
    )
    request = {"rows": str(file), "model": str(weights()), "paths": [str(own)], "completions": list(COMPLETIONS)}
    output = output_of(python_of("openrlhf"), "openrlhf", request, tmp_path)
    assert [row["reward"] for row in output["rewards"][0]] == [None] * 4  # it trains on
    assert "OpenRLHF goes on without a reward for 1 completions" in output["log"]
    assert "did you mean 'additive'" in output["log"]


def test_ms_swift(rows: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    file = save_rows(rows, tmp_path / "rows.parquet", "ms-swift", prefills="user_text")
    plugin = Path(__file__).with_name("swift_plugin.py")
    request = {"model": str(weights()), "plugin": str(plugin), "rewards": ["faithful", "accurate"]}
    texts = [*COMPLETIONS, OWN_TURN]
    output = output_of(python_of("swift"), "swift", request | {"rows": str(file), "completions": texts}, tmp_path)
    check_prompts(output, rows, prefill=False)
    assert "You have begun to think about this already" in output["prompts"][4]
    assert output["images"] == [1] * 5
    assert [list(row) for row in zip(*output["rewards"], strict=True)] == [close(EXPECTED), close(ACCURATE)]


def test_ms_swift_drops_a_prefill(rows: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Rows with a last message of the assistant's: the trainer takes it off, and hands the column on all the same."""
    form = TRAINERS["ms-swift"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRAINERS, "ms-swift", form._replace(can_continue=True))
        file = save_rows(rows, tmp_path / "rows.parquet", "ms-swift")
    plugin = Path(__file__).with_name("swift_plugin.py")
    request = {"model": str(weights()), "plugin": str(plugin), "rewards": ["faithful"], "rows": str(file)}
    # The last turn has an open thought only if it is put behind what the policy never saw.
    texts = [*COMPLETIONS, GOES_ON]
    output = output_of(python_of("swift"), "swift", request | {"completions": texts}, tmp_path)
    check_prompts(output, rows, prefill=False)
    assert [row[0] for row in output["rewards"]] != close(EXPECTED)
    assert [row[0] for row in output["rewards"]][:4] == close(EXPECTED[:4])
    assert "faithful: 1 completions so far did not continue the prefill" in output["log"]


def test_easyr1(rows: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    source = source_of("easyr1")
    file = save_rows(rows, tmp_path / "rows.parquet", "easyr1", prefills="user_text")
    request = {"rows": str(file), "model": str(weights()), "paths": [path_of(vlmrobust.rl.easyr1)]}
    request["completions"] = [*COMPLETIONS, OWN_TURN]
    found = {}
    for name, settings in {"plain": {}, "additive": SETTINGS, "wrong": {"judge": "rule"}}.items():
        output = output_of(python_of("easyr1"), "easyr1", request | {"settings": settings}, tmp_path, source)
        [found[name]] = output["rewards"]
    check_prompts(output, rows, prefill=False)
    assert output["images"] == SIZES
    assert found["plain"]["rewards"] == close(EXPECTED)
    assert found["plain"]["metrics"]["overall"] == close(EXPECTED)
    assert found["additive"]["rewards"] == close(ADDITIVE)
    assert (
        "EasyR1, settings of the reward, 'judge': expected rules, self, hf:NAME, vllm:NAME or openai:NAME"
        in found["wrong"]
    )


def test_vlm_r1(rows: Any, tmp_path: Path) -> None:
    file = save_rows(rows, tmp_path / "rows.jsonl", "vlm-r1", prefills="user_text")
    request = {"rows": str(file), "source": str(source_of("vlm_r1")), "completions": [*COMPLETIONS, OWN_TURN]}
    output = output_of(Path(sys.executable), "vlm_r1", request, tmp_path)
    assert output["images"] == [1] * 5
    assert all(prompt.startswith("<image>Which colour is the") for prompt in output["prompts"])
    assert [list(row) for row in zip(*output["rewards"], strict=True)] == [close(EXPECTED), close(ACCURATE)]


def test_areal(rows: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    shown = [("<|im_start|>assistant\n" + row["prefill"], text_columns(row)) for row in rows]
    request = {"rows": shown, "completions": [*COMPLETIONS, GOES_ON], "settings": SETTINGS}
    output = output_of(python_of("areal"), "areal", request, tmp_path)
    assert output["rewards"] == [close(EXPECTED), close(ADDITIVE)]


def test_skyrl(rows: Any, python_of: Callable[[str], Path], tmp_path: Path) -> None:
    shown = [(row["question"], text_columns(row)) for row in rows]
    request = {"rows": shown, "completions": [*COMPLETIONS, GOES_ON], "settings": SETTINGS}
    output = output_of(python_of("skyrl"), "skyrl", request, tmp_path)
    assert output["rewards"] == [close(EXPECTED), close(ADDITIVE)]


def text_columns(row: dict[str, Any]) -> dict[str, Any]:
    columns = {name: row[name] for name in ("solution", "question", "options", "prefill", "condition")}
    return json.loads(json.dumps(columns))
