import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.dataset.stream import ahead, batches


def test_results_come_in_order_whatever_takes_longest():
    gate = threading.Event()

    def slow_first(item):
        if item == 0:
            gate.wait(5)
        elif item == 3:
            gate.set()  # later items run while the first still waits
        return item * item

    with ThreadPoolExecutor(4) as pool:
        assert list(ahead(slow_first, range(6), pool, depth=4)) == [0, 1, 4, 9, 16, 25]
    assert gate.is_set()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_items_are_taken_no_further_ahead_than_depth(depth):
    taken = []

    def items():
        for item in range(10):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        for done, result in enumerate(ahead(lambda item: item, items(), pool, depth)):
            assert result == done
            assert len(taken) <= done + depth + 1


def test_an_exception_is_raised_in_its_turn():
    def fails_at_two(item):
        return 1 // (2 - item)

    with ThreadPoolExecutor(2) as pool:
        results = ahead(fails_at_two, range(5), pool, depth=3)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_batches_are_full_but_for_the_last():
    assert list(batches("abcdefg", 3)) == [list("abc"), list("def"), list("g")]
    assert list(batches("", 3)) == []
