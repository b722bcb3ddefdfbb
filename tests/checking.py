"""The checker of signatures in tests: an integer will do where a float is asked for, as everywhere in Python."""

import beartype

typechecker = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
