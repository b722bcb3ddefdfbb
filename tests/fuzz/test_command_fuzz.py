"""Damaged files and strange settings through the whole command, a process each, with little memory.

The command ends well, then a resumed run has left the results of the undamaged one to the last bit; or it ends with one
line and exit code 2. Nothing else is touched. The short form runs with all tests. The long form is
`FEDMIA_FUZZ_COMMAND=300 python -m pytest tests/fuzz/test_command_fuzz.py -s`: that many calls, in turn for each kind of
file and of damage, counted at the end.
"""

import collections
import hashlib
import os
import pathlib
import shutil

import damage
import numpy as np
import polars as pl
import pytest
import settings as strange
import test_readers_fuzz as readers

NUM_CASES = int(os.environ.get("FEDMIA_FUZZ_COMMAND", 6))
MEMORY = 3 * 2**30  # of addresses, beyond the libraries'
RUN = (*strange.SMALL, "--cpu_devices=1", "--config.federation.local_epochs=2", "--workdir=run")
LOSS = "--config.attack.names=('loss',)"
REFERENCES = (  # the long form damages their tables too
    "--config.shadow.federations=8",
    "--config.attack.names=('loss','lira_online')",
    "--config.attack.views=('outsider',)",
)
READ = (  # so few records that each of the small files has them
    "--config.data.cluster=True",
    "--config.data.num_classes=2",
    "--config.data.num_federation=2",
    "--config.data.num_test=1",
    "--config.shadow.num_train=1",
    "--config.data.min_items=1",
)
KEPT = {  # in a workdir, by pattern
    "numbers": "artifacts/*/**/*.npy",
    "units.json": "artifacts/*/units.json",
    "hashes.json": "**/hashes.json",
    "config.json": "config.json",
    "results": "results.parquet",
    "tables": "*.parquet",
    "others": "*.*",
}
TARGETS = (*readers.SEEDS, *KEPT, "settings")
COUNTS: collections.Counter[tuple[str, str, str]] = collections.Counter()


@pytest.fixture(scope="module")
def whole(process, tmp_path_factory):
    """The folder of an undamaged run."""
    folder = tmp_path_factory.mktemp("whole")
    flags = (*RUN, *REFERENCES) if NUM_CASES > 50 else (*RUN, LOSS)
    ended = process(*flags, cwd=folder, limit=MEMORY)
    assert (ended.code, ended.err) == (0, "")
    (folder / "run/.notes.md").write_text("of the user")
    yield folder, flags
    print(f"\n{sum(COUNTS.values())} calls; good/refused:")
    for target in TARGETS:
        pairs = ((COUNTS[target, kind, "good"], COUNTS[target, kind, "refused"]) for kind in damage.KINDS)
        print(
            f"{target:13}",
            *(f"{kind} {good}/{refused}" for kind, (good, refused) in zip(damage.KINDS, pairs, strict=True)),
        )


def surroundings(folder: pathlib.Path) -> dict[str, str]:
    """Hashes of all that is not the program's to change."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(folder / "run")]
    paths += list((folder / "run").glob(".notes.md"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def check_line(ended) -> bool:
    """Whether a call ended well; else it must be with one line."""
    assert "Traceback" not in ended.err, ended.err
    assert ended.code == 0 or ended.is_one_line, (ended.code, ended.err)
    assert ended.err.replace("\n", "").isprintable()
    return ended.code == 0


def reading(reader: str, name: str) -> list[str]:
    """A run on the records of a small file."""
    of_file = [f"--config.data.name={reader}", f"--config.data.path={name}"]
    return [*RUN, *READ, LOSS, *of_file, f"--config.data.num_features={readers.NUM_FEATURES}"]


def read_damaged(process, folder: pathlib.Path, reader: str, kind: str, rng: np.random.Generator) -> bool:
    """A damaged data file: a run on it, its plan, or its records."""
    name, content = readers.make_file(reader, kind, int(rng.integers(2**63)))
    (folder / name).write_bytes(content)
    flags = reading(reader, name)
    mode = strange.pick((["--dry_run"], ["--mode=prepare", "--out=run/records.npz"], [], []), rng)
    before = surroundings(folder)
    (folder / "run").mkdir()
    good = check_line(process(*flags, *mode, cwd=folder, limit=MEMORY))
    assert surroundings(folder) == before
    if good and not mode:
        assert pl.read_parquet(folder / "run/results.parquet")["auc"].drop_nulls().is_finite().all()
    return good


def resume_damaged(process, folder: pathlib.Path, target: str, kind: str, rng: np.random.Generator, whole) -> bool:
    """A damaged file in a workdir, whose results are there or not: a report, and the same command."""
    source, flags = whole
    shutil.copytree(source, folder, dirs_exist_ok=True)
    run = folder / "run"
    path = strange.pick(
        sorted(path for path in run.glob(KEPT[target]) if path.is_file() and path.name != ".notes.md"), rng
    )
    path.write_bytes(damage.KINDS[kind](path.read_bytes(), rng))
    before, results = surroundings(folder), (source / "run/results.parquet").read_bytes()
    if rng.random() < 0.5:
        if check_line(process("--mode=report", "--workdir=run", cwd=folder, limit=MEMORY)):
            assert (run / "report.md").read_bytes() == (source / "run/report.md").read_bytes()
    elif path.parent != run:  # as a run that was stopped before its end
        for table in run.glob("*.parquet"):
            table.unlink()
    good = check_line(process(*flags, cwd=folder, limit=MEMORY))
    assert surroundings(folder) == before
    if good:
        assert (run / "results.parquet").read_bytes() == results
        for table in source.glob("run/*.parquet"):
            assert (run / table.name).read_bytes() == table.read_bytes(), table.name
    return good


def plan_strangely(process, folder: pathlib.Path, rng: np.random.Generator) -> bool:
    """A strange command line."""
    flags = [flag for flag in strange.KINDS[strange.pick(list(strange.KINDS), rng)](rng) if "\0" not in flag]
    (folder / "mine.txt").write_text("mine")
    before = surroundings(folder)
    good = check_line(process(*RUN, "--dry_run", *flags, cwd=folder, limit=MEMORY))
    assert surroundings(folder) == before
    return good


def cells() -> list[tuple[int, str, str]]:
    """What is damaged, and how; in an order in which few are of many kinds."""
    every = [(target, kind) for target in TARGETS for kind in damage.KINDS]
    order = np.random.default_rng(0).permutation(len(every))
    return [(number, *every[order[number % len(every)]]) for number in range(NUM_CASES)]


@pytest.mark.parametrize(("number", "target", "kind"), cells())
def test_a_damaged_input_changes_nothing_or_is_one_line(process, whole, tmp_path, number, target, kind):
    rng = np.random.default_rng([number, 1])
    if target == "settings":
        good = plan_strangely(process, tmp_path, rng)
    elif target in KEPT:
        good = resume_damaged(process, tmp_path, target, kind, rng, whole)
    else:
        good = read_damaged(process, tmp_path, target, kind, rng)
    COUNTS[target, kind, "good" if good else "refused"] += 1


def test_whole_files_are_planned(process, tmp_path):
    for reader, ((ending, content, wrap), *_) in readers.SEEDS.items():
        (tmp_path / f"{reader}.{ending}").write_bytes(wrap(content))
        ended = process(*reading(reader, f"{reader}.{ending}"), "--dry_run", cwd=tmp_path, limit=MEMORY)
        assert (ended.code, ended.err) == (0, "")
