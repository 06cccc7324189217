"""The global state at a site whose messages hold only a part of it: what came, on top of what is there."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fedmedpeft.exchange import Contract, PeftState, Refusal, SiteError, VisitRequest
from fedmedpeft.methods import Rotation

_GLOBAL = "global/"


def kept_state(state: PeftState, rotation: Rotation) -> dict[str, torch.Tensor]:
    """What the site's store must keep of ``state`` for later messages; nothing where each brings all of it."""
    if not rotation:
        return {}
    return {f"{_GLOBAL}{name}": torch.tensor(values) for name, values in state.tensors().items()}


def from_server(kept: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What of the store's tensors only repeats what the server sent."""
    return {name: tensor for name, tensor in kept.items() if name.startswith(_GLOBAL)}


def whole_state(
    request: VisitRequest, rotation: Rotation, contract: Contract, initial: PeftState, kept: Mapping[str, torch.Tensor]
) -> PeftState:
    """The whole global state that the server means.

    Args:
        request: brings the groups that it names and all that takes no turns.
        rotation: of this site's learner.
        contract: of the whole.
        initial: where all sites started; what the server did not send may still be as it was then.
        kept: what the store has, :func:`kept_state` of an earlier visit among it.

    Raises:
        ContractError: what came, or the whole, breaks the contract.
        SiteError: the whole is not the one that the server means: this site missed something, or lost its store.
    """
    manifest = contract.manifest
    came = contract.over(rotation.part(manifest, rotation.read(request.sends))).admit(request.state)
    if not rotation:
        return came
    last = {name.removeprefix(_GLOBAL): tensor.numpy() for name, tensor in kept.items() if name.startswith(_GLOBAL)}
    bases = [PeftState.from_tensors(manifest, last)] if last else []
    for base in (*bases, initial.only(manifest)):
        whole = base.updated(came)
        if whole.hash() == request.state_hash:
            return contract.admit(whole.encode())
    raise SiteError(Refusal.STATE, "its copy of the global state is stale")
