"""Clock and key, as the server sees them. The probe is signed as Flower's is, and asks for what is always refused."""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from clients.preflight.server_link import Answer
from fedmedpeft.site_identity import fingerprint

ACTIVATE = "/v1/fleet/activate-node"
MOST_AHEAD, MOST_BEHIND = SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE
"""Seconds that the clock behind a signature may be ahead of the server's, and behind it."""
_WARN_AHEAD, _WARN_BEHIND = 2.0, 60.0
_SHOWN = 200
_SET_CLOCK = "Have this machine's clock set by NTP (`timedatectl` shows whether it is)."


def check_clock(facts: Facts) -> Result:
    """This clock against the server's, from the date of any reply of it."""
    authority = facts.site.path(facts.site.server.ca_certificate)
    before = time.time()
    try:
        answer = facts.link.ask(authority, "GET", "/health")
    except (OSError, http.client.HTTPException) as error:
        return failed("the server does not answer over HTTP.", "Ask the coordinator whether it runs.", str(error))
    now = (before + time.time()) / 2
    try:
        # A date has whole seconds: the server's clock is half of one further on, on average.
        ahead = now - parsedate_to_datetime(answer.date or "").timestamp() - 0.5
    except ValueError:
        return warned("the server's replies carry no date, so clocks cannot be compared.", _SET_CLOCK)
    side = "ahead of" if ahead > 0 else "behind"
    told = f"this clock is {abs(ahead):.0f} s {side} the server's"
    limits = f"at more than {MOST_AHEAD} s ahead or {MOST_BEHIND} s behind it refuses this site"
    if ahead > MOST_AHEAD or ahead < -MOST_BEHIND:
        return failed(f"{told}; {limits}.", _SET_CLOCK)
    if ahead > _WARN_AHEAD or ahead < -_WARN_BEHIND:
        return warned(f"{told}; {limits}.", _SET_CLOCK)
    return passed(f"{told}.")


def check_registered(facts: Facts) -> Result:
    """Does the server know this site's key?

    Asked is to come online with a heartbeat of 0 s. Flower looks the key up, then refuses that interval, and changes
    nothing: neither a node that is offline nor one that is online notices.
    """
    authority = facts.site.path(facts.site.server.ca_certificate)
    body, headers = signed_probe(facts.key)
    try:
        answer = facts.link.ask(authority, "POST", ACTIVATE, body, headers)
    except (OSError, http.client.HTTPException) as error:
        return failed("the server does not answer the signed probe.", "Ask the coordinator.", str(error))
    return _judge(answer, fingerprint(facts.key.public_key()))


def signed_probe(key: EllipticCurvePrivateKey) -> tuple[bytes, dict[str, str]]:
    """Content and headers of the request; Flower's SuperNode signs the time in the same way."""
    public = public_key_to_bytes(key.public_key())
    moment = datetime.now(UTC).isoformat()
    signature = sign_message(key, moment.encode("ascii"))
    headers = {
        "content-type": PROTOBUF_MEDIA_TYPE,
        "accept": PROTOBUF_MEDIA_TYPE,
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public).decode("ascii"),
        TIMESTAMP_HEADER: moment,
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
    }
    return ActivateNodeRequest(public_key=public, heartbeat_interval=0.0).SerializeToString(), headers


def _judge(answer: Answer, mark: str) -> Result:
    said = f"status {answer.status}: {answer.content[:_SHOWN]!r}"
    code = _code(answer)
    if code == ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
        return passed("the server knows this site's key, and took its signature.")
    if code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
        return failed(
            f"the server does not know this site's key ({mark}).",
            "Send the coordinator the join request, and compare that fingerprint. A key that was once unregistered "
            "cannot come back: make a new one then.",
            said,
        )
    if answer.status == http.client.UNAUTHORIZED:
        return failed(
            "the server did not take this site's signature.",
            f"{_SET_CLOCK} If 'clock' passes, a proxy on the way may change request headers.",
            said,
        )
    return failed(
        f"what answers is no Flower server that this site can join (status {answer.status}).",
        "Ask the coordinator whether its proxy lets /v1/fleet/ through, and which version of Flower runs there.",
        said,
    )


def _code(answer: Answer) -> int | None:
    try:
        content = json.loads(answer.content)
    except ValueError:
        return None
    code = content.get("code") if isinstance(content, dict) else None
    return code if isinstance(code, int) else None
