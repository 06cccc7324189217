"""What must hold for every registered method, and the published parameter counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmedpeft.backbones import load_backbone, load_record, skeleton, standard_record
from fedmedpeft.backbones.backbone import ROLES
from fedmedpeft.components import ConfigError, parse_composition
from fedmedpeft.learner import HEAD, Learner, UnsuitableBackbone, learner_skeleton
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.tasks import Classification
from tests.every_method import BACKBONES, EVERY_METHOD, cases, suits, texts

_COMPOSITIONS = [
    *EVERY_METHOD,
    "lora+vpt-deep",
    "houlsby+lora(targets='q,v,ffn_out')",
    "bitfit+layernorm",
    "vpt-deep(project=4)+vpt-shallow(project=4)",
    "attention(position=true)+decomposed-vpt(deep=false)+vpt-deep",
    "adaptformer(layernorm=true)+houlsby+pfeiffer",
    "kpl-adapter(placement='parallel', init='zero')+ssf",
    "dynamic-vpt(form='released')+layernorm+vpt-deep+vpt-shallow",
    "dynamic-vpt(form='readout', share=1)",
    "lora+textual-prompts(per_class=true)",
    "bitfit+ssf",
    "batchnorm(statistics='site')+ssf+tsa",
    "bitfit+tsa(targets='all', alignment=true)",
    "batchnorm+tsa(init='identity')",
]
_on_every_backbone = pytest.mark.parametrize(("directory", "method"), cases(_COMPOSITIONS), indirect=["directory"])
_each_on_every_backbone = pytest.mark.parametrize(("directory", "method"), cases(EVERY_METHOD), indirect=["directory"])


@pytest.fixture
def directory(request: pytest.FixtureRequest) -> str:
    """Name of the family's tiny backbone."""
    return str(request.getfixturevalue(BACKBONES[request.param]))


def _learner(directory: str, method: str, seed: int = 0) -> Learner:
    return Learner(load_backbone(directory), method, Classification(("a", "b", "c")), seed)


def _inputs(learner: Learner, count: int = 4) -> tuple[Any, ...]:
    """Images, and what is said of them."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, *texts(learner, count)


def _nudge(learner: Learner, seed: int = 5) -> None:
    """Move every trainable off its start, where some have no gradient yet."""
    generator = torch.Generator().manual_seed(seed)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)


@_on_every_backbone
def test_frozen_means_frozen(directory: str, method: str) -> None:
    learner = _learner(directory, method)
    exchanged = {id(t.parameter) for t in learner.trainables.values()}
    frozen = {n: p.detach().clone() for n, p in learner.named_parameters() if id(p) not in exchanged}
    kept = learner.kept().values()
    buffers = {n: b.clone() for n, b in learner.named_buffers() if not any(b is tensor for tensor in kept)}
    learner.train()
    optimiser = torch.optim.AdamW([t.parameter for t in learner.trainables.values()], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        cross_entropy(learner(*_inputs(learner)), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()
    parameters = dict(learner.named_parameters())
    assert all(torch.equal(parameters[name], before) for name, before in frozen.items())
    assert all(not parameters[name].requires_grad for name in frozen)
    after = dict(learner.named_buffers())
    assert all(torch.equal(after[name], before) for name, before in buffers.items())


@_on_every_backbone
def test_training_starts_at_the_frozen_model(directory: str, method: str) -> None:
    if not all(METHODS.build(spec).starts_frozen for spec in parse_composition(method)):
        pytest.skip("changes the model by its nature, as prompts do: tokens that the frozen model never saw")
    with torch.no_grad():
        changed, frozen = _learner(directory, method), _learner(directory, "head")
        assert torch.equal(changed.features(*_inputs(changed)), frozen.features(*_inputs(frozen)))


@_on_every_backbone
def test_gradients_reach_every_exchanged_parameter(directory: str, method: str) -> None:
    learner = _learner(directory, method)
    # A key bias shifts all scores of a query alike: softmax cancels it exactly, in any ViT. An unused norm says so.
    idle = (".k.bias", ".unused_norm.weight", ".unused_norm.bias")
    waiting = {name for name in learner.trainables if not name.endswith(idle)}
    # Networks this small may have no ReLU open for any image; elsewhere on the way one is.
    for seed in range(5):
        _nudge(learner, seed)
        cross_entropy(learner(*_inputs(learner)), torch.tensor([0, 1, 2, 0])).backward()
        assert all(trainable.parameter.grad is not None for trainable in learner.trainables.values())
        waiting -= {name for name in waiting if learner.trainables[name].parameter.grad.abs().max() > 0}  # type: ignore[union-attr]
    assert not waiting


@_on_every_backbone
def test_state_round_trips_exactly(directory: str, method: str) -> None:
    trained, fresh = _learner(directory, method), _learner(directory, method)
    _nudge(trained)
    state = trained.export(trained.manifest())
    fresh.load(state)
    assert fresh.export(fresh.manifest()).hash() == state.hash()
    trained.eval(), fresh.eval()
    with torch.no_grad():
        assert torch.equal(trained(*_inputs(trained)), fresh(*_inputs(fresh)))


@pytest.mark.parametrize(("one", "other"), [("lora+vpt-deep", "vpt-deep+lora"), ("houlsby+lora", "lora+houlsby")])
def test_the_order_of_composition_does_not_matter(tiny_backbone: Path, one: str, other: str) -> None:
    first, second = _learner(str(tiny_backbone), one), _learner(str(tiny_backbone), other)
    assert first.manifest() == second.manifest()
    assert first.export(first.manifest()).hash() == second.export(second.manifest()).hash()


@_each_on_every_backbone
def test_keys_and_values_do_not_depend_on_what_else_is_inserted(directory: str, method: str) -> None:
    anywhere = "bitfit" if method == "ssf" else "ssf"
    partner = "lora" if method in ("houlsby", "vpt-deep", "vpt-shallow") else "vpt-deep"
    partner = partner if "resnet" not in directory else anywhere
    alone, composed = _learner(directory, method), _learner(directory, f"{method}+{partner}")
    for name, trainable in alone.trainables.items():
        assert torch.equal(trainable.parameter, composed.trainables[name].parameter), name


def test_a_key_means_one_parameter() -> None:
    """Whatever is composed: were two parameters to share a key, only one of them would be trained and exchanged."""
    backbone, init = skeleton(standard_record("ti")), Initialiser(0, torch.device("meta"))
    own = [m for m in METHODS.names() if suits("vit", m) and not m.startswith(("peft:", "vpt-"))]
    known: dict[str, torch.nn.Parameter] = {}
    for method in [*own, "vpt-deep(project=4)", "vpt-shallow(project=4)"]:
        for key, parameter in METHODS.build(method).insert(backbone, init).items():
            assert known.setdefault(key, parameter) is parameter, (method, key)


def test_the_seed_decides_the_start(tiny_backbone: Path) -> None:
    def start(seed: int) -> str:
        learner = _learner(str(tiny_backbone), "lora", seed)
        return learner.export(learner.manifest()).hash()

    assert start(1) == start(1) != start(2)


@_each_on_every_backbone
def test_the_skeleton_has_the_same_manifest(directory: str, method: str) -> None:
    learner = _learner(directory, method)
    assert learner_skeleton(learner.backbone.record, method, "abc").manifest() == learner.manifest()


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_says_what_it_is(method: str) -> None:
    factory = METHODS.factory(method)
    assert all([factory.summary, factory.source, factory.learning_rate > 0])  # type: ignore[attr-defined]
    assert all(field.description for field in METHODS.options_type(method).model_fields.values())


@_each_on_every_backbone
def test_keys_are_places_and_parameters(directory: str, method: str) -> None:
    backbone = skeleton(load_record(directory))
    known = {place.key.split(".")[0] for place in backbone.places(optional=ROLES)} | {"shared"}
    keys = METHODS.build(method).insert(backbone, Initialiser(0, torch.device("meta")))
    assert all(key.split(".")[0] in known for key in keys)


@pytest.mark.parametrize("directory", BACKBONES, indirect=True)
def test_what_does_not_go_together_is_refused_by_name(directory: str) -> None:
    record = load_record(directory)
    family = record.architecture.family
    tried = {method for backbone, method in cases(EVERY_METHOD) if backbone == family}
    refused = {}
    for method in [m for m in EVERY_METHOD if m in tried or not suits(family, m)]:
        try:
            learner_skeleton(record, method, "abc")
        except UnsuitableBackbone as error:
            refused[method] = error
    assert set(refused) == {method for method in EVERY_METHOD if not suits(family, method)}
    for method, error in refused.items():
        assert f"method='{method.partition('(')[0]}' acts on '{error.needs}'" in str(error)
        assert f"backbone '{record.name}' (a {family})" in str(error)


def test_unknown_methods_and_options_are_suggested(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'layernorm'"):
        _learner(str(tiny_backbone), "layernrom")
    with pytest.raises(ConfigError, match="no target 'w'"):
        _learner(str(tiny_backbone), "lora(targets='q,w')")


@pytest.mark.parametrize("method", ["lora(alpha=inf)", "adaptformer(scale=inf)"])
def test_a_scale_must_be_finite(method: str) -> None:
    with pytest.raises(ConfigError, match="finite"):
        METHODS.build(method)


@pytest.mark.parametrize("method", ["bitfit+layernorm", "full+layernorm"])
def test_what_two_methods_share_is_personal_where_either_is(tiny_backbone: Path, method: str) -> None:
    names = {spec.name for spec in _learner(str(tiny_backbone), method).manifest(without=["layernorm"]).tensors}
    assert names
    assert not [name for name in names if "norm" in name]


def test_personal_parts_are_left_out_of_the_manifest(tiny_backbone: Path) -> None:
    learner = _learner(str(tiny_backbone), "lora+layernorm")
    names = {spec.name for spec in learner.manifest(without=[HEAD, "layernorm"]).tensors}
    assert names == {name for name, t in learner.trainables.items() if t.owner == "lora"}
