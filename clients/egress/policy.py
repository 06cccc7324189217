"""Which runs a site takes part in, and when: the rules of ``site.yaml``, against what the server announces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from clients.egress import run_rules
from clients.egress.run_hash import run_hash
from clients.egress.server_paths import named_paths
from clients.egress.working_hours import WorkingHours
from clients.policy_section import PolicySection
from fedmedpeft.components import ConfigError, parse_composition, parse_spec, suggest
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.privacy.client_level import client_level

__all__ = ["Policy", "run_hash"]

NOT_BY_DEFAULT = ("full",)
"""Methods that must be named to be allowed: they move every weight of the backbone."""
ALWAYS = ("head",)
"""Methods that need not be named: they add nothing to the task's head, which every run trains."""
_FAMILY = "peft:"
_LONGEST = 60


@dataclass(frozen=True)
class Policy:
    """One site's rules.

    Args:
        section: as in ``site.yaml``.
        backbones: those of ``site.yaml``, by the name that runs use.
    """

    section: PolicySection
    backbones: Mapping[str, str]

    def check_run(self, announced: RunConfig) -> None:
        """Raises SiteError for a run that breaks rules; it names each of them, what was asked and what is allowed."""
        findings = self.findings(announced)
        if findings:
            raise SiteError(Refusal.POLICY, f"policy: {'; '.join(findings)}")

    def findings(self, announced: RunConfig) -> list[str]:
        """What of ``announced`` is against the rules; half-sentences that may be shown to the server.

        A run whose hash is approved may have any method and task. It must still keep to all other rules.
        """
        found = [*self._mode(announced), *self._sizes(announced), *self._backbone(announced)]
        found += run_rules.findings(self.section, announced)
        found += [f"'{key}' names a file of this site, which a server may not" for key in named_paths(announced)]
        try:
            client_level(announced.client_privacy)
        except ConfigError:
            found.append(f"client-privacy '{_short(announced.client_privacy)}' means nothing here")
        if self.section.approved_runs:
            return [*self._approval(announced), *found]
        return [*self._methods(announced), *self._tasks(announced), *found]

    def check_fingerprint(self, fingerprint: str) -> None:
        """Refuse a backbone, once it is loaded, that is not among the fingerprints accepted. Raises SiteError."""
        if self.section.backbones and fingerprint not in self.section.backbones:
            raise SiteError(
                Refusal.POLICY, "policy: the fingerprint of the backbone here is none of those in policy.backbones"
            )

    def check_reference(self) -> None:
        """Refuse to train a reference where the site does not. The run goes on without it. Raises SiteError."""
        if not self.section.references:
            raise SiteError(Refusal.POLICY, "policy: no references are trained here (policy.references)")

    def check_hours(self, now: datetime) -> None:
        """Raises SiteError outside working hours. What has begun within them is finished."""
        hours = WorkingHours.of(self.section)
        if not hours.include(now):
            raise SiteError(Refusal.LATER, f"trains only {hours} (local time of the site)")

    def _approval(self, announced: RunConfig) -> Iterable[str]:
        digest = run_hash(announced)
        if digest not in {approved.strip().lower() for approved in self.section.approved_runs}:
            yield f"the run's configuration ({digest[:12]}...) is none of those that this site has approved"

    def _methods(self, announced: RunConfig) -> Iterable[str]:
        allowed = self.section.methods
        families = tuple(name.removesuffix("*") for name in allowed if name in (_FAMILY, f"{_FAMILY}*"))
        for spec in parse_composition(announced.method):
            named = spec.name in (*ALWAYS, *allowed) or spec.name.startswith(families)
            if not (named if allowed else spec.name not in NOT_BY_DEFAULT):
                rule = f"allowed: {', '.join(allowed)}" if allowed else f"allowed: all but {', '.join(NOT_BY_DEFAULT)}"
                yield f"method '{_short(spec.name)}' is not allowed here ({rule})"

    def _tasks(self, announced: RunConfig) -> Iterable[str]:
        name, allowed = parse_spec(announced.task).name, self.section.tasks
        if name not in allowed:
            yield f"task '{_short(name)}' is not allowed here (allowed: {', '.join(allowed) or 'none'})"

    def _mode(self, announced: RunConfig) -> Iterable[str]:
        alone = announced.mode == "local-only" and self.section.references
        if announced.mode != "federated" and not alone:
            yield f"mode '{announced.mode}' trains a reference, which this site does not (allowed: federated)"

    def _backbone(self, announced: RunConfig) -> Iterable[str]:
        name, wanted, accepted = announced.backbone, announced.backbone_fingerprint, self.section.backbones
        if name not in self.backbones:
            near, known = suggest(name, self.backbones), ", ".join(self.backbones)
            yield f"backbone '{_short(name)}' is none that this site has (it has: {known}).{near}".removesuffix(".")
        if wanted and accepted and wanted not in accepted:
            yield f"backbone-fingerprint '{wanted[:12]}...' is none of those accepted here (policy.backbones)"

    def _sizes(self, announced: RunConfig) -> Iterable[str]:
        section = self.section
        asked = {
            "rounds": (announced.rounds, section.most_rounds, "most-rounds"),
            "local-steps": (announced.local_steps, section.most_local_steps, "most-local-steps"),
            "batch-size": (announced.batch_size, section.most_batch_size, "most-batch-size"),
            "image-size": (announced.image_size, section.most_image_size, "most-image-size"),
            "personalise-steps": (announced.personalise_steps, section.most_local_steps, "most-local-steps"),
        }
        for key, (value, most, rule) in asked.items():
            if value > most:
                yield f"{key}={value} is above what this site trains ({rule}: {most})"
        if not 0 < announced.inbound_factor <= section.most_inbound_factor:
            yield (
                f"inbound-factor={announced.inbound_factor:g} is not within what this site allows (above 0, "
                f"most-inbound-factor: {section.most_inbound_factor:g})"
            )


def _short(text: str) -> str:
    """A value of the server's own, as it is shown to the server and in logs: printable and not long."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
