"""Fingerprints: short hashes by which outcomes and experiments are found again."""

import hashlib
import json
from typing import Any

import numpy as np

DIGITS = 16  # hexadecimal
ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False)


def fingerprint(*contents: Any) -> str:
    """Returns a hash of mappings, sequences, numbers, strings and None."""
    return hashlib.sha256(ENCODER.encode(contents).encode()).hexdigest()[:DIGITS]


def digest(*arrays: np.ndarray) -> str:
    """Returns a hash of the content of arrays, their shapes and types included."""
    content = hashlib.sha256()
    for array in arrays:
        content.update(f"{array.dtype.str}{array.shape};".encode() + np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:DIGITS]
