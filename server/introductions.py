"""Before the first round: ask every node who it is, and fetch the state that all start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmedpeft.backbones import load_record
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import ContractError, EncodedState, JoinReply, JoinRequest, PeftState
from fedmedpeft.exchange import flower as wire
from fedmedpeft.privacy.units import UNITS
from fedmedpeft.site_names import RULE, is_site_name
from fedmedpeft.tasks import build_task
from server.agreement import agree_on_classes
from server.claims import check_samples, check_skipped, out_of_proportion
from server.courier import Answer, Courier
from server.errors import FederationError, safe_reason
from server.joining import Federation, LeftOut, Site, agree
from server.nodes import registered_names


@dataclass(frozen=True)
class Joined:
    """Initial global state (None where nothing is federated), and the raw answers by node, for their byte counts."""

    federation: Federation
    state: PeftState | None
    answers: Mapping[int, Answer]


def join(courier: Courier, config: RunConfig, run: str, nodes: Sequence[int]) -> Joined:
    """Ask every node to introduce itself; check, and fetch the initial state (federated runs only).

    Raises:
        ConfigError: the configured backbone, method or list of answers cannot be used.
        FederationError: too few sites agree, or there are no classes to agree on.
    """
    courier.names.update(registered_names(courier.grid))
    backbone = load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)
    federated, task = config.mode == "federated", build_task(config.task)
    classes = agree_on_classes(courier, config, task, run, nodes)
    sent = None if classes is None else "\n".join(classes)
    asked = {flag: JoinRequest(run, flag, sent) for flag in (False, True)}
    answers = courier.ask("join", wire.JOIN, {node: asked[federated and node == nodes[0]] for node in nodes})
    replies, left_out = read_replies(answers, courier.names)
    # Of a reference nothing is averaged, so a site's size gives it no weight.
    for node, reason in (out_of_proportion(replies, config.weighting) if federated else {}).items():
        left_out.append(LeftOut(node, replies.pop(node).site, safe_reason(reason)))
    federation = agree(replies, config, backbone, left_out, classes)
    courier.names.update({site.node: site.name for site in federation.sites})
    given = {node: reply.state for node, reply in replies.items() if reply.state is not None}
    state = fetch_initial_state(courier, federation, federation.sites, asked[True], given) if federated else None
    return Joined(federation, state, answers)


def read_replies(answers: Mapping[int, Answer], names: Mapping[int, str]) -> tuple[dict[int, JoinReply], list[LeftOut]]:
    """Decode introductions; the second part says who has no valid one.

    Args:
        answers: by node.
        names: that are known of nodes. A site whose key was registered under a name has no other.
    """
    replies: dict[int, JoinReply] = {}
    left_out: list[LeftOut] = []
    for node in sorted(answers):
        answer = answers[node]
        try:
            if answer.content is None:
                raise ContractError(answer.failure)
            reply = wire.decode_join_reply(answer.content)
            if not is_site_name(reply.site):
                raise ContractError(f"its name is not {RULE}")
            if names.get(node, reply.site) != reply.site:
                raise ContractError(f"calls itself '{reply.site}', and its key is registered for '{names[node]}'")
            if reply.site in {known.site for known in replies.values()}:
                raise ContractError(f"the name '{reply.site}' is taken by another site")
            if reply.private not in ("", *UNITS):
                raise ContractError("trains with a privacy that is none")
            check_samples(reply.samples)
            check_skipped(reply.skipped)
            replies[node] = reply
        except ContractError as error:
            left_out.append(LeftOut(node, names.get(node, f"node {node}"), safe_reason(str(error))))
        except Exception as error:
            # A broken site chooses these bytes: no way of failing to read them may end the run.
            reason = f"its introduction cannot be decoded ({type(error).__name__})"
            left_out.append(LeftOut(node, names.get(node, f"node {node}"), reason))
    return replies, left_out


def fetch_initial_state(
    courier: Courier,
    federation: Federation,
    sites: Sequence[Site],
    request: JoinRequest,
    given: Mapping[int, EncodedState],
    phase: str = "join",
) -> PeftState:
    """The initial state that all sites vouch for, from the first of ``sites`` whose state has the agreed hash.

    Args:
        courier: to the sites.
        federation: they agree on it.
        sites: may be asked for it.
        request: to give it.
        given: what sites have given already, by node.
        phase: whose traffic this is.

    Raises:
        FederationError: no site could give it.
    """
    for site in sites:
        encoded = given.get(site.node)
        if encoded is None:
            again, _ = read_replies(courier.ask(phase, wire.JOIN, {site.node: request}), courier.names)
            encoded = again[site.node].state if site.node in again else None
        try:
            if encoded is not None:
                state = federation.contract.admit(encoded)
                if state.hash() == federation.state_hash:
                    return state
        except ContractError:
            continue
    raise FederationError("No site could give the initial PEFT state that all of them vouch for; see the sites' logs.")
