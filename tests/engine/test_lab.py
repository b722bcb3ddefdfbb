"""Where work is done: records on their devices once, warnings once, and failures that end a strict run."""

import io
import json

import jax
import numpy as np
import pytest
import rich.console

from fedmia_jax import errors
from fedmia_jax.data import dataset
from fedmia_jax.engine import lab, progress
from fedmia_jax.storage import workdir as workdirs


@pytest.fixture
def make(tmp_path):
    """`make(**options)`: a lab, and what is printed there."""

    def call(**options):
        file = io.StringIO()
        shown = progress.Progress(rich.console.Console(file=file, width=200))
        return lab.Lab(workdirs.Workdir(tmp_path), shown, **options), file

    return call


RECORDS = dataset.Dataset(
    features=np.eye(4, dtype=np.uint8),
    labels=np.arange(4, dtype=np.int32),
    num_classes=4,
    title="four records",
    fingerprint="f" * 16,
    features_fingerprint="e" * 16,
)


@pytest.mark.parametrize("count", [1, 2])
def test_records_are_copied_to_their_devices_once(make, count):
    if len(jax.devices()) < count:
        pytest.skip("needs two devices")
    place, _ = make()
    devices = tuple(jax.devices()[:count])
    records, again = place.records(RECORDS, devices), place.records(RECORDS, devices)
    np.testing.assert_array_equal(records.features, RECORDS.features)
    np.testing.assert_array_equal(records.labels, RECORDS.labels)
    assert records.features.dtype == np.uint8
    for leaf, twin in zip(jax.tree.leaves(records), jax.tree.leaves(again), strict=True):
        assert leaf.sharding.device_set == set(devices)
        pointers = [[shard.data.unsafe_buffer_pointer() for shard in each.addressable_shards] for each in (leaf, twin)]
        assert pointers[0] == pointers[1]
    assert len(place.placed) == 2 * count


def test_a_warning_is_shown_once_for_what_it_is_about(make):
    place, file = make()
    for about in ("a", "b", "a"):
        place.warn("too few", about=about)
    place.warn("other")
    place.warn("other")
    assert file.getvalue().splitlines() == ["warning: too few", "warning: too few", "warning: other"]


def test_a_failure_ends_a_strict_run_only(make):
    with pytest.raises(errors.InputError, match="went non-finite"):
        make(strict=True)[0].fail("went non-finite", about="a")
    place, file = make(strict=False)
    place.fail("went non-finite", about="a")
    place.fail("went non-finite", about="a")
    assert file.getvalue() == "warning: went non-finite\n"


def test_a_stage_is_shown_and_logged(make, tmp_path):
    place, file = make()
    with place.stage("training", total=2) as advance:
        advance(2)
    assert file.getvalue().startswith("training ")
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert set(entry) == {"stage", "seconds", "peak_mib"}
    assert entry["stage"] == "training"
    assert entry["peak_mib"] > 0
