"""The procedure: every answer comes from fits, votes and calibrations that never saw its row or what overlaps it."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.heads import (
    ANSWERS,
    INDEX,
    Candidate,
    Learnt,
    Refusal,
    blocks,
    enough,
    features_of,
    learn,
    vault_fold,
)
from alpha_assets.quant.learners import lesson
from alpha_assets.quant.metrics import log_loss
from alpha_assets.quant.opinions import taught
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.weights import sample_weights
from alpha_assets_tests.quant.test_learners import COLUMNS, PARAMETERS, labelled

FEW = replace(PARAMETERS, heads=("gb_direction", "gb_return", "gb_signal", "ridge", "logistic"))


def learnt(rows: pl.DataFrame, parameters: LearningParameters = FEW, pooled: bool = False) -> Learnt:
    member = np.ones(rows.height, dtype=bool)
    burn_in, folds = blocks(rows, member, parameters, parameters.min_rows)
    found = learn(rows, COLUMNS, burn_in, folds, parameters, pooled=pooled)
    assert isinstance(found, Learnt), found
    return found


def pool(count: int = 400, symbols: int = 4, **how: float) -> pl.DataFrame:
    frames = [
        labelled(count, seed=10 + number, symbol=f"S{number}", drift=0.3 * number, **how) for number in range(symbols)
    ]
    return pl.concat(frames).sort("timestamp", "symbol")


def test_the_evidence_is_what_the_features_say_beyond_the_prior_with_the_linear_opinion_beside() -> None:
    rows = labelled(800)
    evidence = learnt(rows, replace(FEW, prior_labels=0.0)).evidence
    assert learnt(rows).evidence["score"].equals(evidence["score"]), "how far the prior is believed is no skill"
    assert evidence["timestamp"].to_list() == rows["timestamp"].to_list()[200:]
    assert set(evidence.columns) == {"symbol", "timestamp", "prior", "score", *ANSWERS, "linear_score"}
    assert evidence.null_count().sum_horizontal().item() == 0
    odds = (evidence["p_up"] / (1 - evidence["p_up"])).log() - (evidence["prior"] / (1 - evidence["prior"])).log()
    assert (evidence["score"] - odds).abs().max() < 1e-9
    assert ((evidence["p_up"] > 0.5) == rows["up"][200:]).mean() > 0.6
    assert ((evidence["linear_p_up"] > 0.5) == rows["up"][200:]).mean() > 0.65
    assert ((evidence["expected_return"] > 0) == rows["up"][200:]).mean() > 0.65
    sums = evidence.select(pl.sum_horizontal("p_sell", "p_hold", "p_buy")).to_series()
    assert (sums - 1).abs().max() < 1e-9


def test_what_is_learnt_later_changes_no_earlier_answer() -> None:
    """Labels that are unknown when a block begins are turned round; nothing said of the block moves by a bit.

    The labels of the last bars before it are among them: neither fits, nor votes, nor calibrations may have heard them,
    nor how wild the market became after the block.
    """
    rows = labelled(800)
    later = pl.int_range(pl.len()) >= 500 - FEW.embargo
    wild = pl.when(pl.int_range(pl.len()) >= 650).then(3.0).otherwise(1.0)
    turned = rows.with_columns(
        *(pl.when(later).then(-pl.col(name)).otherwise(name).alias(name) for name in ("scaled_return", "label_return")),
        up=pl.when(later).then(~pl.col("up")).otherwise("up"),
        scale=pl.col("scale") * wild,
    )
    before, after = (learnt(frame).evidence for frame in (rows, turned))
    block = pl.col("timestamp") < rows["timestamp"][650]
    assert before.filter(block).height == 450
    assert before.filter(block).equals(after.filter(block))
    assert not before.equals(after)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.integers(0, 6), st.integers(20, 60))
def test_no_answer_is_given_by_a_fit_that_saw_its_future(
    seed: int, symbols: int, folds: int, embargo: int, least: int
) -> None:
    """In any panel, of any members: training rows are known before the block is decided, less the embargo."""
    random = np.random.default_rng(seed)
    frames = [
        labelled(150, seed=seed % 97 + number, symbol=f"S{number}").sample(fraction=0.8, seed=seed + number)
        for number in range(symbols)
    ]
    rows = pl.concat(frames).sort("timestamp", "symbol")
    member = random.random(rows.height) < 0.6
    inside = rows.filter(pl.Series(member))
    burn_in, made = blocks(rows, member, replace(FEW, folds=folds, embargo=embargo), least)
    answered = [fold.test for fold in (*burn_in, *made)]
    if answered:
        together = np.concatenate(answered)
        assert len(np.unique(together)) == len(together)
    for fold in (*burn_in, *made):
        assert inside["label_end"][fold.train].max() < inside["known_at"][fold.test].min()
        between = rows.filter(
            pl.col("timestamp").is_between(
                inside["timestamp"][fold.train].max(), inside["timestamp"][fold.test].min(), closed="none"
            )
        )
        assert between["timestamp"].n_unique() >= embargo


def test_the_folds_of_a_regime_are_cut_on_the_calendar_and_not_on_its_own_rows() -> None:
    rows = labelled(800)
    late = np.arange(800) >= 300
    _, folds = blocks(rows, late, replace(FEW, folds=4), 100)
    lengths = [len(fold.test) for fold in folds]
    assert max(lengths) - min(lengths) <= 1
    assert len(folds[0].train) == pytest.approx(100 - FEW.embargo, abs=3)
    assert blocks(rows, late, FEW, 600) == ([], [])


def test_no_fold_has_a_row_whose_label_knows_the_vault_which_is_a_fold_of_its_own() -> None:
    rows = labelled(800, horizon=3)
    member = np.arange(800) % 4 != 0
    inside, shut = rows.filter(pl.Series(member)), rows["timestamp"][650]
    burn_in, folds = blocks(rows, member, FEW, 150, shut)
    met = np.concatenate([part for fold in (*burn_in, *folds) for part in (fold.train, fold.test)])
    assert inside["label_end"][met].max() < shut
    assert inside["label_end"][met].max() > rows["timestamp"][648], "not a date is lost"
    assert len(folds) == FEW.folds
    fold = vault_fold(rows, member, FEW, shut)
    assert inside["timestamp"][fold.test].min() == rows["timestamp"][650 if member[650] else 651]
    assert inside["timestamp"][fold.test].max() == inside["timestamp"].max()
    assert inside["label_end"][fold.train].max() < rows["known_at"][650 - FEW.embargo]
    assert blocks(rows, member, FEW, 150, rows["timestamp"][50]) == ([], [])


@pytest.mark.parametrize(
    ("rows", "parameters", "words"),
    [
        (labelled(199), FEW, "199 labelled rows"),
        (labelled(400, horizon=5), replace(FEW, horizon=5), "80 of them without overlap"),
        (labelled(400).with_columns(up=pl.lit(value=True)), FEW, "same way"),
    ],
)
def test_too_little_to_learn_from_is_a_named_refusal(
    rows: pl.DataFrame, parameters: LearningParameters, words: str
) -> None:
    answer = enough(rows, parameters)
    assert isinstance(answer, Refusal)
    assert words in answer.reason


def test_no_fold_is_a_refusal_too() -> None:
    answer = learn(labelled(300), COLUMNS, [], [], FEW)
    assert isinstance(answer, Refusal)
    assert "no walk-forward fold" in answer.reason


def test_a_candidate_survives_its_files_and_says_the_same() -> None:
    rows = pool()
    made = learnt(rows, replace(FEW, heads=LearningParameters().heads), pooled=True).candidate
    files = made.files()
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]
    assert json.loads(files[INDEX])["columns"] == list(COLUMNS)
    again = Candidate.load(files)
    features = features_of(rows, again)
    first, second = (each.predict(features, rows["symbol"].to_list()) for each in (made, again))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert again.files() == files
    index = json.loads(files[INDEX])
    del index["base"]["rows"]
    older = Candidate.load({**files, INDEX: json.dumps(index).encode()})
    assert older.base.believed(FEW) == 0.0 != made.base.believed(FEW), "it says what it was judged by"
    assert sum(map(len, files.values())) < 300_000


def test_a_pooled_candidate_knows_its_symbols_and_speaks_for_the_pool_of_a_stranger() -> None:
    rows = pool(edge=0.5)
    made = learnt(rows, pooled=True).candidate
    features = features_of(rows.head(1), made)
    by_symbol = [made.predict(features, [f"S{number}"])["p_up"][0] for number in range(4)]
    assert by_symbol == sorted(by_symbol)
    assert by_symbol[3] - by_symbol[0] > 0.1
    assert made.predict(features, ["STRANGER"])["p_up"] == made.predict(features)["p_up"]
    scores = [made.predict(features, [f"S{number}"])["score"][0] for number in range(4)]
    assert len(set(scores)) == 1, "the score is what the features say, whoever the symbol is"


def test_symbols_that_differ_by_chance_alone_hardly_differ_in_a_pool() -> None:
    frames = [labelled(400, seed=50 + number, symbol=f"S{number}") for number in range(12)]
    made = learnt(pl.concat(frames).sort("timestamp", "symbol"), pooled=True).candidate
    assert max(abs(shift.odds) for shift in made.intercepts.values()) < 0.08


def test_a_share_of_few_labels_is_hardly_believed_and_costs_next_to_nothing_where_there_is_nothing_to_know() -> None:
    """Random walks at a horizon of 5: a share of 100 to 180 labels apart, said as it is, loses 0.003 nats."""
    believed, said = (replace(FEW, heads=("gb_direction",), horizon=5, prior_labels=k) for k in (150.0, 0.0))
    lost = {
        one: np.mean([even_odds_less(learnt(walk(seed), one).evidence, walk(seed)) for seed in range(16)])
        for one in (believed, said)
    }
    assert lost[said] > 0.002
    assert lost[believed] < 0.001


def walk(seed: int) -> pl.DataFrame:
    """Labelled rows of a random walk over five bars, of which nothing can be known."""
    rows = labelled(900, edge=0.0, seed=seed)
    over = pl.col("scaled_return").rolling_sum(5).shift(-4) / np.sqrt(5)
    rows = rows.with_columns(scaled_return=over, label_end=pl.col("label_end") + pl.duration(days=4)).drop_nulls(
        "scaled_return"
    )
    return rows.with_columns(label_return=pl.col("scaled_return") * pl.col("scale"), up=pl.col("scaled_return") > 0)


def even_odds_less(evidence: pl.DataFrame, rows: pl.DataFrame) -> float:
    """Log-loss, less that of saying 0.5."""
    both = evidence.join(rows.select("timestamp", "up"), on="timestamp")
    return log_loss(both["p_up"].to_numpy(), both["up"].to_numpy()) - float(np.log(2))


def test_the_linear_models_speak_where_they_are_the_candidate() -> None:
    rows = labelled(800)
    linear = learnt(rows, replace(FEW, learner="linear")).evidence
    trees = learnt(rows).evidence
    assert linear["p_up"].equals(linear["linear_p_up"].alias("p_up"))
    assert linear["score"].equals(linear["linear_score"]), "by which the gate knows that there is no rival"
    assert linear["linear_p_up"].equals(trees["linear_p_up"])
    assert linear["expected_return"].equals(trees["linear_expected_return"].alias("expected_return"))
    assert not linear["p_up"].equals(trees["p_up"])
    assert not linear["expected_return"].equals(trees["expected_return"])


def test_what_no_head_tells_is_null() -> None:
    evidence = learnt(labelled(600), replace(FEW, heads=("gb_direction",))).evidence
    three = ["p_sell", "p_hold", "p_buy"]
    unknown = ["expected_return", *three, "linear_score", "linear_p_up", "linear_expected_return"]
    assert evidence.select(unknown).null_count().row(0) == (evidence.height,) * len(unknown)
    assert evidence["p_up"].null_count() == 0
    with pytest.raises(ValueError, match="no head speaks for the direction"):
        learnt(labelled(600), replace(FEW, heads=("gb_return",)))


def test_classes_that_hardly_occur_are_not_learnt() -> None:
    rows = labelled(600).with_columns(scaled_return=pl.col("scaled_return").clip(-0.4, 0.4))
    evidence = learnt(rows).evidence
    assert evidence["p_buy"].null_count() == evidence.height
    assert evidence["p_up"].null_count() == 0


def test_a_fit_sees_no_more_rows_than_it_may_and_answers_all_the_same() -> None:
    rows = labelled(800)
    whole, thin = learnt(rows), learnt(rows, replace(FEW, max_rows=150))
    assert thin.evidence["timestamp"].equals(whole.evidence["timestamp"])
    assert not thin.evidence["p_up"].equals(whole.evidence["p_up"])


def test_a_row_counts_by_what_its_label_alone_tells_and_by_its_age_among_the_rows_of_its_fit() -> None:
    parameters = replace(FEW, horizon=5, recency_half_life=100, max_rows=300)
    rows = labelled(800, horizon=5).filter(pl.int_range(pl.len()).is_between(200, 260).not_())
    numbers = np.arange(500)
    stamps = labelled(800)["timestamp"]
    seen = taught(lesson(rows, COLUMNS, parameters), numbers, rows, stamps, parameters)
    chosen = rows[:500:2]
    np.testing.assert_array_equal(seen.sample, sample_weights(chosen, stamps, 100))
    np.testing.assert_array_equal(seen.features[:, 0], chosen["signal"])
    assert seen.counts is not None
    assert taught(lesson(rows, COLUMNS, FEW), numbers, labelled(800), stamps, FEW).counts is None


def test_with_a_half_life_the_procedure_forgets_what_has_ceased_to_be_true() -> None:
    before, after = labelled(500, edge=-1.0), labelled(1000, edge=1.0, seed=2)[500:]
    rows = pl.concat([before, after])
    late = pl.col("timestamp") >= rows["timestamp"][700]
    kept, forgot = (learnt(rows, replace(FEW, recency_half_life=life)).evidence.filter(late) for life in (0, 60))
    followed = rows.filter(late)["scaled_return"]
    ics = [np.corrcoef(evidence["score"], followed)[0, 1] for evidence in (kept, forgot)]
    assert ics[0] < 0.1
    assert ics[1] > 0.4


def test_the_labels_of_a_regime_that_comes_and_goes_overlap_less_than_one_in_a_horizon() -> None:
    rows = labelled(2400, horizon=5)[::6]
    assert enough(rows, replace(FEW, horizon=5)) is None
    assert enough(labelled(400, horizon=5), replace(FEW, horizon=5)) is not None


def test_the_report_holds_every_head_in_every_fold() -> None:
    found = learnt(labelled(800))
    report = json.loads(json.dumps(found.report))
    assert set(report["heads"]) == set(FEW.heads)
    for head in report["heads"].values():
        assert len(head["folds"]) == FEW.folds
        assert "signal" in head["importance"]
    assert {"mse", "rmse", "mae", "r2", "direction_accuracy", "ic", "rank_ic"} == set(
        report["heads"]["ridge"]["together"]
    )
    assert {"accuracy", "precision", "recall", "f1", "log_loss", "brier", "ic", "rank_ic"} == set(
        report["heads"]["gb_direction"]["together"]
    )
    assert sum(map(sum, report["confusion"])) == found.evidence.height
    assert sum(group["rows"] for group in report["calibration"]) == found.evidence.height
    assert [step["rows"] for step in report["learning"]] == sorted(step["rows"] for step in report["learning"])
