"""Sweeps on a Ray cluster whose machines die, and every way in which there is none; most need Ray itself."""

import importlib.metadata
import pathlib
import re

import jax
import machines
import pytest
from toys import flags as small

import launch
from fedmia_jax import errors
from fedmia_jax.config import flags
from fedmia_jax.engine import engines
from fedmia_jax.engine.engines import bench, cluster, worker

ROOT = pathlib.Path(launch.__file__).parent
PACKAGES = {distribution.name for distribution in importlib.metadata.distributions()}
needs_ray = pytest.mark.skipif("ray" not in PACKAGES, reason="Ray is not installed")
SMALL = (f"--config={ROOT}/configs/default.py", *small.SMALL, "--config.attack.names=('loss',)")
SWEPT = (*SMALL, "--config.sweep.training.batch_size=8,16,24,32")


@pytest.fixture(scope="module")
def address():
    """The address of three machines, one core each, and the processes of all but the first."""
    with machines.running(3) as running:
        yield running


@pytest.fixture(scope="module")
def whole(process, tmp_path_factory):
    """What one machine leaves."""
    folder = tmp_path_factory.mktemp("whole")
    ended = process(*SWEPT, "--cpu_devices=1", "--workdir=run", cwd=folder)
    assert ended.code == 0, ended.err
    return machines.contents(folder / "run")


def test_engines_are_those_of_the_flag():
    assert tuple(engines.ENGINES) == flags.ENGINES


def test_without_ray_there_is_one_line_before_anything_starts(monkeypatch, launched):
    def fail(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cluster.importlib.metadata, "version", fail)
    code, _, said = launched(*SMALL, "--engine=ray")
    assert (code, said) == (
        2,
        "error: --engine=ray: Ray is not installed; pip install '.[cluster]' beside launch.py\n",
    )


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (("--ray_address=auto",), "--ray_address=auto: only --engine=ray has an address; add it"),
        (("--engine=ray", "--mode=report"), "--engine=ray: only --mode=run computes on a cluster, not --mode=report"),
        (("--engine=slurm",), "flag --engine=slurm: value should be one of <local|ray|distributed>"),
    ],
)
def test_what_an_engine_does_not_do_is_one_line(launched, asked, line):
    assert launched(*SMALL, *asked)[::2] == (2, f"error: {line}\n")


def test_other_releases_on_a_machine_are_one_line():
    releases = tuple((name, "0.1" if name == "jax" else version) for name, version in bench.releases())
    with pytest.raises(
        errors.InputError, match=r"^--engine=ray: machine .* has other releases \(jax .* there, 0.1 here\)"
    ):
        worker._start(worker.Setup(jax.default_backend(), 1, (), releases))


def test_devices_other_than_planned_are_one_line(monkeypatch):
    monkeypatch.setattr(worker.devices, "start", lambda num_cpu_devices, **options: None)
    here = jax.default_backend()
    other = "cpu" if here == "gpu" else "gpu"
    line = rf"devices? of '{here}' in a process, not 1 of '{other}'; install JAX's extra"
    with pytest.raises(errors.InputError, match=line):
        worker._start(worker.Setup(other, 1, (), bench.releases()))


@pytest.mark.parametrize(
    ("variable", "resources", "platform"),
    [("", {"CPU": 8.0}, "cpu"), ("", {"GPU": 2.0}, "gpu"), ("cpu", {"GPU": 2.0}, "cpu"), ("cuda,cpu", {}, "gpu")],
)
def test_the_platform_is_the_environments_or_the_clusters(monkeypatch, variable, resources, platform):
    monkeypatch.setenv("JAX_PLATFORMS", variable)
    assert cluster._find_platform(resources) == platform


def test_a_platform_that_ray_has_no_machines_of_is_one_line(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    with pytest.raises(errors.InputError, match=r"^JAX_PLATFORMS=tpu: --engine=ray computes on CPUs"):
        cluster._find_platform({})


@needs_ray
@pytest.mark.parametrize("place", ["127.0.0.1:9", "nowhere", "auto"])
def test_a_cluster_that_is_not_there_is_one_line(process, tmp_path, place):
    ended = process(*SMALL, "--engine=ray", f"--ray_address={place}", cwd=tmp_path)
    assert ended.is_one_line
    assert ended.err.startswith(f"error: --ray_address={place}: no Ray cluster can be reached there (")
    assert not list(tmp_path.iterdir())


@needs_ray
@pytest.mark.parametrize("dies", ["process", "machine"])  # in this order: the machine is missing for those below
def test_what_dies_in_its_work_is_not_missed(address, whole, tmp_path, dies):
    place, pids = address
    flags = (*SWEPT, "--engine=ray", f"--ray_address={place}", f"--workdir={tmp_path / 'run'}")
    ended = machines.command(1, pids, *flags, dies=dies)
    assert ended.returncode == 0, ended.stderr
    assert " died in " in ended.stdout
    line = {
        "process": r"warning: central models: a process has died; the 3 that it had in work are computed again",
        "machine": r"warning: machine [\d.]+ has died; what it had in work is computed again by others",
    }
    assert len(re.findall(line[dies], ended.stdout)) == 1
    assert "raylet" not in ended.stdout + ended.stderr
    assert machines.contents(tmp_path / "run") == whole


@needs_ray
def test_a_command_that_dies_goes_on(address, whole, process, tmp_path):
    flags = (*SWEPT, "--engine=ray", f"--ray_address={address[0]}", f"--workdir={tmp_path / 'run'}")
    assert machines.command(6, [], *flags, dies="command").returncode == -9
    assert len(list((tmp_path / "run").glob("artifacts/*/units.json"))) == 6
    ended = process(*flags, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert machines.contents(tmp_path / "run") == whole


@needs_ray
def test_what_is_wrong_on_a_machine_is_the_line_that_it_is_here(address, process, tmp_path):
    flags = (*SMALL, "--config.training.learning_rate=1e38", "--config.training.optimizer=sgd")
    here = process(*flags, "--cpu_devices=1", cwd=tmp_path)
    there = process(*flags, "--engine=ray", f"--ray_address={address[0]}", "--workdir=there", cwd=tmp_path)
    assert here.is_one_line
    assert (there.code, there.err) == (here.code, here.err)


@needs_ray
def test_what_a_machine_warns_of_is_said_here_once(address, process, tmp_path):
    flags = (*SMALL, "--config.sweep.training.learning_rate=0.001,1e38", "--config.training.optimizer=sgd")
    here = process(*flags, "--cpu_devices=1", cwd=tmp_path)
    there = process(*flags, "--engine=ray", f"--ray_address={address[0]}", "--workdir=there", cwd=tmp_path)
    warnings = [[line for line in said.out.splitlines() if line.startswith("warning")] for said in (here, there)]
    assert warnings[0]
    assert warnings[1] == warnings[0]
