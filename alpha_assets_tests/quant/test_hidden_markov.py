"""The forward filter against the sum over every path, its block-wise twin against it, EM against what was planted."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.quant.hidden_markov import (
    BLOCK,
    Chains,
    Floats,
    _expected,
    filter_one_after_the_other,
    fit,
    forward_filter,
)


def chain(stream: np.random.Generator, count: int, states: int) -> tuple[Floats, Floats]:
    transition = stream.dirichlet(np.ones(states), size=(count, states))
    return transition, stream.dirichlet(np.ones(states), size=count)


@given(seed=st.integers(0, 2**32), states=st.integers(1, 3), steps=st.integers(1, 5))
def test_the_forward_filter_is_the_sum_over_all_paths(seed: int, states: int, steps: int) -> None:
    stream = np.random.default_rng(seed)
    transition, start = chain(stream, 1, states)
    density = stream.random((1, steps, states)) + 1e-3
    weight = np.zeros(states)
    for path in product(range(states), repeat=steps):
        before = start[0] @ transition[0]
        likelihood = before[path[0]] * density[0, 0, path[0]]
        for step in range(1, steps):
            likelihood *= transition[0][path[step - 1], path[step]] * density[0, step, path[step]]
        weight[path[-1]] += likelihood
    assert forward_filter(density, transition, start)[0, -1] == pytest.approx(weight / weight.sum(), abs=1e-12)


def test_what_em_expects_of_a_state_is_the_sum_over_all_paths_to_the_end() -> None:
    stream = np.random.default_rng(2)
    transition, start = chain(stream, 1, 2)
    density = stream.random((1, 4, 2))
    before, smoothed, moves = np.zeros(2), np.zeros((4, 2)), np.zeros((2, 2))
    for first, *path in product(range(2), repeat=5):
        likelihood = start[0][first] * np.prod(density[0, np.arange(4), path])
        likelihood *= np.prod([transition[0][move] for move in pairwise([first, *path])])
        before[first] += likelihood
        smoothed[np.arange(4), path] += likelihood
        for move in pairwise([first, *path]):
            moves[move] += likelihood
    total = before.sum()
    found = _expected(density, Chains(start, transition, np.zeros((1, 2)), np.ones((1, 2))))
    for ours, sum_over_paths in zip(found, (before, smoothed, moves), strict=True):
        assert ours[0] == pytest.approx(sum_over_paths / total, abs=1e-12)


def log_likelihood(seen: Floats, chains: Chains) -> float:
    """Of one sequence, by the forward recursion written out."""
    total, now = 0.0, chains.start[0]
    for value in seen[0]:
        predicted = now @ chains.transition[0]
        distance = (value - chains.mean[0]) / chains.deviation[0]
        joint = predicted * np.exp(-0.5 * distance**2) / chains.deviation[0]
        total += np.log(joint.sum())
        now = joint / joint.sum()
    return float(total)


@pytest.mark.parametrize("seed", range(5))
def test_no_step_of_em_makes_what_was_seen_less_likely(seed: int) -> None:
    stream = np.random.default_rng(seed)
    transition, start = chain(stream, 1, 3)
    chains = Chains(start, transition, stream.normal(size=(1, 3)), 0.5 + stream.random((1, 3)))
    seen = stream.normal(size=(1, 12)) * stream.choice([0.3, 2.0], size=(1, 12))
    likelihood = log_likelihood(seen, chains)
    for _ in range(20):
        chains = fit(seen, chains, 1, np.full(1, 1e-3))
        assert log_likelihood(seen, chains) >= likelihood - 1e-9
        likelihood = log_likelihood(seen, chains)


def test_an_impossible_step_keeps_the_prediction() -> None:
    density = np.array([[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
    transition = np.array([[0.9, 0.1], [0.2, 0.8]])
    filtered = forward_filter(density, transition, np.array([[0.5, 0.5]]))[0]
    assert filtered[1] == pytest.approx([0.9, 0.1])
    assert filtered[2] == pytest.approx(filtered[1] @ transition)


def test_sequences_cut_into_blocks_are_filtered_as_whole_ones() -> None:
    stream = np.random.default_rng(3)
    lengths = np.array([1, BLOCK, 2 * BLOCK + 7, 3, BLOCK + 1])
    transition, start = chain(stream, len(lengths), 4)
    transition = 0.05 * transition + 0.95 * np.eye(4)  # long memories, so that what crosses a block matters
    density = np.exp(-stream.random((lengths.sum(), 4)) * 0.01)
    together = filter_one_after_the_other(density, lengths, transition, start)
    ends = np.cumsum(lengths)
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        rows = slice(end - length, end)
        alone = forward_filter(density[None, rows], transition[number], start[number : number + 1])[0]
        assert together[rows] == pytest.approx(alone, abs=1e-12)


def test_em_finds_what_was_planted() -> None:
    stream = np.random.default_rng(8)
    state = np.cumsum(stream.random((3, 2000)) < 0.02, axis=1) % 2
    seen = np.where(state == 1, 2.0, -1.0) + np.where(state == 1, 3.0, 0.5) * stream.standard_normal(state.shape)
    guess = Chains(
        start=np.full((3, 2), 0.5),
        transition=np.broadcast_to([[0.9, 0.1], [0.1, 0.9]], (3, 2, 2)),
        mean=np.zeros((3, 2)),
        deviation=np.broadcast_to([1.0, 2.0], (3, 2)),
    )
    found = fit(seen, guess, 15, np.full(3, 0.01))
    assert found.deviation == pytest.approx(np.broadcast_to([0.5, 3.0], (3, 2)), rel=0.1)
    assert found.mean == pytest.approx(np.broadcast_to([-1.0, 2.0], (3, 2)), abs=0.3)
    assert found.transition[:, [0, 1], [1, 0]] == pytest.approx(np.full((3, 2), 0.02), abs=0.01)


def test_what_is_not_seen_says_nothing() -> None:
    one = Chains(np.array([[0.5, 0.5]]), np.eye(2)[None], np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]]))
    density = one.density(np.array([np.nan, 0.0]), np.array([0, 0]))
    assert density[0].tolist() == [1.0, 1.0]
    assert density[1] == pytest.approx([1.0, 0.5 * np.exp(-0.125)])
