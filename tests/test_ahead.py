"""Reading ahead in a thread changes nothing but the time it takes."""

import threading
from collections.abc import Iterator

import pytest

from layerlift.ahead import ahead


def test_order_is_kept_and_nothing_is_lost() -> None:
    assert list(ahead(range(50), 3)) == list(range(50))
    assert list(ahead([])) == []
    assert list(ahead([None, None])) == [None, None]


def test_it_runs_as_far_ahead_as_it_may() -> None:
    made: list[int] = []
    reached = threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 3:
                reached.set()
            yield number

    given = ahead(items(), 3)
    assert made == []
    assert next(given) == 0
    assert reached.wait(10)  # 1, 2 and 3 without being asked
    given.close()
    assert made == [0, 1, 2, 3]


def test_what_goes_wrong_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("torn tape")

    given = ahead(items())
    assert next(given) == 1
    with pytest.raises(OSError, match="torn tape"):
        next(given)
