"""How a station says how far it has come."""

from alpha_assets.stations.base import Pace


def told(*calls: tuple[float, str, int, int, str]) -> list[str]:
    """The words of calls at these seconds after the step began."""
    seconds = iter([0.0, *(at for at, *_ in calls)])
    pace = Pace(lambda: next(seconds))
    return [pace.words(stage, done, total, at) for _, stage, done, total, at in calls]


def test_a_word_says_where_it_is_how_long_it_took_and_how_long_it_will_take() -> None:
    assert told(
        (0, "asked", 0, 40, "AAA"), (30, "asked", 3, 40, "BBB"), (60, "asked", 10, 40, "CCC"), (90, "asked", 40, 40, "")
    ) == [
        "asked: 0 of 40 at AAA, 0 s",
        "asked: 3 of 40 at BBB, 30 s",
        "asked: 10 of 40 at CCC, 60 s, about 180 s left",
        "asked: 40 of 40, 90 s",
    ]


def test_what_is_left_is_that_of_the_count_under_way_and_what_was_spent_that_of_the_whole_step() -> None:
    assert told(
        (100, "asked", 2000, 2000, ""),
        (100, "reading", 0, 3, ""),
        (106, "weighing", 1, 3, ""),
        (107, "anew", 0, 3, ""),
    ) == [
        "asked: 2,000 of 2,000, 100 s",
        "reading: 0 of 3, 100 s",
        "weighing: 1 of 3, 106 s, about 12 s left",
        "anew: 0 of 3, 107 s",
    ]
