"""SkyRL's gym, in its own environment: registered, made, and asked for a step."""

import json
import sys

import skyrl_gym

request = json.loads(sys.argv[1])
skyrl_gym.register(id="vlmrobust", entry_point="vlmrobust.rl.skyrl:FaithfulnessEnv")
results = []
for settings in ({}, request["settings"]):
    steps = []
    for (prompt, row), text in zip(request["rows"], request["completions"], strict=True):
        extras = {"reward_spec": {"ground_truth": row["solution"]}, "extra_info": row}
        env = skyrl_gym.make("vlmrobust", env_config=settings, extras=extras)
        env.init([{"role": "user", "content": prompt}])
        step = env.step(text)
        assert step["done"]
        steps.append(step["reward"])
    results.append(steps)
print(json.dumps({"rewards": results}))
