from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients import simulated_site
from clients.app import app
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinRequest, Refusal, VisitRequest
from fedmedpeft.exchange import flower as wire


@pytest.fixture(autouse=True)
def _flower_identity() -> None:
    """Outside a Flower runtime a Message cannot be made without one."""
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


def _ask(config: RunConfig, kind: str, content: RecordDict, **node: int) -> Message:
    node_config = {"partition-id": 0, "num-partitions": 3, **node}
    context = Context(run_id=1, node_id=7, node_config=node_config, state=RecordDict(), run_config=config.to_mapping())
    return app(Message(content, dst_node_id=7, message_type=kind), context)


def test_join_then_visit(config: RunConfig) -> None:
    joined = wire.decode_join_reply(_ask(config, wire.JOIN, wire.encode(JoinRequest("run", True))).content)
    assert joined.state is not None
    request = VisitRequest("run", 1, False, joined.fingerprint, 0.0, joined.state)
    visited = wire.decode_visit_reply(_ask(config, wire.VISIT, wire.encode(request)).content)
    assert visited.site == joined.site
    assert visited.steps == config.local_steps


def test_a_wrong_configuration_comes_back_as_a_code_and_a_sentence(config: RunConfig) -> None:
    broken = config.model_copy(update={"data": "phantms"})
    reply = _ask(broken, wire.JOIN, wire.encode(JoinRequest("run", False)))
    assert reply.error.code == Refusal.CONFIGURATION
    assert "Did you mean 'phantoms'" in (reply.error.reason or "")


def test_a_message_that_breaks_the_contract(config: RunConfig) -> None:
    assert _ask(config, wire.VISIT, RecordDict()).error.code == Refusal.CONTRACT


def test_the_number_of_nodes_must_fit_the_partition(config: RunConfig) -> None:
    natural = config.model_copy(update={"partition": "natural"})
    reply = _ask(natural, wire.JOIN, wire.encode(JoinRequest("run", False)), **{"num-partitions": 5})
    assert reply.error.code == Refusal.CONFIGURATION


def test_the_text_of_an_unexpected_error_stays_at_the_site(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("patient 4711 in /secret/scan.dcm")

    monkeypatch.setattr(simulated_site, "simulated_site", explode)
    with caplog.at_level(logging.ERROR):
        reply = _ask(config, wire.JOIN, wire.encode(JoinRequest("run", False)))
    assert reply.error.code == Refusal.INTERNAL
    assert "4711" not in (reply.error.reason or "")
    assert "4711" in caplog.text


def test_importing_the_app_does_not_import_torch() -> None:
    program = "import sys, clients.app; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
