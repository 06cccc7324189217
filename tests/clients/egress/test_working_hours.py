"""Nights belong to the day that they begin on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.egress.working_hours import WEEK, WorkingHours

_MONDAY = datetime(2026, 11, 23)


def _at(day: str, clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return _MONDAY + timedelta(days=WEEK.index(day), hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("hours", "days", "day", "clock", "expected"),
    [
        ("", (), "wed", "03:00", True),
        ("", ("mon",), "mon", "00:00", True),
        ("", ("mon",), "mon", "23:59", True),
        ("", ("mon",), "tue", "00:00", False),
        ("09:00-17:00", (), "sun", "08:59", False),
        ("09:00-17:00", (), "sun", "09:00", True),
        ("09:00-17:00", (), "sun", "16:59", True),
        ("09:00-17:00", (), "sun", "17:00", False),
        ("09:00-17:00", ("mon",), "tue", "12:00", False),
        ("20:00-06:00", (), "sat", "19:59", False),
        ("20:00-06:00", (), "sat", "20:00", True),
        ("20:00-06:00", (), "sat", "05:59", True),
        ("20:00-06:00", (), "sat", "06:00", False),
        ("20:00-06:00", ("fri",), "fri", "23:00", True),
        ("20:00-06:00", ("fri",), "sat", "05:00", True),
        ("20:00-06:00", ("fri",), "fri", "05:00", False),
        ("20:00-06:00", ("fri",), "sat", "21:00", False),
        ("20:00-06:00", ("sun",), "mon", "02:00", True),
        ("20:00-20:00", ("mon",), "tue", "19:59", True),
        ("20:00-20:00", ("mon",), "mon", "19:59", False),
    ],
)
def test_hours(hours: str, days: tuple[str, ...], day: str, clock: str, expected: bool) -> None:
    assert WorkingHours(hours, days).include(_at(day, clock)) is expected


@given(st.times(), st.times(), st.sets(st.sampled_from(WEEK), min_size=1))
def test_a_week_has_as_many_minutes_as_its_days_allow(start: object, end: object, days: set[str]) -> None:
    hours = f"{start:%H:%M}-{end:%H:%M}"
    found = WorkingHours(hours, tuple(days))
    opened = sum(found.include(_MONDAY + timedelta(minutes=15 * step)) for step in range(4 * 24 * 7))
    once = sum(WorkingHours(hours).include(_MONDAY + timedelta(minutes=15 * step)) for step in range(4 * 24))
    assert opened == once * len(days)


@pytest.fixture
def zurich() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Zurich"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.__setitem__("TZ", before)
    time.tzset()


@pytest.mark.usefixtures("zurich")
def test_hours_are_those_of_the_site() -> None:
    hours = WorkingHours("20:00-06:00", ("mon",))
    assert hours.include(datetime(2026, 11, 23, 19, 30, tzinfo=UTC))
    assert not hours.include(datetime(2026, 11, 23, 18, 30, tzinfo=UTC))


def test_they_are_said_in_words() -> None:
    assert str(WorkingHours("20:00-06:00", ("mon", "tue"))) == "20:00-06:00 on mon tue"
    assert str(WorkingHours()) == "at any time"
