from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.methods import Rotation
from server.distribution import Distribution, groups_of

GROUPS = ("a", "b", "c", "d")


def distribution(**options: object) -> Distribution:
    return Distribution(Rotation({name: frozenset({name}) for name in GROUPS}, 1, **options), seed=0)  # type: ignore[arg-type]


def test_at_the_start_nobody_lacks_anything() -> None:
    assert distribution().missing("one") == ()


def test_what_changed_is_sent_until_the_site_has_answered() -> None:
    known = distribution()
    known.acknowledged("one")
    known.changed(1, ["c", "a"])
    assert known.missing("one") == known.missing("one") == ("a", "c")
    known.acknowledged("one")
    assert known.missing("one") == ()
    known.changed(2, ["a"])
    assert known.missing("one") == ("a",)
    assert known.missing("never asked") == ("a", "c")


def test_of_a_site_that_failed_only_the_start_is_known() -> None:
    known = distribution()
    known.changed(1, ["b"])
    known.acknowledged("one")
    known.changed(2, ["d"])
    known.forget("one")
    assert known.missing("one") == ("b", "d")


def test_groups_that_went_back_are_sent_to_those_alone_who_had_others() -> None:
    known = distribution(persist=False)
    known.changed(1, ["a", "b"])
    known.acknowledged("one")
    assert known.going_back({"one": ("b",)}) == {"a", "c", "d"}
    assert known.missing("one") == ("a",)
    assert known.missing("two") == ("b",)


def test_updates_that_persist_never_go_back() -> None:
    known = distribution()
    known.changed(1, ["a"])
    assert known.going_back({"one": ("b",)}) == frozenset()
    assert known.missing("two") == ("a",)


def test_draws_are_one_for_all_or_one_each() -> None:
    sites = [f"site-{i}" for i in range(12)]
    assert len(set(distribution().draws(sites, 1).values())) == 1
    each = distribution(per_site=True).draws(sites, 1)
    assert len(set(each.values())) > 1
    assert set(groups_of(distribution().rotation, each)) == {group for groups in each.values() for group in groups}
    assert Distribution(Rotation(), 0).draws(sites, 1) == dict.fromkeys(sites, ())


@given(st.randoms(use_true_random=False), st.booleans())
def test_every_site_can_always_put_the_whole_together(rng: random.Random, persist: bool) -> None:
    """Sites that fail, lose what they had, or are not asked: what is sent, on top of what is there or of the start, is
    the server's state; or the site refuses, and the next message to it heals."""
    known = distribution(persist=persist)
    start = dict.fromkeys(GROUPS, 0)
    server, stores = dict(start), {"one": dict(start), "two": dict(start)}
    lost: set[str] = set()
    for round_ in range(1, 12):
        draws = known.draws(stores, round_)
        server.update(dict.fromkeys(known.going_back(draws), 0))
        for site in rng.sample(sorted(stores), rng.randint(0, 2)):
            if rng.random() < 0.2:
                stores[site] = dict(start)
                lost.add(site)
            came = {group: server[group] for group in known.missing(site)}
            answered = rng.random() < 0.7
            if server in (stores[site] | came, start | came):
                stores[site] = dict(server)
            else:
                assert site in lost
                answered = False
            lost.discard(site)
            (known.acknowledged if answered else known.forget)(site)
        if rng.random() < 0.8:
            groups = groups_of(known.rotation, draws)
            server.update(dict.fromkeys(groups, round_))
            known.changed(round_, groups)
