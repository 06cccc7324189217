from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.tasks import Classification


def _learner(backbone: Path, factors: str, seed: int = 0) -> Learner:
    return Learner(load_backbone(str(backbone)), f"lora(factors={factors})", Classification(("a", "b")), seed)


def _frozen_a(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p for name, p in learner.backbone.named_parameters() if name.endswith(".down.weight")}


def test_equals_the_merged_weight(tiny_backbone: Path) -> None:
    """x (W + alpha/r B A)^T, computed by merging into the weight of an untouched copy."""
    adapted, merged = load_backbone(str(tiny_backbone)), load_backbone(str(tiny_backbone))
    parameters = METHODS.build("lora(rank=3, alpha=6, targets='q,ffn_in')").insert(
        adapted, Initialiser(0, torch.device("cpu"))
    )
    for index, parameter in enumerate(parameters.values()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    for place in merged.places("q", "ffn_in"):
        update = parameters[f"{place.key}.lora_B"] @ parameters[f"{place.key}.lora_A"]
        place.original.weight.data += 6 / 3 * update  # type: ignore[union-attr, operator]
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        torch.testing.assert_close(adapted(pixels), merged(pixels), atol=1e-5, rtol=1e-5)


def test_dropout_only_while_training(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    for parameter in METHODS.build("lora(dropout=0.5)").insert(backbone, Initialiser(0, torch.device("cpu"))).values():
        parameter.data.fill_(0.3)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    backbone.train()
    assert not torch.equal(backbone(pixels), backbone(pixels))
    backbone.eval()
    assert torch.equal(backbone(pixels), backbone(pixels))


def test_ffa_trains_b_alone(tiny_backbone: Path) -> None:
    learner, both = _learner(tiny_backbone, "ffa"), _learner(tiny_backbone, "both")
    assert set(learner.trainables) == {name for name in both.trainables if not name.endswith("lora_A")}
    cross_entropy(learner(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)), torch.tensor([0, 1])).backward()
    assert all(trainable.parameter.grad is not None for trainable in learner.trainables.values())
    frozen = _frozen_a(learner)
    assert len(frozen) == 4
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen.values())


def test_ffa_draws_a_from_the_seed_as_it_is_drawn_to_be_trained(tiny_backbone: Path) -> None:
    frozen, both = _frozen_a(_learner(tiny_backbone, "ffa")), _frozen_a(_learner(tiny_backbone, "both"))
    assert all(torch.equal(frozen[name], both[name]) and frozen[name].abs().sum() > 0 for name in both)
    another = _frozen_a(_learner(tiny_backbone, "ffa", seed=1))
    assert not any(torch.equal(frozen[name], another[name]) for name in both)


def test_what_ffa_does_not_send_can_be_drawn_again(tiny_backbone: Path) -> None:
    init, method = Initialiser(3, torch.device("cpu")), METHODS.build("lora(factors=ffa, targets='q,ffn_in')")
    again = method.unsent(load_backbone(str(tiny_backbone)), init)  # type: ignore[attr-defined]
    backbone = load_backbone(str(tiny_backbone))
    method.insert(backbone, init)
    drawn = [p for name, p in backbone.named_parameters() if name.endswith(".down.weight")]
    assert list(again) == [f"{place.key}.lora_A" for place in backbone.places("q", "ffn_in")]
    assert all(torch.equal(one, other) for one, other in zip(again.values(), drawn, strict=True))
    assert METHODS.build("lora").unsent(load_backbone(str(tiny_backbone)), init) == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("factors", ["ffa", "rolora"])
@torch.no_grad()
def test_the_mean_of_two_sites_is_the_mean_of_their_weights(tiny_backbone: Path, factors: str) -> None:
    """Where one factor moves, as in one round of ``rolora``."""
    sites = [_learner(tiny_backbone, factors) for _ in range(2)]
    for seed, learner in enumerate(sites):
        for name, trainable in learner.trainables.items():
            noise = torch.randn(trainable.parameter.shape, generator=torch.Generator().manual_seed(seed))
            trainable.parameter.add_(noise * name.endswith("lora_B"))
    mean = _learner(tiny_backbone, factors)
    for name, trainable in mean.trainables.items():
        trainable.parameter.copy_(torch.stack([site.trainables[name].parameter for site in sites]).mean(0))
    for place, *others in zip(*(learner.backbone.places("q", "v") for learner in (mean, *sites)), strict=True):
        merged = [each.current.merged(each.original).weight for each in (place, *others)]
        torch.testing.assert_close(merged[0], (merged[1] + merged[2]) / 2)
    assert METHODS.build(f"lora(factors={factors})").averaging == "exact"


def test_rolora_takes_turns_b_first(tiny_backbone: Path) -> None:
    """While B is zero, A has no gradient: the first round would be lost."""
    learner = _learner(tiny_backbone, "rolora")
    rotation = learner.rotation
    assert [rotation.draw(7, round_, "x") for round_ in (1, 2, 3, 4)] == [("lora_B",), ("lora_A",)] * 2
    assert set().union(*rotation.groups.values()) == {name for name in learner.trainables if "lora" in name}
    resting = {name for name in learner.trainables if name.endswith("lora_A")}
    assert rotation.resting(["lora_B"]) == resting
    with learner.taking_turns(rotation.draw(7, 1)):
        cross_entropy(learner(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)), torch.tensor([0, 1])).backward()
    assert {name for name, trainable in learner.trainables.items() if trainable.parameter.grad is None} == resting


def test_an_unknown_choice_of_factors_is_refused() -> None:
    with pytest.raises(ConfigError, match="factors"):
        METHODS.build("lora(factors=fa)")
