"""What cannot be private is refused by name, without weights and before any training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import BackboneRecord
from fedmedpeft.config import RunConfig
from fedmedpeft.learner import learner_skeleton
from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.tasks import build_task
from fedmedpeft.training.private import DpSgd, PrivacyError, PrivateTrainer, refuse_private
from tests.private_sites import learner_of


def test_a_learner_without_weights_will_do(tiny_record: BackboneRecord) -> None:
    refuse_private(learner_skeleton(tiny_record, "lora+layernorm", ("a", "b")))
    with pytest.raises(PrivacyError, match=r"method='peft:ia3'.*Choose another method, such as head"):
        refuse_private(learner_skeleton(tiny_record, "lora+peft:ia3", ("a", "b")))


def test_a_task_whose_records_depend_on_each_other(tiny_meter: str) -> None:
    with pytest.raises(PrivacyError, match=r"task='retrieval'.*Choose another task"):
        refuse_private(learner_of(tiny_meter, "lora", build_task("retrieval")))


def test_statistics_of_a_site(tiny_resnet: Path) -> None:
    with pytest.raises(PrivacyError, match=r"method='batchnorm'.*statistics of a site's images"):
        refuse_private(learner_of(str(tiny_resnet), "batchnorm(statistics='site')"))
    with pytest.raises(PrivacyError, match="method='batchnorm'"):
        refuse_private(learner_of(str(tiny_resnet), "batchnorm"))


def test_a_parameter_of_a_module_that_is_never_called(tiny_backbone: Path) -> None:
    learner = learner_of(str(tiny_backbone), "head")
    learner.head = nn.Identity()
    with pytest.raises(PrivacyError, match=r"'head\.\w+'.*no module that is called with the batch owns it"):
        refuse_private(learner)
    parameters = {name.partition(".")[2]: t.parameter for name, t in learner.trainables.items()}
    learner.extra = nn.ParameterDict(parameters)
    with pytest.raises(PrivacyError, match=r"'head\.\w+'.*no module that is called with the batch owns it"):
        refuse_private(learner)


def test_no_trainer_is_made(tiny_resnet: Path) -> None:
    learner = learner_of(str(tiny_resnet), "bitfit")
    before = {name: t.parameter.clone() for name, t in learner.trainables.items()}
    with pytest.raises(PrivacyError, match=r"method='bitfit' trains '\S*batchnorm\S*'.*BatchNorm2d"):
        PrivateTrainer(learner, RunConfig(), dp=DpSgd(1.0, 0.5, randomness=SeededRandomness(0)))
    assert all(torch.equal(before[name], t.parameter) for name, t in learner.trainables.items())
