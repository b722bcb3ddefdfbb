"""What a person sees while work is going on: a bar for each stage with what remains, or plain lines in a log."""

import contextlib
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress


class Progress:
    """Shows stages on a console; where that is no terminal, a line at the end of each."""

    def __init__(self, console: rich.console.Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    def warn(self, text: str) -> None:
        """Shows a line that must not be overlooked."""
        self.console.print(f"warning: {text}", style="bold yellow", highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def stage(self, title: str, *, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Shows one stage while the block runs.

        Args:
          title: what is being done.
          total: steps to the end, None where that is not known.

        Yields:
          `advance(steps)`, to be called between compiled segments.
        """
        columns = (
            rich.progress.TextColumn("{task.description:<44}", markup=False),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
        )
        start = time.perf_counter()
        with rich.progress.Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bar:
            task = bar.add_task(title, total=total)
            yield lambda steps: bar.advance(task, steps)
        self.seconds[title] = time.perf_counter() - start
        self.console.print(f"{title:<52} {self.seconds[title]:7.1f} s", highlight=False, markup=False)
