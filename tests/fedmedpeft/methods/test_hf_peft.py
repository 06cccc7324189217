from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn
from torch.nn.functional import cross_entropy

from fedmedpeft.backbones import Inserted, Place, load_backbone, standard_record
from fedmedpeft.backbones.backbone import ROLES
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.methods import METHODS
from fedmedpeft.methods.hf_peft_layers import PeftLayer
from fedmedpeft.methods.hf_peft_types import EXCLUDED, KINDS
from fedmedpeft.tasks import Classification
from tests.every_method import EVERY_METHOD

_PEFT = [method for method in EVERY_METHOD if method.startswith("peft:")]


def _learner(directory: Path, method: str, seed: int = 0) -> Learner:
    return Learner(load_backbone(str(directory)), method, Classification(("a", "b", "c")), seed).eval()


def _images(count: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def _nudge(learner: Learner, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)


def _adapted(learner: Learner) -> list[Place]:
    return [place for place in learner.backbone.places(optional=ROLES) if isinstance(place.current, PeftLayer)]


def _merged(learner: Learner) -> dict[str, nn.Module]:
    """Every adapted place as a plain module."""
    return {place.key: place.current.merged(place.original) for place in _adapted(learner)}  # type: ignore[operator]


def test_every_type_of_the_installed_peft_is_offered_or_excluded_with_a_reason() -> None:
    offered = {kind.type or name for name, kind in KINDS.items()}
    assert offered | set(EXCLUDED) == {kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert not offered & set(EXCLUDED)
    assert all(EXCLUDED.values())
    page = (Path(__file__).parents[3] / "docs" / "peft-methods.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in EXCLUDED)


@pytest.mark.parametrize("method", _PEFT)
def test_sites_agree_on_what_is_sent_and_on_what_is_not(tiny_backbone: Path, method: str) -> None:
    """Random bases are never sent: a second site, whose own generators stand elsewhere, must draw the same."""
    one = _learner(tiny_backbone, method)
    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    other = _learner(tiny_backbone, method)
    assert one.export(one.manifest()).hash() == other.export(other.manifest()).hash()
    _nudge(one)
    other.load(one.export(one.manifest()))
    with torch.no_grad():
        assert torch.equal(one(_images()), other(_images()))


@pytest.mark.parametrize("method", _PEFT)
def test_building_does_not_move_the_global_generators(tiny_backbone: Path, method: str) -> None:
    torch.manual_seed(1), np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    _learner(tiny_backbone, method)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_the_seed_draws_the_bases_too(tiny_backbone: Path) -> None:
    bases = [_learner(tiny_backbone, "peft:vera", seed).get_buffer(_VERA_A) for seed in (1, 1, 2)]
    assert torch.equal(bases[0], bases[1])
    assert not torch.equal(bases[0], bases[2])


_VERA_A = "backbone.blocks.0.attention.attention.q.layer.vera_A.default"


@pytest.mark.parametrize("method", _PEFT)
def test_the_start_is_what_is_said_of_it(tiny_backbone: Path, method: str) -> None:
    with torch.no_grad():
        start = _learner(tiny_backbone, method).features(_images())
        frozen = _learner(tiny_backbone, "head").features(_images())
    if METHODS.build(method).starts_frozen:
        assert torch.equal(start, frozen)
    elif method in ("peft:deft", "peft:hra"):
        torch.testing.assert_close(start, frozen, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", _PEFT)
def test_merging_is_what_is_said_of_it(tiny_backbone: Path, method: str) -> None:
    learner = _learner(tiny_backbone, method)
    _nudge(learner)
    with torch.no_grad():
        expected = learner(_images())
    if not METHODS.build(method).mergeable:
        with pytest.raises(TypeError, match="Linear"):
            _merged(learner)
        return
    before = {name: value.clone() for name, value in learner.backbone.original_parameters().items()}
    merged = _merged(learner)
    for place in _adapted(learner):
        assert type(merged[place.key]) is type(place.original)
        place.wrap(lambda _, key=place.key: merged[key])  # type: ignore[misc]
    assert not any(isinstance(module, Inserted) for module in learner.modules())
    with torch.no_grad():
        torch.testing.assert_close(learner(_images()), expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in learner.backbone.original_parameters().items())


@pytest.mark.parametrize("method", [m for m in _PEFT if METHODS.build(m).mergeable])
def test_averaging_is_what_is_said_of_it(tiny_backbone: Path, method: str) -> None:
    """``exact``: the mean of two sites' states is the mean of their models' weights; ``factors``: it is not."""
    one, other, mean = (_learner(tiny_backbone, method) for _ in range(3))
    _nudge(one, 1), _nudge(other, 2)
    with torch.no_grad():
        for name, trainable in mean.trainables.items():
            trainable.parameter.copy_((one.trainables[name].parameter + other.trainables[name].parameter) / 2)
    difference = 0.0
    for key, module in _merged(mean).items():
        for name, value in module.named_parameters():
            average = (_merged(one)[key].get_parameter(name) + _merged(other)[key].get_parameter(name)) / 2
            difference = max(difference, float((value - average).abs().max()))
    assert (difference < 1e-6) == (METHODS.build(method).averaging == "exact")


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("peft:lora", 294_912),
        ("peft:dora", 313_344),
        ("peft:adalora", 442_656),
        ("peft:ia3", 55_296),
        ("peft:ln_tuning", 36_864),
        ("peft:ln_tuning(targets='norm1,norm2,norm')", 38_400),
        ("peft:vera", 24_576),
        ("peft:fourierft", 24_000),
        ("peft:oft", 285_696),
        ("peft:boft(boft_block_size=8)", 165_888),
        ("peft:hra", 147_456),
        ("peft:loha", 589_824),
        ("peft:lokr", 26_112),
        ("peft:miss(r=64)", 1_179_648),
        ("peft:randlora", 460_800),
        ("peft:shira(r=8)", 294_912),
        ("peft:road", 18_432),
        ("peft:beft", 9_216),
        ("peft:unilora", 256),
    ],
)
def test_counts_on_vit_b(method: str, parameters: int) -> None:
    manifest = learner_skeleton(standard_record("b"), method, ["a", "b"]).manifest()
    assert manifest.numel("method") == parameters


def test_keys_name_the_place_or_say_that_it_is_shared(tiny_backbone: Path) -> None:
    assert set(_learner(tiny_backbone, "peft:lora(targets='q')").trainables) == {
        f"blocks.{block}.q.peft.lora_{factor}.weight" for block in (0, 1) for factor in "AB"
    } | {"head.weight", "head.bias"}
    assert "shared.peft.unilora_theta_d" in _learner(tiny_backbone, "peft:unilora").trainables
    lily = _learner(tiny_backbone, "peft:lily").trainables
    assert "blocks.0.q.peft.lily_B.weight" in lily
    assert "blocks.1.q.peft.lily_B.weight" not in lily


@pytest.mark.parametrize("partner", ["lora", "ssf", "layernorm", "vpt-deep"])
def test_it_goes_below_what_other_methods_insert(tiny_backbone: Path, partner: str) -> None:
    composed = _learner(tiny_backbone, f"peft:oft+{partner}")
    assert all(isinstance(place.current, Inserted) for place in composed.backbone.places("q", "v"))
    alone = _learner(tiny_backbone, "peft:oft")
    for name, trainable in alone.trainables.items():
        assert torch.equal(trainable.parameter, composed.trainables[name].parameter)
    _nudge(composed)
    cross_entropy(composed(_images()), torch.tensor([0, 1, 2, 0])).backward()
    assert all(t.parameter.grad is not None and t.parameter.grad.abs().max() > 0 for t in composed.trainables.values())


def test_dropout_only_while_training(tiny_backbone: Path) -> None:
    learner = _learner(tiny_backbone, "peft:lora(lora_dropout=0.5)")
    _nudge(learner)
    with torch.no_grad():
        assert torch.equal(learner(_images()), learner(_images()))
        learner.train()
        assert not torch.equal(learner(_images()), learner(_images()))


@pytest.mark.parametrize("method", [f"peft:{name}" for name, kind in KINDS.items() if "conv" in kind.known])
@torch.no_grad()
def test_convolutions_start_as_is_said_and_merge(tiny_resnet: Path, method: str) -> None:
    learner, frozen = _learner(tiny_resnet, f"{method}(targets='conv')"), _learner(tiny_resnet, "head")
    near = 0.0 if METHODS.build(method).starts_frozen else 1e-4
    torch.testing.assert_close(learner.features(_images()), frozen.features(_images()), rtol=0, atol=near)
    _nudge(learner)
    for name, merged in _merged(learner).items():
        (place,) = (place for place in _adapted(learner) if place.key == name)
        channels = place.original.in_channels
        features = torch.randn(2, channels, 9, 9, generator=torch.Generator().manual_seed(1))  # type: ignore[call-overload]
        torch.testing.assert_close(merged(features), place.current(features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["peft:lora", "peft:loha"])
def test_convolutions_too(tiny_resnet: Path, method: str) -> None:
    learner = _learner(tiny_resnet, f"{method}(targets='conv')")
    start = learner(_images())
    _nudge(learner)
    assert not torch.equal(learner(_images()), start)
    assert (
        learner_skeleton(learner.backbone.record, f"{method}(targets='conv')", "abc").manifest() == learner.manifest()
    )


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("peft:lora(r=0)", r"'peft:lora\(r=0\)': Hugging Face peft refuses it: `r` should be a positive integer"),
        ("peft:c3a(block_size=7)", r"peft:c3a\(block_size=7\).*factor of the input size"),
        ("peft:lora(lora_dropout=1.5)", r"lora_dropout=1\.5.*less than 1"),
        ("peft:boft(boft_dropout=1.5)", r"boft_dropout=1\.5.*less than 1"),
        ("peft:lokr(alpha=0)", "alpha=0.*greater than 0"),
        ("peft:oft(num_cayley_neumann_terms=0)", "num_cayley_neumann_terms=0.*greater than or equal to 1"),
        ("peft:adalora(init_r=0)", r"'peft:adalora\(init_r=0\)': 'blocks\.0\.q\.peft\.lora_A' would hold no numbers"),
        ("peft:oft(targets='conv')", "no target 'conv'"),
        ("peft:lora(r=4.5)", r"r=4\.5"),
        ("peft:vera(d_initial=nan)", "finite"),
        ("peft:deft(decomposition_method='svd')", "'relu' or 'qr'"),
        ("peft:lora(targets='q,norm1')", "no target 'norm1'"),
        ("peft:lora(rank=4)", "no option 'rank'"),
        ("peft:lora(bias='all')", "no option 'bias'"),
        ("peft:lorra", "Did you mean 'peft:"),
        ("peft:lora+peft:vera", "do not go around each other"),
        ("peft:hira(targets='conv')", "'conv', which backbone"),
    ],
)
def test_what_peft_refuses_is_said_with_method_and_option(tiny_backbone: Path, method: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _learner(tiny_backbone, method)


def test_what_a_layer_hides_is_what_no_gradient_reaches(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full fine-tuning beside every type: each refuses, or every parameter of the backbone gets a gradient."""
    refused = {}
    for method in _PEFT:
        try:
            _learner(tiny_backbone, f"full+{method}")
        except ConfigError as error:
            refused[method.partition("(")[0]] = str(error)
    assert set(refused) == {f"peft:{name}" for name, kind in KINDS.items() if kind.hides}
    assert "'full' trains 'blocks.0.q.weight', which no gradient reaches" in refused["peft:hra"]
    monkeypatch.setattr("fedmedpeft.learner._refuse_idle", lambda *_: None)
    for method in _PEFT:
        learner = _learner(tiny_backbone, f"full+{method}").train()
        cross_entropy(learner(_images()), torch.tensor([0, 1, 2, 0])).backward()
        idle = {name for name, t in learner.trainables.items() if "full" in t.owners and t.parameter.grad is None}
        assert idle == learner.backbone.hidden() & learner.trainables.keys(), method


def test_what_is_under_other_targets_may_be_trained(tiny_backbone: Path) -> None:
    composed = _learner(tiny_backbone, "peft:ln_tuning(targets='norm')+sba(norms=true)")
    assert {trainable.owner for trainable in composed.trainables.values()} == {"peft:ln_tuning", "sba", "head"}


def test_two_types_with_different_targets(tiny_backbone: Path) -> None:
    composed = _learner(tiny_backbone, "peft:lora(targets='q')+peft:ia3(targets='v,ffn_out')")
    owners = {trainable.owner for trainable in composed.trainables.values()}
    assert owners == {"peft:lora", "peft:ia3", "head"}
