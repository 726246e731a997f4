"""Groups dealt out: right shares of everything, no part empty, the same on every machine."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.dataset.stratify import apportion, shuffled
from data.synthetic import CLASS_SETS

FRACTIONS = (0.70, 0.15, 0.15)
CLASS_SET = st.lists(st.integers(1, 4), max_size=3, unique=True).map(sorted).map(tuple)


def test_every_part_gets_its_share_of_every_class_set() -> None:
    """At the full data set's size, where each class set and class can be split to an image."""
    groups = [[classes] for classes, count in CLASS_SETS.items() for _ in range(count)]
    parts = apportion(groups, shuffled([str(i) for i in range(len(groups))], 0), FRACTIONS)
    for traits in ([sets[0] for sets in groups], [max(sets[0], default=0) for sets in groups]):
        counts = Counter(zip(traits, parts.tolist(), strict=True))
        for trait, total in Counter(traits).items():
            for part, fraction in enumerate(FRACTIONS):
                assert abs(counts[trait, part] - fraction * total) <= 2


def test_large_groups_stay_whole_and_are_balanced() -> None:
    random = np.random.default_rng(0)
    kinds = [(), (1,), (3,), (3, 4)]
    groups = [[kinds[random.integers(4)]] * random.integers(1, 9) for _ in range(300)]
    parts = apportion(groups, range(300), FRACTIONS)
    sizes = np.array([len(sets) for sets in groups])
    for kind in kinds:
        of_kind = np.array([sets[0] == kind for sets in groups])
        total = sizes[of_kind].sum()
        for part, fraction in enumerate(FRACTIONS):
            assert abs(sizes[of_kind & (parts == part)].sum() - fraction * total) < 9


@given(
    st.lists(st.lists(CLASS_SET, min_size=1, max_size=5), min_size=3, max_size=30),
    st.integers(0, 3),
)
def test_no_part_is_empty(groups: list, seed: int) -> None:
    parts = apportion(groups, shuffled([str(i) for i in range(len(groups))], seed), FRACTIONS)
    assert set(parts.tolist()) == {0, 1, 2}


def test_a_rare_class_goes_to_train_first() -> None:
    groups = [[()]] * 20 + [[(2,)]] + [[(4,)], [(4,)]]
    parts = apportion(groups, range(len(groups)), FRACTIONS)
    assert parts[20] == 0
    assert 0 in parts[21:]


def test_the_order_is_fixed_for_good() -> None:
    """A split.csv can be made again anywhere: these values must never change."""
    names = [f"{i}.jpg" for i in range(8)]
    assert shuffled(names, 0) == [7, 4, 6, 5, 3, 1, 2, 0]
    assert shuffled(names, 1) != shuffled(names, 0)
    assert sorted(shuffled(names, 1)) == list(range(8))
    groups = [[(i % 3,) if i % 3 else ()] for i in range(20)]
    parts = apportion(groups, shuffled([str(i) for i in range(20)], 0), FRACTIONS)
    assert "".join(map(str, parts)) == "10101000000202000020"
