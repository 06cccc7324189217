"""Flower without processes, network or Ray: a grid whose nodes are functions in this process."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SUPERLINK = 1
"""Flower's id of its own server; a lost node's error comes from it."""

Node = Callable[[Message, Context], Message | None]
"""A ClientApp, or a function like it. None stands for a node that never answers."""


class LocalGrid(Grid):
    """Runs each message at once when it is pushed; what the node gives back is there to be pulled.

    Messages are encoded and decoded as on the wire, so nothing is shared between the two sides.

    Args:
        nodes: by node id; called with the message and the node's own Context.
        run_config: what every node's Context carries.
        simulated: whether to pass for Flower's simulator.
    """

    def __init__(
        self, nodes: Mapping[int, Node], run_config: Mapping[str, Any] | None = None, *, simulated: bool = False
    ) -> None:
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = SUPERLINK
        self.nodes = dict(nodes)
        self.log: list[Message] = []
        self._run = Run.create_empty(1)
        if simulated:
            self._run.primary_task_type = TaskType.SIMULATION
        self._replies: dict[str, Message] = {}
        self._ids = count(1)
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"partition-id": index, "num-partitions": len(self.nodes)},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for index, node in enumerate(sorted(self.nodes))
        }

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            id_ = f"message-{next(self._ids)}"
            message.metadata.__dict__["_message_id"] = id_
            self.log.append(message)
            ids.append(id_)
            reply = self._deliver(message)
            if reply is not None:
                self._replies[id_] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(id_) for id_ in message_ids if id_ in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        arrived = _over_the_wire(message)
        try:
            reply = self.nodes[node](arrived, self._contexts[node])
        except Exception as error:
            # What Flower does with an exception in a ClientApp: its text goes to the server.
            return Message(Error(2, f"{type(error)}:<{str(error)!r}>"), reply_to=arrived)
        return None if reply is None else _over_the_wire(reply)


def _over_the_wire(message: Message) -> Message:
    """The same message with its content decoded from its encoded bytes."""
    arrived = copy.copy(message)
    if message.has_content():
        objects = get_all_nested_objects(message.content)
        encoded = {id_: part.deflate() for id_, part in objects.items()}
        content = inflate_object_from_contents(message.content.object_id, encoded)
        assert isinstance(content, RecordDict)
        arrived.content = content
    return arrived
