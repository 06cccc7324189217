from __future__ import annotations

import pickle

from fedmedpeft.data.errors import DataError


def test_the_public_sentence_says_nothing_of_the_message() -> None:
    error = DataError("patient-7/scan.png is truncated")
    assert "patient-7" in str(error)
    assert "patient-7" not in error.public
    assert error.public


def test_the_public_sentence_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(DataError("secret", public="An image file is missing.")))
    assert (str(error), error.public) == ("secret", "An image file is missing.")
