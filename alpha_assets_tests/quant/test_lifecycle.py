"""The path of a version: what serves, what a rollback returns to, and where every version stands."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from alpha_assets.quant.lifecycle import GATE, WATCH, standing, states_of, stood_in, taken_back, version_of

#: A word and the version it is about; ``back`` takes production back as far as it says.
WORDS = st.lists(
    st.tuples(st.sampled_from(["promote", "reject", "canary", "block", "back"]), st.integers(1, 5)), max_size=25
)


def decision(verdict: str, version: int | None, stage: str, seq: int = 0) -> dict[str, Any]:
    number = None if version is None else str(version)
    return {"verdict": verdict, "stage": stage, "model_name": "AAA.all", "model_version": number, "seq": seq}


def told(words: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """Decisions as the stations take them: what serves is not turned down, and nothing is taken back from none."""
    history: list[dict[str, Any]] = []
    for word, version in words:
        stands = standing(history)
        serving = int(stands.production["model_version"]) if stands.production else None
        if word == "back" and serving is not None:
            line = stands.line[:-1]
            to = int(line[-min(version, len(line))]["model_version"]) if line else None
            history.append(decision("rollback", to, "production", len(history) + 1))
        elif word in ("promote", "reject", "canary", "block") and version != serving:
            verdict, stage = {
                "promote": ("promote", "production"),
                "reject": ("reject", "failed"),
                "canary": ("hold", "canary"),
                "block": ("hold", "staging"),
            }[word]
            history.append(decision(verdict, version, stage, len(history) + 1))
    return history


def serving(history: list[dict[str, Any]]) -> str | None:
    """The version that the newest promotion or rollback names: a decision is all it takes."""
    newest = next((row for row in reversed(history) if row["verdict"] in ("promote", "rollback")), None)
    return newest["model_version"] if newest else None


@given(words=WORDS)
def test_the_newest_promotion_or_rollback_says_what_serves(words: list[tuple[str, int]]) -> None:
    history = told(words)
    production = standing(history).production
    assert (production["model_version"] if production else None) == serving(history)


@given(words=WORDS)
def test_at_most_one_version_is_in_production_and_one_is_canary_and_each_has_its_decision(
    words: list[tuple[str, int]],
) -> None:
    stands = standing(told(words))
    for state, explained in (("production", stands.production), ("canary", stands.canary)):
        named = [key for key, other in stands.states.items() if other == state]
        assert named == ([version_of(explained)] if explained else [])


@given(words=WORDS)
def test_going_back_again_and_again_visits_each_former_version_once_and_ends_with_none(
    words: list[tuple[str, int]],
) -> None:
    history = told(words)
    line = [row["model_version"] for row in standing(history).line]
    for expected in [*reversed(line[:-1]), None][: len(line)]:
        previous = standing(history).previous
        assert (previous["model_version"] if previous else None) == expected
        history += told_back(history)
        assert serving(history) == expected
    assert standing(history).production is None


@given(words=WORDS)
@example(words=[("promote", 1), ("promote", 2), ("reject", 1)])
@example(words=[("promote", 1), ("promote", 2), ("canary", 1), ("reject", 1)])
@example(words=[("promote", 1), ("promote", 2), ("promote", 1), ("reject", 2)])
def test_who_was_turned_down_since_it_served_is_in_no_line_and_has_failed(words: list[tuple[str, int]]) -> None:
    history = told(words)
    stands = standing(history)
    newest = {version_of(row): row["verdict"] for row in history if row["model_version"]}
    down = {key for key, verdict in newest.items() if verdict == "reject"}
    assert down.isdisjoint(map(version_of, stands.line))
    assert {stands.states[key] for key in down if key} <= {"failed"}
    assert all(version_of(one) != version_of(other) for one, other in pairwise(stands.line)), "none follows itself"


def told_back(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    previous = standing(history).previous
    return [decision("rollback", int(previous["model_version"]) if previous else None, "production")]


@given(words=WORDS, more=WORDS)
def test_no_later_decision_makes_a_former_one_disappear(
    words: list[tuple[str, int]], more: list[tuple[str, int]]
) -> None:
    before, after = told(words), told(words + more)
    assert after[: len(before)] == before
    assert standing(before).states.keys() <= standing(after).states.keys()


def test_the_path_of_three_versions_and_a_rollback() -> None:
    history = [
        decision("promote", 1, "production"),
        decision("hold", 2, "canary"),
        decision("promote", 2, "production"),
        decision("hold", 3, "canary"),
    ]
    stands = standing(history)
    states = {("AAA.all", "1"): "archived", ("AAA.all", "2"): "production", ("AAA.all", "3"): "canary"}
    assert stands.states == states
    stands = standing([*history, decision("rollback", 1, "production")])
    assert stands.states == {**states, ("AAA.all", "1"): "production", ("AAA.all", "2"): "failed"}
    assert stands.previous is None
    assert stands.canary is not None


def test_a_rollback_to_who_had_been_turned_down_leaves_nobody_to_go_back_to() -> None:
    """Ledgers hold such rollbacks: they were taken while a former version that was turned down stayed in the line."""
    words = [("promote", 1), ("promote", 2), ("reject", 1)]
    history = [*told(words), decision("rollback", 1, "production", 4)]
    stands = standing(history)
    assert stands.states == {("AAA.all", "1"): "production", ("AAA.all", "2"): "failed"}
    assert stands.previous is None
    assert taken_back(history).keys() == {("AAA.all", "2")}


def test_a_rollback_takes_back_all_that_stood_above_and_no_version_of_another_model_with_its_number() -> None:
    history = [
        decision("promote", 1, "production", 1),
        decision("reject", 3, "failed", 2),
        decision("promote", 2, "production", 3),
        {**decision("promote", 3, "production", 4), "model_name": "all.pooled"},
        {**decision("rollback", 1, "production", 5), "previous_version": "3"},
    ]
    assert {key: row["seq"] for key, row in taken_back(history).items()} == {
        ("AAA.all", "2"): 5,
        ("all.pooled", "3"): 5,
    }
    assert taken_back(history[:4]) == {}


def test_a_version_that_several_share_has_the_state_of_the_one_for_which_it_does_most() -> None:
    serves, failed = ([decision(*said)] for said in (("promote", 1, "production"), ("reject", 1, "failed")))
    for order in ((serves, failed), (failed, serves)):
        assert states_of(map(standing, order)) == {("AAA.all", "1"): "production"}


def test_a_version_that_waits_for_one_symbol_has_the_state_it_was_given_for_another() -> None:
    candidate = {**decision("reject", 1, "failed"), "trained_at": datetime(2024, 1, 2, tzinfo=UTC)}
    waits, failed = standing([], candidate), standing([candidate])
    assert states_of([waits]) == {("AAA.all", "1"): "staging"}
    for order in ((waits, failed), (failed, waits)):
        assert states_of(order) == {("AAA.all", "1"): "failed"}


def test_a_candidate_waits_until_the_gate_decides_on_it_or_on_the_pooled_version_in_its_place() -> None:
    trained = datetime(2024, 1, 2, tzinfo=UTC)
    own = {"model_name": "AAA.all", "model_version": "2", "trained_at": trained}
    key = ("AAA.all", "2")

    def said(of: dict[str, Any], who: str = GATE, days: int = 1) -> dict[str, Any]:
        return {**of, "who": who, "decided_at": trained + timedelta(days=days)}

    pooled = {**decision("reject", 1, "failed"), "model_name": "all.pooled"}
    assert standing([], own).states == {key: "staging"}
    assert standing([said(pooled)], own).states == {("all.pooled", "1"): "failed", key: "archived"}
    assert stood_in([said(pooled)], own) == said(pooled)
    for waits in ([said(pooled, days=-1)], [said(pooled, WATCH)], [said(pooled, "ann")]):
        assert standing(waits, own).states[key] == "staging"
    judged = [said(pooled), said(decision("promote", 2, "production"))]
    assert (standing(judged, own).states[key], stood_in(judged, own)) == ("production", None)
    assert standing([said(pooled)], {**own, "model_version": None}).states.keys() == {("all.pooled", "1")}


def test_a_canary_that_another_one_replaces_is_archived_and_one_turned_down_has_failed() -> None:
    history = [decision("hold", 1, "canary"), decision("hold", 2, "canary"), decision("reject", 2, "failed")]
    stands = standing(history)
    assert stands.canary is None
    assert stands.states == {("AAA.all", "1"): "archived", ("AAA.all", "2"): "failed"}


def test_who_served_since_a_day_is_told_newest_first_without_those_taken_back() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    history = [
        {**decision("promote", version, "production"), "decided_at": start + timedelta(days=10 * version)}
        for version in (1, 2, 3, 4)
    ]

    def served(history: list[dict[str, Any]], day: int) -> list[str]:
        since = start + timedelta(days=day)
        return [row["model_version"] for row in standing(history).served_since(since)]

    assert served(history, 25) == ["4", "3", "2"], "the second served until the 30th day"
    assert served(history, 30) == ["4", "3"]
    assert served(history, 400) == ["4"], "what serves now serves since whenever"
    back = {**decision("rollback", 2, "production"), "decided_at": start + timedelta(days=50)}
    assert served([*history, back], 0) == ["2", "1"]
    assert served([], 0) == []
