"""Where everything is assembled. Loads with no network and no secret: stores open at their first use."""

import dagster as dg

from alpha_assets.assets.backtest import backtest
from alpha_assets.assets.features import features
from alpha_assets.assets.frame import run_lock_of
from alpha_assets.assets.market import ohlcv
from alpha_assets.assets.models import candidate_model, pooled_models
from alpha_assets.assets.performance import signal_outcomes, strategy_performance
from alpha_assets.assets.profiles import statistical_profiles
from alpha_assets.assets.promotion import promoted_model
from alpha_assets.assets.signals import signals
from alpha_assets.assets.voice import plain_words
from alpha_assets.automation.jobs import JOBS
from alpha_assets.automation.schedules import SCHEDULES
from alpha_assets.automation.sensors import SENSORS
from alpha_assets.checks import bars as bar_checks
from alpha_assets.checks import drift as drift_checks
from alpha_assets.checks import features as feature_checks
from alpha_assets.checks import models as model_checks
from alpha_assets.checks import training as training_checks
from alpha_assets.clock import Clock
from alpha_assets.settings import Settings, load
from alpha_assets.sources.all import Sources
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks

ASSETS = [
    ohlcv,
    features,
    statistical_profiles,
    pooled_models,
    candidate_model,
    promoted_model,
    signals,
    signal_outcomes,
    strategy_performance,
    backtest,
]


def assemble(settings: Settings) -> dg.Definitions:
    """The definitions over these settings' stores."""
    locks, clock = RunLocks(settings), Clock()
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=[
            *bar_checks.CHECKS,
            *feature_checks.CHECKS,
            *training_checks.CHECKS,
            *model_checks.CHECKS,
            *drift_checks.CHECKS,
        ],
        jobs=JOBS,
        sensors=SENSORS,
        schedules=SCHEDULES,
        executor=dg.in_process_executor,
        loggers={"console": dg.colored_console_logger, "plain": plain_words},
        resources={
            "settings": settings,
            "lake": Lake(settings),
            "ledger": Ledger(settings, clock.now),
            "registry": Registry(settings),
            "sources": Sources(settings),
            "clock": clock,
            "locks": locks,
            "run_lock": run_lock_of(locks, settings),
        },
    )


defs = assemble(load())
