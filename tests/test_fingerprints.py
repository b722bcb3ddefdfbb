"""Fingerprints: the same content, and only that, gives the same text."""

import numpy as np
import pytest

from fedmia_jax import fingerprints


def test_a_digest_sees_content_type_and_shape():
    arrays = [np.arange(6), np.arange(6, dtype=np.int32), np.arange(6).reshape(2, 3), np.arange(6)[::-1]]
    assert len({fingerprints.digest(array) for array in arrays}) == 4
    assert fingerprints.digest(arrays[0], arrays[1]) != fingerprints.digest(arrays[1], arrays[0])
    assert fingerprints.digest(np.arange(12)[::2]) == fingerprints.digest(np.arange(0, 12, 2))


def test_a_fingerprint_sees_every_content_but_not_the_order_of_names():
    contents = [
        (),
        (None,),
        ("a",),
        ("b",),
        (0,),
        (0.5,),
        (["a"],),
        ({"a": 1},),
        ({"a": 2},),
        ({"a": 1}, 3),
        (3, {"a": 1}),
    ]
    assert len({fingerprints.fingerprint(*content) for content in contents}) == len(contents)
    assert fingerprints.fingerprint({"a": 1, "b": 2}) == fingerprints.fingerprint({"b": 2, "a": 1})
    assert fingerprints.fingerprint((1.0, 2)) == fingerprints.fingerprint([1.0, 2])


def test_they_are_short_texts_and_the_same_in_every_process():
    """By the published hash of the text of the contents."""
    assert fingerprints.fingerprint() == "4f53cda18c2baa0c"  # SHA-256 of []
    assert fingerprints.digest() == "e3b0c44298fc1c14"  # SHA-256 of nothing


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_has_no_fingerprint(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprints.fingerprint({"rate": number})
