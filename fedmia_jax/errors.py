"""The one exception that means "your input is wrong", as opposed to a bug of ours."""


class InputError(ValueError):
    """A config field, file or flag that cannot be used.

    Its message is one line that names the field (or the file and line), the value and the cure; `launch.py` prints
    that line and ends with exit code 2.
    """
