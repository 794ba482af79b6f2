"""The ledger's tables. Alembic's migrations bring a database to exactly this shape; a test compares them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine.default import DefaultExecutionContext

metadata = MetaData()


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant; SQLite keeps no zone, so it is stored without and given back with."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; the ledger stores instants")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC)


universe = Table(
    "universe",
    metadata,
    Column("symbol", String(64), primary_key=True),
    Column("source", String(16), nullable=False),
    Column("calendar", String(16), nullable=False),
    Column("added_at", Instant, nullable=False),
    Column("retired_at", Instant),
)

# The bar columns are hints for the next fetch: written after the lake, so they may lag behind it, never run ahead.
symbol_state = Table(
    "symbol_state",
    metadata,
    Column("symbol", String(64), primary_key=True),
    Column("bars", Integer, nullable=False, default=0),
    Column("first_bar", Instant),
    Column("last_bar", Instant),
    Column("rewriting", Boolean, nullable=False, default=False),
    Column("features_set", String(80)),
    Column("features_until", Instant),
    Column("rebuild_features", Boolean, nullable=False, default=False),
    Column("patterns_set", String(80)),
    Column("patterns_until", Instant),
    Column("rebuild_patterns", Boolean, nullable=False, default=False),
    Column("outcomes_until", Instant),
    Column("quarantine_cause", String(32)),
    Column("quarantine_reason", Text),
    Column("quarantined_at", Instant),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_try", Instant),
)

# What a rule found on which day of a symbol: a later run replaces the days it looked at again and leaves the others.
findings = Table(
    "findings",
    metadata,
    Column("symbol", String(64), primary_key=True),
    Column("rule", String(64), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("seen_at", Instant, nullable=False),
)

# Everything that decides the numbers of a feature table, so that an older one can be kept up to date.
feature_sets = Table(
    "feature_sets",
    metadata,
    Column("features_set", String(80), primary_key=True),
    Column("recipe", JSON, nullable=False),
)

candidates = Table(
    "candidates",
    metadata,
    Column("symbol", String(64), primary_key=True),
    Column("regime", String(16), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("training_id", String(64)),
    Column("features_set", String(80)),
    Column("configuration", String(64)),
    Column("model_name", String(200)),
    Column("model_version", String(16)),
    Column("model_location", Text),
    Column("model_digest", String(64)),
    Column("horizon", Integer),
    Column("rows", Integer),
    Column("bars", Integer),
    Column("trained_until", Instant),
    Column("trained_at", Instant, nullable=False),
)

#: Where a decision leaves the version it is about, unless it says so itself.
STAGES = {"promote": "production", "rollback": "production", "reject": "failed", "hold": "staging"}


def _usual_stage(context: DefaultExecutionContext) -> str | None:
    return STAGES.get(context.get_current_parameters()["verdict"])


decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("symbol", String(64), nullable=False),
    Column("regime", String(16), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("training_id", String(64)),
    Column("features_set", String(80)),
    Column("model_name", String(200)),
    Column("model_version", String(16)),
    Column("model_location", Text),
    Column("model_digest", String(64)),
    Column("horizon", Integer),
    Column("previous_version", String(16)),
    Column("trained_at", Instant),
    Column("speaker", String(16)),
    Column("stage", String(16), nullable=False, default=_usual_stage),
    Column("who", String(64), nullable=False, default="gate"),
    Column("evidence", JSON, nullable=False, default=dict),
    Column("seconds", Float),
    Column("dagster_run", String(64)),
    Column("decided_at", Instant, nullable=False),
    UniqueConstraint("symbol", "regime", "seq", name="decisions_once"),
)

# One row an attempt at the gate: the level that attempt k may spend falls with k, so looks are counted, once each.
attempts = Table(
    "attempts",
    metadata,
    Column("family", String(200), primary_key=True),
    Column("evidence_digest", String(64), primary_key=True),
    Column("attempted_at", Instant, nullable=False),
)

# One row a configuration of a family whose out-of-sample score was seen: the best of many tried looks good by luck.
trials = Table(
    "trials",
    metadata,
    Column("family", String(200), primary_key=True),
    Column("configuration", String(64), primary_key=True),
    Column("score", Float),
    Column("source", String(16), nullable=False),
    Column("seen_at", Instant, nullable=False),
)

signals = Table(
    "signals",
    metadata,
    Column("symbol", String(64), primary_key=True),
    Column("signal", String(16), nullable=False),
    Column("confidence", Float),
    Column("p_up", Float),
    Column("bar_time", Instant),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("model_name", String(200)),
    Column("model_version", String(16)),
    Column("reason", Text, nullable=False),
    Column("signal_id", String(64), nullable=False),
    Column("regime", String(16)),
    Column("score", Float),
    Column("expected_return", Float),
    Column("price", Float),
    Column("predicted_price", Float),
    Column("price_low", Float),
    Column("price_high", Float),
    Column("risk", String(8)),
    Column("views", JSON),
    Column("top_features", JSON),
    Column("data_points", Integer),
    Column("features_set", String(80)),
    Column("cache_key", String(64)),
)

# What became of every position that a strategy's signal would open; the signals themselves are in the lake.
outcomes = Table(
    "outcomes",
    metadata,
    Column("symbol", String(64), primary_key=True),
    Column("strategy", String(64), primary_key=True),
    Column("bar_time", Instant, primary_key=True),
    Column("signal_id", String(64), nullable=False),
    Column("regime", String(16)),
    Column("side", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("document", JSON, nullable=False),
    Column("written_at", Instant, nullable=False),
)

# How a strategy did, by symbol and regime («*» stands for all of them) and by window.
performance = Table(
    "performance",
    metadata,
    Column("strategy", String(64), primary_key=True),
    Column("symbol", String(64), primary_key=True),
    Column("regime", String(16), primary_key=True),
    Column("window", String(16), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("written_at", Instant, nullable=False),
)

signal_metrics = Table(
    "signal_metrics",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

# Anything that is dear to compute, by namespace and key, each with its own time to live.
cache = Table(
    "cache",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

cache_counts = Table(
    "cache_counts",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("hits", Integer, nullable=False),
    Column("misses", Integer, nullable=False),
)

profiles = Table(
    "profiles",
    metadata,
    Column("symbol", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("written_at", Instant, nullable=False),
)
