"""Prints every field with its default and its meaning: `python -m fedmia_jax.config`."""

import os
import sys

from fedmia_jax.config import schema


def main() -> None:
    """Prints the fields; a reader that closes the pipe early is no error."""
    try:
        for name, declaration in schema.fields().items():
            choices = declaration.metadata["choices"]
            meaning = declaration.metadata["help"] + (f" ({', '.join(choices)})" if choices else "")
            meaning += "; traced: values of a sweep share a program" if declaration.traced else ""
            print(f"--config.{name}={'' if declaration.default is None else declaration.default}\n    {meaning}")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more can be said


if __name__ == "__main__":
    main()
