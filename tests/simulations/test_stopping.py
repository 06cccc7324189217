from __future__ import annotations

import os
import signal

import pytest

from simulations.stopping import stopped_once


def _ask_twice(sign: signal.Signals, cleaned: list[str]) -> None:
    with stopped_once("Stopping ..."):
        try:
            os.kill(os.getpid(), sign)
        finally:
            os.kill(os.getpid(), sign)
            cleaned.append("all")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_clean_up_is_not_interrupted_by_asking_again(
    sign: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before, cleaned = signal.getsignal(sign), list[str]()
    with pytest.raises(KeyboardInterrupt):
        _ask_twice(sign, cleaned)
    assert cleaned == ["all"]
    assert capsys.readouterr().err == "Stopping ...\n"
    assert signal.getsignal(sign) == before
