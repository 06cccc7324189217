"""Each fault of Flower's privacy wrappers, and ours in their place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from flwr.supercore.task_identity import TaskIdentity

from fedmedpeft.privacy.client_level import client_level
from server.client_privacy import ClientPrivacy
from tests.server.private_means import (
    ZERO,
    Dense,
    answers_of,
    mean_of,
    privacy,
    updates,
)


@pytest.fixture(autouse=True)
def _flower_runtime() -> None:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


def reply(values: Dense, weight: float) -> Message:
    arrays = ArrayRecord({"all": Array(np.asarray(values, np.float32))})
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"n": weight})}), 1, "train")


def flower(replies: list[Message], noise: float) -> ArrayRecord | None:
    wrapper = DifferentialPrivacyServerSideFixedClipping(FedAvg(weighted_by_key="n"), noise, 1.0, len(replies))
    wrapper.current_arrays = ArrayRecord({"all": Array(np.zeros(17, np.float32))})
    return wrapper.aggregate_train(1, replies)[0]


def test_a_large_site_has_no_larger_share_as_it_has_in_flower() -> None:
    large, small = np.full(17, 9.0), np.full(17, 1e-6)
    theirs = flower([reply(large, 97.0), reply(small, 3.0)], noise=0.0)
    assert theirs is not None
    assert np.linalg.norm(theirs["all"].numpy()) == pytest.approx(0.97, abs=0.01)
    ours = mean_of(privacy("fixed"), ZERO, answers_of(ZERO, [large, small]))
    assert np.linalg.norm(ours) == pytest.approx(0.5, abs=1e-5)


def test_a_zero_update_ends_flowers_round_and_not_ours() -> None:
    with pytest.raises(ZeroDivisionError):
        flower([reply(np.zeros(17), 1.0), reply(np.ones(17), 1.0)], noise=0.0)
    ours = mean_of(privacy("fixed"), ZERO, answers_of(ZERO, [np.zeros(17), np.ones(17)]))
    np.testing.assert_allclose(ours, np.full(17, 0.5 / math.sqrt(17)), rtol=1e-6)


def test_numpys_seed_foretells_flowers_noise_and_not_ours() -> None:
    theirs, ours = [], []
    for _ in range(2):
        np.random.seed(0)
        noised = flower([reply(np.ones(17), 1.0), reply(np.ones(17), 1.0)], noise=1.0)
        assert noised is not None
        theirs.append(noised["all"].numpy())
        np.random.seed(0)
        torch.manual_seed(0)
        level = client_level("fixed")
        assert level is not None
        ours.append(mean_of(ClientPrivacy(level), ZERO, answers_of(ZERO, updates(1.0))))
    assert np.array_equal(*theirs)
    assert not np.array_equal(*ours)


def test_one_sites_error_costs_flower_the_round_and_us_that_site() -> None:
    asked = Message(RecordDict(), 1, "train")
    failed = Message(Error(102, "too few images"), reply_to=asked)
    assert flower([reply(np.ones(17), 1.0), failed], noise=0.0) is None
    private = privacy("fixed(noise=2.0)")
    ours = mean_of(private, ZERO, answers_of(ZERO, updates(0.01, 3)))
    np.testing.assert_allclose(ours, np.mean(updates(0.01, 3), axis=0), atol=1e-8)
    assert private.rounds[0].noise == pytest.approx(2.0 / 3)
