"""The documents of the repository: checked, written, changed at random, and the reports of runs that they quote."""

import dataclasses
import hashlib
import json
import pathlib
import random
import re
import shutil
import types
from typing import Any

import adversaries
import documents
import mitigations
import PIL.Image
import records
import sources

LOCK = "docs/locked.json"
REPORTS = ("docs/**/report.md", "docs/**/run.json", "docs/reproduction/search/*.md")  # what runs have written
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md")
DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
CURE = "see .ci/docs/__main__.py; `python .ci/docs --write` writes what sources say and locks what has none"


def all_names() -> dict[str, Any]:
    """Returns all that the programs in documents may name."""
    return names(sources, adversaries) | {"records": records, "mitigations": mitigations}


def names(*modules: types.ModuleType) -> dict[str, Any]:
    """Returns the public names of modules."""
    return {name: value for module in modules for name, value in vars(module).items() if not name.startswith("_")}


@dataclasses.dataclass(frozen=True)
class Repository:
    """A folder with documents.

    Attributes:
      root: the folder.
      names: what the programs in documents may name.
    """

    root: pathlib.Path
    names: dict[str, Any]

    def pages(self) -> list[str]:
        """Returns the documents that people write, relative to the root."""
        return sorted(set(self._match(PAGES)) - set(self.reports()))

    def reports(self) -> list[str]:
        """Returns what runs have written and nobody may change."""
        return self._match(REPORTS)

    def check(self) -> list[str]:
        """Returns what is wrong, a line each."""
        locks = self._locks()
        wrong = [line for page in self.pages() for line in self.check_page(page, (self.root / page).read_text(), locks)]
        for report in self.reports():
            if locks.get(report) != self._digest(report):
                wrong.append(f"{report} is not what its run wrote")
        wrong += [f"{path} is locked and not there" for path in locks if not (self.root / path).exists()]
        return [*wrong, CURE] if wrong else []

    def check_page(self, page: str, text: str, locks: dict[str, str]) -> list[str]:
        """Returns what is wrong with a document, were this its text."""
        wrong = [f"{page}: {line}" for line in documents.render(text, dict(self.names))[1]]
        if locks.get(page) != documents.locked(text):
            wrong.append(f"{page}: digits have changed in code, a name, the number of a list or what a command made")
        return wrong

    def write(self) -> None:
        """Puts the numbers of the sources into all documents, and locks what has no source."""
        locks = {report: self._digest(report) for report in self.reports()}
        for page in self.pages():
            made = documents.render((self.root / page).read_text(), dict(self.names))[0]
            (self.root / page).write_text(made)
            locks[page] = documents.locked(made)
        (self.root / LOCK).write_text(json.dumps(dict(sorted(locks.items())), indent=2) + "\n")

    def count(self) -> int:
        """Returns how many numerals have a source."""
        return sum(len(documents.numerals((self.root / page).read_text())) for page in self.pages())

    def mutate(self, number: int, seed: int) -> list[str]:
        """Changes numerals of documents, one at a time and wherever they stand, in memory.

        Args:
          number: how many.
          seed: which ones, and to what.

        Returns:
          A line for each change that the check does not see.
        """
        rng, locks, missed = random.Random(seed), self._locks(), []
        texts = {page: (self.root / page).read_text() for page in self.pages()}
        places = [
            (page, match)
            for page, text in texts.items()
            for match in DIGITS.finditer(documents.COMMENT.sub(lambda old: re.sub(r"\d", "x", old[0]), text))
        ]
        for page, match in rng.sample(places, number):
            at = match.start() + rng.choice([i for i, sign in enumerate(match[0]) if sign.isdigit()])
            digit = rng.choice([other for other in "0123456789" if other != texts[page][at]])
            changed = texts[page][:at] + digit + texts[page][at + 1 :]
            if not self.check_page(page, changed, locks):
                missed.append(f"{page}: {match[0]}, changed at character {at} to {digit}, goes unseen")
        return missed

    def _match(self, patterns: tuple[str, ...]) -> list[str]:
        """Files that fit a pattern, relative to the root."""
        return sorted({path.relative_to(self.root).as_posix() for one in patterns for path in self.root.glob(one)})

    def _locks(self) -> dict[str, str]:
        """The digests, by file."""
        return json.loads((self.root / LOCK).read_text()) if (self.root / LOCK).exists() else {}

    def _digest(self, path: str) -> str:
        """The digest of a whole file."""
        return hashlib.blake2b((self.root / path).read_bytes(), digest_size=16).hexdigest()


def take(workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies what a finished run shows into a folder of the repository.

    Args:
      workdir: of the run.
      folder: where to; its `figures` are replaced.
    """
    if not (workdir / "report.md").exists():
        raise SystemExit(f"{workdir}: no report.md; has the run ended?")
    shutil.rmtree(folder / "figures", ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    shutil.copy(workdir / "report.md", folder / "report.md")
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", (workdir / "report.md").read_text()):
        with PIL.Image.open(workdir / picture) as image:  # 256 colours are enough, and a fourth of the bytes
            image.convert("RGB").quantize(256).save(folder / picture, optimize=True)
    stages: dict[str, float] = {}
    for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
        if "peak_mib" in line:
            stage = line["stage"].partition(":")[0]
            stages[stage] = round(stages.get(stage, 0.0) + line["seconds"], 1)
    run = json.loads((workdir / "config.json").read_text())
    settings = run["settings"]
    if settings["data"].get("path"):
        settings["data"]["path"] = pathlib.PurePath(settings["data"]["path"]).name
    environment = json.loads((workdir / "environment.json").read_text())
    content = {"title": run["title"], "seconds": stages, "settings": settings, "environment": environment}
    (folder / "run.json").write_text(json.dumps(content, indent=2) + "\n")
