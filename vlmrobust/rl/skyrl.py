"""Serve the reward as an environment of SkyRL's gym: one turn, no tools.

    skyrl_gym.register(id="vlmrobust", entry_point="vlmrobust.rl.skyrl:FaithfulnessEnv")

and rows with `env_class: vlmrobust` and a `reward_spec` whose `ground_truth` holds a row's columns.
"""

from collections.abc import Mapping
from typing import Any

from .scoring import checked_text, scored

try:
    from skyrl_gym.envs.base_text_env import BaseTextEnv
except ModuleNotFoundError:  # without the gym the class is what it adds to its base
    BaseTextEnv = object

__all__ = ["FaithfulnessEnv"]


class FaithfulnessEnv(BaseTextEnv):  # type: ignore[misc]  # of another package, where it is there
    """Rewards the first turn, and is done.

    Args:
        env_config: which reward, as in `vlmrobust.rl.scoring.reward_of`.
        extras: the row: `reward_spec` with `ground_truth`, the columns as a mapping or as JSON text; and `extra_info`,
            which may hold those that it does not.

    Example:
        >>> row = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> env = FaithfulnessEnv(extras={"reward_spec": {"ground_truth": row}})
        >>> env.step("<think>It is blue.</think><answer>B</answer>")["reward"]
        1.1
    """

    def __init__(self, env_config: Mapping[str, Any] | None = None, extras: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._settings = _mapping(env_config, "environment's configuration")
        self._row = _mapping(extras, "extras")
        self._terms: dict[str, float] = {}

    def step(self, action: str) -> dict[str, Any]:
        """Return the reward of a completion, the terms of it as metadata.

        Raises:
            ValueError: a setting is not known, a column is missing, or a value in it cannot be read; it is named.
            TypeError: the completion is no text, or a part of the row no mapping.
        """
        ground_truth = _mapping(self._row.get("reward_spec"), "extras, 'reward_spec'").get("ground_truth")
        extra = self._row.get("extra_info")
        completion = checked_text(action, "SkyRL, action")
        [self._terms] = scored([completion], [ground_truth], [extra], self._settings, trainer="SkyRL")
        return {"observations": [], "reward": self._terms["score"], "done": True, "metadata": self._terms}

    def get_metrics(self) -> dict[str, Any]:
        """Return the terms of the last reward, which SkyRL averages."""
        return self._terms


def _mapping(given: Any, what: str) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"SkyRL, {what}: expected a mapping or None, got {type(given).__name__}: {given!r:.80}")
    return dict(given or {})
