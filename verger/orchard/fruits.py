"""The twelve kinds of the orchard: each turns random numbers into pieces to lay on a table."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from verger.orchard.berries import blueberry, cherry, grape, strawberry
from verger.orchard.halves import kiwi, lemon, orange, watermelon
from verger.orchard.pieces import Piece
from verger.orchard.whole import apple, banana, pear, pineapple

Fruit = Callable[[np.random.Generator], Sequence[Piece]]

_ALL: tuple[Fruit, ...] = (
    *(apple, banana, blueberry, cherry, grape, kiwi),
    *(lemon, orange, pear, pineapple, strawberry, watermelon),
)
FRUITS: Mapping[str, Fruit] = {fruit.__name__: fruit for fruit in _ALL}
