"""A person decides: promote, reject, roll back, read the vault. Recorded in the ledger first, then in MLflow."""

import os
import pwd
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from alpha_assets.commands import home, show
from alpha_assets.commands.launch import say
from alpha_assets.commands.models import cell_of, decision_table, model_of, now, opened
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings

if TYPE_CHECKING:
    from alpha_assets.stores.ledger import Ledger
    from alpha_assets.stores.registry import Registry

#: Takes a decision on a cell's version and gives its row back.
Decide = Callable[..., dict[str, Any]]


def promote(settings: Settings, options: Namespace) -> None:
    """Bring a version into production: the one named, else what waits, else what the newest training came to."""
    from alpha_assets.stations.decisions import promote_version

    def decide(ledger: "Ledger", registry: "Registry", cell: tuple[str, str], **said: Any) -> dict[str, Any]:
        return promote_version(ledger, registry, settings, cell, options.version, **said)

    _decided(settings, options, decide)


def reject(settings: Settings, options: Namespace) -> None:
    """Turn a version down for good."""
    from alpha_assets.stations.decisions import reject_version

    def decide(ledger: "Ledger", registry: "Registry", cell: tuple[str, str], **said: Any) -> dict[str, Any]:  # noqa: ARG001
        return reject_version(ledger, cell, options.version, **said)

    _decided(settings, options, decide)


def rollback(settings: Settings, options: Namespace) -> None:
    """Bring the version before back, or the one named, or leave none where there was none."""
    from alpha_assets.stations.decisions import roll_back

    def decide(ledger: "Ledger", registry: "Registry", cell: tuple[str, str], **said: Any) -> dict[str, Any]:  # noqa: ARG001
        return roll_back(ledger, cell, options.version, **said)

    _decided(settings, options, decide)


def vault(settings: Settings, options: Namespace) -> None:
    """Read what the pooled models say of the newest dates, which nothing was tested on: once a release."""
    from alpha_assets.stations.base import StationFailed
    from alpha_assets.stations.vault import FIELDS, read_vault
    from alpha_assets.stores.lake import Lake
    from alpha_assets.stores.registry import Registry

    why, ledger = _reason(options), opened(settings)
    home.prepare(settings)
    try:
        rows = read_vault(Lake(settings), ledger, Registry(settings), settings, why, person(), now())
    except StationFailed as error:
        raise CommandFailed(str(error)) from error
    show.table(rows, FIELDS, options.format)


def _reason(options: Namespace) -> str:
    why = str(options.why).strip()
    if not why:
        raise CommandFailed('--why says nothing: a decision is recorded with its reason, --why "…"')
    return why


def _decided(settings: Settings, options: Namespace, decide: Decide) -> None:
    from alpha_assets.stations.promote import reconcile
    from alpha_assets.stores.registry import Registry, RegistryUnavailable

    why, ledger, registry = _reason(options), opened(settings), Registry(settings)
    cell = cell_of(ledger, options)
    home.prepare(settings)
    row = decide(ledger, registry, cell, why=why, who=person(), now=now())
    decision_table([row], options.format)
    if (overruled := row["evidence"].get("overrules")) is not None:
        say(f"this overrules a {overruled['verdict']} by {overruled['who']}: {overruled['reason']}")
    if row["evidence"].get("unjudged"):
        say(f"no gate has judged {model_of(row)}")
    try:
        reconcile(ledger, registry)
    except RegistryUnavailable as error:
        raise CommandFailed(f"the decision is recorded and holds; MLflow follows once it answers: {error}") from error
    if options.verb_name != "reject":
        say(f"the next refresh says the signal of {cell[0]} anew: alpha-assets refresh --symbols {cell[0]}")


def person() -> str:
    """Who is logged in, by the operating system and not by a variable that anybody may set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
