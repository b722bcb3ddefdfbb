"""Protocols ranked by their distance from the paper."""

import made_up
import polars as pl

from fedmia_jax.report import ranking


def test_protocols_are_ranked_by_their_distance():
    """Known shifts from the paper: the smallest first, one that exploded last."""
    swept = ("model.dropout_rate", "data.num_classes")
    broken = made_up.of_protocol(0.9, 0.0).with_columns(pl.lit(None, pl.Float64).alias("accuracy"))
    results = pl.concat([made_up.of_protocol(0.2, 0.03), broken, made_up.of_protocol(0.5, -0.01)])
    assert ranking.applies(results, swept)
    rows = ranking.rank(results, swept=swept, title="made up").rows
    assert [row[:2] for row in rows] == [["1", "0.5"], ["2", "0.2"], ["3", "0.9"]]
    assert set(rows[0][2:]) == {"0.010"}
    assert set(rows[1][2:]) == {"0.030"}
    assert set(rows[2][2:]) == {"-"}
    for others, names in (
        (made_up.of_protocol(0.2, 0.0), swept),  # one protocol
        (results.filter(pl.col("data.num_classes") == 10), swept),  # one cell
        (results, ("data.num_classes",)),  # nothing that tells protocols apart
        (results.with_columns(pl.lit(7).alias("federation.nodes")), swept),  # not the paper's grid
    ):
        assert not ranking.applies(others, names)
