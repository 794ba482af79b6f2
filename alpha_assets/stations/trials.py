"""What was tried of each family: the configurations whose out-of-sample score was seen, by whomever.

The best of many tried looks good by luck, so the gate asks more of it the more there were (``quant.sharpe``). Counted
are configurations, not looks: a refit on further bars, or by a newer library, is the same one again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.sharpe import Trials
from alpha_assets.settings import Settings
from alpha_assets.stations.sets import recipe_of, table_of
from alpha_assets.stores.ledger import Ledger

#: Who sees the scores here: the gate, and whoever reads a training's page in MLflow.
GATE, TRAINING = "gate", "training"


def family(settings: Settings, regime: str) -> str:
    """What is judged together: regime, feature set and learner.

    The set by its name, not by the hash of its table: another denoiser, benchmark, threshold or horizon is another
    attempt of the same family, or one could shop for settings at the price of a first look each.
    """
    features = recipe_of(settings).feature_set.name
    return f"{regime}|{features}|{settings.learning.learner}"


def configuration(table: str, learning: LearningParameters) -> str:
    """sha256 of what a user may turn that shapes a result: a feature table's name and the parameters of learning.

    The seed is one of them: who trains by ten seeds and keeps the best has tried ten. Rows and libraries are none.
    """
    made = json.dumps([table, asdict(learning)], sort_keys=True)
    return hashlib.sha256(made.encode()).hexdigest()


def note_training(ledger: Ledger, settings: Settings, regimes: Iterable[str], now: datetime) -> None:
    """Count these settings as tried in each regime, before their figures can be read anywhere.

    Else one could train by many settings, read in MLflow which came out best, and show the gate that one alone. What a
    search tries it counts itself.
    """
    if settings.learning.search_trials:
        return
    own = configuration(table_of(settings), settings.learning)
    told = {"configuration": own, "score": None, "source": TRAINING, "seen_at": now}
    ledger.note_trials([{**told, "family": family(settings, regime)} for regime in sorted(set(regimes))])


def tried(ledger: Ledger, settings: Settings, regime: str, score: float | None, now: datetime) -> Trials:
    """The trials of a family with these settings' own among them, whose ``score`` the gate now sees.

    Noted before anything is judged: a look that is killed has been a look.
    """
    name = family(settings, regime)
    own = configuration(table_of(settings), settings.learning)
    ledger.note_trials([{"family": name, "configuration": own, "score": score, "source": GATE, "seen_at": now}])
    return Trials.of([row["score"] for row in ledger.trials(name)])


def tried_so_far(ledger: Ledger, settings: Settings, regime: str) -> int:
    """How many configurations of the family were tried, these settings' own counted even before it is judged."""
    own = configuration(table_of(settings), settings.learning)
    return len({row["configuration"] for row in ledger.trials(family(settings, regime))} | {own})
