"""What `--external_plugins` is given in the documentation."""

from swift.rewards import orms

from vlmrobust.rl.rewards import AccuracyReward, FaithfulnessReward


class Faithful(FaithfulnessReward):
    def __init__(self, args=None):
        super().__init__()


class Accurate(AccuracyReward):
    def __init__(self, args=None):
        super().__init__()


orms["faithful"], orms["accurate"] = Faithful, Accurate
