"""Simulates a sequential federation, attacks every hand-off, and shows how much it leaks.

    python launch.py                                        the main job, no file needed
    python launch.py --config=configs/default.py:quick      the same, small
    python launch.py --config.federation.nodes=10           any field of the config; a list of them:
    python launch.py --config.sweep.training.learning_rate=0.001,0.003 --config.sweep.federation.nodes=3,10
                                                            every combination, as one sweep; see --dry_run
    python -m fedmia_jax.config                             every field with default and meaning

Modes: run (default; goes on where an earlier run of the same settings stopped), report (tables and figures of a
finished run once more), prepare (reads or makes the records once and writes them as .npz), benchmark (speed).
"""

import os
import pathlib
import re
import sys
from typing import Any

import jax
import platformdirs
import rich.console
from absl import flags
from ml_collections import config_flags

from fedmia_jax import data, errors, report
from fedmia_jax.config import parsing, schema, sweeps
from fedmia_jax.data import arrays, dataset
from fedmia_jax.engine import benchmark, experiment, lab, outline, progress, runs
from fedmia_jax.report import tables
from fedmia_jax.storage import workdir as workdirs

SWEEP_FLAG = re.compile(r"--?config\.sweep\.([^=]+)=(.*)", re.DOTALL)
LOG_WIDTH = 140  # characters of a line where standard output is no terminal
MODES = ("run", "report", "benchmark", "prepare")


def make_flags() -> flags.FlagValues:
    """The command's flags; `--config.FIELD` come from the config file."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", "configs/default.py", "Settings: FILE.py[:ARG].", flag_values=values)
    flags.DEFINE_enum("mode", "run", MODES, "What to do.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where results go. Default: runs/NAME-FINGERPRINT.", flag_values=values)
    flags.DEFINE_string("out", None, "File that --mode=prepare writes, ending in .npz.", flag_values=values)
    flags.DEFINE_integer(
        "cpu_devices", None, "XLA host devices on a CPU. Default: one a core.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_float(
        "memory_gib", 4.0, "Memory for models that are in work at once.", lower_bound=0.01, flag_values=values
    )
    flags.DEFINE_bool("dry_run", False, "Print the plan of a run, and stop.", flag_values=values)
    flags.DEFINE_bool("keep_models", False, "Keep the models of all hand-offs in the workdir.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values)
    return values


def main() -> None:
    """Does what the flags say; wrong input ends with one line and exit code 2."""
    try:
        values = parse(sys.argv)
        if values.help:
            print(f"{__doc__}\n{values.main_module_help()}")
            return
        start_jax(values)
        {"run": run, "report": show, "benchmark": measure, "prepare": prepare}[values.mode](
            values, rich.console.Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
        )
    except errors.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error}; what is finished is kept, the same command goes on", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; a run goes on by the same command where this one stopped", file=sys.stderr, flush=True)
        os._exit(130)  # without waiting for the devices; what is on disk is whole


def run(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Runs an experiment or a sweep and reports it; or only says what it would do."""
    swept = sweeps.expand(values.config)
    shown = progress.Progress(console)
    with shown.stage(f"records: {swept.settings.get('data.name')}"):
        every_run = runs.prepare(swept.points)
        experiment.check_distinct(every_run)
    datasets = list({run.dataset.fingerprint: run.dataset for run in every_run}.values())
    title = dataset.join_titles(datasets)
    memory = {"budget": int(values.memory_gib * 2**30), "keep_models": values.keep_models}
    described = workdirs.describe(swept.settings, [point.values for point in swept.points])
    prints = [records.fingerprint for records in datasets]
    path = values.workdir or pathlib.Path("runs") / f"{config_name(values)}-{workdirs.identify(described, prints)}"
    if values.dry_run:
        console.print(title, highlight=False, soft_wrap=True)
        place = lab.Lab(workdirs.Workdir(pathlib.Path(path)), shown, **memory)  # the folder is not made
        print_outline(experiment.explain(place, every_run), console)
        return
    with workdirs.open_workdir(path, described, records=prints, title=title) as workdir:
        console.print(f"{title}\nresults in {workdir.path}", highlight=False, soft_wrap=True)
        place = lab.Lab(workdir, shown, strict=len(swept.points) == 1, **memory)
        results = experiment.run(place, every_run)
        workdir.write_results(results)
        with shown.stage("tables and figures"):
            report.write(workdir, results, title=title, console=console, swept=swept.names)


def show(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Makes tables and figures of a finished run once more; the workdir knows its own settings."""
    if values.workdir is None:
        raise errors.InputError("--workdir is not set: --mode=report needs the folder of a finished run")
    workdir = workdirs.Workdir(pathlib.Path(values.workdir))
    about = workdirs.read_config(workdir.path)
    swept = tuple(about["sweep"][0]) if about["sweep"] else ()
    report.write(workdir, workdir.read_results(), title=about["title"], console=console, swept=swept)


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
    """Measures training speed."""
    settings = sweeps.expand(values.config).settings
    with jax.default_matmul_precision(settings.get("compute.precision")):
        print_outline(benchmark.run(settings, console), console)


def print_outline(content: outline.Outline, console: rich.console.Console) -> None:
    """Prints a table of the engine."""
    console.print(tables.Table(content.title, content.header, content.rows, content.caption).to_rich())


def start_jax(values: flags.FlagValues) -> None:
    """One XLA host device a core, and compiled programs kept in the user's cache folder."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", values.cpu_devices or len(os.sched_getaffinity(0)))
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") is None:
        cache = pathlib.Path(platformdirs.user_cache_dir("fedmia_jax")) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def config_name(values: flags.FlagValues) -> str:
    """Name and argument of the config file, for the default workdir."""
    path, _, arg = values["config"].config_filename.partition(":")  # type: ignore[attr-defined]
    return "-".join(filter(None, [pathlib.Path(path).stem, arg]))


def parse(argv: list[str]) -> flags.FlagValues:
    """Parses the command line.

    Raises:
      InputError: a flag, field, value or config file that cannot be used.
    """
    pairs = [SWEEP_FLAG.match(arg) for arg in argv]
    plain = [arg for arg, pair in zip(argv, pairs, strict=True) if not pair]
    try:
        admit_foreign(argv)
        check_field_names(argv)
        swept = {pair[1]: sweeps.parse(pair[1], pair[2]) for pair in pairs if pair}
        values = read_flags(plain)
        values.config.sweep = swept or values.config.sweep  # a config file that does not load says so only now
    except Exception as error:  # absl, ml_collections and the config file itself raise many kinds
        raise explain(error) from error
    return values


def read_flags(argv: list[str]) -> flags.FlagValues:
    """Reads flags, and fields over those of the config file.

    Raises:
      InputError: a word that is no flag.
    """
    sys.argv = argv  # ml_collections reads it too
    values = make_flags()
    rest = values(argv)[1:]
    if rest:
        raise errors.InputError(f"{rest[0]}: not a flag; fields are set by --config.FIELD=VALUE")
    return values


def admit_foreign(argv: list[str]) -> None:
    """Admits what flags and config file name as `package.module:name`, so that its options are fields too.

    Raises:
      InputError: it cannot be found.
    """
    for arg in argv[1:]:
        pair = re.match(r"--?config\.(?:sweep\.)?([^=]+)=(.*)", arg, re.DOTALL)
        if pair:
            schema.admit(pair[1], pair[2])
    file = [arg for arg in argv[1:] if re.match(r"--?config=", arg)]
    sweeps.admit_names(read_flags([argv[0], *file]).config)


def check_field_names(argv: list[str]) -> None:
    """Raises for a --config.FIELD that no config has."""
    known = schema.fields()
    for arg in argv[1:]:
        if re.match(r"--?config\.sweep(=|$)", arg):
            raise errors.InputError(
                f"{arg}: sweep one field at a time, --config.sweep.FIELD=V1,V2, or in a config file"
            )
        name = re.match(r"--?(?:no)?config\.(?!sweep\.)([^=\[]+)", arg)
        if name and not any(field == name[1] or field.startswith(name[1] + ".") for field in known):
            raise errors.InputError(schema.unknown_field(name[1]))


def explain(error: BaseException) -> errors.InputError:
    """What a failed parse means to the one who typed the flags."""
    if isinstance(error, errors.InputError):
        return error
    inner = re.search(r"InputError: (.*)", str(error))  # ml_collections passes on a config file's error as text
    if inner:
        return errors.InputError(inner[1])
    wrong = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error))
    if wrong and wrong[1] in schema.fields():
        return errors.InputError(parsing.wrong_type(wrong[1], wrong[2]))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return errors.InputError(lines[-1] if "failure to load" in lines[0] or "parsing config" in lines[0] else lines[0])


if __name__ == "__main__":
    main()
