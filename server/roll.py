"""Who of a federation's sites is there, and under which node: Flower gives a site another one in another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinReply, JoinRequest, PeftState
from fedmedpeft.exchange import flower as wire
from fedmedpeft.tasks import build_task
from server.courier import Courier
from server.errors import FederationError
from server.introductions import fetch_initial_state, read_replies
from server.joining import SPLITS, Federation, Site
from server.nodes import registered_names, wait_for_return
from server.visits import ABSENT

JOIN_AGAIN = "join again"
"""The phase in which the traffic of sites that come back is counted."""


@dataclass
class Roll:
    """The sites of a run. In one that was never interrupted all are there, as they joined.

    A site comes back under its own name, and only where it agrees on everything as it did when it joined. One that the
    run began without is not let in: it has no part in the agreement, in the draws of sites, and in the references.

    Args:
        courier: to the nodes.
        config: of the run.
        run: its name.
        federation: what the sites agreed on.
        sites: with the node of each; ``ABSENT`` where none is known.
    """

    courier: Courier
    config: RunConfig
    run: str
    federation: Federation
    sites: tuple[Site, ...]
    _turned_away: set[int] = field(default_factory=set, init=False)

    def call(self) -> tuple[Site, ...]:
        """All sites, by name; before that, those that are missing are looked for among the nodes that are new."""
        if self.missing:
            known = {site.node for site in self.sites} | self._turned_away
            self._look_at([node for node in sorted(self.courier.grid.get_node_ids()) if node not in known])
        return self.sites

    def call_again(self, least: int) -> None:
        """Find the sites after an interruption, as far as they are there; whoever is late may come back later.

        Raises:
            FederationError: fewer than ``least`` are there.
        """
        expected = len(self.sites) + len(self.federation.left_out)
        wait_for_return(self.courier.grid, expected, self.courier.timeout, self.courier.say)
        self.call()
        missing, there = ", ".join(self.missing), len(self.sites) - len(self.missing)
        if there < least:
            raise FederationError(
                f"{there} of the run's {len(self.sites)} sites are there again, {least} are needed; missing: {missing}."
                " Start their SuperNodes, then go on with the run once more."
            )
        if missing:
            self.courier.say(f"  Not there yet: {missing}. The run goes on without; who comes back takes part again.")

    @property
    def missing(self) -> list[str]:
        """Names of the sites that are not there."""
        return [site.name for site in self.sites if site.node == ABSENT]

    @property
    def request(self) -> JoinRequest:
        """To introduce itself again, with the classes that were agreed on."""
        classes = "\n".join(self.federation.classes) if self.federation.task.agrees else None
        return JoinRequest(self.run, False, classes)

    def initial_state(self) -> PeftState:
        """The state that all sites started from, from one of them. Raises FederationError where none gives it."""
        there = [site for site in self.sites if site.node != ABSENT]
        request = replace(self.request, send_state=True)
        return fetch_initial_state(self.courier, self.federation, there, request, {}, JOIN_AGAIN)

    def _look_at(self, nodes: Sequence[int]) -> None:
        if not nodes:
            return
        answers = self.courier.ask(JOIN_AGAIN, wire.JOIN, dict.fromkeys(nodes, self.request))
        names = registered_names(self.courier.grid)
        replies, unusable = read_replies(answers, names)
        reasons = {left.node: left.reason for left in unusable}
        for node, reply in replies.items():
            reason = self._differs(reply)
            if reason:
                reasons[node] = f"{reply.site}: {reason}"
            else:
                self.sites = tuple(replace(s, node=node) if s.name == reply.site else s for s in self.sites)
                self.courier.names[node] = reply.site
                self.courier.say(f"  {reply.site} is back.")
        for node, reason in reasons.items():
            self.courier.say(f"  {names.get(node, f'Node {node}')} takes no part: {reason}")
            # Whoever said nothing may do so before a later round; whoever said something else has been heard.
            if answers[node].content is not None:
                self._turned_away.add(node)

    def _differs(self, reply: JoinReply) -> str:
        """Why this is none of the missing sites; empty where it is one."""
        federation = self.federation
        site = next((site for site in self.sites if site.name == reply.site), None)
        if site is None:
            return "the run began without it"
        if site.node != ABSENT:
            return f"{site.name} is there already, as another node"
        task = build_task(self.config.task).of_data(tuple(reply.classes.split("\n")))
        same = {
            "list of classes": task.agrees or task.classes == federation.classes,
            "manifest of its PEFT state": reply.manifest_hash == federation.contract.manifest.hash,
            "fingerprint of its backbone": reply.fingerprint == federation.fingerprint,
            "initial PEFT state": reply.state_hash == federation.state_hash,
            "number of samples": {split: reply.samples.get(split, 0) for split in SPLITS} == dict(site.samples),
            "partition of the data": reply.partition_hash == site.partition_hash,
            "privacy": reply.private == site.private,
        }
        changed = [what for what, equal in same.items() if not equal]
        return f"it has another {', '.join(changed)} than when it joined" if changed else ""
