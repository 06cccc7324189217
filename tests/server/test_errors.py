from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.errors import LONGEST_REASON, safe_reason


@given(st.text(max_size=600))
def test_a_reason_is_one_short_printable_line(text: str) -> None:
    reason = safe_reason(text)
    assert len(reason) <= LONGEST_REASON
    assert reason.isprintable()


def test_only_the_first_line_stays_and_colours_go() -> None:
    assert safe_reason("\x1b[36mout of\tmemory\x1b[0m\npatient 4711") == "out of memory"
    assert safe_reason("x" * 500) == "x" * 197 + "..."
    assert safe_reason(" \n ") == ""
