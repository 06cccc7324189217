"""What a site can be asked: for each kind of request how it is read, and what of the worker answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from flwr.app import RecordDict

from fedmedpeft.exchange import ContractError
from fedmedpeft.exchange import flower as wire
from fedmedpeft.exchange.messages import (
    AnswersReply,
    AnswersRequest,
    JoinReply,
    JoinRequest,
    ReferenceReply,
    ReferenceRequest,
    VisitReply,
    VisitRequest,
)

if TYPE_CHECKING:  # Flower's processes do not load torch
    from clients.worker import SiteWorker

Kind = Literal["answers", "join", "visit", "reference"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Request = AnswersRequest | JoinRequest | VisitRequest | ReferenceRequest
Reply = AnswersReply | JoinReply | VisitReply | ReferenceReply

_DECODERS: dict[str, Callable[[RecordDict], Any]] = {
    "answers": wire.decode_answers_request,
    "join": wire.decode_join_request,
    "visit": wire.decode_visit_request,
    "reference": wire.decode_reference_request,
}


def read_request(kind: str, content: RecordDict) -> Request:
    """Raises ContractError for a kind that there is not, or a content that is not of it."""
    if kind not in _DECODERS:
        raise ContractError("asks for something that a site does not do")
    request: Request = _DECODERS[kind](content)
    return request


def act(worker: SiteWorker, request: Request) -> Reply:
    """Have the worker answer. Raises ContractError and SiteError as the worker does."""
    match request:
        case AnswersRequest():
            return worker.answers(request)
        case JoinRequest():
            return worker.join(request)
        case VisitRequest():
            return worker.visit(request)
        case ReferenceRequest():
            return worker.reference(request)
