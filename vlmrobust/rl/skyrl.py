"""Serve the reward as an environment of SkyRL's gym: one turn, no tools.

    skyrl_gym.register(id="vlmrobust", entry_point="vlmrobust.rl.skyrl:FaithfulnessEnv")

Training rows need `env_class: vlmrobust` and a `reward_spec` whose `ground_truth` holds the columns.
"""

from collections.abc import Mapping
from typing import Any

from .scoring import require_text, score_completions

try:
    from skyrl_gym.envs.base_text_env import BaseTextEnv
except ModuleNotFoundError:
    BaseTextEnv = object

__all__ = ["FaithfulnessEnv"]


class FaithfulnessEnv(BaseTextEnv):  # type: ignore[misc]  # an optional package
    """Rewards the first turn and ends the episode.

    Args:
        env_config: describes the reward, see `vlmrobust.rl.scoring.reward_of`.
        extras: the row: `reward_spec`, whose `ground_truth` holds the columns as a mapping or as JSON text; and
            `extra_info`, which may hold columns that are missing there.

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
        """Return the reward of a completion, with its terms as metadata.

        Raises:
            ValueError: a setting is unknown, a column is missing, or one of its values is invalid; the message names
                it.
            TypeError: the completion is not text, or a part of the row is not a mapping.
        """
        ground_truth = _mapping(self._row.get("reward_spec"), "extras, 'reward_spec'").get("ground_truth")
        extra = self._row.get("extra_info")
        completion = require_text(action, "SkyRL, action")
        [self._terms] = score_completions([completion], [ground_truth], [extra], self._settings, trainer="SkyRL")
        return {"observations": [], "reward": self._terms["score"], "done": True, "metadata": self._terms}

    def get_metrics(self) -> dict[str, Any]:
        """Return the terms of the last reward for SkyRL to average."""
        return self._terms


def _mapping(given: Any, what: str) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"SkyRL, {what}: expected a mapping or None, got {type(given).__name__}: {given!r:.80}")
    return dict(given or {})
