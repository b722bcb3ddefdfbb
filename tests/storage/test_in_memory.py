"""What stands in for a workdir, against a workdir."""

import numpy as np

from fedmia_jax.storage import artifacts, in_memory


def test_a_draft_in_memory_holds_what_one_on_disk_does(tmp_path, equal):
    tree = {"a": {"b.c": np.arange(12.0).reshape(3, 4)}, "d": np.arange(3)}
    kept, units = artifacts.Artifacts(tmp_path), ("first", "second")
    on_disk, draft = kept.begin(units, size=3), in_memory.Draft(len(units))
    for each in (on_disk, draft):
        each.write("piece", tree)
        each.save(1, tree)
    kept.finish(on_disk)
    for row, unit in enumerate(units):
        equal(draft.read(row, "piece"), kept.read(unit, "piece"))
    assert len(draft.pieces["piece"]["d"]) == len(units)
    assert draft.load(tree) == (0, tree)


def test_a_workdir_in_memory_reads_and_logs():
    workdir = in_memory.Workdir(lambda unit, piece: {"from": (unit, piece)})
    assert workdir.artifacts.read("unit", "piece") == {"from": ("unit", "piece")}
    workdir.log(stage="a", seconds=1.0)
    assert workdir.lines == [{"stage": "a", "seconds": 1.0}]
