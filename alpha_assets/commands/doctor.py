"""``alpha-assets doctor``: what works, what does not, and what to do about it."""

import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from alpha_assets.commands import show
from alpha_assets.settings import Settings
from alpha_assets.stores.home import stamped_interval
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.trouble import StoreTrouble

FIELDS = ("what", "ok", "found", "do")

LIBRARIES = ("dagster", "mlflow", "polars", "deltalake", "lightgbm", "xgboost", "yfinance")


class Ailment(Exception):
    """Something is wrong: what was found, and what to do."""

    def __init__(self, found: str, do: str) -> None:
        super().__init__(found)
        self.do = do


def doctor(settings: Settings, options: Namespace) -> int:
    """Run every examination; 1 where one of them found something wrong."""
    examinations: dict[str, Callable[[Settings], str]] = {
        "python": _python,
        "libraries": _libraries,
        "home": _home,
        "ledger": _ledger,
        "lake": _lake,
        "mlflow": _mlflow,
        "models": _models,
        "source": _source,
        "universe": _universe,
        "calendars": _calendars,
        "benchmark": _benchmark,
    }
    rows = [_examined(name, examine, settings) for name, examine in examinations.items()]
    show.table(rows, FIELDS, options.format)
    return 0 if all(row["ok"] for row in rows) else 1


def _examined(name: str, examine: Callable[[Settings], str], settings: Settings) -> dict[str, Any]:
    try:
        return {"what": name, "ok": True, "found": examine(settings), "do": None}
    except Ailment as ailment:
        return {"what": name, "ok": False, "found": str(ailment), "do": ailment.do}
    except StoreTrouble as error:
        return {
            "what": name,
            "ok": False,
            "found": str(error),
            "do": "make it reachable, or restore it, then try again",
        }
    except Exception as error:  # the patient may have anything; the doctor names it and goes on
        return {"what": name, "ok": False, "found": f"{type(error).__name__}: {error}", "do": "see the README"}


def _python(settings: Settings) -> str:  # noqa: ARG001
    return sys.version.split()[0]


def _libraries(settings: Settings) -> str:  # noqa: ARG001
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def _home(settings: Settings) -> str:
    stamped = stamped_interval(settings)
    if stamped is None:
        return f"{settings.home} is new; {settings.interval} bars"
    if stamped != settings.interval:
        raise Ailment(f"{settings.home} holds {stamped} bars", f"set ALPHA_INTERVAL={stamped} or another ALPHA_HOME")
    return f"{settings.home} holds {stamped} bars"


def _ledger(settings: Settings) -> str:
    ledger = Ledger(settings)
    if not ledger.exists():
        return "empty; made at the first command that writes"
    return f"{show.counted(len(ledger.universe(retired=True)), 'symbol')} known"


def _lake(settings: Settings) -> str:
    from alpha_assets.stores.lake import Lake, LakeDamaged

    try:
        tables = Lake(settings).tables()
    except LakeDamaged as error:
        raise Ailment(str(error), "restore or delete that folder") from error
    return f"{settings.lake}: {', '.join(tables) or 'empty'}"


def _mlflow(settings: Settings) -> str:
    from alpha_assets.stores.registry import Registry

    registry = Registry(settings)
    if not registry.exists():
        return "empty; made at the first training"
    return f"{show.counted(len(registry.production_versions()), 'version')} in production"


def _models(settings: Settings) -> str:
    """Whether the files of every model in production are there and are those that were registered."""
    from alpha_assets.stores.registry import ModelDamaged, Registry

    registry, serving = Registry(settings), Ledger(settings).production()
    distinct = {row["model_location"]: row for row in serving.values()}
    lost: dict[str, str] = {}
    for location, row in distinct.items():
        try:
            registry.read_files(row["model_name"], row["model_version"], location, row["model_digest"])
        except (ModelDamaged, OSError) as error:
            lost[location] = str(error)
    if not lost:
        cells = show.counted(len(serving), "symbol and regime", "symbols and regimes")
        return f"{show.counted(len(distinct), 'version')} in production for {cells}, files as registered"
    location, why = next(iter(lost.items()))
    found = f"{len(lost)} of {len(distinct)} versions in production cannot be read, so their signals are HOLD: {why}"
    raise Ailment(found, _moved(settings, location) or "restore the files, roll back, or train again")


def _moved(settings: Settings, location: str) -> str | None:
    """What to do where the files lie in this home, and MLflow knows them by the place where the home was before."""
    root, place = Path(settings.mlflow_artifact_root), location.removeprefix("file://")
    before, _, within = place.partition(f"/{root.name}/")
    if not within or Path(place).exists() or not (root / within).exists():
        return None
    return f"this home was moved, and MLflow keeps absolute places: ln -s {root.parent} {before}, or move it back"


def _source(settings: Settings) -> str:
    """Every source that a followed symbol has, or the one that the next symbol would have."""
    members = Ledger(settings).universe()
    names = sorted({row["source"] for row in members} or {settings.source})
    return "; ".join(_yahoo() if name == "yahoo" else _stock_of(settings, name) for name in names)


def _stock_of(settings: Settings, name: str) -> str:
    from alpha_assets.sources.all import Sources
    from alpha_assets.sources.base import SourceUnavailable

    try:
        held = Sources(settings)[name].symbols()  # type: ignore[attr-defined]
    except SourceUnavailable as error:
        raise Ailment(str(error), "set it, or another ALPHA_SOURCE") from error
    return f"{name}: {show.counted(len(held), 'symbol')}"


def _benchmark(settings: Settings) -> str:
    from alpha_assets.stations.sets import recipe_of

    name = settings.features.benchmark
    if name is None:
        return "none: beta and correlation are null"
    if recipe_of(settings).benchmark is None:
        return f"none: no feature of the set {settings.features.set} reads {name}"
    if name not in {row["symbol"] for row in Ledger(settings).universe()}:
        do = f"alpha-assets universe add {name}, or another ALPHA_FEATURES__BENCHMARK"
        raise Ailment(f"the benchmark {name!r} is not followed: beta and correlation are null", do)
    return f"{name} is followed"


def _yahoo() -> str:
    from curl_cffi import requests

    address = "https://query2.finance.yahoo.com/"
    try:
        requests.get(address, timeout=5, impersonate="chrome")
    except requests.exceptions.RequestException as error:
        raise Ailment(
            f"yahoo cannot be reached: {error}",
            "check the connection or proxy, or use ALPHA_SOURCE=files with ALPHA_FILES, or ALPHA_SOURCE=simulated",
        ) from error
    return "yahoo answers"


#: How long before a calendar ends the doctor says so.
WARNING = timedelta(days=30)


def _calendars(settings: Settings) -> str:
    from alpha_assets.quant import calendars

    names = {row["calendar"] for row in Ledger(settings).universe()}
    ended = calendars.ended(names, (datetime.now(UTC) + WARNING).date())
    if ended:
        raise Ailment("; ".join(ended.values()), "a newer exchange_calendars")
    return ", ".join(sorted(names)) or "none yet"


def _universe(settings: Settings) -> str:
    ledger = Ledger(settings)
    members = ledger.universe()
    if not members:
        raise Ailment("no symbol is followed", "alpha-assets universe add SYMBOL")
    ill = [symbol for symbol, state in ledger.states().items() if state["quarantine_cause"]]
    if ill:
        raise Ailment(f"{len(ill)} of {len(members)} quarantined: {', '.join(ill[:5])}", "alpha-assets status says why")
    return f"{show.counted(len(members), 'symbol')}, none quarantined"
