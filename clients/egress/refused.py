"""The egress gate's refusal, and what of any refusal may be said to the server."""

from __future__ import annotations

import re

from fedmedpeft.exchange import Refusal, SiteError

LONGEST = 600
"""Characters of a refusal."""
_PATH = re.compile(r"(^|[\s'\"(=])(~?/\S|[A-Za-z]:\\)")


class EgressRefused(SiteError):  # noqa: N818 - it names what happens to the answer
    """An answer does not leave. The reason names the rule that it breaks, and nothing of the answer.

    Args:
        rule: half a sentence.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(Refusal.EGRESS, f"egress gate: {rule}")


def safe_refusal(refusal: SiteError) -> SiteError:
    """``refusal`` as it may leave: itself, or its code with other words where its own might say more than they should.

    Reasons are written for the server to see. This is the net below them: words on several lines, unprintable or very
    long ones, and any that hold an absolute path stay in the site's log.
    """
    reason = refusal.reason
    if reason.isprintable() and len(reason) <= LONGEST and not _PATH.search(reason):
        return refusal
    return SiteError(refusal.code, "refused; the site's log says why")
