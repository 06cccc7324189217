"""A whole run of the real workers, cut off and gone on with: what lies at the sites must fit what the server sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.config import RunConfig
from tests.server.interruptions import Cut, Cutter, cut, left_behind
from tests.simulations.conftest import run_in_process, tiny_config

_PERSONAL = {"method": "lora(rank=2)+layernorm", "personal": "layernorm"}
_ROTATION = {"method": "sba(persist=false)", "sampling-fraction": 0.6}


def _config(backbone: Path, folder: Path, changes: dict[str, Any]) -> RunConfig:
    return tiny_config(backbone, folder, **{"references": "none", "personalise-steps": 2, **changes})


def _moments(events: list[str]) -> dict[str, int]:
    """Where a server may be killed: the number of the event, by what it was doing."""
    sent = [number for number, event in enumerate(events) if event == "after sending"]
    return {
        "sites have answered round 2": sent[-2],
        "round 1 is aggregated": events.index("after aggregating"),
        "sites have made the last visit": sent[-1],
    }


@pytest.mark.parametrize(
    ("changes", "moments"),
    [
        (_PERSONAL, ["sites have answered round 2", "sites have made the last visit"]),
        (_ROTATION, ["round 1 is aggregated"]),
    ],
    ids=["personal part, momentum, steps alone", "rotation that goes back"],
)
def test_it_ends_as_if_it_had_not_been_cut_off(
    tiny_backbone: Path, tmp_path: Path, changes: dict[str, Any], moments: list[str]
) -> None:
    cutter = Cutter(None, cut, [])
    with cutter.watching():
        whole = left_behind(run_in_process(_config(tiny_backbone, tmp_path / "whole", changes)))
    for number, moment in enumerate(moments):
        config = _config(tiny_backbone, tmp_path / str(number), changes)
        with pytest.raises(Cut), Cutter(_moments(cutter.events)[moment], cut, []).watching():
            run_in_process(config)
        resumed = run_in_process(config.model_copy(update={"resume": config.run_name}))
        assert left_behind(resumed) == whole, moment
