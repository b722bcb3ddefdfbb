"""Checks that every number in the documents is what its source says.

    python .ci/docs                          # check; exit code 1 and a line for each number that is not
    python .ci/docs --write                  # put the numbers of the sources into the documents, and lock what has none
    python .ci/docs --take WORKDIR FOLDER    # commit the report of a run: its page, pictures, settings and seconds
    python .ci/docs --mutate 20 --seed 0     # change so many numerals, one at a time; how many make the check fail

How a document names its sources is said in `documents.py`, what it may name in `sources.py`.
"""

import argparse
import pathlib
import sys

import repository
import sources


def main() -> int:
    """Does what the flags say; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python .ci/docs", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the numbers of the sources into the documents")
    parser.add_argument("--take", nargs=2, metavar=("WORKDIR", "FOLDER"), help="commit the report of a run")
    parser.add_argument("--mutate", type=int, metavar="NUMBER", help="change numerals, one at a time")
    parser.add_argument("--seed", type=int, default=0, help="which numerals are changed")
    asked = parser.parse_args()
    documents = repository.Repository(sources.ROOT, repository.all_names())
    if asked.take:
        repository.take(pathlib.Path(asked.take[0]), pathlib.Path(asked.take[1]))
        sources.forget()
    if asked.write or asked.take:
        documents.write()
    wrong = documents.check()
    print("\n".join(wrong) if wrong else f"{documents.count()} numerals are what their sources say")
    if asked.mutate and not wrong:
        missed = documents.mutate(asked.mutate, asked.seed)
        print(
            "\n".join(missed),
            f"{asked.mutate - len(missed)} of {asked.mutate} changed numerals make the check fail",
            sep="\n",
        )
        return int(len(missed) > asked.mutate // 20)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
