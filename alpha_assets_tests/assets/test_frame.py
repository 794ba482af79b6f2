"""What a run's log says while a long step goes on: seldom, because each word is an event."""

from types import SimpleNamespace
from typing import Any

from alpha_assets.assets.frame import speak


def test_the_log_has_no_line_a_symbol_and_each_says_which_what_was_spent_and_what_is_left() -> None:
    words: list[str] = []
    context: Any = SimpleNamespace(log=SimpleNamespace(info=words.append))
    seconds = 0.0
    progress = speak(context, lambda: seconds)
    for done in range(500):
        progress("models asked", done, 500, f"SYM{done}")
        seconds += 1 / 64
    progress("models asked", 500, 500)
    progress("reading the track record", 0, 3)
    seconds += 6
    progress("weighing the views", 1, 3)
    progress("writing the signals", 2, 3)
    progress("signals written", 3, 3)
    assert words == [
        "models asked: 0 of 500 at SYM0, 0 s",
        "models asked: 320 of 500 at SYM320, 5 s, about 3 s left",
        "models asked: 500 of 500, 8 s",
        "reading the track record: 0 of 3, 8 s",
        "weighing the views: 1 of 3, 14 s, about 12 s left",
        "signals written: 3 of 3, 14 s",
    ]
