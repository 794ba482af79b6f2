"""MLflow in line with the ledger: a run for each sitting, aliases and tags of the versions it decided on.

The ledger's row is the decision; all of this may be killed anywhere and done again. The order makes it so: tags, then
aliases with ``production`` last, then the runs of single decisions, then the run of the whole sitting. Where there is
that run, finished, there is everything.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from alpha_assets.quant.lifecycle import (
    CANARY,
    GATE,
    PRODUCTION,
    STAGING,
    WATCH,
    Decision,
    Standing,
    served_before,
    standings,
    states_of,
    version_of,
)
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.stations.portrait import portrait
from alpha_assets.stations.train import model_name, pool_name
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import WHOLE, Registry

#: Sittings whose mirror in MLflow is looked for at first; where none of them has one, four times as many, and so on.
SITTINGS = 20

#: The tag that MLflow's pages show as the description, and how long it may be: MLflow cuts tags at 8,000 characters.
NOTED, NOTE = "mlflow.note.content", 7_900

#: A sitting's evidence and rows as metrics.
Figures = Callable[[Mapping[str, Any], Sequence[Row]], dict[str, float]]


def bring_into_line(ledger: Ledger, registry: Registry, figures: Figures, tags: Mapping[str, str] | None = None) -> int:
    """Mirror what has no mirror yet, set the aliases that differ; how many names had one set. Idempotent.

    ``tags`` go on the runs that this call makes. One process at a time does it.
    """
    if not ledger.sittings(1):
        return 0
    with registry.alone():
        due = _without_mirror(ledger, registry)
        moved = _name(ledger, registry, [row for rows in due.values() for row in rows])
        for digest, rows in due.items():
            _mirror(ledger, registry, figures, digest, rows, tags or {})
        return moved


def _name(ledger: Ledger, registry: Registry, decided: Sequence[Row]) -> int:
    """Tags and aliases of the names that ``decided`` is about, and of those whose alias is not what was decided."""
    aliased = registry.aliases()
    stands = standings(ledger.history(), ledger.candidates())
    about: dict[str, list[Standing]] = {}
    for stand in stands.values():
        for name in {name for name, _ in stand.states}:
            about.setdefault(name, []).append(stand)
    serving = _by_name(stand.production for stand in stands.values())
    watched = _by_name(stand.canary for stand in stands.values())
    waiting = _waiting(stands.values(), aliased)
    ours = about.keys() | set(map(pool_name, REGIMES))
    wanted = {name: _aliases(name, about.get(name, []), serving, watched, waiting) for name in ours}
    due = {
        name
        for name in wanted.keys() & aliased.keys()
        if any(aliased[name].get(alias) != number for alias, number in wanted[name].items())
    }
    due |= {row["model_name"] for row in decided}
    # The version before production may be of another name, a pooled model's: it is archived or named there.
    due |= {former["model_name"] for row in decided for former in stands[row["symbol"], row["regime"]].line[-2:]}
    moved = 0
    for name in sorted(due - {None}):
        known = aliased.get(name, {})
        changed = {alias: number for alias, number in wanted[name].items() if known.get(alias) != number}
        renamed = {number for number in (known.get(alias) for alias in changed) if number is not None}
        registry.project(name, changed, *_pages(ledger, registry, name, about.get(name, []), decided, serving, renamed))
        moved += bool(changed)
    return moved


def _by_name(rows: Iterable[Decision | None]) -> dict[str, Decision]:
    """By registered name the newest of these decisions: symbols that share a model may stand at different versions."""
    known = [row for row in rows if row is not None]
    return {str(row["model_name"]): row for row in sorted(known, key=lambda row: int(row["id"]))}


def _waiting(stands: Iterable[Standing], aliased: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """By registered name the number of the newest version that waits for a decision, or is held for a person.

    Among them what ``staging`` names already: a version has that alias before the ledger knows it, and of a pooled one
    that stands in for nobody the ledger never does.
    """
    states = states_of(stands)
    named = {(name, aliases[STAGING]) for name, aliases in aliased.items() if STAGING in aliases}
    waiting = named - states.keys() | {key for key, state in states.items() if state == STAGING}
    return dict(sorted(waiting, key=lambda key: int(key[1])))


def _aliases(
    name: str,
    about: Sequence[Standing],
    serving: Mapping[str, Decision],
    watched: Mapping[str, Decision],
    waiting: Mapping[str, str],
) -> dict[str, str | None]:
    newest = serving.get(name)
    previous = next(
        (
            stand.previous
            for stand in about
            if newest is not None and stand.production is not None and stand.production["id"] == newest["id"]
        ),
        None,
    )
    named = {"previous": previous, CANARY: watched.get(name), PRODUCTION: newest}
    numbers = {
        alias: str(row["model_version"]) if row is not None and row["model_name"] == name else None
        for alias, row in named.items()
    }
    return {STAGING: waiting.get(name), **numbers}


def _pages(
    ledger: Ledger,
    registry: Registry,
    name: str,
    about: Sequence[Standing],
    decided: Sequence[Row],
    serving: Mapping[str, Decision],
    renamed: Collection[str],
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Tags and description of the versions of ``name`` whose state may have changed, those that lose an alias too."""
    states = {number: state for (other, number), state in states_of(about).items() if other == name}
    changed = {str(row[key]) for row in decided for key in ("model_version", "previous_version") if row[key]}
    changed |= set(renamed)
    changed |= {number for number, state in states.items() if state in (PRODUCTION, CANARY)}
    tags = {number: {"state": states[number]} for number in sorted(changed & states.keys())}
    row = serving.get(name)
    if row is None:
        return tags, {}
    number = str(row["model_version"])
    tags[number] = {
        **tags.get(number, {}),
        "promoted_at": row["decided_at"].isoformat(),
        "promoted_because": row["reason"][:5000],
        "promoted_by": row["who"],
        **({"speaker": row["speaker"]} if row["speaker"] else {}),
    }
    standing_there = [stand.production for stand in about if stand.production is not None]
    serves = sorted(str(own["symbol"]) for own in standing_there if version_of(own) == (name, number))
    return tags, {number: described(ledger, registry, row, _judged(ledger, row), serves)}


def _judged(ledger: Ledger, row: Decision) -> Mapping[str, Any]:
    """What the gate saw when it judged the training of ``row``: a version that came through a shadow was judged before.

    What the decision itself was taken on is there too.
    """
    own = ledger.evidence([row["id"]])[row["id"]]
    if own.get("pool"):
        return own
    of_cell = ledger.history([row["symbol"]]).get((row["symbol"], row["regime"]), [])
    same = [other["id"] for other in of_cell if other["training_id"] == row["training_id"] and other["id"] < row["id"]]
    found = ledger.evidence(same)
    judged: Mapping[str, Any] = next((found[key] for key in reversed(same) if found[key].get("pool")), {})
    return {**judged, **own}


def described(
    ledger: Ledger, registry: Registry, row: Decision, evidence: Mapping[str, Any], serves: Sequence[str] = ()
) -> str:
    """Why a version stands where it does, as MLflow's pages show it: the decision, the window, the gate's table.

    ``serves`` are the symbols that it serves, where they may be several.
    """
    lines = evidence.get("pool", {}).get("lines", ())
    told = [
        f"**{row['verdict']}** for {row['symbol']} {row['regime']} by {row['who']} at "
        f"{row['decided_at']:%Y-%m-%d %H:%M} UTC: {row['reason']}",
        f"It serves {len(serves)} symbols: {', '.join(serves)}." if len(serves) > 1 else "",
        _spanned(evidence.get("window")),
        _succeeded(ledger, row),
        f"{registry.run_page(row['dagster_run'])}." if row["dagster_run"] else "",
    ]
    return "\n\n".join(part for part in [*told, _table(lines)] if part)


def _succeeded(ledger: Ledger, row: Decision) -> str:
    if not row["previous_version"]:
        return ""
    before = served_before(ledger.history([row["symbol"]])[row["symbol"], row["regime"]], row)
    return f"Before it: {before['model_name']} version {before['model_version']}." if before else ""


def _noted(registry: Registry, rows: Sequence[Row], pools: Mapping[str, Mapping[str, Any]]) -> str:
    """What a run over many decisions says of itself: how many of each, then what the gate saw of each pool."""
    counts = Counter(f"{row['verdict']} ({row['stage']})" for row in rows)
    told = [", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + "."]
    if rows[0]["dagster_run"]:
        told.append(f"{registry.run_page(rows[0]['dagster_run'])}.")
    for regime, pool in pools.items():
        told += [f"**{regime}**: {pool['reason']}", _table(pool["lines"])] if pool else []
    return "\n\n".join(told)[:NOTE]


def _table(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    table = ["| line | figure | error | bound | threshold | passed | decides |", "|---|---|---|---|---|---|---|"]
    table += [
        f"| {line['name']} | {_short(line['figure'])} | {_short(line['error'])} | {_short(line['bound'])} | "
        f"{_short(line['threshold'])} | {'yes' if line['passed'] else 'no'} | {'yes' if line['decides'] else 'no'} |"
        for line in lines
    ]
    return "\n".join(table)


def _spanned(window: Mapping[str, Any] | None) -> str:
    if not window:
        return ""
    return f"Out-of-fold predictions from {window['first']} to {window['last']}, {window['rows']:,} rows."


def _short(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.4g}"


def _without_mirror(ledger: Ledger, registry: Registry) -> dict[str, list[Row]]:
    """The sittings that have no mirror yet, oldest first: mirrors are made in their order, so back to one that has."""
    newest = SITTINGS
    while True:
        sittings = _sittings(ledger, newest)
        mirrored = registry.mirrored_sittings(4 * newest)
        due = {digest: rows for digest, rows in sittings.items() if digest not in mirrored}
        instants = {rows[0]["decided_at"] for rows in sittings.values()}
        if len(due) < len(sittings) or len(instants) < newest:
            return due
        newest *= 4


def _sittings(ledger: Ledger, newest: int) -> dict[str, list[Row]]:
    """The newest sittings, oldest first, each under a digest of what it decided."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in ledger.sittings(newest):
        groups.setdefault((row["dagster_run"], row["decided_at"], _person(row)), []).append(row)
    return {_digest(rows): rows for rows in groups.values()}


def _person(row: Row) -> str | None:
    return None if row["who"] in (GATE, WATCH) else f"{row['who']} {row['id']}"


def _digest(rows: Sequence[Row]) -> str:
    decided = sorted(f"{row['symbol']}|{row['regime']}#{row['seq']}" for row in rows)
    return hashlib.sha256("\n".join(decided).encode()).hexdigest()[:32]


def _mirror(
    ledger: Ledger, registry: Registry, figures: Figures, digest: str, rows: Sequence[Row], tags: Mapping[str, str]
) -> None:
    """One sitting: a run of the whole; below it one a regime where there are several, and one a moved alias.

    What a person decided alone is a run by itself. ``staging`` alone, which every decision takes away, makes no run.
    """
    evidence = ledger.evidence([row["id"] for row in rows])
    shared = {**tags, "sitting": digest, "decided_at": rows[0]["decided_at"].isoformat()}
    if rows[0]["dagster_run"]:
        shared["decided_by"] = rows[0]["dagster_run"]
    known = registry.mirrors(digest)
    if _person(rows[0]) is not None:
        _log_single(ledger, registry, rows[0], evidence[rows[0]["id"]], {**shared, "part": WHOLE}, None, known)
        return
    by_regime = {
        regime: [row for row in rows if row["regime"] == regime] for regime in sorted({row["regime"] for row in rows})
    }
    pools = {regime: _pool(evidence, some) for regime, some in by_regime.items()}
    told = {regime: figures(pools[regime], some) for regime, some in by_regime.items()}
    regimes = list(by_regime)
    name = f"gate {', '.join(regimes)}"
    whole = {**shared, "part": WHOLE, "regime": ", ".join(regimes), NOTED: _noted(registry, rows, pools)}
    parent = known.get(WHOLE) or registry.open_sitting(name, whole)
    for row in rows:
        # The watch takes back who serves, and ends shadows: whatever it decides takes an alias away.
        if row["stage"] in (PRODUCTION, CANARY) or row["who"] == WATCH:
            part = f"{row['regime']}|{row['symbol']}"
            _log_single(ledger, registry, row, evidence[row["id"]], {**shared, "part": part}, parent, known)
    for regime, some in by_regime.items() if len(regimes) > 1 else ():
        registry.log_decisions(
            f"gate {regime}",
            metrics=told[regime],
            tags={**shared, "part": regime, "regime": regime, NOTED: _noted(registry, some, {regime: pools[regime]})},
            report=_report(evidence, some),
            parent=parent,
            same=known.get(regime),
        )
    counts = {"promoted": "promote", "rejected": "reject", "held": "hold", "rolled_back": "rollback"}
    metrics = {word: float(sum(row["verdict"] == verdict for row in rows)) for word, verdict in counts.items()}
    metrics |= {"judged": float(len(rows)), "seconds": max(float(row["seconds"] or 0.0) for row in rows)}
    metrics["samples"] = float(sum(pool.get("rows", 0) for pool in pools.values()))
    alone = told[regimes[0]] if len(regimes) == 1 else {}
    registry.log_decisions(
        name,
        metrics={**alone, **metrics},
        tags=whole,
        report=_report(evidence, rows),
        same=parent,
    )


def _pool(evidence: Mapping[int, Any], rows: Sequence[Row]) -> Mapping[str, Any]:
    return next((evidence[row["id"]]["pool"] for row in rows if evidence[row["id"]].get("pool")), {})


def _report(evidence: Mapping[int, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The whole table of a sitting, with what it was decided on."""
    named = ("symbol", "regime", "seq", "verdict", "stage", "reason", "who", "model_name", "model_version")
    decisions = [
        {
            **{name: row[name] for name in (*named, "previous_version", "seconds")},
            **{name: evidence[row["id"]].get(name) for name in ("baseline", "window", "shadow", "live")},
        }
        for row in rows
    ]
    regimes = {row["regime"]: _pool(evidence, [row]) for row in rows if _pool(evidence, [row])}
    symbols = {f"{row['regime']}|{row['symbol']}": evidence[row["id"]].get("symbol") for row in rows}
    return {"judgement": {"pools": regimes, "symbols": symbols}, "decisions": decisions}


def _log_single(
    ledger: Ledger,
    registry: Registry,
    row: Row,
    evidence: Mapping[str, Any],
    tags: Mapping[str, str],
    parent: str | None,
    known: Mapping[str, str],
) -> None:
    about = {name: str(row[name]) for name in ("symbol", "regime", "verdict", "stage", "who")}
    about["model_name"] = row["model_name"] or model_name(row["symbol"], row["regime"])
    versions = {name: str(row[name]) for name in ("model_version", "previous_version") if row[name] is not None}
    said = {"reason": row["reason"][:5000], NOTED: described(ledger, registry, row, evidence)}
    judged = evidence.get("symbol") or {}
    figures = {name: judged.get(name) for name in ("ic", "error", "effect", "probability", "rows")}
    metrics = {name: float(value) for name, value in figures.items() if value is not None}
    if row["seconds"] is not None:
        metrics["seconds"] = float(row["seconds"])
    registry.log_decisions(
        f"{row['verdict']} {about['model_name']} {row['model_version'] or 'to none'}",
        metrics=metrics,
        tags={**tags, **about, **versions, **said},
        report={"decision": {**about, **versions, "reason": row["reason"]}, "evidence": dict(evidence)},
        parent=parent,
        picture=_picture(registry, row),
        same=known.get(tags["part"]),
    )


def _picture(registry: Registry, row: Row) -> bytes | None:
    """The picture of a version that comes to serve or into shadow; a pooled one has it where it was trained."""
    name, number = row["model_name"], row["model_version"]
    if row["stage"] not in (PRODUCTION, CANARY) or number is None or name == pool_name(row["regime"]):
        return None
    report = registry.report_of(name, number)
    return None if report is None else portrait(report, f"{name} version {number}: out of fold")
