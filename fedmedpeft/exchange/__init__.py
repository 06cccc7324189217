"""All that crosses the wire: PEFT state, manifest, contract, messages, Flower's records, byte counts.

Importing this package imports neither torch nor Flower; :mod:`fedmedpeft.exchange.flower` alone imports Flower.
"""

from fedmedpeft.exchange.contract import Contract, ContractError
from fedmedpeft.exchange.manifest import Manifest, TensorSpec
from fedmedpeft.exchange.messages import (
    AnswersReply,
    AnswersRequest,
    JoinReply,
    JoinRequest,
    ReferenceReply,
    ReferenceRequest,
    Refusal,
    Scores,
    SiteError,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.exchange.peft_state import EncodedState, PeftState

__all__ = [
    "AnswersReply",
    "AnswersRequest",
    "Contract",
    "ContractError",
    "EncodedState",
    "JoinReply",
    "JoinRequest",
    "Manifest",
    "PeftState",
    "ReferenceReply",
    "ReferenceRequest",
    "Refusal",
    "Scores",
    "SiteError",
    "TensorSpec",
    "VisitReply",
    "VisitRequest",
]
