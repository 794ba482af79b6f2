"""Fourth station: the gate decides, one INSERT makes it true, MLflow is brought into line.

The evidence is pooled over every symbol of the regime that has a candidate of the same feature set and learner,
whichever of them this run holds, because one symbol alone cannot reach significance. Decisions are recorded for the
symbols of the run.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant import gate
from alpha_assets.quant.gate import Judgement
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.featurise import table_of
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.train import ALL, OUT_OF_FOLD, labelled_rows, model_name
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry

#: Attempts at the gate are counted over a rolling year.
YEAR = timedelta(days=365)

VERDICTS = {"promote": "promote", "reject": "reject", "block": "hold"}


def promote(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    symbols: Sequence[str],
    now: datetime,
    dagster_run: str | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Judge the pool, then the candidates of ``symbols``; record and project the decisions.

    States: promoted, rejected, held (a person has to look), unchanged (this candidate was decided on before),
    no_candidate. Raises DecidedElsewhere where another run decided first.
    """
    started = time.perf_counter()
    report = Report()
    candidates = {symbol: row for (symbol, regime), row in ledger.candidates().items() if regime == ALL}
    last = {symbol: row for (symbol, regime), row in ledger.last_decisions().items() if regime == ALL}
    open_ones = []
    for symbol in symbols:
        candidate = candidates.get(symbol)
        if candidate is None or candidate["model_version"] is None:
            report.say(symbol, "no_candidate", reason=candidate["reason"] if candidate else "never trained")
        elif symbol in last and last[symbol]["training_id"] == candidate["training_id"]:
            report.say(symbol, "unchanged", verdict=last[symbol]["verdict"], reason=last[symbol]["reason"])
        else:
            open_ones.append(symbol)
    progress("candidates to judge", len(symbols) - len(open_ones), len(symbols))
    if open_ones:
        judgement = _judge(lake, ledger, settings, candidates, now)
        rows = [
            _decision(
                candidates[symbol],
                judgement,
                last.get(symbol),
                ledger.production().get((symbol, ALL)),
                now,
                dagster_run,
            )
            for symbol in open_ones
        ]
        ledger.decide(rows)
        _mirror(registry, judgement, rows, tags or {})
        for row in rows:
            verdict = judgement.symbols[row["symbol"]]
            figures = {"ic": verdict.ic, "probability": verdict.probability}
            report.say(
                row["symbol"], PAST[row["verdict"]], reason=row["reason"], version=row["model_version"], **figures
            )
        report.totals["pool"] = judgement.pool.reason
    reconcile(ledger, registry)
    report.totals |= {
        "symbols": len(symbols),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


PAST = {"promote": "promoted", "reject": "rejected", "hold": "held"}


def family(settings: Settings) -> str:
    """What is judged together: regime, feature set and learner."""
    return f"{ALL}|{table_of()}|{settings.learning.learner}|h{settings.learning.horizon}"


def _judge(lake: Lake, ledger: Ledger, settings: Settings, candidates: Mapping[str, Row], now: datetime) -> Judgement:
    table = table_of()
    pool = {
        symbol: row["training_id"]
        for symbol, row in candidates.items()
        if row["model_version"] is not None and row["features_set"] == table
    }
    evidence = _evidence(lake, settings, calendars_of(ledger), pool)
    digest = hashlib.sha256("|".join(sorted(pool.values())).encode()).hexdigest()
    attempt = ledger.spend_attempt(family(settings), digest, now, now - YEAR)
    return gate.judge(evidence, settings.gate, horizon=settings.learning.horizon, attempt=attempt)


def _evidence(lake: Lake, settings: Settings, names: Mapping[str, str], pool: Mapping[str, str]) -> pl.DataFrame:
    """The out-of-fold predictions of the present candidates beside what followed."""
    present = pl.DataFrame({"symbol": list(pool), "training_id": list(pool.values())})
    predictions = (
        lake.read("predictions", symbols=list(pool))
        .filter(pl.col("regime") == ALL, pl.col("origin") == OUT_OF_FOLD)
        .join(present, on=["symbol", "training_id"], how="semi")
    )
    rows, _ = labelled_rows(lake, settings, names, list(pool))
    followed = rows.select("symbol", "timestamp", "scaled_return", "up", "past_return", "momentum_return")
    return predictions.join(followed, on=["symbol", "timestamp"], how="inner")


def _decision(
    candidate: Row,
    judgement: Judgement,
    last: Row | None,
    production: Row | None,
    now: datetime,
    dagster_run: str | None,
) -> Row:
    verdict = judgement.symbols[candidate["symbol"]]
    return {
        "symbol": candidate["symbol"],
        "regime": candidate["regime"],
        "seq": (last["seq"] if last else 0) + 1,
        "verdict": VERDICTS[verdict.decision],
        "reason": verdict.reason,
        "training_id": candidate["training_id"],
        "features_set": candidate["features_set"],
        "model_name": candidate["model_name"],
        "model_version": candidate["model_version"],
        "model_location": candidate["model_location"],
        "model_digest": candidate["model_digest"],
        "previous_version": production["model_version"] if production else None,
        "evidence": {"pool": asdict(judgement.pool), "symbol": asdict(verdict)},
        "dagster_run": dagster_run,
        "decided_at": now,
    }


def _mirror(registry: Registry, judgement: Judgement, rows: Sequence[Row], tags: Mapping[str, str]) -> None:
    pool = judgement.pool
    figures: dict[str, float] = {
        "attempt": float(pool.attempt),
        "level": pool.level,
        "effective_sample": pool.effective_sample,
        "promoted": float(sum(row["verdict"] == "promote" for row in rows)),
        "judged": float(len(rows)),
    }
    for line in pool.lines:
        known = {"figure": line.figure, "error": line.error, "bound": line.bound, "threshold": line.threshold}
        figures |= {f"{line.name}_{part}": float(value) for part, value in known.items() if value is not None}
    decisions = [
        {key: row[key] for key in ("symbol", "regime", "seq", "verdict", "reason", "model_name", "model_version")}
        for row in rows
    ]
    report: dict[str, Any] = {"judgement": judgement.document(), "decisions": decisions}
    registry.log_decisions(f"gate {ALL}", metrics=figures, tags={**tags, "regime": ALL}, report=report)


def reconcile(ledger: Ledger, registry: Registry) -> int:
    """Bring MLflow's aliases and tags into line with the ledger; idempotent. Returns how many names were moved."""
    production = ledger.production()
    if not production:
        return 0
    aliased = registry.production_versions()
    moved = 0
    for (symbol, regime), row in production.items():
        name = row["model_name"] or model_name(symbol, regime)
        if aliased.get(name) == row["model_version"]:
            continue
        tags = {"promoted_at": row["decided_at"].isoformat(), "promoted_because": row["reason"][:5000]}
        registry.set_production(name, row["model_version"], row["previous_version"], tags)
        moved += 1
    return moved
