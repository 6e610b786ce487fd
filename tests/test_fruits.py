"""The table of fruits, and how a label finds its row."""

import csv
import re
from importlib.resources import files

import pytest

from verger.fruits import Fruit, find_fruit, season_words
from verger.sample import KINDS

ROWS = list(csv.DictReader(files("verger").joinpath("fruits.csv").read_text(encoding="utf-8").splitlines()))
NAMES = ("name", "french", "english")
FIGURES = {"energy_kcal": 900, "sugars_g": 80, "fibre_g": 30, "vitamin_c_mg": 300}  # and the most that is believable

# Every label that Fruits-360 had from 2018 to 2025, its numbers left out: it writes "Apple Braeburn 1", "Tomato 10".
FRUITS_360 = {
    "Actinidia deliciosa": "Kiwi",
    "Allium cepa": "Onion; Onion Red; Onion Red Peeled; Onion White; Onion White Peeled",
    "Anacardium occidentale": "Caju seed",
    "Ananas comosus": "Pineapple; Pineapple Mini",
    "Annona cherimola": "Cherimoya",
    "Arachis hypogaea": "Peanut shell 1x",
    "Averrhoa carambola": "Carambola; Carambula",
    "Beta vulgaris": "Beetroot",
    "Brassica oleracea": "Cabbage red; Cabbage white; Cauliflower; Kohlrabi",
    "Capsicum annuum": "Pepper; Pepper Green; Pepper Orange; Pepper Red; Pepper Yellow",
    "Carica papaya": "Papaya",
    "Carya illinoinensis": "Nut Pecan",
    "Castanea sativa": "Chestnut",
    "Citrullus lanatus": "Watermelon",
    "Citrus japonica": "Kumquats",
    "Citrus maxima × Citrus × paradisi": "Pomelo Sweetie",
    "Citrus reticulata": "Mandarine",
    "Citrus × clementina": "Clementine",
    "Citrus × latifolia": "Limes",
    "Citrus × limon": "Lemon",
    "Citrus × meyeri": "Lemon Meyer",
    "Citrus × paradisi": "Grapefruit Pink; Grapefruit White",
    "Citrus × sinensis": "Orange; Orange peeled",
    "Citrus × tangelo": "Tangelo",
    "Cocos nucifera": "Cocos",
    "Corylus avellana": "Hazelnut; Nut Forest",
    "Cucumis melo": "Cantaloupe; Melon Piel de Sapo",
    "Cucumis sativus": "Cucumber; Cucumber Ripe",
    "Cucurbita pepo": "Zucchini; Zucchini dark; Zucchini Green",
    "Cydonia oblonga": "Quince",
    "Daucus carota": "Carrot",
    "Diospyros kaki": "Kaki",
    "Ficus carica": "Fig",
    "Fragaria × ananassa": "Strawberry; Strawberry Wedge",
    "Garcinia mangostana": "Mangostan",
    "Ipomoea batatas": "Potato Sweet",
    "Juglans regia": "Walnut",
    "Juglans, Corylus, Carya": "Nut",
    "Litchi chinensis": "Lychee",
    "Malus domestica": "Apple; Apple Braeburn; Apple Core; Apple Crimson Snow; Apple Golden; Apple Granny Smith; "
    "Apple hit; Apple Pink Lady; Apple Red; Apple Red Delicious; Apple Red Yellow; Apple Rotten; Apple worm",
    "Mangifera indica": "Mango; Mango Red",
    "Morus nigra": "Mulberry",
    "Musa acuminata": "Banana; Banana Lady Finger; Banana Red",
    "Nephelium lappaceum": "Rambutan",
    "Opuntia ficus-indica": "Cactus fruit; Cactus fruit green; Cactus fruit red",
    "Passiflora edulis": "Maracuja; Passion Fruit",
    "Passiflora ligularis": "Granadilla",
    "Persea americana": "Avocado; Avocado Black; Avocado Green; Avocado ripe",
    "Phaseolus vulgaris": "Bean pod; Beans",
    "Phoenix dactylifera": "Dates",
    "Physalis peruviana": "Physalis; Physalis with Husk",
    "Pistacia vera": "Pistachio",
    "Prunus armeniaca": "Apricot",
    "Prunus avium": "Cherry; Cherry Rainier",
    "Prunus cerasifera": "Cherry Wax; Cherry Wax Black; Cherry Wax not ripen; Cherry Wax Red; Cherry Wax Yellow",
    "Prunus cerasus": "Cherry Sour",
    "Prunus domestica": "Plum",
    "Prunus dulcis": "Almonds",
    "Prunus persica": "Nectarine; Nectarine Flat; Peach; Peach Flat",
    "Psidium guajava": "Guava",
    "Punica granatum": "Pomegranate",
    "Pyrus communis": "Pear; Pear Abate; Pear Forelle; Pear Kaiser; Pear Monster; Pear Red; Pear Stone; Pear Williams",
    "Ribes rubrum": "Redcurrant",
    "Ribes uva-crispa": "Gooseberry",
    "Rubus fruticosus": "BlackBerry; Blackberrie half rippen; Blackberrie not rippen; Blackberrie; Blackberry",
    "Rubus idaeus": "Raspberry",
    "Salacca zalacca": "Salak",
    "Selenicereus undatus": "Pitahaya Red",
    "Solanum betaceum": "Tamarillo",
    "Solanum lycopersicum": "Tomato; Tomato Cherry Maroon; Tomato Cherry Orange; Tomato Cherry Red; "
    "Tomato Cherry Yellow; Tomato Heart; Tomato Maroon; Tomato not Ripen; Tomato not Ripened; Tomato Yellow",
    "Solanum melongena": "Eggplant; Eggplant long",
    "Solanum muricatum": "Pepino",
    "Solanum tuberosum": "Potato Red; Potato Red Washed; Potato White",
    "Vaccinium corymbosum": "Blueberry",
    "Vaccinium myrtillus": "Huckleberry",
    "Vitis vinifera": "Grape; Grape Blue; Grape Pink; Grape White",
    "Zea mays": "Corn; Corn Husk",
    "Zingiber officinale": "Ginger; Ginger Root",
}

# The GroceryStore photos, fine and coarse classes; "Packages" are the coarse classes that are not fruit.
GROCERIES = {
    "Actinidia deliciosa": "Kiwi",
    "Agaricus bisporus": "Brown-Cap-Mushroom; Mushroom",
    "Allium ampeloprasum": "Leek",
    "Allium cepa": "Yellow-Onion; Onion",
    "Allium sativum": "Garlic",
    "Ananas comosus": "Pineapple",
    "Asparagus officinalis": "Asparagus",
    "Beta vulgaris": "Red-Beet",
    "Brassica oleracea": "Cabbage",
    "Capsicum annuum": "Green-Bell-Pepper; Orange-Bell-Pepper; Red-Bell-Pepper; Yellow-Bell-Pepper; Pepper",
    "Carica papaya": "Papaya",
    "Citrullus lanatus": "Watermelon",
    "Citrus unshiu": "Satsumas",
    "Citrus × latifolia": "Lime",
    "Citrus × limon": "Lemon",
    "Citrus × paradisi": "Red-Grapefruit",
    "Citrus × sinensis": "Orange",
    "Cucumis melo": "Cantaloupe; Galia-Melon; Honeydew-Melon; Melon",
    "Cucumis sativus": "Cucumber",
    "Cucurbita pepo": "Zucchini",
    "Daucus carota": "Carrots",
    "Ipomoea batatas": "Sweet-Potato",
    "Malus domestica": "Golden-Delicious; Granny-Smith; Pink-Lady; Red-Delicious; Royal-Gala; Apple",
    "Mangifera indica": "Mango",
    "Musa acuminata": "Banana",
    "Passiflora edulis": "Passion-Fruit",
    "Persea americana": "Avocado",
    "Prunus domestica": "Plum",
    "Prunus persica": "Nectarine; Peach",
    "Punica granatum": "Pomegranate",
    "Pyrus communis": "Anjou; Conference; Kaiser; Pear",
    "Solanum lycopersicum": "Beef-Tomato; Regular-Tomato; Vine-Tomato; Tomato",
    "Solanum melongena": "Aubergine",
    "Solanum tuberosum": "Floury-Potato; Solid-Potato; Potato",
    "Zingiber officinale": "Ginger",
}
PACKAGES = {
    "Juice": "Bravo-Apple-Juice; Bravo-Orange-Juice; God-Morgon-Apple-Juice; God-Morgon-Orange-Juice; "
    "God-Morgon-Orange-Red-Grapefruit-Juice; God-Morgon-Red-Grapefruit-Juice; Tropicana-Apple-Juice; "
    "Tropicana-Golden-Grapefruit; Tropicana-Juice-Smooth; Tropicana-Mandarin-Morning",
    "Milk": "Arla-Ecological-Medium-Fat-Milk; Arla-Lactose-Medium-Fat-Milk; Arla-Medium-Fat-Milk; Arla-Standard-Milk; "
    "Garant-Ecological-Medium-Fat-Milk; Garant-Ecological-Standard-Milk",
    "Oat-Milk": "Oatly-Oat-Milk",
    "Oatghurt": "Oatly-Natural-Oatghurt",
    "Sour-Cream": "Arla-Ecological-Sour-Cream; Arla-Sour-Cream",
    "Sour-Milk": "Arla-Sour-Milk",
    "Soy-Milk": "Alpro-Fresh-Soy-Milk; Alpro-Shelf-Soy-Milk",
    "Soyghurt": "Alpro-Blueberry-Soyghurt; Alpro-Vanilla-Soyghurt",
    "Yoghurt": "Arla-Mild-Vanilla-Yoghurt; Arla-Natural-Mild-Low-Fat-Yoghurt; Arla-Natural-Yoghurt; "
    "Valio-Vanilla-Yoghurt; Yoggi-Strawberry-Yoghurt; Yoggi-Vanilla-Yoghurt",
}


def found(label: str, *parents: str) -> str | None:
    """The name of the row that a label finds."""
    fruit = find_fruit(label, parents)
    return fruit.name if fruit else None


def pairs(labels: dict[str, str]) -> list[tuple[str, str]]:
    return [(label.strip(), key) for key, text in labels.items() for label in text.split(";")]


@pytest.mark.parametrize(("label", "species"), pairs(FRUITS_360) + pairs(GROCERIES))
def test_every_label_of_both_data_sets_finds_its_species(label: str, species: str) -> None:
    for written in (label, f"{label} 1", f"{label} 12", label.upper().replace(" ", "_")):
        fruit = find_fruit(written)
        assert fruit is not None, written
        assert fruit.species == species, written


@pytest.mark.parametrize(("label", "kind"), pairs(PACKAGES))
def test_packages_are_not_fruit(label: str, kind: str) -> None:
    assert find_fruit(label) is find_fruit(label, (kind, "Packages")) is find_fruit("Apple", (kind,)) is None


def test_the_built_in_orchard_is_in_the_table() -> None:
    assert [found(kind) for kind in KINDS] == list(KINDS)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Apple Braeburn 1", "apple braeburn"),
        ("Apple 12", "apple"),
        ("Red Delicious apples", "apple red delicious"),
        ("Tomato Cherry Red 2", "tomato cherry"),
        ("Pepper Orange 1", "pepper orange"),
        ("Cherries", "cherry"),
        ("PÊCHES", "peach"),
        ("peaches", "peach"),
        ("choux", "cabbage"),
        ("Cœur-de-bœuf", "tomato oxheart"),
        ("chataigne", "chestnut"),
        ("pommes de terre", "potato"),
        ("pomme", "apple"),
        ("pommes golden", "apple golden delicious"),
        ("tomates orange", "tomato"),
        ("noix de coco", "coconut"),
        ("noix", "walnut"),
        ("pear or pineapple", "pineapple"),
        ("toaster", None),
        ("42", None),
        ("", None),
    ],
)
def test_the_longest_matching_name_wins(label: str, name: str | None) -> None:
    assert found(label) == name


def test_parents_complete_a_label_or_stand_in_for_it() -> None:
    assert found("Braeburn", "Apple", "Training") == "apple braeburn"
    assert found("Orange", "Pepper") == "pepper orange"
    assert found("Variety 7", "Apple", "Cherry") == "apple"
    assert found("12", "Sweet", "Potato") == "sweet potato"
    assert found("Cherry", "Pepper Orange") == "cherry"


@pytest.mark.parametrize(
    ("name", "french", "english"),
    [
        ("melon", "de juin à septembre", "June to September"),
        ("kiwi", "de novembre à mai", "November to May"),
        ("apple", "d’août à mai", "August to May"),
        ("asparagus", "d’avril à juin", "April to June"),
        ("carrot", "toute l’année", "all year"),
        ("mango", "importé toute l’année", "imported all year"),
    ],
)
def test_a_season_can_be_read_in_both_languages(name: str, french: str, english: str) -> None:
    fruit = find_fruit(name)
    assert fruit is not None
    assert (season_words(fruit, "fr"), season_words(fruit, "en")) == (french, english)


def test_a_season_may_last_one_month_or_cross_the_turn_of_the_year() -> None:
    one_month = Fruit("x", "x", "x", "x", "x", (8,), None, None, None, None, "", "", "")
    assert (season_words(one_month, "fr"), season_words(one_month, "en")) == ("en août", "August")
    clementine = find_fruit("clementine")
    assert clementine is not None
    assert clementine.season == (11, 12, 1)


def test_the_table_gives_what_it_says() -> None:
    guava = find_fruit("Guava 1")
    assert guava is not None
    assert (guava.species, guava.family, guava.french, guava.season) == ("Psidium guajava", "Myrtaceae", "Goyave", ())
    assert (guava.energy_kcal, guava.sugars_g, guava.fibre_g, guava.vitamin_c_mg) == (68, 8.9, 5.4, 228.3)
    assert guava.source == "USDA FoodData Central: Guavas, common, raw"


def test_there_are_many_rows_and_each_name_leads_to_its_own() -> None:
    assert len(ROWS) >= 160
    assert len({row["name"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        for name in (*(row[field] for field in NAMES), *filter(None, row["also"].split(";"))):
            assert found(name) == row["name"], name


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_row_is_complete_and_believable(row: dict[str, str]) -> None:
    assert None not in row  # a comma too many
    assert all(value is not None and value == value.strip() for value in row.values())
    assert all(row[field] for field in (*NAMES, "species", "family", "sentence_french", "sentence_english"))
    assert row["name"] == row["name"].lower()
    assert re.fullmatch(r"[A-Z][a-z]+(,? (× )?[A-Za-z][a-z-]+)+( × Citrus × paradisi)?", row["species"])
    assert all(re.fullmatch("[A-Z][a-z]+aceae", family) for family in row["family"].split(", "))
    assert re.fullmatch(r"|([1-9]|1[0-2])-([1-9]|1[0-2])", row["season"])
    figures = {field: float(row[field]) for field in FIGURES if row[field]}
    assert all(0 <= figure <= FIGURES[field] for field, figure in figures.items())
    assert bool(figures) == bool(row["source"])
    assert re.match(r"|Ciqual 2025 \(ANSES\), \d{4,5}: |USDA FoodData Central: ", row["source"])
    if "sugars_g" in figures:
        assert 4 * figures["sugars_g"] <= figures["energy_kcal"] * 1.05 + 1  # 4 kcal a gram


def test_one_species_has_one_family_and_one_table_entry_one_set_of_figures() -> None:
    families = {(row["species"], row["family"]) for row in ROWS}
    assert len(families) == len({species for species, _ in families})
    figures = {(row["source"], *(row[field] for field in FIGURES)) for row in ROWS if row["source"]}
    assert len(figures) == len({source for source, *_ in figures})


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_sentences_are_short_and_well_set(row: dict[str, str]) -> None:
    french, english = row["sentence_french"], row["sentence_english"]
    for sentence in (french, english):
        assert len(sentence) <= 160
        assert re.match(r"[A-ZÀÉÊŒ0-9]", sentence)
        assert re.search(r"[.?!]$", sentence)
        assert not re.search("['\"]|  |\\.\\.\\.", sentence)  # ’ and “ ” and … instead
    assert not re.search("[^\u202f][;!?%]|[^\u00a0][:»]|«[^\u00a0]", french)  # no-break spaces, narrow ones where due
    assert not re.search(r"\d \d|\d [a-zA-Zé]|oeuf|coeur|oeil", french)
    assert not re.search("[\u202f\u00a0«»]", english)
