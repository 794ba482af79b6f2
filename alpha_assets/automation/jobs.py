"""The jobs: what is launched over a range of symbols, or of (regime, symbol) cells."""

import dagster as dg

from alpha_assets.assets.backtest import backtest
from alpha_assets.assets.features import features
from alpha_assets.assets.market import ohlcv
from alpha_assets.assets.models import candidate_model, pooled_models
from alpha_assets.assets.performance import signal_outcomes, strategy_performance
from alpha_assets.assets.profiles import statistical_profiles
from alpha_assets.assets.promotion import promoted_model
from alpha_assets.assets.signals import signals

#: The partitioned assets of each job, in order; run config names them.
REFRESH = ("ohlcv", "features", "statistical_profiles", "signals")
TRAIN = ("candidate_model", "promoted_model")
DECIDE = ("promoted_model",)
SIGNALS = ("signals",)

#: What follows the signals of a run, over all symbols.
PERFORMANCE = (signal_outcomes, strategy_performance)

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(ohlcv, features, statistical_profiles, signals, *PERFORMANCE),
    description="Bars, features, profiles and signals of a range of symbols, and what became of signals, in one run.",
)
train = dg.define_asset_job(
    "train",
    selection=dg.AssetSelection.assets(pooled_models, candidate_model, promoted_model),
    description="Pooled models, candidates and the gate's decisions for a range of (regime, symbol) cells, in one run.",
)
decide = dg.define_asset_job(
    "decide",
    selection=dg.AssetSelection.assets(promoted_model),
    description="Decisions alone: a canary whose shadow is complete, a model whose live loss is confirmed.",
)
# Not called «signals»: Dagster wants the names of jobs and assets distinct.
say_signals = dg.define_asset_job(
    "signals_only",
    selection=dg.AssetSelection.assets(signals, *PERFORMANCE),
    description="Signals, and what became of those before, after a training changed what is promoted.",
)

# Not part of the refresh: what models said of the past changes with a training, not with a bar.
look_back = dg.define_asset_job(
    "backtest_only",
    selection=dg.AssetSelection.assets(backtest),
    description="The backtest of the whole universe: what following the models' words would have come to, after costs.",
)

# The checks alone, over the whole universe: a drift shows between two trainings, not in them.
look_for_drift = dg.define_asset_job(
    "look_for_drift",
    selection=dg.AssetSelection.checks(
        *(dg.AssetCheckKey(promoted_model.key, name) for name in ("features_undrifted", "loss_undrifted"))
    ),
    description="Whether the newest features still look like those that the models were trained on.",
)

JOBS = [refresh, train, decide, say_signals, look_back, look_for_drift]
