"""From a run's configuration to what is audited."""

from __future__ import annotations

from collections.abc import Callable

from clients.simulated_site import SimulatedFederation
from fedmedpeft.components import ConfigError, suggest
from fedmedpeft.config import RunConfig
from fedmedpeft.data import PartitionManifest
from fedmedpeft.data.site_data import SiteData
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.accountant import Spending, epsilon, noise_for
from fedmedpeft.privacy.options import DpOptions, site_privacy
from fedmedpeft.privacy.units import largest_unit, units_of
from fedmedpeft.training.private import PrivacyError, refuse_private
from simulations.audit.audited import AuditedPrivacy, AuditRun, Effort
from simulations.preflight import Federation, planned_task


def open_audit(
    federation: Federation,
    site: str | None,
    epsilon: float | None,
    effort: Effort,
    say: Callable[[str], None],
    shadows: int = 0,
) -> AuditRun:
    """Load the site's data and the model.

    Args:
        site: its name; None: the first.
        epsilon: in place of the configured budget; 0: nothing is trained with privacy. A run that is configured
            without privacy is compared with what ``required()`` would make of it.
        effort, say, shadows: as in :class:`AuditRun`.

    Raises:
        ConfigError: no such site, or unusable settings: the site wants privacy, and the method or task cannot have it.
        DataError: its data cannot be read.
    """
    config = federation.config
    name = _site(federation.partition, site)
    shared = SimulatedFederation(config, federation.sites)
    model = shared.model(planned_task(federation).classes)
    data = shared.data(name)
    privacy, notes = _privacy(config, data, model.learner, epsilon)
    return AuditRun(
        config=config,
        site=name,
        data=data,
        model=model,
        privacy=privacy,
        seed=config.seed,
        effort=effort,
        say=say,
        synthetic=federation.source.synthetic,
        shadows=shadows,
        notes=notes,
    )


def _site(partition: PartitionManifest, wanted: str | None) -> str:
    if wanted is None:
        return partition.sites[0]
    if wanted not in partition.sites:
        known = ", ".join(partition.sites)
        raise ConfigError(f"--site '{wanted}': there is none.{suggest(wanted, partition.sites)} Known: {known}.")
    return wanted


def _privacy(
    config: RunConfig, data: SiteData, learner: Learner, wanted: float | None
) -> tuple[AuditedPrivacy | None, tuple[str, ...]]:
    """How the run's site trains with privacy, and what to say about it."""
    if wanted == 0:
        return None, ("Privacy was left out of this audit (--epsilon 0).",)
    settings = site_privacy(config, data.site)
    options = settings.options or DpOptions()
    if wanted is not None:
        options = options.model_copy(update={"epsilon": wanted, "noise_multiplier": 0.0})
    try:
        refuse_private(learner)
    except PrivacyError as error:
        if settings.options is not None:
            raise ConfigError(f"privacy='{config.privacy}': {error}") from None
        return None, (f"No training with privacy to compare with: {error}",)
    notes = {
        "off": ("The run is configured without privacy; training with privacy is shown for comparison.",),
        "auto": ("privacy='auto': whether the site trains with privacy is the site's decision; here it does.",),
        "required": (),
    }
    return _planned(config, data, options), notes[settings.mode]


def _planned(config: RunConfig, data: SiteData, options: DpOptions) -> AuditedPrivacy:
    """As the site plans it with a ledger in which nothing is spent."""
    units = units_of(data.train, largest_unit(data.train) if options.unit == "auto" else options.unit)
    rate, steps, delta = (
        min(1.0, config.batch_size / units.count),
        config.total_steps,
        options.delta or 0.1 / units.count,
    )
    noise = options.noise_multiplier or noise_for(options.epsilon, delta, rate, steps, accounting=options.accounting)
    spent = epsilon([Spending(noise, rate, steps)], delta, options.accounting)
    return AuditedPrivacy(
        epsilon=spent,
        delta=delta,
        noise_multiplier=noise,
        sample_rate=rate,
        steps=steps,
        clip=options.clip,
        unit=units.kind,
        records_per_unit=options.records_per_unit,
        physical_batch=options.physical_batch,
        accounting=options.accounting,
    )
