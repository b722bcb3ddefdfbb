"""Machines of a Ray cluster that live and die on this one, and the command with a death at a known moment.

python tests/machines.py hold COUNT                        COUNT one-core machines, until standard input is closed
python tests/machines.py machine NUMBER PID ... -- FLAGS   the command; after NUMBER artifacts, or soon after, one of
                                                           these machines dies (SIGKILL) in its work
python tests/machines.py process NUMBER PID ... -- FLAGS   likewise the process that works on one, which lives on
python tests/machines.py command NUMBER -- FLAGS           likewise the command itself
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOG = "metrics.jsonl"
VARIABLES = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def contents(workdir: pathlib.Path) -> dict[str, bytes]:
    """All files of a run but its log with its seconds, by their place in its folder."""
    files = (path for path in sorted(workdir.rglob("*")) if path.is_file() and path.name != LOG)
    return {str(path.relative_to(workdir)): path.read_bytes() for path in files}


@contextlib.contextmanager
def running(count: int) -> Iterator[tuple[str, list[int]]]:
    """Runs one-core machines; yields the cluster's address, and the process of each machine but the first.

    They are started by a process of their own, since whoever has JAX at work must not fork.
    """
    holder = subprocess.Popen(
        [sys.executable, __file__, "hold", str(count)],
        env={**os.environ, **VARIABLES},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert holder.stdout is not None
        address, pids = json.loads(holder.stdout.readline())
        yield address, pids
    finally:
        holder.communicate()


def command(number: int, pids: Sequence[int], *flags: str, dies: str) -> subprocess.CompletedProcess:
    """Runs the command until it ends; after so many artifacts a machine, a process on one, or the command dies."""
    words = [sys.executable, __file__, dies, str(number), *map(str, pids), "--", *flags]
    return subprocess.run(words, env={**os.environ, **VARIABLES}, capture_output=True, text=True)


def _hold(count: int) -> None:
    """Is the process that has started the machines."""
    from ray import cluster_utils

    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    others = [cluster.add_node(num_cpus=1) for _ in range(count - 1)]
    cluster.wait_for_nodes()
    pids = [node.all_processes["raylet"][0].process.pid for node in others]
    print(json.dumps([cluster.address, pids]), flush=True)
    sys.stdin.read()
    cluster.shutdown()


def _run(dies: str, number: int, pids: Sequence[int], flags: Sequence[str]) -> None:
    """Is the command."""
    import launch
    from fedmia_jax.storage import artifacts

    finish, finished, dead = artifacts.Artifacts.finish, [], []

    def count(self: artifacts.Artifacts, draft: artifacts.Draft) -> None:
        finish(self, draft)
        finished.append(draft.path.name)
        if len(finished) >= number and not dead:
            dead.extend(_kill(dies, pids))

    artifacts.Artifacts.finish = count  # type: ignore[method-assign]
    sys.argv = ["launch.py", *flags]
    launch.main()


def _kill(dies: str, pids: Sequence[int]) -> list[int]:
    """Kills what is to die of the first machine that is at work, and returns it; or this process."""
    from fedmia_jax.engine import kinds

    if dies == "command":
        os.kill(os.getpid(), signal.SIGKILL)
    for pid in pids:
        children = [int(child) for child in _read(pid, f"task/{pid}/children").split()]
        titles = {child: _read(child, "cmdline") for child in children}
        busy = [
            (child, kind.name)
            for kind in kinds.KINDS
            for child, title in titles.items()
            if title.startswith(f"ray::{kind.name}")
        ]
        if busy:
            victims = [pid, *children] if dies == "machine" else [busy[0][0]]
            for process in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            print(f"{dies} {victims[0]} died in {busy[0][1]}", flush=True)
            return [pid]
    return []


def _read(pid: int, name: str) -> str:
    """What Linux says of a process, nothing where it has ended."""
    with contextlib.suppress(OSError):
        return (pathlib.Path("/proc") / str(pid) / name).read_text()
    return ""


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    if sys.argv[1] == "hold":
        _hold(int(sys.argv[2]))
    else:
        split = sys.argv.index("--")
        _run(sys.argv[1], int(sys.argv[2]), [int(pid) for pid in sys.argv[3:split]], sys.argv[split + 1 :])
