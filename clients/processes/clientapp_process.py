"""What runs in place of Flower's ``flwr-clientapp`` at a site: the same process, with the app that is installed here.

Flower's own unpacks the app that the server sent and runs it. Here that app is only compared with the installed one;
where it differs, every message is answered with a refusal, which the worker is told, as it keeps the audit log. Flower
has no setting for that, so the functions that do it are replaced, after a look at whether they are still those that
this was written for.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from clients.deployment.link import tell_of_refusal
from clients.deployment.other_code import Difference, Told
from clients.processes.shipped_app import AppDiffersError, check_shipped_app
from fedmedpeft.exchange import Refusal

TOKEN = "FEDMEDPEFT_TASK_TOKEN"
"""Variable of the environment with what Flower gives as ``--token``."""
_RUNTIME = "flwr.supernode.runtime.run_clientapp"
_WRITTEN_FOR = "1.41"
_EXPECTED: Mapping[str, tuple[str, ...]] = {
    "run_clientapp": (
        *("runtime_api_address", "token", "insecure", "certificates", "parent_pid"),
        "runtime_dependency_install",
    ),
    "install_from_fab": ("fab_file", "install_dir", "skip_prompt"),
    "get_project_dir": ("fab_id", "fab_version", "fab_hash"),
    "get_load_client_app_fn": ("default_app_ref", "app_path", "multi_app"),
    "install_app_dependencies": ("project_dir", "launch_id", "run_id", "index_context"),
}
"""Functions of Flower's module, and their parameters."""

_log = logging.getLogger("fedmedpeft.site")


class RefusingApp(ClientApp):
    """Answers every message with the same refusal, whether or not the worker can be told."""

    def __init__(self, difference: Difference) -> None:
        super().__init__()
        self._difference = difference

    def __call__(self, message: Message, context: Context) -> Message:
        socket = context.node_config.get("site-socket")
        if isinstance(socket, str):
            tell_of_refusal(Path(socket), Told.about(message.metadata.message_type, self._difference))
        return Message(Error(int(Refusal.CODE), self._difference.reason), reply_to=message)


class InstalledApp(ClientApp):
    """The app of this installation. An exception's text never leaves: Flower would send it."""

    def __call__(self, message: Message, context: Context) -> Message:
        try:
            from clients.app import app

            return app(message, context)
        except Exception:
            _log.exception("The message could not be answered.")
            reason = "internal error; the site's log has the details"
            return Message(Error(int(Refusal.INTERNAL), reason), reply_to=message)


class AppOfThisInstallation:
    """Takes the places of Flower's functions that unpack and load the app that came."""

    def __init__(self) -> None:
        self._difference: Difference | None = Difference.of("not-compared")

    def install_from_fab(
        self, fab_file: Path | bytes, install_dir: Path | None = None, skip_prompt: bool = False
    ) -> Path:
        """Compare, and unpack nothing."""
        try:
            check_shipped_app(fab_file if isinstance(fab_file, bytes) else fab_file.read_bytes())
            self._difference = None
        except AppDiffersError as error:
            self._difference = error.difference
            _log.warning("Refused (%s): %s", Refusal.CODE.name, self._difference.reason)
        return Path()

    def get_load_client_app_fn(
        self, default_app_ref: str, app_path: str | None, multi_app: bool
    ) -> Callable[[str, str, str], ClientApp]:
        """A loader that knows one app."""
        difference = self._difference
        return lambda fab_id, fab_version, fab_hash: InstalledApp() if difference is None else RefusingApp(difference)


def _installs_nothing(*arguments: object, **named: object) -> NoReturn:
    raise RuntimeError("nothing is installed here for an app")


def replace_loading(runtime: ModuleType) -> None:
    """Make Flower's module ``runtime`` run the installed app only.

    Raises:
        SystemExit: its functions are not those that this was written for.
    """
    for name, parameters in _EXPECTED.items():
        function = getattr(runtime, name, None)
        if not inspect.isfunction(function) or tuple(inspect.signature(function).parameters) != parameters:
            _refuse_to_start(name)
    called = runtime.run_clientapp.__code__.co_names
    for name in list(_EXPECTED)[1:]:
        if name not in called:
            _refuse_to_start(name)
    app = AppOfThisInstallation()
    ours: dict[str, Any] = {
        "install_from_fab": app.install_from_fab,
        "get_project_dir": lambda fab_id, fab_version, fab_hash: Path(),
        "get_load_client_app_fn": app.get_load_client_app_fn,
        "install_app_dependencies": _installs_nothing,
    }
    for name, function in ours.items():
        setattr(runtime, name, function)


def _refuse_to_start(name: str) -> NoReturn:
    from importlib.metadata import version

    raise SystemExit(
        f"Error: Flower {version('flwr')} loads apps in another way ('{name}' has changed) than Flower {_WRITTEN_FOR}, "
        f"for which this version of fedmedpeft was written. No message is answered, so that no code from the server "
        f"runs here. Install the pinned version: pip install 'flwr=={_WRITTEN_FOR}.*'"
    )


def main() -> None:
    """With the arguments of ``flwr-clientapp``; the token may come in the environment, see :data:`TOKEN`."""
    token = os.environ.pop(TOKEN, None)
    if token is not None:
        sys.argv += ["--token", token]
    replace_loading(importlib.import_module(_RUNTIME))
    from flwr.supernode.cli import flwr_clientapp

    flwr_clientapp()


if __name__ == "__main__":
    main()
