"""The attacks of an audit by name; what they need is imported when one is asked for."""

from __future__ import annotations

ATTACKS = {
    "membership": ("simulations.audit.membership", "audit_membership"),
    "canaries": ("simulations.audit.canary_findings", "audit_canaries"),
    "inversion": ("simulations.audit.inversion", "audit_inversion"),
}
"""Name -> where it is; each turns an AuditRun into findings."""
