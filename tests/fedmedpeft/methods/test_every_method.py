"""What must hold for every registered method, and the published parameter counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmedpeft.backbones import load_backbone, skeleton, standard_record
from fedmedpeft.components import ConfigError, parse_composition
from fedmedpeft.learner import HEAD, Learner, learner_skeleton
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.tasks import Classification

_COMPOSITIONS = [
    *METHODS.names(),
    "lora+vpt-deep",
    "adapter+lora(targets='q,v,ffn_out')",
    "bitfit+layernorm",
    "vpt-deep+vpt-shallow",
]


def _learner(directory: Path, method: str, seed: int = 0) -> Learner:
    return Learner(load_backbone(str(directory)), method, Classification(("a", "b", "c")), seed)


def _images(count: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def _nudge(learner: Learner) -> None:
    """Move every trainable off its start, where some have no gradient yet."""
    generator = torch.Generator().manual_seed(5)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)


@pytest.mark.parametrize("method", _COMPOSITIONS)
def test_frozen_means_frozen(tiny_backbone: Path, method: str) -> None:
    learner = _learner(tiny_backbone, method)
    exchanged = {id(t.parameter) for t in learner.trainables.values()}
    frozen = {n: p.detach().clone() for n, p in learner.named_parameters() if id(p) not in exchanged}
    buffers = {n: b.clone() for n, b in learner.named_buffers()}
    learner.train()
    optimiser = torch.optim.AdamW([t.parameter for t in learner.trainables.values()], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        learner.task.loss(learner(_images()), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()
    parameters = dict(learner.named_parameters())
    assert all(torch.equal(parameters[name], before) for name, before in frozen.items())
    assert all(not parameters[name].requires_grad for name in frozen)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in learner.named_buffers())


@pytest.mark.parametrize("method", _COMPOSITIONS)
def test_training_starts_at_the_frozen_model(tiny_backbone: Path, method: str) -> None:
    if not all(METHODS.build(spec).starts_frozen for spec in parse_composition(method)):
        pytest.skip("changes the model by its nature, as prompts do: tokens that the frozen model never saw")
    with torch.no_grad():
        assert torch.equal(
            _learner(tiny_backbone, method).features(_images()), _learner(tiny_backbone, "head").features(_images())
        )


@pytest.mark.parametrize("method", _COMPOSITIONS)
def test_gradients_reach_every_exchanged_parameter(tiny_backbone: Path, method: str) -> None:
    learner = _learner(tiny_backbone, method)
    _nudge(learner)
    learner.task.loss(learner(_images()), torch.tensor([0, 1, 2, 0])).backward()
    for name, trainable in learner.trainables.items():
        gradient = trainable.parameter.grad
        assert gradient is not None, name
        # A key bias shifts all scores of a query alike: softmax cancels it exactly, in any ViT.
        if not name.endswith(".k.bias"):
            assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("method", _COMPOSITIONS)
def test_state_round_trips_exactly(tiny_backbone: Path, method: str) -> None:
    trained, fresh = _learner(tiny_backbone, method), _learner(tiny_backbone, method)
    _nudge(trained)
    state = trained.export(trained.manifest())
    fresh.load(state)
    assert fresh.export(fresh.manifest()).hash() == state.hash()
    trained.eval(), fresh.eval()
    with torch.no_grad():
        assert torch.equal(trained(_images()), fresh(_images()))


@pytest.mark.parametrize(("one", "other"), [("lora+vpt-deep", "vpt-deep+lora"), ("adapter+lora", "lora+adapter")])
def test_the_order_of_composition_does_not_matter(tiny_backbone: Path, one: str, other: str) -> None:
    first, second = _learner(tiny_backbone, one), _learner(tiny_backbone, other)
    assert first.manifest() == second.manifest()
    assert first.export(first.manifest()).hash() == second.export(second.manifest()).hash()


@pytest.mark.parametrize("method", METHODS.names())
def test_keys_and_values_do_not_depend_on_what_else_is_inserted(tiny_backbone: Path, method: str) -> None:
    partner = "lora" if method in ("adapter", "vpt-deep", "vpt-shallow") else "vpt-deep"
    alone, composed = _learner(tiny_backbone, method), _learner(tiny_backbone, f"{method}+{partner}")
    for name, trainable in alone.trainables.items():
        assert torch.equal(trainable.parameter, composed.trainables[name].parameter), name


def test_the_seed_decides_the_start(tiny_backbone: Path) -> None:
    def start(seed: int) -> str:
        learner = _learner(tiny_backbone, "lora", seed)
        return learner.export(learner.manifest()).hash()

    assert start(1) == start(1) != start(2)


@pytest.mark.parametrize("method", METHODS.names())
def test_the_skeleton_has_the_same_manifest(tiny_backbone: Path, method: str) -> None:
    learner = _learner(tiny_backbone, method)
    assert learner_skeleton(learner.backbone.record, method, "abc").manifest() == learner.manifest()


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("full", 85_798_656),
        ("adapter", 2_379_264),
        ("lora(rank=16)", 589_824),
        ("lora", 294_912),
        ("lora(rank=4)", 147_456),
        ("vpt-deep(tokens=50)", 460_800),
        ("vpt-deep", 92_160),
        ("bitfit", 102_912),
        ("layernorm", 38_400),
        ("vpt-shallow(tokens=50)", 38_400),
        ("vpt-shallow", 7_680),
        ("head", 0),
        ("lora+vpt-deep", 294_912 + 92_160),
    ],
)
def test_counts_on_vit_b(method: str, parameters: int) -> None:
    learner = learner_skeleton(standard_record("b"), method, [str(i) for i in range(8)])
    assert learner.manifest().numel("method") == parameters
    assert learner.manifest().numel("head") == 6_152


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_says_what_it_is(method: str) -> None:
    factory = METHODS.factory(method)
    assert all([factory.summary, factory.source, factory.learning_rate > 0])  # type: ignore[attr-defined]
    assert all(field.description for field in METHODS.options_type(method).model_fields.values())


@pytest.mark.parametrize("method", METHODS.names())
def test_keys_are_places_and_parameters(method: str) -> None:
    keys = METHODS.build(method).insert(skeleton(standard_record("ti")), Initialiser(0, torch.device("meta")))
    assert all(key.split(".")[0] in ("blocks", "embed", "norm") for key in keys)


def test_unknown_methods_and_options_are_suggested(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'layernorm'"):
        _learner(tiny_backbone, "layernrom")
    with pytest.raises(ConfigError, match="no projection 'w'"):
        _learner(tiny_backbone, "lora(targets='q,w')")


@pytest.mark.parametrize("method", ["bitfit+layernorm", "full+layernorm"])
def test_what_two_methods_share_is_personal_where_either_is(tiny_backbone: Path, method: str) -> None:
    names = {spec.name for spec in _learner(tiny_backbone, method).manifest(without=["layernorm"]).tensors}
    assert names
    assert not [name for name in names if "norm" in name]


def test_personal_parts_are_left_out_of_the_manifest(tiny_backbone: Path) -> None:
    learner = _learner(tiny_backbone, "lora+layernorm")
    names = {spec.name for spec in learner.manifest(without=[HEAD, "layernorm"]).tensors}
    assert names == {name for name, t in learner.trainables.items() if t.owner == "lora"}
