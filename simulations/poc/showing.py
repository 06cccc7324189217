"""One showing from the first file to the last process."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmedpeft.components import ConfigError
from simulations.poc.closing import tell_result, tell_rounds, tell_sites
from simulations.poc.company import Company
from simulations.poc.errors import PocError
from simulations.poc.plan import Plan
from simulations.poc.play import Play
from simulations.poc.stage import set_up
from simulations.poc.teller import Teller

LOG = "poc.log"


def show(plan: Plan, work: Path | None, say: Callable[[str], None], *, keep: bool) -> None:
    """Set up, perform, and take everything down.

    Args:
        work: a new or empty directory, which is kept; None: a temporary one.
        keep: keep the temporary one, too.

    Raises:
        ConfigError: the directory cannot be used, or this machine cannot.
        PocError: something did not happen that should have.
    """
    if not Path("/proc/self/environ").exists():
        raise ConfigError("`fedmedpeft poc` finds its processes through /proc, which this system lacks: use Linux.")
    directory = _made(work)
    kept = keep or work is not None
    with _removed_at_the_end(directory, say, kept=kept), Teller(directory / LOG, say) as teller:
        _introduce(plan, directory, teller)
        began = time.monotonic()
        stage = set_up(plan, directory)
        teller.say(f"Made the kits of server and sites in {time.monotonic() - began:.1f} s (`fedmedpeft provision`).")
        try:
            with Company(stage, directory, teller) as company:
                play = Play(plan, stage, company, teller)
                play.perform()
                tell_sites(stage, teller)
        except PocError as error:
            teller.say(f"FAILED: {error}")
            raise PocError(f"{error} All logs: {directory}") from None
        finally:
            teller.say("Everything was stopped.")
        tell_rounds(plan, play, stage, teller)
        tell_result(stage, teller, kept=kept)


def _introduce(plan: Plan, directory: Path, teller: Teller) -> None:
    teller.say(f"Data: {plan.description.rstrip('.')}.")
    for site, images in plan.images.items():
        teller.say(f"  {site}: {images} images")
    teller.say(
        "Test sets are small here: every site.yaml has policy.smallest-count 0, so that all scores leave "
        "(a hospital's default is 10)."
    )
    teller.say(f"Kits, states and logs: {directory}")


def _made(work: Path | None) -> Path:
    """Raises ConfigError."""
    if work is None:
        return Path(tempfile.mkdtemp(prefix="fedmedpeft-poc-"))
    directory = work.expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(directory.iterdir()):
            raise ConfigError(f"--work '{directory}' is not empty. Name a new directory; nothing is overwritten.")
    except OSError as error:
        raise ConfigError(f"--work '{directory}' cannot be used ({error.strerror}). Name another directory.") from None
    return directory


@contextmanager
def _removed_at_the_end(directory: Path, say: Callable[[str], None], *, kept: bool) -> Iterator[None]:
    """What went wrong can only be understood with its logs, so they stay then."""
    try:
        yield
    except Exception:
        say(f"Kept: {directory}")
        kept = True
        raise
    finally:
        if not kept:
            shutil.rmtree(directory, ignore_errors=True)
