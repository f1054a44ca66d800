"""One run at a time in a directory: others are refused with who and since when, and a lock ends with its process."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from vlmrobust import locking
from vlmrobust.evaluator import Evaluator
from vlmrobust.locking import DirectoryInUseError, DirectoryLock
from vlmrobust.testing import FakeModel
from vlmrobust.workers import ThisProcess

HOLD = """
import sys, time
from vlmrobust.locking import DirectoryLock
with DirectoryLock(sys.argv[1]):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def stranger(folder, host="elsewhere", process=1):
    """Leave in a folder what another process does while it works there."""
    (folder / ".running").mkdir(exist_ok=True)
    file = folder / ".running" / "stranger.json"
    file.write_text(json.dumps({"run": "other", "host": host, "process": process, "since": "2026-01-01T00:00:00"}))
    return file


def test_another_run_gets_process_and_start_time(holder, tmp_path):
    expected = (
        rf"run directory {re.escape(str(tmp_path))}: expected no other run in it, but process {holder.pid} on "
        r"'.+' has been using it since 2\d\d\d-\d\d-\d\dT.+, with the last heartbeat \d s ago; wait for it to end,"
    )
    with pytest.raises(DirectoryInUseError, match=expected):
        DirectoryLock(tmp_path).__enter__()


def test_a_run_can_wait_for_its_other_processes(tmp_path):
    with DirectoryLock(tmp_path) as held:
        code = HOLD.replace("sys.argv[1]", f"sys.argv[1], {held.run!r}").replace("sleep(60)", "sleep(1.5)")
        other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "in\n"
        begun = time.monotonic()
        held.await_others(0.2)
        assert time.monotonic() - begun < 1.4
        assert len(list((tmp_path / ".running").glob("*.json"))) == 2
        held.await_others()
        assert len(list((tmp_path / ".running").glob("*.json"))) == 1
        other.communicate()


def test_a_lock_ends_with_its_process(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with DirectoryLock(tmp_path):
        assert len(list((tmp_path / ".running").glob("*.json"))) == 1
    assert list(tmp_path.iterdir()) == []


def test_processes_of_one_run_share_a_directory(tmp_path):
    with DirectoryLock(tmp_path) as first, DirectoryLock(tmp_path, first.run) as second:
        assert first.run == second.run
        with pytest.raises(DirectoryInUseError):
            DirectoryLock(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_of_several_at_the_same_time_one_enters(tmp_path):
    start = time.time() + 1
    children = []
    for _ in range(5):
        child = os.fork()
        if child == 0:
            time.sleep(max(0.0, start - time.time()))
            try:
                with DirectoryLock(tmp_path):
                    time.sleep(2)
            except DirectoryInUseError:
                os._exit(3)
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 3, 3, 3, 3]


def test_a_process_of_another_machine_counts_while_it_has_a_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "_TIMEOUT", 1.0)
    file = stranger(tmp_path)
    beats = os.fork()
    if beats == 0:
        for _ in range(100):
            time.sleep(0.1)
            os.utime(file)
        os._exit(0)
    try:
        with pytest.raises(DirectoryInUseError, match="process 1 on 'elsewhere' has been using it since 2026-01-01"):
            DirectoryLock(tmp_path).__enter__()
    finally:
        os.kill(beats, signal.SIGKILL)
        os.waitpid(beats, 0)
    begun = time.monotonic()
    with DirectoryLock(tmp_path):
        assert not file.exists()
    assert time.monotonic() - begun >= 1.0


def test_processes_that_are_long_gone_cause_no_wait(tmp_path):
    file = stranger(tmp_path)
    os.utime(file, (0, 0))
    begun = time.monotonic()
    with DirectoryLock(tmp_path):
        assert not file.exists()
    assert time.monotonic() - begun < locking._TIMEOUT


def test_a_holder_has_a_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "_HEARTBEAT", 0.05)
    with DirectoryLock(tmp_path):
        [file] = (tmp_path / ".running").glob("*.json")
        os.utime(file, (0, 0))
        until = time.monotonic() + 10
        while file.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.02)
        assert time.time() - file.stat().st_mtime < 60


def test_children_that_outlive_a_killed_process_do_not_keep_its_lock(tmp_path, monkeypatch):
    owner = os.fork()
    if owner == 0:
        lock = DirectoryLock(tmp_path)
        lock.__enter__()
        if os.fork() == 0:  # holds the lock's file open, too
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(owner, 0)
    monkeypatch.setattr(locking, "_TIMEOUT", 0.0)
    with DirectoryLock(tmp_path):
        pass


def test_a_run_holds_its_directory_until_its_report_is_saved(tmp_path, make_sample):
    class Looking(FakeModel):
        def respond(self, prompts):
            with pytest.raises(DirectoryInUseError):
                Evaluator(FakeModel(opens_images=False), []).run([make_sample()], tmp_path)
            return super().respond(prompts)

    Evaluator(Looking(opens_images=False), []).run([make_sample()], tmp_path)
    assert not (tmp_path / ".running").exists()


def test_no_model_is_created_for_a_directory_in_use(tmp_path, make_sample):
    def no_model():
        raise AssertionError("made")

    with DirectoryLock(tmp_path) as lock:
        with pytest.raises(DirectoryInUseError):
            Evaluator(no_model, []).run([make_sample()], tmp_path)
        model = FakeModel(opens_images=False)
        assert len(Evaluator(model, []).run([make_sample()], tmp_path, workers=ThisProcess(lock.run))) == 1


def test_a_held_lock_is_not_sent_to_another_process(tmp_path):
    import pickle

    with pytest.raises(TypeError, match="a held lock belongs to one process; pass on its `run` instead"):
        pickle.dumps(DirectoryLock(tmp_path))
