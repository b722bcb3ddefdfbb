"""Records in blocks: every record is in one, all are of one size and none is larger than asked for."""

import numpy as np
import pytest

from fedmia_jax.audit import blocks


@pytest.mark.parametrize("most", [1, 7, 1_023, 1_024, 2_500, 4_096])
@pytest.mark.parametrize("num_records", [1, 8, 1_025, 4_095, 4_097, 10_000])
def test_blocks_hold_every_record_and_are_of_one_size(num_records, most):
    cut = blocks.cut(num_records, most=most)
    if num_records <= most:
        assert cut == [slice(None)]
        return
    assert len({len(rows) for rows in cut}) == 1
    assert len(cut[0]) <= most
    assert np.array_equal(np.unique(np.concatenate(cut)), np.arange(num_records))
    assert all(len(np.unique(rows)) == len(rows) for rows in cut)
    assert len(cut) * len(cut[0]) < num_records + (len(cut) + 1) * min(most, blocks.RUN)


def test_a_block_has_records_from_everywhere():
    (first, *_) = blocks.cut(100_000, most=10_000)
    assert first.min() < 10_000
    assert first.max() > 90_000
