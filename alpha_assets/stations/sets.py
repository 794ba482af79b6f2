"""Which feature table a station reads and writes: a recipe, its columns, and the table that carries its hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import polars as pl

from alpha_assets.quant.alpha158 import ALPHA158
from alpha_assets.quant.feature_set import FeatureSet
from alpha_assets.quant.indicators import default_set, market_column
from alpha_assets.quant.parameters import FeatureParameters, RegimeParameters
from alpha_assets.quant.regimes import LABELLED, VERSIONS
from alpha_assets.settings import Settings

#: What a feature table holds beside its key and its features.
REGIME_COLUMNS = tuple(name for name in LABELLED if name not in ("symbol", "timestamp"))


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a feature table; two homes with one recipe and one set of bars agree."""

    interval: str
    features: FeatureParameters
    regimes: RegimeParameters

    @property
    def feature_set(self) -> FeatureSet:
        """The features that a model reads."""
        return _feature_set(self.interval, self.features)

    @property
    def benchmark(self) -> str | None:
        """The symbol whose returns some feature reads beside the bars; None where the set has no such feature."""
        return self.features.benchmark if market_column(self.features.benchmark) in self.feature_set.needs else None

    @property
    def table(self) -> str:
        """The lake table: a changed recipe is a new one."""
        return _table(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the features."""
        return self.feature_set.columns

    @property
    def document(self) -> dict[str, Any]:
        """The recipe for JSON."""
        return json.loads(json.dumps(asdict(self)))

    def stored_form(self, values: pl.DataFrame) -> pl.DataFrame:
        """Features and probabilities as the lake keeps them: computed in f64, stored in f32."""
        return values.with_columns(pl.col(pl.Float64).cast(pl.Float32))


def recipe_of(settings: Settings) -> Recipe:
    """The recipe that these settings ask for."""
    return Recipe(settings.interval, settings.features, settings.regimes)


def table_of(settings: Settings) -> str:
    """The lake table of these settings' features."""
    return recipe_of(settings).table


def restored(document: Mapping[str, Any], table: str) -> Recipe | None:
    """The recipe of an older table, or None where this program no longer makes the same numbers of it."""
    recipe = recipe_in(document)
    return recipe if recipe is not None and recipe.table == table else None


def recipe_in(document: Mapping[str, Any]) -> Recipe | None:
    """The recipe that a document holds, or None where this program does not understand it."""
    try:
        return Recipe(
            document["interval"],
            FeatureParameters(**document["features"]),
            RegimeParameters(**document["regimes"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


@cache
def _feature_set(interval: str, parameters: FeatureParameters) -> FeatureSet:
    return ALPHA158 if parameters.set == "alpha158" else default_set(interval, parameters)


@cache
def _table(recipe: Recipe) -> str:
    chosen = recipe.feature_set
    made = json.dumps(
        [chosen.hash, recipe.interval, asdict(recipe.regimes), VERSIONS[recipe.regimes.method]], sort_keys=True
    )
    return f"features/{chosen.name}-{hashlib.sha256(made.encode()).hexdigest()[:12]}"
