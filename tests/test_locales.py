"""The words of the interface: Chinese says all that English says, and every node has its help in both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "web" / "docs"
TERMS = {"FirstFrame", "CLIP", "VAE", "Latent"}  # the same in Chinese
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SECTIONS = {"en": ["## Connect", "## When it fails"], "zh": ["## 连接", "## 出错时"]}


def texts(language: str) -> dict[str, str]:
    """All texts of a language by their dotted keys."""
    files = ((ROOT / "locales" / language / f"{name}.json").read_text("utf-8") for name in ("main", "nodeDefs"))
    return {key: text for file in files for key, text in _leaves("", json.loads(file))}


def _leaves(key: str, tree: Any) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield key, tree
        return
    for name, branch in tree.items():
        yield from _leaves(f"{key}.{name}", branch)


def numbers(text: str) -> list[str]:
    """The numbers in a text, sorted; those that belong to a name (v2, SD1.5) are not."""
    return sorted(re.findall(r"(?<![A-Za-z\d.])\d+(?:\.\d+)?", text))


def chinese(text: str) -> bool:
    return bool(re.search(r"[\u4e00-\u9fff]", text))


ENGLISH, CHINESE = texts("en"), texts("zh")
NODES = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
SURFACE = json.loads((ROOT / "tests" / "host" / "object_info.json").read_text("utf-8"))


def test_both_languages_have_the_same_keys() -> None:
    assert ENGLISH.keys() == CHINESE.keys()


def test_chinese_is_chinese() -> None:
    assert [key for key, text in CHINESE.items() if not chinese(text) and text not in TERMS] == []
    assert [key for key, text in ENGLISH.items() if chinese(text)] == []


def test_chinese_has_the_numbers_of_english() -> None:
    assert [key for key in ENGLISH if numbers(CHINESE[key]) != numbers(ENGLISH[key])] == []


def test_no_text_has_signs_that_the_editor_reads_as_its_own() -> None:
    """vue-i18n takes {name} for a value, @:name for a link and | for a plural."""
    for texts_of_language in (ENGLISH, CHINESE):
        assert [key for key, text in texts_of_language.items() if set("{}@|") & set(text) or not text.strip()] == []


def page(id: str, language: str) -> str:
    return (DOCS / f"{id}.md" if language == "en" else DOCS / id / f"{language}.md").read_text("utf-8")


def test_there_is_help_for_these_nodes_and_no_others() -> None:
    pages = [file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.*")]
    assert sorted(pages) == sorted(name for id in NODES for name in (f"{id}.md", f"{id}/zh.md"))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("id", NODES)
def test_help_has_the_title_of_the_node_and_all_sections(id: str, language: str) -> None:
    lines = page(id, language).splitlines()
    display_name = (ENGLISH if language == "en" else CHINESE)[f".{id}.display_name"]
    assert lines[0] == f"# {display_name}"
    assert [line for line in lines if line in SECTIONS[language]] == SECTIONS[language]


def explained(text: str, names: Iterable[str]) -> set[str]:
    """The names that a page's list of inputs begins a line with, or that stand in the first column of its tables."""
    begun = re.findall(r"^(?:- \*\*(.+?)\*\*|\|(.+?)\|)", text, re.MULTILINE)
    beginnings = " ".join(item or cell for item, cell in begun)
    return {name for name in names if re.search(rf"(?<![A-Za-z_]){name}(?![A-Za-z_])", beginnings)}


@pytest.mark.parametrize("id", NODES)
def test_help_in_both_languages_is_about_the_same_things(id: str) -> None:
    english, translated = page(id, "en"), page(id, "zh")
    assert explained(translated, NODES[id]["inputs"]) == explained(english, NODES[id]["inputs"])
    assert numbers(translated) == numbers(english)
    for quoted in re.findall(r"`firstframe [^`]*`|https?://[^)]*", english):
        assert quoted in translated


@pytest.mark.parametrize("id", SURFACE)
def test_help_is_about_every_input_that_has_a_value(id: str) -> None:
    """Sockets explain themselves."""
    inputs = {**SURFACE[id]["input"].get("required", {}), **SURFACE[id]["input"].get("optional", {})}
    values = {name for name, (kind, _) in inputs.items() if kind in WIDGETS}
    assert explained(page(id, "en"), values) == values
