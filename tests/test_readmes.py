"""The two READMEs say the same in two languages, their figures are those that were measured, and guides are listed."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.fr.md")
PICTURE_OR_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)]*)\)")
CODE = re.compile(r"`([^`]+)`")
# "9,800" and "0.92" in English, "9 800" (with a no-break space) and "0,92" in French. Versions keep their point.
FIGURE = {
    "README.md": re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?"),
    "README.fr.md": re.compile(r"\d+(?:[\u00a0\u202f]\d{3})*(?:[.,]\d+)?"),
}


@dataclass
class Section:
    """What stands below one heading."""

    level: int
    title: str
    prose: str
    blocks: list[str]  # of code, each with the line that opens it


def sections(readme: str) -> list[Section]:
    """Its sections in order; the first is what stands before any heading."""
    found = [Section(0, "", "", [])]
    for i, piece in enumerate(re.split(r"^```", (ROOT / readme).read_text(encoding="utf-8"), flags=re.MULTILINE)):
        if i % 2:
            found[-1].blocks.append(piece)
            continue
        for line in piece.splitlines():
            if heading := re.fullmatch(r"(#+) (.+)", line):
                found.append(Section(len(heading[1]), heading[2], "", []))
            else:
                found[-1].prose += line + "\n"
    return found


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def targets(readme: str, prose: str, *, pictures: bool) -> list[str]:
    """Where links lead, or pictures lie; a heading of the same page by its number, the other README as such."""
    headings = {f"#{slug(section.title)}": f"heading {i}" for i, section in enumerate(sections(readme))}
    found = [target for mark, _, target in PICTURE_OR_LINK.findall(prose) if bool(mark) is pictures]
    (other,) = set(READMES) - {readme}
    return sorted(headings[to] if to.startswith("#") else "the other" if to == other else to for to in found)


def words(prose: str) -> str:
    """Without code, and without what links lead to."""
    return CODE.sub(" ", PICTURE_OR_LINK.sub(r"\2", prose))


def figures(readme: str, prose: str) -> list[str]:
    """Numbers, as English writes them without commas."""
    found = FIGURE[readme].findall(words(prose))
    grouping = "," if readme == "README.md" else "\u00a0\u202f"
    return sorted(number.translate(dict.fromkeys(map(ord, grouping))).replace(",", ".") for number in found)


def shape(prose: str) -> tuple[int, int, int]:
    """How many paragraphs, items of lists and rows of tables."""
    counts = [len(re.findall(start, prose, re.MULTILINE)) for start in (r"^- ", r"^\|")]
    return len(re.findall(r"\S\n(?=\n|\Z)", prose)), counts[0], counts[1]


LOOKS = {
    "the level of its heading": lambda _, section: section.level,
    "its paragraphs, items and rows": lambda _, section: shape(section.prose),
    "its blocks": lambda _, section: section.blocks,
    "its pictures": lambda readme, section: targets(readme, section.prose, pictures=True),
    "its links": lambda readme, section: targets(readme, section.prose, pictures=False),
    "its code": lambda _, section: sorted(set(CODE.findall(section.prose))),
    "its figures": lambda readme, section: figures(readme, section.prose),
}


@pytest.mark.parametrize("look", LOOKS)
def test_each_section_is_the_same_in_both_languages_by(look: str) -> None:
    english, french = ([LOOKS[look](readme, section) for section in sections(readme)] for readme in READMES)
    assert french == english


def test_a_figure_stands_in_the_file_of_measurements_that_its_section_names() -> None:
    checked = 0
    for section in sections("README.md"):
        named = [to for to in targets("README.md", section.prose, pictures=False) if to.startswith("benchmarks/")]
        measured = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in named)
        for figure in re.findall(r"\d+\.\d+|\d+,\d{3}", words(section.prose)) if named else []:
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?!\d)", measured), f"{figure}, of {section.title}"
            checked += 1
    assert checked >= 5


def test_the_list_of_guides_names_them_all() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    guides = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert guides <= set(re.findall(r"\]\(([^)#/]+\.md)", index))
