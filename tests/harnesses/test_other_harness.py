"""Test that a reader refuses the log of another harness and names its reader."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vlmrobust.harnesses import Imported, read_inspect, read_lmms_eval, read_vlmevalkit

LOGS = Path(__file__).parent / "logs"
READERS: list[Callable[[Path], Imported]] = [read_inspect, read_lmms_eval, read_vlmevalkit]
OF: dict[str, list[Path]] = {
    "read_inspect": sorted(LOGS.glob("inspect/*.eval")),
    "read_lmms_eval": sorted(LOGS.glob("lmms_eval/*/*.jsonl")),
    "read_vlmevalkit": sorted(LOGS.glob("vlmevalkit/*_Shapes.*")),
}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_the_right_reader_is_named(reader: Callable[[Path], Imported]) -> None:
    for name, logs in OF.items():
        assert logs
        for log in logs:
            if name == reader.__name__:
                assert len(reader(log))
            else:
                with pytest.raises(ValueError, match=f"{log.name}: expected a log for {reader.__name__}, .* {name}$"):
                    reader(log)
