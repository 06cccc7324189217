"""Names of sites: they end up in tables, in file names and in messages, so both sides accept the same ones."""

from __future__ import annotations

import re

_SITE_NAME = re.compile(r"\w[\w .:'()&,-]{0,63}")
RULE = "1 to 64 letters, digits, spaces or any of . : _ - ' ( ) & , and begins with a letter or digit"


def is_site_name(name: str) -> bool:
    """Whether ``name`` can stand in a table and as the name of a file.

    >>> is_site_name("Charité (Mitte)"), is_site_name("../a")
    (True, False)
    """
    return _SITE_NAME.fullmatch(name) is not None
