"""The newest signal of each symbol as the lake remembers it: what is served while the ledger does not answer.

Who was retired is written in the ledger alone, so a retired symbol is among them, with the signal of its last bar.
"""

import json
from datetime import timedelta
from typing import Any

import polars as pl

from alpha_assets.quant.tally import DOCUMENTS
from alpha_assets.settings import Settings
from alpha_assets.stores.lake import Lake


def last_said(settings: Settings) -> list[dict[str, Any]]:
    """A row a symbol, in alphabetical order, with ``expires_at`` as the ledger would have it.

    Raises LakeUnavailable where the lake does not answer either.
    """
    said = Lake(settings).read("signals").sort("symbol", "bar_time", "created_at")
    lives = timedelta(hours=settings.signal_ttl_hours)
    newest = said.group_by("symbol", maintain_order=True).last().with_columns(expires_at=pl.col("created_at") + lives)
    return [{**row, **{name: _parsed(row[name]) for name in DOCUMENTS}} for row in newest.to_dicts()]


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
