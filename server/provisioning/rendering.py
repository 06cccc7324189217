"""Texts of kits, from the templates beside this module."""

from __future__ import annotations

import json
from importlib.resources import files

import jinja2


def render(template: str, **values: object) -> bytes:
    """``templates/<template>.jinja`` with ``values``; one that is missing is an error, and nothing is escaped."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["quoted"] = _quoted
    text = files("server.provisioning").joinpath("templates", f"{template}.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render(**values).encode()


def _quoted(text: str) -> str:
    """A string of YAML and TOML: names of sites may hold colons and quotes."""
    return json.dumps(text, ensure_ascii=False)
