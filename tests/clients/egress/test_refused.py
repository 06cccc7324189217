"""A refusal's words are for the server: short, on one line, and without places on the site's disk."""

from __future__ import annotations

import pytest

from clients.egress.refused import EgressRefused, safe_refusal
from fedmedpeft.exchange import Refusal, SiteError


@pytest.mark.parametrize(
    "reason",
    ["two\nlines", "\x1b[31mred", "x" * 601, "file /data/4711.png", "'/etc/passwd'", "C:\\data", "~/images", "(/a"],
)
def test_words_that_may_say_too_much_stay(reason: str) -> None:
    refusal = safe_refusal(SiteError(Refusal.DATA, reason))
    assert refusal.code is Refusal.DATA
    assert refusal.reason == "refused; the site's log says why"


@pytest.mark.parametrize(
    "reason",
    ["method 'full' is not allowed here (allowed: lora)", "1/3 of it", "train / val / test", "trains only 20:00-06:00"],
)
def test_ordinary_words_leave(reason: str) -> None:
    refusal = SiteError(Refusal.POLICY, reason)
    assert safe_refusal(refusal) is refusal


def test_the_gates_own_refusal_leaves() -> None:
    refusal = EgressRefused("a record that no such answer has")
    assert (refusal.code, safe_refusal(refusal)) == (Refusal.EGRESS, refusal)
