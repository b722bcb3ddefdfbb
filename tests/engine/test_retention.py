"""What stays of the outcomes: all, or what results and unfinished work read; and what is done with what is gone."""

import dataclasses

import pytest

from fedmia_jax.engine import needs
from fedmia_jax.engine.engines import local
from fedmia_jax.engine.plans import planning
from fedmia_jax.storage import artifacts

VALUES = {
    "data": {"name": "toys.reader:TOY", "num_federation": 100, "num_test": 100},
    "model": {"hidden": 4},
    "federation": {"nodes": 2, "cycles": 2, "local_epochs": 1},
    "shadow": {"count": 2, "federations": 8},
    "attack": {"names": ("loss", "sequence_lira"), "strongest": "sequence_lira", "views": ("outsider",), "epochs": 2},
    "replicates": 2,
}
MORE = VALUES | {"replicates": 3}


@pytest.fixture
def run(run_sweep, tmp_path):
    """`run(values=VALUES, **options)`: the results, the plan, and the names of the stages that were computed."""

    def call(values=VALUES, folder="run", **options):
        stages = []

        def compute(place, planned, kind, todo, advance):
            stages.append(kind.name)
            options.get("before", lambda name: None)(kind.name)
            local.compute(place, planned, kind, todo, advance)

        engine = dataclasses.replace(local.ENGINE, compute=compute, works_ahead=False)
        given = {name: value for name, value in options.items() if name != "before"}
        every_run, table = run_sweep(values, tmp_path / folder, engine=engine, **given)
        return table, planning.make_plan(every_run), stages

    return call


def there(folder):
    """The units that are kept."""
    return set(artifacts.Artifacts(folder / "artifacts").index)


def test_what_the_results_read_stays_and_the_rest_goes(run, tmp_path):
    plain, planned, stages = run(folder="plain")
    every = {unit.fingerprint for units in planned.units.values() for unit in units}
    assert there(tmp_path / "plain") == every
    table, _, again = run(keep="results")
    assert table.equals(plain)
    assert again == stages
    read = {unit for unit, _ in needs.of_results(planned)}
    assert there(tmp_path / "run") == read
    gone = {
        name: len([unit for unit in units if unit.fingerprint not in read]) for name, units in planned.units.items()
    }
    models = 2 * (2 + 1)  # the shadows and the target of each replicate
    assert gone == dict.fromkeys(gone, 0) | {"central models": models, "federations": 8}
    assert len(list((tmp_path / "run" / "artifacts").iterdir())) < len(list((tmp_path / "plain/artifacts").iterdir()))


def test_models_that_are_asked_for_stay(run, tmp_path):
    _, planned, _ = run(keep="results", keep_models=True)
    planned = planning.make_plan(planned.runs, keep_models=True)
    assert {unit.fingerprint for unit in planned.units["federations"]} <= there(tmp_path / "run")
    assert not {unit.fingerprint for unit in planned.units["central models"]} & there(tmp_path / "run")


def test_what_was_kept_before_goes_when_it_is_asked_for(run, tmp_path):
    plain, planned, _ = run()
    table, _, stages = run(keep="results")
    assert (table.equals(plain), stages) == (True, [])
    assert there(tmp_path / "run") == {unit for unit, _ in needs.of_results(planned)}


def test_what_is_gone_is_made_again_only_where_somebody_reads_it(run):
    plain, _, _ = run(keep="results")
    table, _, stages = run(keep="results")
    assert (table.equals(plain), stages) == (True, [])
    more, _, _ = run(MORE, keep="results")
    assert more.equals(run(MORE, folder="fresh")[0]), "the audit of three replicates reads the references anew"
    assert run(MORE)[2] == ["central models", "federations"], "all of it is to be there"


def test_a_run_that_was_stopped_trains_no_shadow_again(run, tmp_path):
    def stop(name):
        if name == "federations":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(keep="results", before=stop)
    table, planned, stages = run(keep="results")
    assert stages == ["federations", "adversaries"]
    assert table.equals(run(folder="plain")[0])
    assert there(tmp_path / "run") == {unit for unit, _ in needs.of_results(planned)}


def test_attacks_that_are_damaged_are_fitted_on_new_shadows(run, tmp_path, capsys):
    plain, _, _ = run(keep="results")
    (artifact,) = {path.parents[1] for path in (tmp_path / "run/artifacts").glob("*/fitted/*.npy")}
    path = next((artifact / "fitted").glob("*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"~")
    table, _, stages = run(keep="results")
    assert "is damaged" in capsys.readouterr().err
    assert stages == ["central models", "attacks"]
    assert table.equals(plain)
