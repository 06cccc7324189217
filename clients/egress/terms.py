"""What a site knows by itself of an answer that is about to leave: all that the gate compares it with."""

from __future__ import annotations

from dataclasses import dataclass

from clients.policy_section import PolicySection
from fedmedpeft.exchange import Contract, PeftState
from fedmedpeft.tasks import Task


@dataclass(frozen=True)
class Terms:
    """Nothing here comes from the answer.

    Args:
        section: the policy.
        site: its name.
        fingerprint: of the backbone that it loaded.
        task: of the run, over its classes.
        contract: of the tensors that may be in this answer; None where there may be none.
        start: what these were before: the state that came or, when joining, the one that all sites start from.
    """

    section: PolicySection
    site: str
    fingerprint: str
    task: Task
    contract: Contract | None
    start: PeftState | None

    @property
    def classes(self) -> str:
        """As a site names them when it joins."""
        return "" if self.task.agrees else "\n".join(self.task.classes)

    @property
    def manifest_hash(self) -> str | None:
        return self.contract.manifest.hash if self.contract else None

    @property
    def start_hash(self) -> str | None:
        """Of what of the start may be in this answer."""
        if self.start is None or self.contract is None:
            return None
        return self.start.only(self.contract.manifest).hash()
