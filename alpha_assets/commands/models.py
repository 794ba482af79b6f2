"""Models: which versions there are, every decision, why one serves, and the clean-up of old ones."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_assets.commands import show
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stores.home import refuse_other_interval

if TYPE_CHECKING:
    from alpha_assets.stores.ledger import Ledger

MODEL_FIELDS = (
    *("symbol", "regime", "model", "version", "state", "trained_at", "decided_at", "verdict", "who"),
    *("training", "reason"),
)
PROMOTION_FIELDS = (
    *("symbol", "regime", "seq", "verdict", "stage", "model_name", "model_version", "previous_version", "who"),
    *("reason", "decided_at", "dagster_run"),
)
#: What fits on a screen; CSV and JSON have all fields.
SHOWN_PROMOTION_FIELDS = ("symbol", "regime", "seq", "verdict", "stage", "model", "who", "reason", "decided_at")
CLEAN_FIELDS = ("model", "version", "created_at", "fate", "why")


def models(settings: Settings, options: Namespace) -> None:
    """Every version that was trained or decided on, with its state."""
    from alpha_assets.stations.dossier import version_rows

    ledger = opened(settings)
    if options.symbol is not None:
        refuse_unknown(ledger, options.symbol)
    rows = version_rows(ledger, None if options.symbol is None else [options.symbol])
    show.table(rows, MODEL_FIELDS, options.format, "no model was trained yet: alpha-assets train")


def promotions(settings: Settings, options: Namespace) -> None:
    """Every decision, oldest first."""
    ledger = opened(settings)
    if options.symbol is not None:
        refuse_unknown(ledger, options.symbol)
    decision_table(ledger.decisions(options.symbol), options.format)


def explain(settings: Settings, options: Namespace) -> None:
    """Why the version in production of a (symbol, regime) is there: the decision and the gate's table behind it."""
    from alpha_assets.stations.dossier import LINE_FIELDS, explanation

    ledger = opened(settings)
    cell = cell_of(ledger, options)
    told = explanation(ledger, cell)
    if told is None:
        last = ledger.last_decisions().get(cell)
        because = f"the last decision was {last['verdict']}: {last['reason']}" if last else "nothing was decided yet"
        raise CommandFailed(f"{cell[0]} {cell[1]} has no version in production; {because}")
    if options.format == "json":
        show.record(told, "json")
        return
    if options.format == "table":
        print("\n".join(_sentences(told)) + "\n")
    show.table(told["lines"], LINE_FIELDS, options.format, "no gate has judged it: a person brought it into production")


def picture(settings: Settings, options: Namespace) -> None:
    """Draw a version of a (symbol, regime) into a PNG file."""
    from alpha_assets.stations.portrait import portrait
    from alpha_assets.stores.registry import Registry

    ledger = opened(settings)
    cell = cell_of(ledger, options)
    row = ledger.production().get(cell) or ledger.candidates().get(cell)
    if row is None or row["model_name"] is None:
        raise CommandFailed(f"{cell[0]} {cell[1]} has no version yet: alpha-assets train")
    name, number = row["model_name"], options.version or row["model_version"]
    report = Registry(settings).report_of(name, number)
    if report is None:
        raise CommandFailed(f"{name} version {number} has no report in MLflow; see «alpha-assets models {cell[0]}»")
    file = Path(options.to or f"{name}-{number}.png")
    try:
        file.write_bytes(portrait(report, f"{name} version {number}: out of fold"))
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written: {error.strerror}") from error
    print(file)


def _sentences(told: Mapping[str, Any]) -> list[str]:
    from alpha_assets.quant.gate import REGISTERED

    named = f"{told['symbol']} {told['regime']}: {told['model_name']} version {told['model_version']}"
    said = [f"{named} is in production since {told['decided_at']}, by {told['who']}: {told['reason']}"]
    if told["previous_version"]:
        said.append(f"Before it {told['previous_model']} version {told['previous_version']} was in production.")
    if told["judged_at"]:
        said.append(
            f"Judged at {told['judged_at']}, attempt {told['attempt']} of its family, level {told['level']:.4f}, by "
            + (
                "the thresholds that this release registered."
                if told["gate"] in REGISTERED.values()
                else f"other thresholds of the gate than those registered ({told['gate'] or 'not remembered'})."
            )
        )
    if told["window"]:
        window = told["window"]
        said.append(f"Out-of-fold predictions from {window['first']} to {window['last']}, {window['rows']:,} rows.")
    if told["baseline"]:
        said.append(f"Against {told['baseline']['model_name']} version {told['baseline']['model_version']}.")
    if told["shadow"]:
        said.append(f"In shadow: {told['shadow']['reason']}.")
    said.append(f"Features {told['features_set']}, training {told['training_id']}.")
    return said


def clean(settings: Settings, options: Namespace) -> None:
    """Old versions and what becomes of them; deleted with their files only where --yes says so."""
    from alpha_assets.stations.cleanup import clean as delete
    from alpha_assets.stations.cleanup import plan
    from alpha_assets.stores.registry import Registry

    ledger, registry = opened(settings), Registry(settings)
    keep = options.keep or settings.promotion.keep_versions
    fates = delete(ledger, registry, keep) if options.yes else plan(ledger, registry, keep)
    rows = [
        {
            "model": fate.version.name,
            "version": fate.version.number,
            "created_at": fate.version.created_at,
            "fate": "keep" if fate.keep else "deleted" if options.yes else "delete",
            "why": fate.keep or f"not among the newest {keep}, no alias, and no decision needs it",
        }
        for fate in fates
    ]
    show.table(rows, CLEAN_FIELDS, options.format, "nothing to delete" if options.yes else "no version is registered")
    if options.format == "table" and not options.yes and any(row["fate"] == "delete" for row in rows):
        count = sum(row["fate"] == "delete" for row in rows)
        print(f"nothing was deleted: --yes deletes {show.counted(count, 'version')} with the files")


def decision_table(rows: Sequence[Mapping[str, Any]], form: str) -> None:
    """Print decisions; people read the model and its number as one."""
    fields = SHOWN_PROMOTION_FIELDS if form == "table" else PROMOTION_FIELDS
    shown = [{**row, "model": model_of(row)} for row in rows]
    show.table(shown, fields, form, "nothing was decided yet: alpha-assets train")


def model_of(row: Mapping[str, Any]) -> str | None:
    """The version that a decision is about, by its model; None of a rollback to nothing."""
    return f"{row['model_name']} version {row['model_version']}" if row["model_version"] else None


def opened(settings: Settings) -> "Ledger":
    """The ledger of a home whose interval is that of the settings; a decision is dated when it is written."""
    from alpha_assets.stores.ledger import Ledger

    refuse_other_interval(settings)
    return Ledger(settings, now)


def refuse_unknown(ledger: "Ledger", symbol: str) -> None:
    """Raise CommandFailed for a symbol that was never followed."""
    if symbol not in {row["symbol"] for row in ledger.universe(retired=True)}:
        raise CommandFailed(f"{symbol}: not in the universe, see «alpha-assets universe list»")


def cell_of(ledger: "Ledger", options: Namespace) -> tuple[str, str]:
    """The (symbol, regime) that a command names; refuses what is none, by name."""
    refuse_unknown(ledger, options.symbol)
    if options.regime not in REGIMES:
        raise CommandFailed(f"{options.regime}: no regime is called so; there are {', '.join(REGIMES)}")
    return options.symbol, options.regime


def now() -> datetime:
    """The wall clock: what a person does happens when it is done."""
    return datetime.now(UTC)
