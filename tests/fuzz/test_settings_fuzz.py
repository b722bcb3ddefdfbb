"""Strange command lines up to the plan: a plan within the memory, or one line; and nothing else is touched.

The short form runs with all tests. The long form is `FEDMIA_FUZZ_SETTINGS=5000 python -m pytest
tests/fuzz/test_settings_fuzz.py -s`: that many command lines, equally many of each kind, counted at the end.
"""

import collections
import math
import os
import pathlib
import resource
import sys

import hypothesis
import numpy as np
import pytest
import settings as strange
from hypothesis import strategies

import launch
from fedmia_jax.engine import devices

NUM_EXAMPLES = int(os.environ.get("FEDMIA_FUZZ_SETTINGS", 110))
MEMORY = 3 * 2**30  # of addresses, beyond those that are taken
COUNTS: collections.Counter[tuple[str, str]] = collections.Counter()


@pytest.fixture(scope="module", autouse=True)
def report():
    """Says what was tried."""
    yield
    print(f"\n{sum(COUNTS.values()):,} command lines; planned/refused:")
    for kind in strange.KINDS:
        print(f"{kind:12}", f"{COUNTS[kind, 'planned']}/{COUNTS[kind, 'refused']}")


@pytest.fixture
def little_memory():
    """An address space that ends soon."""
    taken = resource.getpagesize() * int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("kind", strange.KINDS)
def test_a_strange_command_line_is_planned_or_one_line(monkeypatch, tmp_path, capfd, little_memory, kind):
    monkeypatch.setattr(devices, "start", lambda *args, **options: None)  # the session has started it
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")

    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=math.ceil(NUM_EXAMPLES / len(strange.KINDS)),
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(strategies.integers(0, 2**64 - 1))
    def check(number: int) -> None:
        flags = strange.KINDS[kind](np.random.default_rng(number))
        monkeypatch.setattr(sys, "argv", ["launch.py", *strange.SMALL, "--dry_run", *flags])
        try:
            launch.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        printed = capfd.readouterr()
        COUNTS[kind, "refused" if code else "planned"] += 1
        if code:
            assert (code, printed.err.count("\n")) == (2, 1), flags
            assert printed.err.startswith("error: "), flags
            assert printed.err.rstrip("\n").isprintable(), flags
            assert len(printed.err) < 1000, flags
        else:
            assert printed.err == ""
            assert "Plan" in printed.out or "Modes:" in printed.out, flags
        assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("mine.txt", b"mine")], flags

    check()
