"""The ledger's schema by revision. Light, because the quick reader of signals asks it too."""

from alpha_assets.stores.trouble import StoreTrouble

#: The revision that ``tables.metadata`` describes: the last one under ``versions``.
HEAD = "0007"


class LedgerOutdated(StoreTrouble):
    """The database's schema is older or newer than this program; the message says what to do."""


def refuse_other_revision(found: str) -> None:
    """Raise LedgerOutdated for a revision that is not this program's."""
    if found < HEAD:
        raise LedgerOutdated(
            f"the ledger has the schema {found}, this program reads {HEAD}: «alpha-assets refresh» brings it up to date"
        )
    if found > HEAD:
        raise LedgerOutdated(
            f"the ledger has the schema {found}, this program knows {HEAD}: a newer alpha_assets wrote it, use that one"
        )
