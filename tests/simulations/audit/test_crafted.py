from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.methods.bottleneck import Activation, Bottleneck
from simulations.audit.adapter_tap import AdapterTap, first_taps
from simulations.audit.crafted import AdapterBins, install
from simulations.audit.site_update import Update, batch_of, mean_gradient, norm, visit_change
from simulations.audit.token_places import TokenPlaces
from tests.simulations.audit.runs import audit_run

WIDTH, BINS = 6, 5
SECRET = (
    torch.tensor([[0.5], [1.5], [2.5], [3.5], [4.5]]) * torch.ones(5, WIDTH) + torch.arange(30.0).view(5, 6) % 7 / 50
)


def toy(activation: Activation) -> AdapterBins:
    """One bin for each of five tokens, along the mean of their coordinates."""
    adapter = Bottleneck(nn.Identity(), nn.Linear(WIDTH, BINS), nn.Linear(BINS, WIDTH), activation, 0.0)
    direction = torch.ones(WIDTH, dtype=torch.float64) / WIDTH
    thresholds = torch.arange(BINS, dtype=torch.float64)
    return AdapterBins(AdapterTap("toy.", adapter), direction, thresholds, torch.arange(1.0, 1 + WIDTH).double())


def gradient(bins: AdapterBins, tokens: torch.Tensor, scale: float | None = None) -> Update:
    """Of a loss in which every token has another weight."""
    for name, value in bins.state(scale).items():
        nn.init.zeros_(bins.tap.adapter.get_parameter(name.removeprefix("toy."))).data.copy_(value)
    weights = torch.linspace(-1, 2, len(tokens) * WIDTH).view(-1, WIDTH)
    (weights * bins.tap.adapter(tokens)).sum().backward()
    return {f"toy.{name}": p.grad for name, p in bins.tap.adapter.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_tokens_alone_in_their_bins_are_read_exactly(activation: Activation) -> None:
    bins = toy(activation)
    torch.testing.assert_close(bins.read(gradient(bins, SECRET)).float(), SECRET, rtol=1e-3, atol=1e-3)


def test_of_two_tokens_in_one_bin_something_between_them_is_read_and_of_none_nothing() -> None:
    bins = toy("relu")
    found = bins.read(gradient(bins, torch.stack([SECRET[1], SECRET[1] + 0.1, SECRET[3]])))
    assert len(found) == 2
    torch.testing.assert_close(found[1].float(), SECRET[3], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found[0].float(), SECRET[1], atol=1e-2)


def test_blunt_bins_of_a_smooth_activation_mix_tokens() -> None:
    bins = toy("gelu")
    found = bins.read(gradient(bins, SECRET, scale=0.1))
    assert float(torch.cdist(SECRET.double(), found).min(1).values.median()) > 0.1


@pytest.mark.parametrize("steps", [0, 1])
def test_a_vit_gives_away_its_tokens_even_through_a_step_of_adamw(tiny_backbone: Path, steps: int) -> None:
    run = audit_run(tiny_backbone, method="adaptformer(bottleneck=32)")
    learner, rows = run.fresh(), torch.tensor([3])
    tap, batch = first_taps(learner, set(learner.trainables))[0], batch_of(run.data.train, rows)
    with torch.no_grad():
        true = tap.tokens(learner, batch.images)[0].double()
        public = tap.tokens(learner, run.data.train.images[20:].float() / 255)
    bins = AdapterBins.aim(tap, public, TokenPlaces.of(public), 1e-8, seed=0)

    def read_after_sending(state: Update) -> int:
        install(run.fresh(), state)
        if steps:
            config = run.config.model_copy(update={"local_steps": steps})
            update = visit_change(learner, run.data.train, rows, config, list(bins.state()))
        else:
            update = mean_gradient(learner, batch, list(bins.state()))
        error = torch.cdist(true, bins.read(update)).min(1).values / true.norm(dim=1)
        return int((error < 0.02).sum())

    assert read_after_sending(bins.state()) >= 8
    without_bins = {name: value for name, value in bins.state().items() if "up.weight" in name}
    assert read_after_sending(without_bins) == 0


def test_the_first_block_has_the_taps_and_other_methods_none(tiny_backbone: Path) -> None:
    learner = audit_run(tiny_backbone, method="houlsby(bottleneck=4)").fresh()
    taps = first_taps(learner, set(learner.trainables))
    assert [tap.prefix for tap in taps] == ["blocks.0.o.houlsby.", "blocks.0.ffn_out.houlsby."]
    assert not first_taps(learner, {"head.weight"})
    assert not first_taps(audit_run(tiny_backbone, method="lora").fresh(), set())


def test_scaled_rows_keep_to_the_bound(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, method="houlsby(bottleneck=32)")
    learner = run.fresh()
    tap = first_taps(learner, set(learner.trainables))[1]
    with torch.no_grad():
        tokens = tap.tokens(learner, run.data.train.images.float() / 255)
    bins = AdapterBins.aim(tap, tokens, TokenPlaces.of(tokens), 1e-8, seed=0)

    def distance(scale: float) -> float:
        state = bins.state(scale)
        return norm({name: value - learner.trainables[name].parameter for name, value in state.items()})

    scale = bins.scale_within(learner, 30.0)
    assert 0 < scale < bins.sharp < float("inf")
    assert 15 < distance(scale) <= 30 < distance(bins.sharp)
    assert bins.scale_within(learner, 0.1) == 0.0
