"""``fedmedpeft provision``: the keys, certificates and kits of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup


class NewByDefault(TyperGroup):
    """`fedmedpeft provision federation.yaml ...` is `fedmedpeft provision new federation.yaml ...`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0].endswith((".yaml", ".yml")):
            args = ["new", *args]
        return super().resolve_command(ctx, args)


# The root of the command finds `provision` in this module, so there is a level around it.
app = typer.Typer()
provision = typer.Typer(
    cls=NewByDefault,
    no_args_is_help=True,
    help="Make keys, certificates and kits for the server and every hospital, and renew or revoke them.",
)
app.add_typer(provision, name="provision")


@app.callback()
def _level() -> None:
    """Only there so that `provision` stays a command of its own."""


_Kits = Annotated[Path, typer.Argument(metavar="KITS", help="Directory that `provision new` made.")]
_Request = Annotated[
    Path | None, typer.Option(metavar="FILE", help="join-request.json of a site that made its key itself.")
]


@provision.command()
def new(
    federation: Annotated[Path, typer.Argument(metavar="FEDERATION.yaml", help="Who takes part; see below.")],
    out: Annotated[Path, typer.Option(help="Directory to make; what is there is never overwritten.")] = Path("kits"),
) -> None:
    """Make the kits of a new federation. The word `new` may be left out.

    Example: fedmedpeft provision new federation.yaml --out kits

    \b
    name: retina
    server:
      address: fl.example.org:443   # host:port that hospitals dial
      hosts: [10.1.2.3]             # further names and addresses of it
    sites:
      - name: Basel                 # its key is made here
      - name: Bern                  # it made its key itself:
        key: bern/join-request.json

    Also: server.port (8000, the SuperLink behind nginx), server.proxy (true), validity.server (365 days),
    validity.authority (3650 days), install (/opt/fedmedpeft: where kits are put on their machines).

    Writes authority/ (keep it offline), server/ and sites/NAME/, each with a README, all for their owner only.
    """
    from server.provisioning.cli_output import show_kits
    from server.provisioning.federation_file import FederationFile
    from server.provisioning.kits import new_kits

    new_kits(FederationFile.load(federation), federation.absolute().parent, out)
    typer.echo(f"Made {out}: authority/ (keep it offline), server/, and sites/ with a kit for each hospital.")
    typer.echo("Hand each kit over by a way that keeps it secret, and compare these by telephone:\n")
    show_kits(out)


@provision.command()
def add(
    kits: _Kits,
    site: Annotated[str | None, typer.Option(metavar="NAME", help="A site whose key is made here.")] = None,
    request: _Request = None,
) -> None:
    """Make the kit of one more site.

    Example: fedmedpeft provision add kits --request bern/join-request.json

    Example: fedmedpeft provision add kits --site Geneva

    With --request the kit holds no private key: compare the fingerprint with the site by telephone before you go on.
    """
    from fedmedpeft.components import ConfigError
    from fedmedpeft.site_identity import JoinRequest
    from server.provisioning.cli_output import show_key, show_server_steps
    from server.provisioning.kits import add_site

    asked = None if request is None else JoinRequest.read(request)
    name = site or (asked.name if asked else None)
    if name is None:
        raise ConfigError("Say which site: --site NAME makes its key here, --request FILE takes the key that it made.")
    record = add_site(kits, name, asked)
    show_key(record.name, record.fingerprint, record.spoken)
    typer.echo(f"Kit:          {kits / 'sites' / name}")
    show_server_steps(kits, "Until then the site is not let in.")


@provision.command()
def rotate(
    kits: _Kits,
    server: Annotated[bool, typer.Option("--server", help="A new TLS key and certificate for the server.")] = False,
    site: Annotated[str | None, typer.Option(metavar="NAME", help="A new key for this site.")] = None,
    request: _Request = None,
    authority: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where ca.key is (--server); else KITS/authority.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, max=825, help="How long the certificate holds (--server).")] = None,
) -> None:
    """Renew the server's certificate, or the key of one site.

    Example: fedmedpeft provision rotate kits --server --authority /media/safe/authority

    Example: fedmedpeft provision rotate kits --site Basel

    The server's new certificate is signed by the same authority, so sites need nothing new. A site's old key must be
    unregistered at the server, and can never be registered again.
    """
    from fedmedpeft.components import ConfigError
    from fedmedpeft.site_identity import JoinRequest
    from server.provisioning.cli_output import show_key, show_server_steps
    from server.provisioning.kits import AUTHORITY, rotate_server, rotate_site

    asked = None if request is None else JoinRequest.read(request)
    name = site or (asked.name if asked else None)
    if server == (name is not None):
        raise ConfigError("Say what gets a new key, and one thing at a time: --server, --site NAME or --request FILE.")
    if name is None:
        rotate_server(kits, authority or kits / AUTHORITY, days)
        typer.echo(
            f"Renewed. Copy server.key and server.crt from '{kits / 'server'}' to the server; restart it and nginx."
        )
        return
    record, _ = rotate_site(kits, name, asked)
    show_key(record.name, record.fingerprint, record.spoken)
    made = "its new site.key" if record.key_made == "here" else "(it has the key already)"
    typer.echo(f"To the site:  {kits / 'sites' / name} {made}")
    show_server_steps(kits, "Until then the old key is still let in.")


@provision.command()
def revoke(
    kits: _Kits,
    site: Annotated[str, typer.Option(metavar="NAME", help="The site that takes part no longer.")],
    reason: Annotated[str, typer.Option(help="Kept in the register and in revoked.json.")],
    at_once: Annotated[
        bool, typer.Option("--apply", help="And tell the server, which runs on this machine from KITS/server.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Shut a site out: its key is revoked for good.

    Example: fedmedpeft provision revoke kits --site Basel --reason 'laptop stolen'

    The site is out once the server has unregistered the key: with --apply, or by the steps that are printed.
    """
    from server.provisioning.cli_output import show_server_steps
    from server.provisioning.kits import SERVER, revoke_site
    from server.provisioning.register import Register

    record = Register.load(kits).site(site)
    if not yes:
        typer.confirm(f"Revoke the key {record.fingerprint} of '{site}' for good?", abort=True)
    revoke_site(kits, site, reason)
    typer.echo(f"Revoked: {record.fingerprint}. Its kit was moved to '{kits / 'revoked'}'.")
    if at_once:
        _apply(kits / SERVER)
    else:
        show_server_steps(kits, "Until then the old key is still let in.")


@provision.command()
def apply(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The server's kit, on the server's machine.")],
) -> None:
    """Tell the running server: take the keys in KIT/sites, forget those of KIT/revoked.json. Can be given again.

    Example: sudo -u fedmedpeft fedmedpeft provision apply /opt/fedmedpeft/server

    Without it the server does so at its next start. A site whose key was revoked is shut out at once, and Flower never
    takes the key again.
    """
    _apply(kit)


@provision.command()
def show(kits: _Kits, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Who takes part, fingerprints to compare, and what ends when. Nothing secret is shown.

    Example: fedmedpeft provision show kits

    Exits with 1 where a certificate has ended or ends within 30 days.
    """
    from server.provisioning.cli_output import show_kits

    if show_kits(kits, as_json=as_json):
        raise typer.Exit(1)


def _apply(kit: Path) -> None:
    from server.processes.control import register_sites
    from server.processes.kit import ServerKit

    if not register_sites(ServerKit.open(kit), typer.echo):
        typer.echo("Not all of it was done: see above, and give it again.", err=True)
        raise typer.Exit(1)
    typer.echo("The server knows the sites of its kit, and no revoked key.")
