"""Simulates a sequential federation, attacks every hand-off, and shows how much it leaks.

    python launch.py                                        the main job, no file needed
    python launch.py --config=configs/default.py:quick      the same, small
    python launch.py --config.federation.nodes=10           any field of the config; a list of them:
    python launch.py --config.sweep.training.learning_rate=0.001,0.003 --config.sweep.federation.nodes=3,10
                                                            every combination, as one sweep; see --dry_run
    python -m fedmia_jax.config                             every field with default and meaning

Modes: run (default; goes on where an earlier run of the same settings stopped), report (tables and figures of a
finished run once more), prepare (reads or makes the records once and writes them as .npz), benchmark (speed), compile
(every program of a run for --topology=v5e:2x2, h100, .., which need not be there: does it fit, how long will it take).
"""

import dataclasses
import functools
import json
import os
import signal
import sys

# Loading the libraries takes seconds, in which nothing is there yet that could be kept.
if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: (print("interrupted", file=sys.stderr, flush=True), os._exit(130)))

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import jax
import polars as pl
import rich.console
from absl import flags

from fedmia_jax import data, errors, files, registry, report
from fedmia_jax.config import flags as command_line
from fedmia_jax.config import sweeps
from fedmia_jax.data import arrays, dataset
from fedmia_jax.engine import benchmarks, devices, engines, experiment, guarantees, lab, outline, progress
from fedmia_jax.engine.accelerators import compiling, topologies
from fedmia_jax.engine.engines import contract
from fedmia_jax.engine.plans import points, runs
from fedmia_jax.report import figures, speed, tables
from fedmia_jax.storage import workdir as workdirs

LOG_WIDTH = 140  # characters of a line where standard output is no terminal
LONGEST = 900  # characters of an error


class Listener:
    """Standard output that may stop listening: a run goes on when a pipe behind it is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes, as long as somebody reads."""
        try:
            if self.stream is not None:
                self.stream.write(text)
        except (BrokenPipeError, ValueError):
            self.stream = None
        return len(text)

    def flush(self) -> None:
        """Flushes, as long as somebody reads."""
        try:
            if self.stream is not None:
                self.stream.flush()
        except (BrokenPipeError, ValueError):
            self.stream = None

    def isatty(self) -> bool:
        """Whether a terminal listens."""
        return self.stream is not None and self.stream.isatty()


def main() -> None:
    """Does what the flags say; wrong input ends with one line and exit code 2."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    listener = Listener(sys.stdout)
    try:
        work(listener)
    except (errors.InputError, OSError) as error:
        leave("; ".join([str(error), *getattr(error, "__notes__", ())]))
    except KeyboardInterrupt as error:
        begun = bool(getattr(error, "__notes__", ()))
        meaning = "a run goes on by the same command where this one stopped" if begun else "nothing was begun"
        print(f"interrupted; {meaning}", file=sys.stderr, flush=True)
        os._exit(130)  # without waiting for the devices; what is on disk is whole
    except Exception as error:
        blamed = registry.blame(error)
        if blamed is None:
            raise
        leave(str(blamed))
    finally:
        listener.flush()
        if listener.stream is None:  # nobody is left to read what Python flushes at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def work(listener: Listener) -> None:
    """Does what the flags say."""
    values = command_line.parse(sys.argv, home=pathlib.Path(__file__).resolve().parent)
    if values.help:
        listener.write(f"{__doc__}\n{values.main_module_help()}\n")
        return
    width = None if listener.isatty() else LOG_WIDTH
    console = rich.console.Console(file=listener, width=width, markup=False)  # type: ignore[arg-type]
    compiles = values.mode == "compile"
    address = values.ray_address or values.coordinator
    job: dict[str, Any] = {name: values[name].value for name in ("num_processes", "process_id")}
    given = {name: value for name, value in job.items() if value is not None}
    with engines.start(values.engine, address=address, num_cpu_devices=values.cpu_devices, **given) as engine:
        devices.start(engine.num_cpu_devices, only_cpu=engine.only_cpu or compiles, remember=not compiles)
        console.quiet = not engine.leads()
        modes: dict[str, Callable[..., None]] = {
            "run": functools.partial(run, engine=engine),
            "report": show,
            "benchmark": measure,
            "prepare": prepare,
            "compile": compile_only,
        }
        modes[values.mode](values, console)


def leave(line: str) -> None:
    """Ends with one line and exit code 2: what a terminal obeys is spelt out, the middle of a long line left out."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(line.split()))
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


def run(values: flags.FlagValues, console: rich.console.Console, *, engine: contract.Engine) -> None:
    """Runs an experiment or a sweep and reports it; or only says what it would do."""
    swept = sweeps.expand(values.config)
    shown = progress.Progress(console)
    every_run = prepare_runs(swept, shown)
    datasets = list({run.dataset.fingerprint: run.dataset for run in every_run}.values())
    title = dataset.join_titles(datasets)
    memory = {"budget": to_bytes(values.memory_gib), "keep_models": values.keep_models}
    strict = len(swept.points) == 1
    if engine.follow is not None and not engine.leads():
        if not values.dry_run:
            engine.follow(every_run, strict=strict, **memory)
        return
    identity: dict[str, Any] = {
        "described": workdirs.describe(swept.settings, [point.values for point in swept.points]),
        "records": [records.fingerprint for records in datasets],
    }
    path = values.workdir or pathlib.Path("runs") / f"{config_name(values)}-{workdirs.identify(**identity)}"
    if values.dry_run:
        console.print(title, highlight=False, soft_wrap=True)
        place = lab.Lab(workdirs.Workdir(pathlib.Path(path)), shown, **memory)  # the folder is not made
        print_outline(experiment.explain(place, every_run), console)
        print_promises(every_run, swept.names, console)
        return
    with engine.lead(), workdirs.open_workdir(path, **identity, title=title, warn=shown.warn) as workdir:
        console.print(f"{title}\nresults in {workdir.path}", highlight=False, soft_wrap=True)
        place = lab.Lab(workdir, shown, strict=strict, keep=values.keep, **memory)
        try:
            results = experiment.run(place, every_run, engine)
            workdir.write_results(results)
            with shown.stage("tables and figures"):
                report.write(
                    workdir,
                    results,
                    title=title,
                    console=console,
                    swept=swept.names,
                    strongest=swept.settings.get("attack.strongest"),
                )
        except (OSError, KeyboardInterrupt) as error:
            error.add_note(contract.KEPT)
            raise


def prepare_runs(swept: sweeps.Sweep, shown: progress.Progress) -> list[runs.Run]:
    """Reads the records of all points, and draws those of their replicates."""
    with shown.stage(f"records: {swept.settings.get('data.name')}"):
        every_run = runs.prepare(swept.points)
        experiment.check_distinct(every_run)
    return every_run


def to_bytes(gib: float) -> int:
    """GiB as bytes."""
    return int(gib * 2**30)


def show(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Makes tables and figures of a finished run once more; the workdir knows its own settings."""
    if values.workdir is None:
        raise errors.InputError("--workdir is not set: --mode=report needs the folder of a finished run")
    workdir = workdirs.Workdir(pathlib.Path(values.workdir))
    about = workdirs.read_config(workdir.path)
    swept = tuple(about["sweep"][0]) if about["sweep"] else ()
    named = {"swept": swept, "strongest": about["settings"].get("attack", {}).get("strongest")}
    report.write(workdir, workdir.read_results(), title=about["title"], console=console, **named)


def prepare(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Reads or makes the records and writes them as `.npz`, for `data.name=arrays`."""
    if values.out is None or not values.out.endswith(".npz"):
        raise errors.InputError(f"--out={values.out}: --mode=prepare needs --out=FILE.npz")
    settings = sweeps.expand(values.config).settings
    name = settings.get("data.name")
    with progress.Progress(console).stage(f"records: {name}"):
        reader: Any = settings.read("data", data.find(name).options)
        raw = data.read(name, reader, seed=settings.get("data.seed"))
    arrays.write(values.out, raw)
    console.print(
        f"{raw.title}\nwritten to {values.out}; use it by\n"
        f"python launch.py --config.data.name=arrays --config.data.path={values.out}",
        highlight=False,
        soft_wrap=True,
    )


def measure(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Measures speed; writes the page where `--out` says, and its picture and numbers under the same name."""
    check_page(values)
    settings = sweeps.expand(values.config).settings
    plans = points.Plans(settings)
    with jax.default_matmul_precision(settings.get("compute.precision")):
        rows = benchmarks.run(plans, values.suites, console)
    measured = benchmarks.explain(rows, plans)
    print_outline(measured, console)
    if values.out is not None:
        page = pathlib.Path(values.out)
        write_numbers(page, [row.plain for row in rows])
        picture = page.with_suffix(".png")
        figures.write(picture, speed.draw(rows))
        write_page(values, dataclasses.replace(measured, caption=f"{measured.caption}\n\n![Speed]({picture.name})"))


def write_numbers(page: pathlib.Path, numbers: Sequence[dict[str, Any]]) -> None:
    """Writes what a page tells as numbers, under the page's name."""
    with files.replacing(page.with_suffix(".jsonl")) as file:
        file.write("".join(f"{json.dumps(line)}\n" for line in numbers).encode())
    with files.replacing(page.with_suffix(".parquet")) as file:
        pl.DataFrame(numbers).write_parquet(file)


def compile_only(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Compiles every program of a run for devices that are not there; exit code 1 where one does not compile."""
    check_page(values)
    if values.topology is None:
        raise errors.InputError("--topology is not set: --mode=compile needs the devices to compile for, as v5e:2x2")
    topology = topologies.find(values.topology)
    shown = progress.Progress(console)
    every_run = prepare_runs(sweeps.expand(values.config), shown)
    found = compiling.estimate(every_run, topology, shown, budget=to_bytes(values.memory_gib))
    explained = compiling.explain(found)
    print_outline(explained, console)
    write_page(values, explained)
    if found.problems:
        print("\n".join(found.problems), file=sys.stderr)
        sys.exit(1)


def check_page(values: flags.FlagValues) -> None:
    """Raises where a page cannot be written under the name that was given."""
    if values.out is not None and not values.out.endswith(".md"):
        raise errors.InputError(f"--out={values.out}: --mode={values.mode} writes --out=FILE.md")


def write_page(values: flags.FlagValues, content: outline.Outline) -> None:
    """Writes a table of the engine where `--out` says."""
    if values.out is not None:
        with files.replacing(values.out) as file:
            file.write(f"{to_table(content).to_markdown()}\n".encode())


def print_outline(content: outline.Outline, console: rich.console.Console) -> None:
    """Prints a table of the engine."""
    console.print(to_table(content).to_rich())


def print_promises(every_run: Sequence[runs.Run], swept: Sequence[str], console: rich.console.Console) -> None:
    """Prints what defences promise, if they do."""
    stated = guarantees.tabulate(every_run)
    if not stated.is_empty():
        console.print(report.guarantees.make_table(stated, swept=swept).to_rich())


def to_table(content: outline.Outline) -> tables.Table:
    """A table of the engine as the report shows tables."""
    return tables.Table(content.title, content.header, content.rows, content.caption)


def config_name(values: flags.FlagValues) -> str:
    """Name and argument of the config file, for the default workdir."""
    path, _, arg = values["config"].config_filename.partition(":")  # type: ignore[attr-defined]
    return "-".join(filter(None, [pathlib.Path(path).stem, arg]))


if __name__ == "__main__":
    main()
