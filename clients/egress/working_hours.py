"""When a site trains: ``20:00-06:00`` on some days, by the clock of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from clients.policy_section import PolicySection

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class WorkingHours:
    """A stretch of each of some days.

    Args:
        hours: ``HH:MM-HH:MM``, its end not included; empty: all day. It may go over midnight: the hours after it are
            those of the day that the night began on. With a start that is its end it is 24 hours from there.
        days: of :data:`WEEK`; empty: all.
    """

    hours: str = ""
    days: tuple[str, ...] = ()

    @classmethod
    def of(cls, section: PolicySection) -> WorkingHours:
        return cls(section.hours, section.days)

    def include(self, moment: datetime) -> bool:
        """Whether ``moment`` lies within; one with a time zone is brought to that of this machine."""
        local = moment.astimezone() if moment.tzinfo else moment
        clock, today, yesterday = local.time(), _day(local), _day(local - timedelta(days=1))
        start, end = self._bounds()
        if start < end:
            return self._on(today) and start <= clock < end
        return (self._on(today) and clock >= start) or (self._on(yesterday) and clock < end)

    def __str__(self) -> str:
        return f"{self.hours or 'at any time'}{' on ' if self.days else ''}{' '.join(self.days)}"

    def _bounds(self) -> tuple[time, time]:
        if not self.hours:
            return time.min, time.min
        start, end = (time.fromisoformat(clock) for clock in self.hours.split("-"))
        return start, end

    def _on(self, day: str) -> bool:
        return not self.days or day in self.days


def _day(moment: datetime) -> str:
    return WEEK[moment.weekday()]
