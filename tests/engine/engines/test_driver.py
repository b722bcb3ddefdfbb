"""What the driver of a Ray cluster makes of deaths, by a stand-in for Ray; with Ray itself see `test_cluster.py`."""

import sys
import types

import pytest

from fedmia_jax import errors
from fedmia_jax.engine import chunks
from fedmia_jax.engine.engines import driver


def _fake_ray(*names):
    """A Ray whose tasks end at once, in turn, with what `tasks` says: an error of one of these names, or None."""
    exceptions = types.SimpleNamespace(RayError=type("RayError", (Exception,), {}))
    for name in {"RayTaskError", *driver.GONE, *driver.CAUSES, *names}:
        setattr(exceptions, name, type(name, (exceptions.RayError,), {}))
    ray = types.SimpleNamespace(exceptions=exceptions, tasks=iter(()), options=[])
    ray.nodes = lambda: [{"Alive": not ray.gone, "Resources": {"CPU": 1.0}}]
    ray.gone = False  # all machines

    class Task:
        def options(self, **options):
            ray.options.append(options)
            return self

        def remote(self, *_):
            return object()

    def get(reference):
        error = next(ray.tasks, None)
        if error is not None:
            raise error
        return "outcome"

    ray.remote, ray.get = lambda work: Task(), get
    ray.idle = iter(())  # where it is true, nothing ends in time

    def wait(references, timeout):
        ray.gone = next(ray.idle, False)
        return ([], references) if ray.gone else (references[:1], references[1:])

    ray.wait = wait
    return ray


@pytest.fixture
def computed(monkeypatch):
    """`computed(make)`: warnings and options of a stage of three, whose tasks end as `make(exceptions)` says."""

    def call(make, names=(), idle=()):
        ray, warned, kept = _fake_ray(*names), {}, []
        ray.tasks, ray.idle = iter(make(ray.exceptions)), iter(idle)
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(driver.bench, "keep", lambda place, kind, chunk, outcome: kept.append(chunk))
        monkeypatch.setattr(driver, "_setup", lambda *_: None)
        monkeypatch.setattr(driver.Driver, "share", lambda *_: None)
        place = types.SimpleNamespace(
            warn=lambda text, *, about=None: warned.setdefault(about or text, text),
            show=types.SimpleNamespace(warn=lambda text: warned.setdefault(len(warned), text)),
            devices=[0],
            workdir=types.SimpleNamespace(artifacts=None),
        )
        kind = types.SimpleNamespace(name="federations", needs=lambda *_: set())
        units = [types.SimpleNamespace(fingerprint=name, task=None, steps=1) for name in "ab"]
        todo = [chunks.Chunk(units, 2, wide=False, group=()) for _ in range(3)]
        driver.Driver("cpu").compute(place, None, kind, todo, lambda steps: None)
        assert len(set(kept)) == len(kept) == 3
        return list(warned.values()), ray.options

    return call


def test_chunks_whose_processes_die_are_kept_once_and_every_death_is_said(computed):
    def tasks(exceptions):
        names = [name for name in driver.CAUSES if name != "ObjectLostError"]
        return [getattr(exceptions, name)("") for name in names]

    warned, options = computed(tasks)
    assert len(warned) == 4
    assert warned[0] == "federations: a process has died; the 2 that it had in work are computed again"
    assert [option.get("scheduling_strategy") for option in options] == [None] * 3 + ["SPREAD"] * 4


def test_machines_may_die_however_often_and_each_is_said_once(computed):
    def tasks(exceptions):
        text = "... or unavailable. Node IP: 10.0.0.{0}, node ID: ab{0}. This ..."
        return [exceptions.NodeDiedError(text.format(number // 10)) for number in range(30)]

    warned, _ = computed(tasks)
    line = "machine 10.0.0.{} has died; what it had in work is computed again by others"
    assert warned == [line.format(number) for number in range(3)]


def test_a_chunk_whose_processes_die_while_no_other_ends_ends_the_run(computed):
    def tasks(exceptions):
        return [None, None, *(exceptions.WorkerCrashedError("") for _ in range(driver.DEATHS))]

    with pytest.raises(errors.InputError, match=r"^--engine=ray: federations: a process has died, 10 times in a row"):
        computed(tasks)
    computed(lambda exceptions: tasks(exceptions)[:-1])


def test_deaths_before_another_chunk_ends_do_not_count(computed):
    def tasks(exceptions):
        crash = exceptions.WorkerCrashedError
        return [*(crash("") for _ in range(2 * driver.DEATHS)), None, *(crash("") for _ in range(2)), None, None]

    warned, _ = computed(tasks)
    assert len(warned) == 2 * driver.DEATHS + 2


def test_a_wait_for_machines_is_said_once_for_what_is_left(computed):
    warned, _ = computed(lambda exceptions: [], idle=[False, True, True, False, True])
    assert warned == ["no machine of the cluster has 1 CPU for a process yet; waiting for one"] * 2


def test_what_else_ray_says_is_one_line(computed):
    def tasks(exceptions):
        return [exceptions.LocalRayletDiedError("the raylet\nhas died")]

    line = r"^--engine=ray: LocalRayletDiedError \(the raylet has died\); what is finished is kept, the same command"
    with pytest.raises(errors.InputError, match=line):
        computed(tasks, names=("LocalRayletDiedError",))


def test_names_of_what_dies_are_those_of_ray():
    ray = pytest.importorskip("ray")
    assert all(issubclass(each, ray.exceptions.RayError) for each in driver._errors(*driver.GONE, *driver.CAUSES))
    assert issubclass(ray.exceptions.ObjectReconstructionFailedError, driver._errors(*driver.GONE))
