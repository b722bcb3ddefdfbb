"""The same levels again and again, from other seeds: how often an audit exceeds what a defence promises."""

import numpy as np

from fedmia_jax.report import tables
from fedmia_jax.report.mitigations import frontier


def to_table(levels: frontier.Levels, *, title: str) -> tables.Table:
    """Returns what audits of many runs say of every level, beside what is promised.

    Args:
      levels: points of a sweep over seeds; those with one label are runs of one level.
      title: what the runs were on.
    """
    lines = []
    for label in dict.fromkeys(level.label for level in levels.points):
        some = [level for level in levels.points if level.label == label]
        audited = np.array([np.nan if level.audited is None else level.audited for level in some])
        stated = np.array([np.nan if level.promised is None else level.promised for level in some])
        promised = None if np.isnan(stated).all() else float(np.nanmax(stated))
        above = "-" if promised is None else f"{int(np.sum(audited > stated))}"
        cells = [f"{len(some)}", tables.mean(np.concatenate([level.test_accuracy for level in some]))]
        cells += ["-" if promised is None else f"{promised:.2f}", f"{np.median(audited):.2f}"]
        lines.append([label, *cells, f"{audited.min():.2f}", f"{audited.max():.2f}", above])
    caption = (
        f"Lower bounds on epsilon of {levels.attack} under {levels.widest}, each at 95%, from canaries; promised: the "
        "largest that the accountant states for a run of the level. A bound above a promise that holds is an error; "
        "it may happen in 5% of the runs."
    )
    header = ["defence", "runs", "test", "promised", "audited\nmedian", "least", "largest", "above\npromise"]
    return tables.Table(f"Audited against promised; {title}", header, lines, caption)
