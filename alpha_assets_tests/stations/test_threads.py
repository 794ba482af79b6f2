"""Work side by side: in order, its exceptions in their place, and not in the threads of a parent process."""

import os
import threading
import time

import pytest

from alpha_assets.stations.threads import beside, side_by_side


def test_answers_come_in_the_order_of_the_items_from_threads_that_stay() -> None:
    seen = [set(side_by_side(2)(lambda _: threading.current_thread().name, range(50))) for _ in range(2)]
    assert seen[0] | seen[1] <= {"alpha-assets_0", "alpha-assets_1"}
    assert list(side_by_side(2)(lambda item: item * item, range(20))) == [item * item for item in range(20)]


def test_two_items_are_worked_on_at_a_time() -> None:
    meeting = threading.Barrier(2, timeout=60)
    assert sorted(side_by_side(2)(lambda _: meeting.wait(), range(2))) == [0, 1]


@pytest.mark.parametrize(("items", "workers"), [(5, 1), (1, 2)])
def test_one_worker_or_one_item_needs_no_thread(items: int, workers: int) -> None:
    here = threading.current_thread().name
    assert set(side_by_side(workers)(lambda _: threading.current_thread().name, range(items))) == {here}


def test_what_an_item_raises_comes_in_its_place() -> None:
    answers = side_by_side(2)(lambda item: 1 / item, [1, 0])
    assert next(answers) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(answers)


def test_when_one_has_failed_nobody_is_at_work_any_more_and_nothing_new_is_begun() -> None:
    other, begun = threading.Event(), []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ValueError("the first one fails")
        other.wait(timeout=0.2)
        begun.append(-item)

    with pytest.raises(ValueError, match="the first one fails"):
        list(side_by_side(2)(work, range(50)))
    positive = [item for item in begun if item > 0]
    assert sorted(-item for item in begun if item < 0) == sorted(positive), "each that was begun has ended"
    assert len(positive) < 20


def test_work_beside_a_block_goes_on_with_it_and_may_hand_out_work_in_turn() -> None:
    meeting = threading.Barrier(2, timeout=60)

    def work() -> list[int]:
        meeting.wait()
        return list(side_by_side(2)(abs, [-1, -2]))

    with beside(work) as given:
        meeting.wait()
        assert given() == [1, 2] == given()


def test_what_work_beside_a_block_raises_is_raised_where_it_is_asked_for() -> None:
    with beside(lambda: 1 / 0) as given, pytest.raises(ZeroDivisionError):
        given()
    with beside(lambda: 1 / 0):
        pass


def test_a_block_that_fails_does_not_end_before_the_work_beside_it() -> None:
    begun, failing, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        failing.wait(timeout=60)
        time.sleep(0.1)
        ended.append(True)

    def fail() -> None:
        with beside(work):
            begun.wait(timeout=60)
            failing.set()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert ended


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    list(side_by_side(2)(abs, range(4)))
    child = os.fork()
    if child == 0:
        os._exit(0 if list(side_by_side(2)(abs, [-1, -2])) == [1, 2] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
