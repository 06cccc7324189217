from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from clients.inbound import Inbound
from fedmedpeft.data.split import Split
from simulations.audit import curious, forgery
from simulations.audit.audited import AuditRun
from simulations.audit.curious import sent_kinds
from simulations.audit.finding import Finding
from simulations.audit.forgery import LOUD, QUIET, Forgery, attacked
from simulations.audit.inbound_check import admitted, check_of_crafted, honest_reach, sent_state
from simulations.audit.inversion import audit_inversion
from simulations.audit.malicious import malicious_server
from simulations.audit.scene import Scene
from simulations.audit.site_update import mean_gradient, private_gradient
from tests.simulations.audit.runs import audit_run

ADAPTERS = "adaptformer(bottleneck=32)"


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    """What is looked for here does not hang on how long a search goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(curious.STEPS, "quick", 6)
        patch.setitem(forgery.STEPS, "quick", 6)
        yield


@pytest.fixture(scope="module")
def audited(tiny_backbone: Path, few_steps: None) -> tuple[AuditRun, list[Finding]]:
    run = small(audit_run(tiny_backbone, method=ADAPTERS, budget=1.0))
    return run, audit_inversion(run)


def small(run: AuditRun) -> AuditRun:
    """Twenty candidates, of which three classes are known."""
    train = run.data.train
    return replace(run, data=replace(run.data, train=Split(train.images[:20], train.labels[:20], train.rows[:20])))


def column(finding: Finding, name: str, **wanted: object) -> list[object]:
    """Values of one column in the rows whose columns begin as ``wanted`` says (by number: ``c1=8``)."""
    rows = [row for row in finding.rows if all(row[int(key[1:])] == value for key, value in wanted.items())]
    return [row[finding.columns.index(name)] for row in rows]


def test_a_server_with_the_images_tells_the_victim_and_privacy_hides_it(
    audited: tuple[AuditRun, list[Finding]],
) -> None:
    found = audited[1][0]
    assert column(found, "identified", c0="images it holds", c2="one gradient") == [1.0, 1.0]
    (alone,) = column(found, "identified", c0="images it holds", c1=1, c2="one gradient, private")
    assert alone < 1.0
    assert column(found, "by chance", c0="images it holds", c2="one gradient") == [0.05, 0.4]


def test_the_sentence_says_what_privacy_changes_and_what_rebuilds_nothing(
    audited: tuple[AuditRun, list[Finding]],
) -> None:
    found = audited[1][0]
    best = max(column(found, "identified", c1=1, c2="one gradient, private"))  # type: ignore[type-var]
    assert f"With privacy: {best:.0%}." in found.summary
    assert ("rebuilds nothing" in found.summary) == ("'images it holds' tells" in found.summary)
    assert {figure.caption.split(",")[0] for figure in found.figures} == {"1 image", "8 images"}


def test_a_check_that_is_off_is_called_off(tiny_backbone: Path) -> None:
    run = small(audit_run(tiny_backbone, method=ADAPTERS, **{"inbound-factor": 0.0}))
    forged = Forgery.of(Scene.of(run))
    assert forged is not None
    found = check_of_crafted(forged)
    assert found.summary.startswith("The site's check is off: it lets a state in that tells")
    assert "inbound-factor=0)" in found.notes[0]


def test_every_kind_of_update_is_attacked_and_blind_guesses_stand_beside(
    audited: tuple[AuditRun, list[Finding]],
) -> None:
    found = audited[1][0]
    assert {row[2] for row in found.rows} == {"one gradient", "a whole visit", "one gradient, private", "-"}
    for batch in (1, 8):
        assert len(column(found, "PSNR (dB)", c1=batch, c0="none: the mean public image")) == 1
    assert all(len(row) == len(finding.columns) for finding in audited[1] for row in finding.rows)


def test_crafted_bins_read_tokens_and_privacy_leaves_none(audited: tuple[AuditRun, list[Finding]]) -> None:
    malicious = audited[1][1]
    read = {row[2]: row[3] for row in malicious.rows if row[1] == 1}
    assert read["one gradient"] >= 5
    assert read["one AdamW step"] >= 5
    assert read["one gradient, private"] == 0


def test_what_the_server_gets_is_what_its_name_says(audited: tuple[AuditRun, list[Finding]]) -> None:
    scene = Scene.of(audited[0])
    assert scene.run.privacy is not None
    places, names = scene.places(2, 1), scene.names
    batch = scene.victims(places)
    clear = scene.observe(places, "one gradient")
    noise = scene.run.privacy.noise_multiplier
    private = private_gradient(scene.learner(), batch, names, clip=1.0, noise_multiplier=noise, seed=0)
    step, visit = scene.observe(places, "one AdamW step"), scene.observe(places, "a whole visit")
    for name in ("head.weight", "blocks.0.ffn.adaptformer.up.weight"):
        torch.testing.assert_close(clear[name], mean_gradient(scene.learner(), batch, names)[name])
        assert torch.equal(scene.observe(places, "one gradient, private")[name], private[name])
        assert 0 < float(step[name].norm()) < float(visit[name].norm())


def test_figures_are_pictures(audited: tuple[AuditRun, list[Finding]]) -> None:
    figures = [figure for finding in audited[1] for figure in finding.figures]
    assert len(figures) == 6 + 4
    for figure in figures:
        with Image.open(io.BytesIO(figure.png)) as picture:
            assert min(picture.size) >= 128


def test_the_same_seed_finds_the_same_and_the_learner_is_left_at_its_start(
    audited: tuple[AuditRun, list[Finding]],
) -> None:
    run, (_, malicious, _) = audited
    learner = run.model.learner
    assert learner.export(learner.manifest()).hash() == run.model.initial.hash()
    forged = Forgery.of(Scene.of(run))
    assert forged is not None
    for number, sent in ((0, "one gradient"), (3, "one gradient, private")):
        bins = forged.bins(1, LOUD if number else QUIET)
        assert attacked(forged, bins, bins.state(), 1, sent) == (malicious.rows[number], malicious.figures[number])
    other = Scene.of(replace(run, seed=1))
    assert not torch.equal(other.rows, forged.scene.rows)


def test_round_one_refuses_what_is_crafted_and_admits_what_is_honest(tiny_backbone: Path) -> None:
    run = small(audit_run(tiny_backbone, method=ADAPTERS))
    scene = Scene.of(run)
    forged = Forgery.of(scene)
    assert forged is not None
    inbound, reach = Inbound(10.0, run.model.initial), honest_reach(scene)
    assert 0.01 < reach < 10
    quiet = sent_state(scene, forged.bins(1, QUIET).state())
    loud = sent_state(scene, forged.bins(1, LOUD).state())
    assert admitted(inbound, run.model.initial, 1, reach)
    assert not admitted(inbound, quiet, 1, reach)
    assert not admitted(inbound, loud, 2, reach)
    assert not admitted(inbound, quiet, 2, reach / 100)
    assert admitted(inbound, quiet, 2, 100 * reach)


def test_beyond_the_bound_a_smooth_adapter_is_scaled_into_it(tiny_backbone: Path) -> None:
    run = small(audit_run(tiny_backbone, method="houlsby(bottleneck=32)", **{"inbound-factor": 40.0}))
    forged = Forgery.of(Scene.of(run))
    assert forged is not None
    rows = {str(row[0]): row for row in check_of_crafted(forged).rows}
    assert rows["quiet bins"][3:5] == ("refused", "refused")
    scaled = rows["quiet bins, scaled into the bound"]
    assert scaled[4] == "admitted"
    assert scaled[1] <= scaled[2] < rows["quiet bins"][1]
    assert scaled[5] < rows["quiet bins"][5]


def test_without_adapters_no_crafted_state_is_claimed(tiny_backbone: Path) -> None:
    scene = Scene.of(small(audit_run(tiny_backbone, method="head")))
    (finding,) = malicious_server(scene)
    assert not finding.rows
    assert "No crafted state is known" in finding.summary
    assert list(sent_kinds(scene)) == ["one gradient", "a whole visit"]


def test_other_tasks_are_not_attempted_and_it_says_so(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = audit_run(tiny_backbone)
    monkeypatch.setattr(run.model.learner, "task", object())
    (finding,) = audit_inversion(run)
    assert "Not attempted" in finding.summary
    assert not finding.rows
