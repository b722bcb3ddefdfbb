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

import jax
import platformdirs
import rich.console
from absl import flags
from ml_collections import config_flags

from fedmia_jax import benchmark, config, data, errors, experiment, progress, report, store, sweep, workload
from fedmia_jax.data import arrays, dataset

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
    swept = sweep.expand(values.config)
    shown = progress.Progress(console)
    with shown.stage(f"records: {swept.settings.data.name}"):
        runs = workload.prepare(swept.points)
        experiment.check_distinct(runs)
    datasets = list({one.dataset.fingerprint: one.dataset for one in runs}.values())
    title = dataset.join_titles(datasets)
    memory = {"budget": int(values.memory_gib * 2**30), "keep_models": values.keep_models}
    described = store.describe(swept.settings, [point.values for point in swept.points])
    prints = [one.fingerprint for one in datasets]
    path = values.workdir or pathlib.Path("runs") / f"{config_name(values)}-{store.fingerprint(described, prints)}"
    if values.dry_run:
        console.print(title, highlight=False, soft_wrap=True)
        lab = workload.Lab(store.Workdir(pathlib.Path(path)), shown, **memory)  # the folder is not made
        console.print(experiment.explain(lab, runs).to_rich())
        return
    with store.open_workdir(path, described, records=prints, title=title) as workdir:
        console.print(f"{title}\nresults in {workdir.path}", highlight=False, soft_wrap=True)
        lab = workload.Lab(workdir, shown, strict=len(swept.points) == 1, **memory)
        results = experiment.run(lab, runs)
        workdir.write_results(results)
        with shown.stage("tables and figures"):
            report.write(workdir, results, title=title, console=console, swept=swept.names)


def show(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Makes tables and figures of a finished run once more; the workdir knows its own settings."""
    if values.workdir is None:
        raise errors.InputError("--workdir is not set: --mode=report needs the folder of a finished run")
    workdir = store.Workdir(pathlib.Path(values.workdir))
    about = store.read_config(workdir.path)
    swept = tuple(about["sweep"][0]) if about["sweep"] else ()
    report.write(workdir, workdir.read_results(), title=about["title"], console=console, swept=swept)


def prepare(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Reads or makes the records and writes them as `.npz`, for `data.name=arrays`."""
    if values.out is None or not values.out.endswith(".npz"):
        raise errors.InputError(f"--out={values.out}: --mode=prepare needs --out=FILE.npz")
    settings = sweep.expand(values.config).settings
    with progress.Progress(console).stage(f"records: {settings.data.name}"):
        raw = data.read(settings.data, seed=settings.data.seed)
    arrays.write(values.out, raw)
    console.print(
        f"{raw.title}\nwritten to {values.out}; use it by\n"
        f"python launch.py --config.data.name=arrays --config.data.path={values.out}",
        highlight=False,
        soft_wrap=True,
    )


def measure(values: flags.FlagValues, console: rich.console.Console) -> None:
    """Measures training speed."""
    console.print(benchmark.run(sweep.expand(values.config).settings, console).to_rich())


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
    check_field_names(argv)
    asked = [SWEEP_FLAG.match(arg) for arg in argv]
    swept = {found[1]: sweep.parse(found[1], found[2]) for found in asked if found}
    argv = sys.argv = [arg for arg, found in zip(argv, asked, strict=True) if not found]  # ml_collections reads it too
    try:
        values = make_flags()
        rest = values(argv)[1:]
        values.config.sweep = swept or values.config.sweep  # a config file that does not load says so only now
    except Exception as error:  # absl, ml_collections and the config file itself raise many kinds
        raise explain(error) from error
    if rest:
        raise errors.InputError(f"{rest[0]}: not a flag; fields are set by --config.FIELD=VALUE")
    return values


def check_field_names(argv: list[str]) -> None:
    """Raises for a --config.FIELD that no config has."""
    known = config.fields()
    for arg in argv[1:]:
        if re.match(r"--?config\.sweep(=|$)", arg):
            raise errors.InputError(
                f"{arg}: sweep one field at a time, --config.sweep.FIELD=V1,V2, or in a config file"
            )
        name = re.match(r"--?(?:no)?config\.(?!sweep\.)([^=\[]+)", arg)
        if name and not any(field == name[1] or field.startswith(name[1] + ".") for field in known):
            raise errors.InputError(config.unknown_field(name[1]))


def explain(error: BaseException) -> errors.InputError:
    """What a failed parse means to the one who typed the flags."""
    told = re.search(r"InputError: (.*)", str(error))  # ml_collections passes on a config file's error as text
    if told:
        return errors.InputError(told[1])
    wrong = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error))
    if wrong and wrong[1] in config.fields():
        return errors.InputError(config.wrong_type(wrong[1], wrong[2]))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return errors.InputError(lines[-1] if "failure to load" in lines[0] or "parsing config" in lines[0] else lines[0])


if __name__ == "__main__":
    main()
