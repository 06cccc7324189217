"""What an answer may hold of a PEFT state: what the egress gate compares it with, from the site's own knowledge."""

from __future__ import annotations

from clients.global_state import whole_state
from clients.inbound import moved
from clients.requests import Reply, Request
from clients.worker import SiteWorker
from fedmedpeft.exchange import Contract, JoinRequest, PeftState, Refusal, SiteError, VisitReply, VisitRequest


def bounds(worker: SiteWorker, request: Request) -> tuple[Contract | None, PeftState | None]:
    """The contract of the tensors that may be in the answer to ``request`` (None where there may be none), and the
    whole state that they were trained from.

    Raises:
        ContractError: the state that came breaks the contract.
        SiteError: the site no longer has the rest of a state of which a part came.
    """
    if isinstance(request, JoinRequest):
        return worker.contract, worker.initial
    if not isinstance(request, VisitRequest) or request.last:
        return None, None
    rotation, store = worker.learner.rotation, worker.store
    contract = worker.contract.over(rotation.part(worker.contract.manifest, rotation.read(request.train)))
    for kept in (store.load(request.run), store.load_before(request.run)):
        try:
            return contract, whole_state(request, rotation, worker.contract, worker.initial, kept)
        except SiteError:
            continue
    raise SiteError(Refusal.STATE, "it no longer knows which state it was sent")


def change(reply: Reply, contract: Contract | None, start: PeftState | None) -> float | None:
    """Euclidean norm of what training changed in the tensors that leave; None without training."""
    if not isinstance(reply, VisitReply) or reply.state is None or contract is None or start is None:
        return None
    return moved(contract.admit(reply.state), (start.only(contract.manifest),))
