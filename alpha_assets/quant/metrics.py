"""Figures of skill over out-of-fold predictions, each with the naive rivals beside it.

All functions take ``evidence``: symbol, timestamp, score, scaled_return, p_up and up, one row a prediction. A figure
that is undefined (one class only, a constant score) is None, never 0 or NaN.
"""

import math

import numpy as np
import polars as pl

#: Probabilities are kept this far from 0 and 1 in a log-loss, so that one certain miss does not cost infinity.
CLIP = 1e-6

#: Symbols of a date from which a cross-sectional correlation says something (GATE.md).
CROSS_SECTION = 20

#: Standard deviations of a two-sided interval of 95 %.
TWO_SIDED = 1.959964


def ts_ic(evidence: pl.DataFrame) -> float | None:
    """TS-IC: correlation of score and volatility-scaled return, both less their symbol's mean, pooled (GATE.md)."""
    score, earned = (_demeaned(evidence, name) for name in ("score", "scaled_return"))
    scale = math.sqrt(float(score @ score) * float(earned @ earned))
    if not scale > 0:
        return None
    return float(score @ earned) / scale


def daily_rank_ic(evidence: pl.DataFrame) -> pl.DataFrame:
    """timestamp and rank_ic: Spearman's correlation of score and volatility-scaled return over the symbols of a date.

    Only dates with at least ``CROSS_SECTION`` symbols, and none where the score or the return is the same for all.
    """
    return (
        evidence.group_by("timestamp")
        .agg(rank_ic=pl.corr(pl.col("score").rank(), pl.col("scaled_return").rank()), symbols=pl.len())
        .filter(pl.col("symbols") >= CROSS_SECTION, pl.col("rank_ic").is_finite())
        .select("timestamp", "rank_ic")
        .sort("timestamp")
    )


def xs_ic(evidence: pl.DataFrame) -> float | None:
    """XS-IC: the mean of the daily rank correlations (GATE.md), what papers publish; never compared with TS-IC."""
    daily = daily_rank_ic(evidence)
    return float(np.mean(daily["rank_ic"].to_numpy())) if daily.height else None


def accuracy(p_up: np.ndarray, up: np.ndarray) -> float | None:
    """Share of rows whose direction was right; a P(up) of exactly one half is half right."""
    if not len(up):
        return None
    return float(hits(p_up, up).mean())


def hits(p_up: np.ndarray, up: np.ndarray) -> np.ndarray:
    """1 where the direction was right, 0 where wrong, 1/2 where P(up) is one half."""
    return np.where(p_up == 0.5, 0.5, (p_up > 0.5) == up)


def said_up(p_up: np.ndarray) -> np.ndarray:
    """1 where a row said up, 0 where it said down, 1/2 where P(up) is one half."""
    return np.where(p_up == 0.5, 0.5, p_up > 0.5)


def direction(p_up: np.ndarray, up: np.ndarray) -> dict[str, float | None]:
    """precision, recall and f1 of up, and macro_f1, the mean of the F1 of up and of down."""
    said = said_up(p_up)
    right, wrong = float(said @ up), float((1 - said) @ ~up)
    f1 = _quotient(2 * right, float(said.sum() + up.sum()))
    f1_down = _quotient(2 * wrong, float((1 - said).sum() + (~up).sum()))
    return {
        "precision": _quotient(right, float(said.sum())),
        "recall": _quotient(right, float(up.sum())),
        "f1": f1,
        "macro_f1": None if f1 is None or f1_down is None else (f1 + f1_down) / 2,
    }


def _quotient(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def log_losses(p_up: np.ndarray, up: np.ndarray) -> np.ndarray:
    """-ln of the probability given to what happened, a row, in nats."""
    inside = np.clip(p_up, CLIP, 1 - CLIP)
    return -np.log(np.where(up, inside, 1 - inside))


def log_loss(p_up: np.ndarray, up: np.ndarray) -> float | None:
    """Mean log-loss in nats; always saying one half costs 0.693."""
    if not len(up):
        return None
    return float(log_losses(p_up, up).mean())


def brier(p_up: np.ndarray, up: np.ndarray) -> float | None:
    """Mean squared distance of P(up) from 0 or 1 (Brier, 1950); always saying one half costs 0.25."""
    if not len(up):
        return None
    return float(np.mean((p_up - up) ** 2))


def calibration_error(said: np.ndarray, right: np.ndarray, groups: int = 10) -> float | None:
    """Expected calibration error: mean distance of what was said from what came, over ``groups`` of rising ``said``.

    Groups hold alike many rows and count for them (Naeini et al., 2015, with equal masses); None of no rows.
    """
    if not len(said):
        return None
    return float(np.abs(np.bincount(equal_groups(said, groups), said - right)).sum()) / len(said)


def equal_groups(said: np.ndarray, groups: int) -> np.ndarray:
    """Of each row the group of rising ``said`` that it is in, from 0: alike many rows in each, ties as they come."""
    groups = min(groups, len(said))
    begins = np.arange(groups) * len(said) // groups
    place = np.empty(len(said), dtype=np.int64)
    place[np.argsort(said, kind="stable")] = np.searchsorted(begins, np.arange(len(said)), side="right") - 1
    return place


def wilson(rate: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the score interval of 95 % for a rate over ``size`` independent trials (Wilson, 1927)."""
    z = TWO_SIDED
    middle = (rate + z**2 / (2 * size)) / (1 + z**2 / size)
    width = z * np.sqrt(rate * (1 - rate) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    return middle - width, middle + width


def auc(p_up: np.ndarray, up: np.ndarray) -> float | None:
    """Chance that a row that went up had a higher P(up) than one that did not, ties half (Mann and Whitney, 1947)."""
    ups = int(up.sum())
    downs = len(up) - ups
    if not ups or not downs:
        return None
    ranks = pl.Series(p_up).rank("average").to_numpy()
    return float((ranks[up].sum() - ups * (ups + 1) / 2) / (ups * downs))


def figures(evidence: pl.DataFrame) -> dict[str, float | int | None]:
    """Every figure of the model.

    rows, dates, symbols, ts_ic, xs_ic, accuracy, brier, log_loss, auc, precision, recall, f1, macro_f1.
    """
    p_up, up = evidence["p_up"].to_numpy(), evidence["up"].to_numpy()
    return {
        "rows": evidence.height,
        "dates": evidence["timestamp"].n_unique(),
        "symbols": evidence["symbol"].n_unique(),
        "ts_ic": ts_ic(evidence),
        "xs_ic": xs_ic(evidence),
        "accuracy": accuracy(p_up, up),
        "brier": brier(p_up, up),
        "log_loss": log_loss(p_up, up),
        "auc": auc(p_up, up),
        **direction(p_up, up),
    }


def rival_probabilities(evidence: pl.DataFrame) -> dict[str, np.ndarray]:
    """P(up) of each row in the mouths of the naive rivals, in the order of the rows.

    ``half`` says 0.5; ``symbol_prior`` the share of up in the symbol's training rows (column prior), ``pooled_prior``
    its mean over the symbols of the date; a prior that is unknown is 0.5. ``persistence`` and ``momentum`` bet on the
    sign of past_return and momentum_return, with the share of hits that this bet had over all rows as its probability:
    one number fitted in hindsight, which favours the rival. A rival whose column is missing is left out.
    """
    rivals = {"half": np.full(evidence.height, 0.5)}
    if "prior" in evidence.columns:
        prior = pl.col("prior").cast(pl.Float64).fill_nan(None)
        priors = evidence.select(pooled=prior.mean().over("timestamp"), own=prior).fill_null(0.5)
        rivals["pooled_prior"], rivals["symbol_prior"] = priors["pooled"].to_numpy(), priors["own"].to_numpy()
    for name, column in (("persistence", "past_return"), ("momentum", "momentum_return")):
        if column in evidence.columns:
            rivals[name] = _bet(evidence[column].fill_null(0.0).to_numpy(), evidence["up"].to_numpy())
    return rivals


def rivals(evidence: pl.DataFrame) -> dict[str, dict[str, float | None]]:
    """log_loss and accuracy of each naive rival by name."""
    up = evidence["up"].to_numpy()
    return {
        name: {"log_loss": log_loss(p_up, up), "accuracy": accuracy(p_up, up)}
        for name, p_up in rival_probabilities(evidence).items()
    }


def _bet(sign: np.ndarray, up: np.ndarray) -> np.ndarray:
    taken = sign != 0
    if not taken.any():
        return np.full(len(up), 0.5)
    right = float(((sign > 0) == up)[taken].mean())
    return np.where(taken, np.where(sign > 0, right, 1 - right), 0.5)


def _demeaned(evidence: pl.DataFrame, name: str) -> np.ndarray:
    return evidence.select(pl.col(name) - pl.col(name).mean().over("symbol")).to_series().to_numpy()
