"""What people want to know of a fruit or vegetable, from fruits.csv: `find_fruit` looks it up by a photo's label.

docs/fruits.md says where the facts come from and how to add a row.
"""

import csv
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Language = Literal["fr", "en"]
Name = frozenset[str]  # the words of a name, in no order: "Tomato Cherry" is "cherry tomatoes"

_MONTHS: Mapping[Language, Sequence[str]] = {
    "fr": (
        *("janvier", "février", "mars", "avril", "mai", "juin"),
        *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
    ),
    "en": (
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
}
# What is made of fruit is no fruit: these words mark the packages of the GroceryStore photos.
_PACKAGED = "packages tropicana juice milk cream yoghurt yogurt oatghurt soyghurt jus lait crème yaourt"


@dataclass(frozen=True)
class Fruit:
    """A fruit or vegetable, or one of their varieties.

    Attributes:
        name: the key of its row, in small letters.
        species: Latin, without author; a few hybrids and genera among them.
        family: Latin.
        french, english: what a card shows as its title.
        season: months from 1 to 12 in which it comes from metropolitan France, cold stores included, from the first
            to the last ((11, 12, 1) for November to January); () where it is imported all year.
        energy_kcal, sugars_g, fibre_g, vitamin_c_mg: in 100 g of what is eaten, raw or (nuts, dates) dry; None where
            the source has none.
        source: the table and the entry that these figures come from; "" where there are none.
        sentence_french, sentence_english: something worth knowing, 160 characters at most.
    """

    name: str
    species: str
    family: str
    french: str
    english: str
    season: tuple[int, ...]
    energy_kcal: float | None
    sugars_g: float | None
    fibre_g: float | None
    vitamin_c_mg: float | None
    source: str
    sentence_french: str
    sentence_english: str


def find_fruit(label: str, parents: Sequence[str] = ()) -> Fruit | None:
    """The row with the longest name whose words all stand in the label or its parents, at least one in the label.

    Capitals, accents, plurals, numbers and the order of words do not matter; English and French names both do.
    Where the label itself says nothing ("Variety 7"), its nearest parent is asked.

    Args:
        label: a photo's label, such as "Apple Braeburn 1", "Red-Bell-Pepper", "pommes".
        parents: the labels above it, nearest first.

    Returns:
        None for what is not in the table, and for packages: apple juice is not an apple.
    """
    own = _words(label)
    all_words = own.union(*map(_words, parents))
    if all_words & _words(_PACKAGED):
        return None
    found = [name for name in _names() if name <= all_words and name & own]
    if found:
        return _names()[max(found, key=_length)]
    return find_fruit(parents[0], parents[1:]) if parents else None


def season_words(fruit: Fruit, language: Language) -> str:
    """The months of a fruit's season, to be read: "de juin à septembre", "June to September"."""
    french = language == "fr"
    if not fruit.season:
        return "importé toute l’année" if french else "imported all year"
    if len(fruit.season) == len(_MONTHS[language]):
        return "toute l’année" if french else "all year"
    first, last = (_MONTHS[language][month - 1] for month in (fruit.season[0], fruit.season[-1]))
    if first == last:
        return f"en {first}" if french else first
    if not french:
        return f"{first} to {last}"
    return f"d’{first} à {last}" if first[0] in "ao" else f"de {first} à {last}"


def _length(name: Name) -> tuple[int, bool, int]:
    """How long a name is: in words, then in letters. An orange melon is a melon, so that name counts least."""
    return len(name), name != _words("orange"), sum(map(len, name))


def _words(text: str) -> Name:
    """The words of a text without accents and endings, so that "pêche", "Pêches" and "peaches" differ no more."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("œ", "oe"))
    letters = "".join(character for character in plain if not unicodedata.combining(character))
    return frozenset(_stem(word) for word in re.findall("[a-z]+", letters))


def _stem(word: str) -> str:
    """What singular and plural share in English and French: cherr(y), cherr(ies); chou, chou(x); figu(e), figu(es)."""
    return re.sub("(?<=u)x$|(y|ie|e)?s?$", "", word, count=1) or word


@cache
def _names() -> Mapping[Name, Fruit]:
    """Every name that a fruit goes by, read once."""
    lines = files("verger").joinpath("fruits.csv").read_text(encoding="utf-8").splitlines()
    names: dict[Name, Fruit] = {}
    for row in csv.DictReader(lines):
        fruit = _fruit(row)
        others = row["also"].split(";") if row["also"] else []
        names |= dict.fromkeys(map(_words, (fruit.name, fruit.french, fruit.english, *others)), fruit)
    return names


def _fruit(row: Mapping[str, str]) -> Fruit:
    return Fruit(
        name=row["name"],
        species=row["species"],
        family=row["family"],
        french=row["french"],
        english=row["english"],
        season=_months(row["season"]),
        energy_kcal=_figure(row["energy_kcal"]),
        sugars_g=_figure(row["sugars_g"]),
        fibre_g=_figure(row["fibre_g"]),
        vitamin_c_mg=_figure(row["vitamin_c_mg"]),
        source=row["source"],
        sentence_french=row["sentence_french"],
        sentence_english=row["sentence_english"],
    )


def _figure(text: str) -> float | None:
    return float(text) if text else None


def _months(season: str) -> tuple[int, ...]:
    """The months of "6-9", or of "11-1" over the turn of the year."""
    if not season:
        return ()
    first, last = map(int, season.split("-"))
    return tuple((month - 1) % 12 + 1 for month in range(first, first + (last - first) % 12 + 1))
