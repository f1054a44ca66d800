"""AReaL's own code, in its own environment: the wrapper that sends a reward to another process."""

import asyncio
import json
import sys
from functools import partial

from areal.api.reward_api import AsyncRewardWrapper
from areal.utils.dynamic_import import import_from_string

request = json.loads(sys.argv[1])


async def rewards(function):
    wrapped = AsyncRewardWrapper(function, timeout_seconds=60, max_workers=1)
    pairs = zip(request["rows"], request["completions"], strict=True)
    return [await wrapped(prompt, f"{text}<|im_end|>", [1], [2], **row) for (prompt, row), text in pairs]


function = import_from_string("vlmrobust.rl.areal.reward_fn")
if __name__ == "__main__":
    found = [asyncio.run(rewards(each)) for each in (function, partial(function, settings=request["settings"]))]
    print(json.dumps({"rewards": found}))
