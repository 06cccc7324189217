"""``fedmedpeft site join-request``: the site makes its own key, and only the public half is sent."""

from __future__ import annotations

from pathlib import Path

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from fedmedpeft.site_identity import (
    JoinRequest,
    make_private_key,
    private_key_text,
    read_public_key,
    spoken_fingerprint,
)

KEY, REQUEST = "site.key", "join-request.json"
_OWNER_ONLY = 0o600


def make_join_request(name: str, folder: Path) -> JoinRequest:
    """Write a new private key (``site.key``, mode 0600) and a request to join (``join-request.json``) to ``folder``.

    Args:
        folder: made, for its owner only, where it is not there.

    Raises:
        ConfigError: ``name`` cannot be a site's, there is a key or a request already, or nothing can be written there.
    """
    key = make_private_key()
    request = JoinRequest.make(name, key)
    for file in (folder / KEY, folder / REQUEST):
        if file.exists():
            raise ConfigError(
                f"'{file}' is there already and is never overwritten. Name another directory, or move it away where "
                "the coordinator does not know this key."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / KEY, private_key_text(key), _OWNER_ONLY)
        write_atomically(folder / REQUEST, request.text(), _OWNER_ONLY)
    except OSError as error:
        raise ConfigError(f"'{folder}' cannot be written: {error.strerror}. Name another directory.") from None
    return request


def next_steps(request: JoinRequest, folder: Path) -> list[str]:
    """What the person at the site reads after :func:`make_join_request`."""
    return [
        f"Site:         {request.name}",
        f"Private key:  {folder / KEY} (stays here; never send it)",
        f"Send this:    {folder / REQUEST} (nothing in it is secret)",
        f"Fingerprint:  {request.fingerprint} (`ssh-keygen -lf '{folder / KEY}'` shows it too)",
        f"Read aloud:   {spoken_fingerprint(read_public_key(request.public_key))}",
        "Then compare the fingerprint with the coordinator by telephone, on a number that you have from elsewhere.",
    ]
