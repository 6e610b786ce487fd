"""What `POST /recognise` says, and how an answer becomes it. These classes are the documentation of the JSON too."""

import base64
from typing import NamedTuple

from pydantic import BaseModel, Field

from verger.fruits import Fruit, find_fruit, season_words
from verger.recogniser import Answer


class Names(NamedTuple):
    """Of a label, for people."""

    french: str
    english: str


class GuessModel(BaseModel):
    """One possible answer."""

    label: str = Field(description="The label of the run, as its folder is called.")
    parents: list[str] = Field(description="The labels above it, the nearest first.")
    probability: float = Field(description="From 0 to 1, calibrated.")
    french: str = Field(description="Its name for people, in French.")
    english: str = Field(description="Its name for people, in English.")


class CardModel(BaseModel):
    """What is known of a fruit. Nutrition is that of 100 g; null where no source gives it."""

    name: str
    species: str = Field(description="In Latin.")
    family: str
    french: str
    english: str
    season: list[int] = Field(
        description="Months of its season in metropolitan France, 1 to 12; empty: not grown there."
    )
    season_french: str
    season_english: str
    energy_kcal: float | None
    sugars_g: float | None
    fibre_g: float | None
    vitamin_c_mg: float | None
    source: str = Field(description="Where the nutrition was taken from.")
    sentence_french: str
    sentence_english: str


class AnswerModel(BaseModel):
    """What a photo shows."""

    label: str | None = Field(description="The finest label it is sure of; null where it is sure of nothing.")
    french: str | None = Field(description="The label's name for people, in French.")
    english: str | None = Field(description="The label's name for people, in English.")
    sure: bool = Field(description="Whether there is a label.")
    known: bool = Field(description="False where the photo is unlike everything that was learned.")
    probability: float = Field(description="Of the label; of the best guess where there is none.")
    distance: float = Field(description="How unlike anything known; above 1 it is unknown.")
    guesses: list[GuessModel] = Field(description="Up to three, the best first.")
    fruit: CardModel | None = Field(description="The card of the label, or of the best guess.")
    lookalikes: list[str] = Field(description="Up to three small photos of the best guess, as data: addresses.")
    error: None = Field(default=None, description="Always null here; a code where there is no answer.")


class FailureModel(BaseModel):
    """The one shape of every failure."""

    error: str = Field(description="A code, from the list on this page.")
    message: str = Field(description="What was expected, what was received, what to do, in English.")


def describe(answer: Answer, lookalikes: list[bytes]) -> AnswerModel:
    """An answer with names for people, the card of its fruit and photos that look like it.

    Args:
        answer: what the recogniser said.
        lookalikes: small JPEG files.
    """
    label, parents = answer.label, tuple[str, ...]()
    for guess in reversed(answer.guesses):  # a label is a guess or a parent of one; the best guess has the last word
        line = (guess.label, *guess.parents)
        if label in line:
            parents = line[line.index(label) + 1 :]
    names = names_of(label, parents) if label else None
    shown = (label, parents) if label else next(((guess.label, guess.parents) for guess in answer.guesses), None)
    fruit = find_fruit(*shown) if shown and answer.known else None
    return AnswerModel(
        label=label,
        french=names.french if names else None,
        english=names.english if names else None,
        sure=answer.sure,
        known=answer.known,
        probability=round(answer.probability, 4),
        distance=round(answer.distance, 4),
        guesses=[_guess(guess.label, guess.parents, guess.probability) for guess in answer.guesses],
        fruit=_card(fruit) if fruit else None,
        lookalikes=[_data_address(jpeg) for jpeg in lookalikes] if answer.known else [],
    )


def _guess(label: str, parents: tuple[str, ...], probability: float) -> GuessModel:
    names = names_of(label, parents)
    share = round(probability, 4)
    return GuessModel(label=label, parents=list(parents), probability=share, french=names.french, english=names.english)


def names_of(label: str, parents: tuple[str, ...]) -> Names:
    """A label's name for people: the fruit's, then what the label adds to it, such as a variety or a number."""
    words = label.replace("-", " ").replace("_", " ").split()
    fruit = find_fruit(label, parents)
    if fruit is None:
        return Names(" ".join(words), " ".join(words))
    said = f"{fruit.name} {fruit.english} {fruit.french}".lower().split()
    added = [word for word in words if word.lower() not in said and find_fruit(word) != fruit]
    comma = "," if any(word.isalpha() for word in added) else ""
    return Names(*(" ".join([name + comma, *added]) for name in (fruit.french, fruit.english)))


def _card(fruit: Fruit) -> CardModel:
    seasons = {"season_french": season_words(fruit, "fr"), "season_english": season_words(fruit, "en")}
    return CardModel.model_validate(vars(fruit) | seasons)


def _data_address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
