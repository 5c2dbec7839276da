import numpy as np
import numpy.typing as npt

from scenarios.checkers.places import Places


def keys(*pairs: tuple[int, int]) -> npt.NDArray[np.uint64]:
    return np.array([generator << 44 | sequence for generator, sequence in pairs], np.uint64)


def test_dense_keys_of_several_generators_have_a_place_each() -> None:
    places = Places(keys((2, 1), (0, 3), (2, 1), (0, 1), (16383, 2)))
    assert places.count == 4
    assert places.of(keys((0, 1), (0, 3), (2, 1), (16383, 2))).tolist() == [0, 1, 2, 3]


def test_keys_that_were_not_given_have_none() -> None:
    places = Places(keys((1, 1), (1, 3)))
    strange = keys((0, 0), (0, 1), (1, 0), (1, 2), (1, 4), (2, 1), (1, 2**44 - 1))
    assert places.of(strange).tolist() == [-1] * 7
    assert places.of(np.array([2**64 - 1], np.uint64)).tolist() == [-1]


def test_sparse_keys_are_found_too() -> None:
    given = keys((0, 2**43), (7, 5), (0, 2**43), (16383, 2**44 - 1))
    places = Places(given)
    assert places.count == 3
    assert places.of(given).tolist() == [0, 1, 0, 2]
    assert places.of(keys((0, 1), (7, 4), (16383, 2**44 - 2))).tolist() == [-1] * 3


def test_no_keys_have_no_places() -> None:
    nothing = Places(keys())
    assert (nothing.count, nothing.of(keys((0, 0), (1, 1))).tolist(), nothing.of(keys()).tolist()) == (0, [-1, -1], [])


def test_shuffled_keys_of_many_blocks_are_all_found() -> None:
    first, sixth = np.arange(1, 200_001, dtype=np.uint64), np.arange(1, 100_001, dtype=np.uint64) | np.uint64(5 << 44)
    given = np.concatenate([first, sixth])
    shuffled = np.random.default_rng(1).permutation(given)
    places = Places(shuffled)
    assert places.count == 300_000
    assert np.array_equal(places.of(given), np.arange(300_000))
    assert np.array_equal(given[places.of(shuffled)], shuffled)
