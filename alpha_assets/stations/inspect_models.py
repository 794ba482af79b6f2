"""What is wrong with the models that serve: found for the symbols of a run, remembered for the whole universe."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from alpha_assets.quant.lifecycle import STAGING, VersionKey, standings, states_of, version_of
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stations.ask import faults
from alpha_assets.stations.inspect import Verdict, verdict_of
from alpha_assets.stations.train import pool_name
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import ALIASES, Registry

#: A model in production that gives no probability for the newest bar, that asks for a column its table lacks, or that
#: is too old; a rule is one of these and the regime.
SILENT, OTHER_FEATURES, EXPIRED = "model_silent", "model_features", "model_expired"

#: The findings that each check of the models reports, and its words for them.
MODEL_CHECKS: Mapping[str, tuple[str, str]] = {
    "production_predicts": (SILENT, "models in production give no probability for the newest bar"),
    "feature_set_matches": (OTHER_FEATURES, "models in production ask for columns that their feature table lacks"),
    "none_expired": (EXPIRED, "models in production are older than ALPHA_PROMOTION__EXPIRY_DAYS"),
}


#: The names of the pooled models, which serve whoever is promoted on them.
POOLS = frozenset(map(pool_name, REGIMES))


def rules_of(kind: str) -> list[str]:
    """The rules of one kind, a regime each."""
    return [f"{kind}.{regime}" for regime in REGIMES]


def inspect_models(
    lake: Lake, ledger: Ledger, registry: Registry, settings: Settings, symbols: Sequence[str], now: datetime
) -> None:
    """Ask every model in production of ``symbols`` about its newest bar and look at its columns and age."""
    wanted = set(symbols)
    serving = [row for row in ledger.production().values() if row["symbol"] in wanted]
    limit = timedelta(days=settings.promotion.expiry_days)
    silent = faults(lake, ledger, registry, settings, serving)
    others = _asking_for_more(lake, registry, serving)
    expired = {
        (row["symbol"], row["regime"]) for row in serving if now - (row["trained_at"] or row["decided_at"]) > limit
    }
    found = [
        {"symbol": symbol, "rule": f"{kind}.{regime}", "day": now.date(), "seen_at": now}
        for kind, cells in ((SILENT, silent), (OTHER_FEATURES, others), (EXPIRED, expired))
        for symbol, regime in sorted(cells)
    ]
    rules = [rule for kind, _ in MODEL_CHECKS.values() for rule in rules_of(kind)]
    ledger.note_findings(dict.fromkeys(symbols), rules, found)


def _asking_for_more(lake: Lake, registry: Registry, serving: Sequence[Row]) -> set[tuple[str, str]]:
    """The cells whose model asks for a column that its table lacks; files out of reach are told by the other check."""
    columns: dict[str, set[str]] = {}
    lacking: dict[str, bool] = {}
    for row in serving:
        table, place = str(row["features_set"]), str(row["model_location"])
        if table not in columns:
            columns[table] = set(lake.read(table, symbols=[]).columns)
        if place not in lacking:
            try:
                lacking[place] = not columns[table] >= set(registry.inputs_of(place))
            except OSError:
                lacking[place] = False
    return {(row["symbol"], row["regime"]) for row in serving if lacking[str(row["model_location"])]}


def models_verdict(ledger: Ledger, check: str) -> Verdict:
    """Everything that this check found and nobody cleared, over the whole universe."""
    kind, what = MODEL_CHECKS[check]
    members = {row["symbol"] for row in ledger.universe()}
    found = [
        f"{row['symbol']} {row['rule'].removeprefix(f'{kind}.')}"
        for row in ledger.findings(rules_of(kind))
        if row["symbol"] in members
    ]
    return verdict_of(found, what)


def aliases_verdict(ledger: Ledger, registry: Registry) -> Verdict:
    """The aliases of our models that no recorded decision explains; names of others in the same store are theirs.

    ``staging`` is explained where none was taken, not in a version's place either, or where a person has to look.
    """
    if not registry.exists():
        return verdict_of([], ALIASES_UNEXPLAINED)
    explains = _explaining(ledger)
    wrong = [
        f"{name}@{alias} is version {number}"
        for name, aliases in sorted(registry.aliases().items())
        if name.rpartition(".")[2] in REGIMES or name in POOLS
        for alias, number in sorted(aliases.items())
        if alias in ALIASES and not explains(alias, (name, number))
    ]
    return verdict_of(wrong, ALIASES_UNEXPLAINED)


ALIASES_UNEXPLAINED = "aliases are not what was decided: alpha-assets train, or any decision, sets them right"


def _explaining(ledger: Ledger) -> Callable[[str, VersionKey], bool]:
    stands = standings(ledger.history(), ledger.candidates()).values()
    told = {
        "production": [stand.production for stand in stands],
        "canary": [stand.canary for stand in stands],
        "previous": [stand.previous for stand in stands],
    }
    named = {alias: {version_of(row) for row in rows if row is not None} for alias, rows in told.items()}
    states = states_of(stands)

    def explains(alias: str, key: VersionKey) -> bool:
        return states.get(key, STAGING) == STAGING if alias == STAGING else key in named[alias]

    return explains
