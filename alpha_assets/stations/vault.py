"""The vault: the newest dates, which no fold is tested on, read once a release.

What a family is worth was chosen, tuned and judged on the dates before; these say what is left of it. Whoever could
look again after every change would tune on them too, so the ledger remembers that a release has looked, under a family
of its own: a reading is no trial of the gate.
"""

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from alpha_assets.quant import gate, metrics
from alpha_assets.quant.heads import Learnt, Refusal, blocks, enough, learn, vault_fold
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stations.base import StationFailed
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.sets import recipe_of, table_of
from alpha_assets.stations.train import labelled_rows, newest_pool, shut_from, task_of, turned_by, usable
from alpha_assets.stations.trials import configuration
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry

#: Who sees the scores here.
VAULT = "vault"

#: What a reading tells of a regime.
FIELDS = ("regime", "rows", "dates", "symbols", "ts_ic", "accuracy", "log_loss", "sharpe", "reason")


class VaultRead(StationFailed):
    """The vault was read for this release already; the message says when, and with what score."""


def read_vault(
    lake: Lake, ledger: Ledger, registry: Registry, settings: Settings, why: str, who: str, now: datetime
) -> list[Row]:
    """What the pooled models of each regime say of the vault's dates, fitted on what was known before: ``FIELDS``.

    Whatever the settings are: who could look again by another learner would choose by the vault. Recorded in MLflow and
    the ledger before it is told; where one of them does not answer nobody has seen anything, and the reading is made
    again. Raises VaultRead where this release has looked before, and StationFailed where there is no vault.
    """
    release = version("alpha_assets")
    families = {regime: f"{VAULT} {release}|{regime}" for regime in REGIMES}
    _refuse_again(ledger, registry, release, families)
    shut = shut_from(lake, settings)
    if shut is None:
        raise StationFailed(
            "there is no vault: ALPHA_LEARNING__VAULT_SHARE is 0 or holds no whole date, so that every date has been "
            "tested on; set it to 0.15 before training towards a release"
        )
    names = calendars_of(ledger)
    rows = usable(labelled_rows(lake, settings, names, list(names))[0]).sort("timestamp", "symbol")
    told = [_reading(registry, settings, rows, regime, shut) for regime in REGIMES]
    own = configuration(table_of(settings), settings.learning)
    noted = {"configuration": own, "source": VAULT, "seen_at": now}
    figures = {
        f"{row['regime']}_{name}": float(row[name])
        for row in told
        for name in FIELDS[1:-1]
        if row.get(name) is not None
    }
    tags = {"release": release, "who": who, "why": why, "vault_from": f"{shut:%Y-%m-%d}"}
    registry.log_vault(f"vault {release}", metrics=figures, tags=tags, report={"vault": told, **tags})
    ledger.note_trials([{**noted, "family": families[row["regime"]], "score": row["sharpe"]} for row in told])
    return told


def _refuse_again(ledger: Ledger, registry: Registry, release: str, families: Mapping[str, str]) -> None:
    seen = {regime: rows[0] for regime, name in families.items() if (rows := ledger.trials(name))}
    if not seen:
        if registry.exists() and registry.vault_read(release):
            raise VaultRead(
                f"the vault was read for release {release}; a release reads it once (its figures are in MLflow, run "
                f"«vault {release}»)"
            )
        return
    scores = ", ".join(
        f"{regime} {row['score']:.3f}" if row["score"] is not None else f"{regime} none" for regime, row in seen.items()
    )
    at = next(iter(seen.values()))["seen_at"]
    raise VaultRead(
        f"the vault was read for release {release} on {at:%Y-%m-%d %H:%M} UTC, Sharpe ratio per date: {scores}; a "
        "release reads it once (all figures are in MLflow, run «vault»)"
    )


def _reading(registry: Registry, settings: Settings, rows: pl.DataFrame, regime: str, shut: datetime) -> Row:
    from threadpoolctl import threadpool_limits

    pool = newest_pool(registry, settings, regime) if settings.learning.search_trials else None
    learning = turned_by(settings.learning, pool[1]) if pool else settings.learning
    task = task_of(regime, rows, regime, recipe_of(settings), learning, shut=shut, pooled=True)
    nothing: dict[str, Any] = {**dict.fromkeys(FIELDS), "regime": regime}
    if (refusal := enough(task.rows, learning)) is not None:
        return {**nothing, "reason": refusal.reason}
    member = task.member.to_numpy()
    burn_in, folds = blocks(task.spans, member, learning, learning.min_rows // 2, shut)
    fold = vault_fold(task.spans, member, learning, shut)
    # As in a training: a sum over two threads rounds otherwise than over one.
    with threadpool_limits(1):
        found = learn(
            *(task.rows, recipe_of(settings).columns, [*burn_in, *folds], [fold], learning),
            stamps=task.stamps,
            pooled=True,
        )
    if isinstance(found, Refusal):
        return {**nothing, "reason": found.reason}
    evidence = _with_labels(found, task.rows)
    sharpe = gate.sharpe_of(evidence, settings.gate, horizon=learning.horizon)
    figures = metrics.figures(evidence)
    return {**nothing, **{name: figures[name] for name in FIELDS if name in figures}, "sharpe": sharpe}


def _with_labels(found: Learnt, rows: pl.DataFrame) -> pl.DataFrame:
    labels = ("scaled_return", "up", "label_return", "past_return", "momentum_return")
    key = ["symbol", "timestamp"]
    return found.evidence.join(rows.select(*key, *labels), on=key, maintain_order="left")
