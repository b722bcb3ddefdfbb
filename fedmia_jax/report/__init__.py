"""What a person reads of a finished run: terminal tables, `report.md` and the figures."""

import polars as pl
import rich.console

from fedmia_jax import store
from fedmia_jax.report import figures, tables


def write(workdir: store.Workdir, results: pl.DataFrame, *, title: str, console: rich.console.Console) -> None:
    """Prints the tables and writes `report.md` and `figures/*.png`.

    Args:
      workdir: where the files go.
      results: the results table.
      title: what the run was on; it stands in every heading, so that no figure can lose it.
      console: the terminal.
    """
    made = tables.make_tables(results)
    for table in made:
        console.print(table.to_rich())
    pictures = figures.draw(workdir, results, title=title)
    parts = [f"# Leakage of a sequential federation: {title}", *(table.to_markdown() for table in made)]
    parts += [f"![{name}](figures/{name}.png)" for name in pictures]
    workdir.write_text("report.md", "\n\n".join(parts) + "\n")
