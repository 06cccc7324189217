"""The tensors of an answer: the contract's, finite, within the norms of the policy."""

from __future__ import annotations

import math

import numpy as np

from clients.egress.refused import EgressRefused
from clients.egress.terms import Terms
from fedmedpeft.exchange import ContractError, EncodedState, PeftState


def check_initial(encoded: EncodedState, terms: Terms) -> None:
    """Of a site that joins: the state that all sites start from, which nothing was trained on. Raises EgressRefused."""
    if _admitted(encoded, terms).hash() != terms.start_hash:
        raise EgressRefused("another initial state than the one that all sites start from")


def check_update(encoded: EncodedState, terms: Terms) -> None:
    """Of a visit. Raises EgressRefused."""
    state, most = _admitted(encoded, terms), terms.section.most_update_norm
    if not most:
        return
    if terms.start is None:
        raise EgressRefused("updates are limited, and it is not known what this one started from")
    if _distance(state, terms.start.only(state.manifest)) > most:
        raise EgressRefused(f"an update above the norm that may leave (most-update-norm: {most:g})")


def _admitted(encoded: EncodedState, terms: Terms) -> PeftState:
    assert terms.contract is not None  # the rules of records let no array pass without one
    try:
        state = terms.contract.admit(encoded)
    except ContractError as error:
        raise EgressRefused(f"contract: {error}") from error
    if state.norm() > terms.section.most_norm:
        raise EgressRefused(f"a state above the norm that may leave (most-norm: {terms.section.most_norm:g})")
    return state


def _distance(one: PeftState, other: PeftState) -> float:
    squares = (np.square(v.astype(np.float64) - other.vectors[part]).sum() for part, v in one.vectors.items())
    return math.sqrt(sum(map(float, squares)))
