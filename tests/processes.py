"""The command in a process of its own for each call, without loading the libraries anew: one process has, and forks.

`Server` is the side of the tests. Run as a script, this file is the process that forks. No device is looked for before
a fork, so that each call starts its own, as the command does.
"""

import dataclasses
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 100  # after which a call is ended


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a call has left: exit code, or minus the signal that ended it, and what it said."""

    code: int
    out: str
    err: str

    @property
    def is_one_line(self) -> bool:
        """Whether it ended as wrong input does."""
        return self.code == 2 and self.err.startswith("error: ") and self.err.count("\n") == 1


class Server:
    """The process that has loaded the libraries.

    Args:
      folder: for compiled programs, so that each is compiled once.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        variables = {
            "JAX_COMPILATION_CACHE_DIR": str(folder),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, *args: str, cwd: pathlib.Path, limit: int | None = None, listened: bool = True) -> Ended:
        """Runs `launch.py` with some arguments.

        Args:
          args: the words behind the program's name.
          cwd: folder that it runs in.
          limit: bytes of addresses that it may have more than what loading the libraries took; None for any number.
          listened: whether anybody reads its standard output; else it is a pipe without a reader.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            ours = f"/proc/{os.getpid()}/fd"
            asked = {"args": args, "cwd": str(cwd), "limit": limit, "listened": listened}
            asked |= {"out": f"{ours}/{out.fileno()}", "err": f"{ours}/{err.fileno()}"}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            out.seek(0)
            err.seek(0)
            return Ended(code, out.read(), err.read())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def serve() -> None:
    """Forks for each line of standard input, and answers with how that ended."""
    import warnings

    warnings.filterwarnings("ignore", message=".*fork.*")  # nothing of JAX runs yet
    import launch  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(asked: dict[str, Any]) -> None:
    """Is the command, and ends."""
    import launch

    code = 1
    try:
        signal.alarm(SECONDS)
        for path, place in (("/dev/null", 0), (asked["out"], 1), (asked["err"], 2)):
            os.dup2(os.open(path, os.O_RDWR), place)
        if not asked["listened"]:
            reading, writing = os.pipe()
            os.dup2(writing, 1)
            os.close(reading)
        os.chdir(asked["cwd"])
        sys.argv = ["launch.py", *asked["args"]]
        if asked["limit"] is not None:
            most = asked["limit"] + resource.getpagesize() * int(
                pathlib.Path("/proc/self/statm").read_text().split()[0]
            )
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        launch.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
