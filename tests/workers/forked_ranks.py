"""Run evaluations with several ranks, forked with the environment that torchrun sets, and print the results as JSON.

Run as `python forked_ranks.py FOLDER`; `test_processes.py` does. Forking avoids the time to start interpreters.
"""

import json
import os
import socket
import sys
import traceback
from pathlib import Path

import torch
from counted import EARLY, SAMPLES, QueuedModel, busy, evaluator, logged_keys, repeated, same

from vlmrobust.report import Report


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def launch(world_size, action):
    """Run `action` in as many processes; return how each ended: "" = well, else a signal or an error."""
    port = free_port()
    children = []
    for rank in range(world_size):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)} | address
            try:
                said = action(rank) or ""
            except Exception as error:  # noqa: BLE001 - the parent tells
                said = "".join(traceback.format_exception_only(error))
            os.write(write, said.encode())
            os._exit(0)
        os.close(write)
        children.append((child, read))
    ends = []
    for child, read in children:
        with os.fdopen(read) as file:
            said = file.read()
        _, status = os.waitpid(child, 0)
        ends.append(f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said)
    return ends


def main(folder):
    torch.set_num_threads(1)  # threads do not survive a fork
    one = evaluator(folder / "one" / "log").run(SAMPLES, out=folder / "one")
    keys = logged_keys(folder / "one" / "log")
    result = {
        "asked by one": len(keys),
        "early answers of the batch": sum(key[:2] in {("q10", EARLY), ("q11", EARLY)} for key in keys),
    }

    def compared(out, **behaviour):
        def action(rank):
            report = evaluator(out / "log", **behaviour).run(SAMPLES, out=out)
            return "" if same(report, one) and isinstance(report, Report) else "another report"

        return action

    for world_size in (1, 2, 4):
        out = folder / f"{world_size} ranks"
        result[f"{world_size} ranks"] = launch(world_size, compared(out))
        result[f"asked by {world_size}"] = len(logged_keys(out / "log"))
        result[f"repeated by {world_size}"] = repeated(out / "log")
    result["by 2 after 4"] = launch(2, compared(folder / "4 ranks"))
    result["asked when complete"] = len(logged_keys(folder / "4 ranks" / "log")) - result["asked by 4"]

    killed = folder / "killed"
    result["killed"] = launch(2, compared(killed, kills=(EARLY, "q10")))
    result["asked before"] = len(logged_keys(killed / "log"))
    result["resumed by 3"] = launch(3, compared(killed, kills=(EARLY, "q10")))
    result["repeated after a kill"] = repeated(killed / "log")
    result["asked in all"] = len(logged_keys(killed / "log"))

    queued = folder / "queued"
    result["queued, killed"] = launch(2, compared(queued, kind=QueuedModel, kills=(EARLY, "q10")))
    result["queued, resumed by 2"] = launch(2, compared(queued, kind=QueuedModel, kills=(EARLY, "q10")))
    result["queued, repeated"] = len(logged_keys(queued / "log")) - len(set(logged_keys(queued / "log")))
    result["queued, asked"] = len(set(logged_keys(queued / "log")))
    result["queued, busy"] = sorted(max(numbers) for numbers in busy(queued / "log").values())

    failing = evaluator(folder / "failing" / "log", fails="q3", on_error="raise")

    def run_failing(rank):
        try:
            failing.run(SAMPLES, out=folder / "failing")
        except ZeroDivisionError as error:
            return " ".join(error.__notes__)

    result["raised"] = launch(2, run_failing)

    def in_turn(rank):
        return "".join(compared(folder / f"turn {turn}")(rank) for turn in range(5))

    result["in turn"] = launch(2, in_turn)
    result["no directory"] = launch(2, lambda rank: evaluator(folder / "none" / "log").run(SAMPLES))
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
