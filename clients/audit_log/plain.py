"""Values that a line of the audit log may hold: numbers, hashes, plain names and public sentences, nothing else.

Some come from a server that nobody at the site trusts. Those are never refused, as what was asked must be noted
whatever it is: what is not plain is replaced by something that is.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from fedmedpeft.exchange.messages import Refusal
from fedmedpeft.section import as_tuple
from fedmedpeft.site_names import RULE, is_site_name

LONGEST_SENTENCE = 500
_PLAIN = re.compile(r"(\w[\w .:'()&,@/+%=-]{0,79})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def plain_name(text: Any) -> Any:
    """``text`` where it is a plain name, or empty; else one that stands for it and is the same every time.

    >>> plain_name("lora-run 2"), plain_name("a\\nb")
    ('lora-run 2', 'not-plain-7e18f9a54235')
    """
    if not isinstance(text, str) or _PLAIN.fullmatch(text):
        return text
    return f"not-plain-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def sentence(text: Any) -> Any:
    """``text`` in one line of printable characters, at most :data:`LONGEST_SENTENCE` of them.

    >>> sentence("norm \\x1b[31mtoo\\nlarge ")
    'norm [31mtoo large'
    """
    if not isinstance(text, str):
        return text
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST_SENTENCE else f"{line[: LONGEST_SENTENCE - 1]}…"


def _digest_or_none(text: Any) -> Any:
    return text if not isinstance(text, str) or _DIGEST.fullmatch(text) else None


def _finite_or_none(number: Any) -> Any:
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _site(name: str) -> str:
    if not is_site_name(name):
        raise ValueError(f"is not {RULE}")
    return name


def _refusal(code: str) -> str:
    if code not in Refusal.__members__:
        raise ValueError(f"is none of {', '.join(Refusal.__members__)}")
    return code


Name = Annotated[str, BeforeValidator(plain_name)]
Names = Annotated[tuple[Name, ...], BeforeValidator(as_tuple)]
Site = Annotated[str, AfterValidator(_site)]
Sentence = Annotated[str, BeforeValidator(sentence)]
Code = Annotated[str, AfterValidator(_refusal)]
"""The name of a :class:`Refusal`."""
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!_-]{0,39}$")]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
"""UTC, ISO 8601."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, in hexadecimal digits."""
ClaimedDigest = Annotated[str | None, BeforeValidator(_digest_or_none)]
"""A digest that came from the server; None where it was none."""
Finite = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""None also where it was infinite or not a number."""
Count = Annotated[int, Field(ge=0)]
