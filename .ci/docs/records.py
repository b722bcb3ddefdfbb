"""What the committed reports of `configs/default.py` say, on each set of records."""

import re

import documents
import sources

RECORDS = ("synthetic", "orders", "retail", "location")
LATE = ("C2N1", "C2N2", "C2N3"), ("C5N1", "C5N2", "C5N3")


def path(records: str) -> str:
    """Returns the report on a set of records."""
    return f"docs/records/{records}/report.md"


def model(records: str, snapshot: str, column: str) -> sources.Number:
    """Returns a number of a hand-off, such as `N1 attack` or `union recall`."""
    return sources.cell(path(records), "Sequential federation", snapshot, column)


def central(records: str, column: str) -> sources.Number:
    """Returns a number of the centralised target."""
    return sources.cell(path(records), "Centralised training", "centralised", column)


def seconds(records: str) -> float:
    """Returns how long the run took."""
    return sum(sources.stored(f"docs/records/{records}/run.json")["seconds"].values())


def cores(records: str) -> int:
    """Returns on how many cores it ran."""
    return sources.stored(f"docs/records/{records}/run.json")["environment"]["cpu_count"]


def overview() -> documents.Table:
    """Returns the attack accuracies on all sets of records, a row each."""
    late = [f"attack on N1 after {' / '.join(snapshots)}" for snapshots in LATE]
    header = [
        "records; federation / test / shadow pool",
        "test",
        "attack, centralised",
        *late,
        "union, C5N3",
        "held out",
    ]
    return documents.Table(header, [_row(records) for records in RECORDS])


def _row(records: str) -> list[str]:
    """The row of one set of records."""
    cells = [central(records, "test"), central(records, "attack")]
    late = [" / ".join(model(records, snapshot, "N1 attack").text for snapshot in snapshots) for snapshots in LATE]
    held_out = sources.says(path(records), r"held-out shadows: ([\d.]+\d)")[0]
    union = model(records, LATE[-1][-1], "union attack").text
    return [f"{_title(records)}; {_pools(records)}", *(cell.text for cell in cells), *late, union, held_out]


def _title(records: str) -> str:
    """What the records are, without the name of a file."""
    return re.sub(r" of \S+\.\w+(?=,)", "", sources.stored(f"docs/records/{records}/run.json")["title"])


def _pools(records: str) -> str:
    """How the records are divided."""
    data = sources.stored(f"docs/records/{records}/run.json")["settings"]["data"]
    total = int(re.findall(r"([\d,]+) \w+ x ", _title(records))[0].replace(",", ""))
    rest = total - data["num_federation"] - data["num_test"]
    return f"{data['num_federation']:,} / {data['num_test']:,} / {data['num_shadow_pool'] or rest:,}"
