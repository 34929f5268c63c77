"""The pages of `firstframe measure`: one file each, valid, with everything inside."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import html5lib
import pytest
import torch
from PIL import Image

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.clips.metrics.terms import NUMBERS
from firstframe.clips.video import read_clip
from firstframe.experiments import catalogue
from firstframe.experiments.experiment import Case, Experiment, Report, Setup
from firstframe.experiments.page import write_pages
from firstframe.experiments.run import measure
from firstframe.experiments.settings import SETTINGS
from firstframe.experiments.shown import write_clips
from firstframe.sampling.guidance import DualGuidance
from firstframe.tiny.model import TinyModel

Element = ElementTree.Element
SETTINGS_USED = SamplingSettings(num_frames=4, steps=1, cfg=1.0)
MEBIBYTE = 2**20


def opened(file: Path) -> Element:
    """A page as browsers parse it; any parse error raises."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    tree: Element = parser.parse(file.read_text("utf-8"))
    return tree


@pytest.fixture(scope="module")
def tiny_folder(small_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    guided = SamplingSettings(num_frames=4, steps=1, cfg=1.0, guidance=DualGuidance(1.5, 2.5))
    measure(catalogue.comparison(retention=True), small_model, Setup(2, 3, guided), folder)
    return folder


@pytest.fixture(scope="module")
def prior_folder(small_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    measure(catalogue.PRIOR_REPORT, small_model, Setup(1, 0, SETTINGS_USED), folder)
    return folder


@pytest.fixture(params=["tiny", "prior", "claims"])
def folder(request: pytest.FixtureRequest) -> Path:
    made: Path = request.getfixturevalue(f"{request.param}_folder")
    return made


@pytest.fixture
def report(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*.json")
    read: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return read


@pytest.fixture
def page(folder: Path) -> Element:
    return opened(folder / "report.html")


def addresses(page: Element) -> list[str]:
    """Everything that the page points at or loads."""
    names = ("src", "href", "poster", "srcset", "data", "action")
    return [element.attrib[name] for element in page.iter() for name in names if name in element.attrib]


def content(address: str) -> bytes:
    return base64.b64decode(address.split(",", 1)[1], validate=True)


def leaves(report: Any) -> Iterator[float]:
    """All numbers in JSON; true and false are none."""
    if isinstance(report, dict | list):
        for part in report.values() if isinstance(report, dict) else report:
            yield from leaves(part)
    elif isinstance(report, int | float) and not isinstance(report, bool):
        yield report


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_it_needs_nothing_from_outside(page: Element, folder: Path) -> None:
    found = addresses(page)
    ids = {element.attrib["id"] for element in page.iter() if "id" in element.attrib}
    assert found and all(address.startswith("data:") or address.removeprefix("#") in ids for address in found)
    text = (folder / "report.html").read_text("utf-8")
    assert "@import" not in text and not re.search(r"url\(|https?:", text)
    (policy,) = [meta.attrib["content"] for meta in page.iter("meta") if "http-equiv" in meta.attrib]
    assert policy.startswith("default-src 'none'") and "http" not in policy and "*" not in policy
    assert {image.attrib["src"].split(";")[0] for image in page.iter("img")} <= {
        "data:image/svg+xml",
        "data:image/webp",
    }


def test_every_number_of_the_report_is_in_it(page: Element, report: dict[str, Any]) -> None:
    shown = {float(data.attrib["value"]) for data in page.iter("data")}
    written = {float(number) for cell in page.iter("td") for number in re.findall(r"-?\d+(?:\.\d+)?", words(cell))}
    settings = {"settings": report.pop("settings"), "images": report.pop("images") or 1}
    assert len(set(leaves(report))) > 10 and set(leaves(report)) <= shown
    assert set(leaves(settings)) <= shown | written  # some are lists


def test_numbers_are_rounded_as_the_glossary_says(page: Element) -> None:
    labels = {term.label: term for term in NUMBERS.values()}
    checked = 0
    for table in page.iter("table"):
        heads = [words(head) for head in table.findall("thead/tr/th")]
        for row in table.findall("tbody/tr"):
            for head, cell in zip(heads, list(row), strict=False):
                data = cell.find("data")
                if head in labels and data is not None:
                    digits = labels[head].digits
                    assert re.fullmatch(rf"-?\d+\.\d{{{digits}}}", words(data)) and not re.fullmatch(
                        r"-[0.]+", words(data)
                    )
                    assert float(words(data)) == pytest.approx(float(data.attrib["value"]), abs=0.51 * 10**-digits)
                    checked += 1
    assert checked > 10


def test_every_number_leads_to_its_meaning(page: Element) -> None:
    meanings = {term.attrib["id"] for term in page.iter("dt") if "id" in term.attrib}
    links = {link.attrib["href"].removeprefix("#") for head in page.iter("thead") for link in head.iter("a")}
    assert links == meanings and links <= NUMBERS.keys() and {"flow_score", "warping_error"} <= links


def test_clips_play(page: Element, folder: Path, tmp_path: Path) -> None:
    videos = list(page.iter("video"))
    assert len(videos) == len(list((folder / "clips").rglob("*.mp4")))
    for number, video in enumerate(videos):
        assert set(video.keys()) >= {"autoplay", "loop", "muted", "playsinline", "aria-label"}
        file = tmp_path / f"{number}.mp4"
        file.write_bytes(content(video.attrib["src"]))
        assert read_clip(file).frames.shape == (4, 128, 128, 3)


def test_images_say_what_they_show(page: Element) -> None:
    images = list(page.iter("img"))
    assert images and all(len(image.attrib["alt"]) > 15 for image in images)
    for image in images:
        data = content(image.attrib["src"])
        if image.attrib["src"].startswith("data:image/webp"):
            assert Image.open(io.BytesIO(data)).width > 400
        else:
            drawing = ElementTree.fromstring(data)
            assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
            assert b"currentColor" in data and b"prefers-color-scheme" in data
            outside = [value for part in drawing.iter() for name, value in part.items() if name.endswith("href")]
            assert all(address.startswith(("#", "data:")) for address in outside)


def test_the_report_lies_in_it_as_a_file(page: Element, report: dict[str, Any]) -> None:
    (link,) = [link for link in page.iter("a") if "download" in link.attrib]
    assert json.loads(content(link.attrib["href"])) == report


def test_settings_and_versions(page: Element, report: dict[str, Any]) -> None:
    rows = {words(row[0]): [words(cell) for cell in row[1:]] for row in page.iter("tr")}
    assert all(rows[package] == [version] for package, version in report["made_with"].items())
    assert {"firstframe", "torch", "OpenCV"} <= report["made_with"].keys()
    assert report["settings"].keys() <= SETTINGS.keys()
    told = {cells[-1] for cells in rows.values()}
    assert all(SETTINGS[name] in told for name in report["settings"])


def test_dual_guidance_is_told(tiny_folder: Path) -> None:
    rows = {words(row[0]): words(row[1]) for row in opened(tiny_folder / "report.html").iter("tr")}
    assert (rows["guidance.image scale"], rows["guidance.text scale"]) == ("1.5", "2.5")
    assert rows["hold first frame"] == "yes"


def test_small_enough_to_send(tmp_path: Path, tiny_folder: Path) -> None:
    """Clips of the real length: four scenes, all methods. Noise is the worst that a clip can hold."""
    noise = torch.Generator().manual_seed(0)
    soft = torch.nn.functional.interpolate(torch.rand(16, 3, 32, 32, generator=noise), (128, 128), mode="bicubic")
    clip = soft.clamp(0, 1).movedim(1, -1)
    shown = write_clips(tmp_path, "methods", {f"scene {n}": dict.fromkeys("abcdef", clip) for n in range(4)})
    results = json.loads((tiny_folder / "report.json").read_text())
    results["methods"]["shown"] = shown
    write_pages(tmp_path, catalogue.comparison(retention=True), results)
    assert (tmp_path / "report.html").stat().st_size < 5 * MEBIBYTE
    assert (tiny_folder / "report.html").stat().st_size < MEBIBYTE


def test_words_are_no_markup(tmp_path: Path) -> None:
    row = {"method": "<script>alert(1)</script>", "ssim": -0.00001}
    experiment = Experiment("x", "<i>title", "a & <b>", lambda _: [], [Case(row)], (), lambda _: [])
    results = {"scenes": 1, "images": 0, "seed": 0, "settings": {}, "made_with": {}}
    results |= {"x": {"clips": 1, "rows": [row], "shown": {}}}
    write_pages(tmp_path, Report("r", "a & <b>", "", [experiment]), results)
    page = opened(tmp_path / "report.html")
    assert page.find("head/title").text == "a & <b>"
    assert words(next(page.iter("p"))) == "" and words(page.findall(".//section/p")[0]) == "a & <b>"
    row_shown = page.findall(".//tbody/tr[td]")[0]
    assert words(row_shown) == "<script>alert(1)</script>0.000" and len(list(page.iter("script"))) == 1
