"""Before sites join: the classes of the run, where no data names them and the federation agrees on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import AnswersReply, AnswersRequest, ContractError
from fedmedpeft.exchange import flower as wire
from fedmedpeft.site_names import RULE, is_site_name
from fedmedpeft.starting_state import given_classes
from fedmedpeft.tasks import Task
from fedmedpeft.tasks.answers import MOST, check_vocabulary
from server.courier import Answer, Courier
from server.errors import FederationError, safe_reason


def agree_on_classes(
    courier: Courier, config: RunConfig, task: Task, run: str, nodes: Sequence[int]
) -> tuple[str, ...] | None:
    """The run's classes, in alphabetical order; None where they are not the federation's to agree on.

    A list that the configuration names is taken as it is. Otherwise every site is asked which answers are frequent in
    its training data; the sum of what all say is the vocabulary. A site whose answer cannot be used adds nothing to it,
    and may join all the same.

    Raises:
        ConfigError: the list that the configuration names cannot be read.
        FederationError: no site answers or has a frequent answer, or together they have too many.
    """
    if not task.agrees:
        return None
    given = given_classes(config)
    if given is not None:
        courier.say(f"{len(given):,} answers in the vocabulary, as given.")
        return given
    request = AnswersRequest(run)
    answers = courier.ask("answers", wire.ANSWERS, dict.fromkeys(nodes, request))
    replies: dict[str, AnswersReply] = {}
    reasons = []
    for node in sorted(answers):
        try:
            reply = _read(answers[node], task.least)
            if reply.site in replies:
                raise ContractError(f"the name '{reply.site}' is taken by another site")
            replies[reply.site] = reply
        except ContractError as error:
            reasons.append(f"{courier.names.get(node, f'node {node}')}: {safe_reason(str(error))}")
            courier.say(f"  Nothing is added to the vocabulary by {reasons[-1]}")
    if not replies:
        raise FederationError(f"No site could name its training answers. {'; '.join(reasons)}.")
    return _together(list(replies.values()), courier, task)


def _together(replies: Sequence[AnswersReply], courier: Courier, task: Task) -> tuple[str, ...]:
    total: Counter[str] = Counter()
    for reply in replies:
        total.update(reply.counts)
    classes = tuple(sorted(total))
    if not classes:
        raise FederationError(
            f"No training answer occurs {task.least} times at any of the {len(replies)} sites that answered: there is "
            "nothing to learn. Lower vqa(min_count=...), or give a list: vqa(answers='FILE')."
        )
    if len(classes) > MOST:
        each = ", ".join(f"{reply.site} {len(reply.counts):,}" for reply in replies)
        raise FederationError(
            f"The sites name {len(classes):,} answers together ({each}), {MOST:,} at most can be learnt. Raise "
            "vqa(min_count=...), or give a list: vqa(answers='FILE')."
        )
    courier.say(
        f"{len(classes):,} answers in the vocabulary that {len(replies)} sites agreed on, each at least {task.least} "
        f"times in the training data of a site; they cover {total.total():,} training {task.unit}."
    )
    return classes


def _read(answer: Answer, least: int) -> AnswersReply:
    """Raises ContractError where a site's reply cannot be used."""
    if answer.content is None:
        raise ContractError(answer.failure)
    try:
        reply = wire.decode_answers_reply(answer.content)
    except ContractError:
        raise
    except Exception as error:
        # A broken site chooses these bytes: no way of failing to read them may end the run.
        raise ContractError(f"its reply cannot be decoded ({type(error).__name__})") from None
    if not is_site_name(reply.site):
        raise ContractError(f"its name is not {RULE}")
    if reply.counts:
        try:
            check_vocabulary(list(reply.counts))
        except ValueError as error:
            raise ContractError(f"its list {error}") from None
        if min(reply.counts.values()) < least:
            raise ContractError(f"it names an answer that occurs less than {least} times there")
    return reply
