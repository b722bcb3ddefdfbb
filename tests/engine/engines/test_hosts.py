"""A job of two processes on this machine: the same bytes as of one, a death, and every way in which there is none."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import machines
import numpy as np
import pytest
from toys import flags as small

import launch
from fedmia_jax import errors
from fedmia_jax.engine.engines import hosts

ROOT = pathlib.Path(launch.__file__).parent
SWEPT = (
    f"--config={ROOT}/configs/default.py",
    *small.SMALL,
    "--config.attack.names=('loss',)",
    "--config.sweep.training.batch_size=8,16",
    "--cpu_devices=1",
)
SECONDS = 240


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """`start(folder, *flags)`: the command in a process of its own; programs are compiled once for all of them."""
    cache = tmp_path_factory.mktemp("programs")
    variables = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }

    def call(folder, *flags):
        command = [sys.executable, str(ROOT / "launch.py"), *SWEPT, f"--workdir={folder}", *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env={**os.environ, **variables}, text=True, **pipes)

    return call


@pytest.fixture(scope="module")
def start_job(start):
    """`start_job(folder)`: the two processes of a job."""

    def call(folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = ("--engine=distributed", f"--coordinator={address}", "--num_processes=2")
        return [start(folder, *flags, f"--process_id={number}") for number in range(2)]

    return call


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """What one process leaves."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    alone = start(folder)
    _, said = alone.communicate(timeout=SECONDS)
    assert alone.returncode == 0, said
    return machines.contents(folder)


def test_two_processes_leave_the_bytes_of_one(start_job, whole, tmp_path):
    first, second = start_job(tmp_path / "run")
    (out, said), (nothing, _) = (process.communicate(timeout=SECONDS) for process in (first, second))
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "tables and figures" in out
    assert not [line for line in nothing.splitlines() if not line.startswith("[Gloo]")]
    assert machines.contents(tmp_path / "run") == whole
    for process in start_job(tmp_path / "run"):  # where nothing is left to do
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
    assert machines.contents(tmp_path / "run") == whole


def test_what_the_first_process_alone_finds_wrong_ends_both_by_a_line(start_job, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    first, second = start_job(tmp_path / "run")
    (_, said), (_, of_second) = (process.communicate(timeout=SECONDS) for process in (first, second))
    assert (first.returncode, second.returncode) == (2, 2)
    assert f"error: workdir={tmp_path / 'run'}: holds files but no config.json" in said
    assert "error: --engine=distributed: process 0 has ended the run; it says why" in of_second


def test_a_run_that_ends_in_the_middle_of_a_round_is_not_taken_for_work(monkeypatch):
    messages = [
        hosts._pack(head, {})
        for head in ({"begin": True}, {"kind": "attacks", "dealt": [["a"], ["b"]]}, {"failed": True})
    ]
    sent = iter([part for message in messages for part in (len(message), message)])
    monkeypatch.setattr(hosts.multihost_utils, "broadcast_one_to_all", lambda _: next(sent))
    monkeypatch.setattr(hosts.planning, "make_plan", lambda *_, **__: None)
    monkeypatch.setattr(hosts.Hosts, "_open", lambda *_, **__: None)
    with pytest.raises(errors.InputError, match="process 0 has ended the run"):
        hosts.Hosts().follow([], budget=0, keep_models=False, strict=True)


def test_what_goes_wrong_at_one_point_is_said_and_the_rest_goes_on(start, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ("--config.sweep.training.learning_rate=0.001,1e38", "--config.training.optimizer=sgd")
    flags += ("--config.sweep.training.batch_size=8",)
    job = ("--engine=distributed", f"--coordinator={address}", "--num_processes=1", "--process_id=0")
    both = [start(tmp_path / name, *flags, *more) for name, more in (("here", ()), ("there", job))]
    ended = [process.communicate(timeout=SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    warnings = [sorted(line for line in out.splitlines() if line.startswith("warning")) for out, _ in ended]
    assert [line for line in warnings[0] if "learning_rate=1e+38: central models went non-finite" in line]
    assert warnings[1] == warnings[0]


@pytest.mark.parametrize("victim", [1, 0])
def test_when_one_dies_the_other_says_so_and_both_go_on_when_they_are_started_again(start_job, whole, tmp_path, victim):
    job, folder = start_job(tmp_path / "run"), tmp_path / "run"
    begin = time.monotonic()
    while len(list(folder.glob("artifacts/*/units.json"))) < 2:
        assert time.monotonic() - begin < SECONDS
        time.sleep(0.02)
    job[victim].kill()
    _, said = job[1 - victim].communicate(timeout=SECONDS)
    job[victim].communicate()
    assert job[1 - victim].returncode != 0
    assert "another process of the job is gone" in said or "another one of the job is gone" in said
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("artifacts/*/units.json")}
    for process in start_job(folder):
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert machines.contents(folder) == whole


def test_a_message_comes_back():
    tree = {"a.b": {"x": np.arange(3, dtype=np.float32)}, "c": {"y": np.array(True)}}
    head, trees = hosts._unpack(hosts._pack({"kind": "x", "list": [1, None]}, tree))
    assert head == {"kind": "x", "list": [1, None]}
    np.testing.assert_array_equal(trees["a.b"]["x"], tree["a.b"]["x"])
    assert trees["a.b"]["x"].dtype == np.float32
    assert trees["c"]["y"].shape == ()


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (("--process_id=0",), "--process_id=0: only --engine=distributed has several processes; add it"),
        (
            ("--engine=distributed", "--coordinator=localhost:1", "--process_id=0"),
            "--num_processes: not set, but --coordinator is; give all three, or none",
        ),
        (
            ("--engine=distributed", "--coordinator=localhost:1", "--num_processes=2", "--process_id=2"),
            "--process_id=2: of 2 processes; must be less, they begin at 0",
        ),
        (
            ("--engine=distributed", "--mode=report"),
            "--engine=distributed: only --mode=run computes on a cluster, not --mode=report",
        ),
    ],
)
def test_a_job_that_cannot_be_is_one_line(launched, asked, line):
    assert launched(f"--config={ROOT}/configs/default.py", *asked)[::2] == (2, f"error: {line}\n")


def test_where_jax_finds_no_job_there_is_one_line(process, tmp_path):
    ended = process(*SWEPT, "--engine=distributed", cwd=tmp_path)
    assert ended.is_one_line, ended
    assert "no job of several processes was found" in ended.err
