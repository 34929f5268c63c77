"""The project's pages: links and images that are there, a list of nodes that is complete, code that runs."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from firstframe.clips.video import read_clip, write_clip
from firstframe.experiments.evaluation.pairs import find_pairs
from firstframe.modules.backend import scaled_dot_product_attention
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.queue.batch.jobs import read_jobs
from firstframe.tiny.model import TinyModel
from firstframe.weights import I2V_ADAPTER, load, save_state_dict
from firstframe.weights.keymaps import ANIMATEDIFF, OFFICIAL_ADAPTER, to_theirs

sys.path.insert(0, str(Path(__file__).parent))
from small_checkpoint import SMALL, ldm_checkpoint, small_networks

ROOT = Path(__file__).parents[1]
OURS = ("*.md", "docs/**/*.md", "firstframe/**/*.md", "web/**/*.md", "workflows/**/*.md", "benchmarks/**/*.md")
PAGES = sorted({page for pattern in (*OURS, ".github/**/*.md") for page in ROOT.glob(pattern)})
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FIGURES = [file for file in sorted((ROOT / "docs" / "images").iterdir()) if file.is_file()]


def script(path: str) -> ModuleType:
    """A file of Python that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nodes = script("docs/nodes.py")


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of every link and image of a page that leads into the project."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in LINK.findall(prose):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = unquote(target).partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        slug = nodes.slug(re.sub(r"[`*]", "", heading))
        same = sum(re.fullmatch(re.escape(slug) + r"(-\d+)?", other) is not None for other in found)
        found.append(f"{slug}-{same}" if same else slug)
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), f"{page}: there is no {file}"
        assert not anchor or anchor in anchors(file), f"{page}: {file} has no heading #{anchor}"


def test_a_dead_link_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` (c)\n## A b c\n[x](#a-b-c) [y](gone.md#z) ![z](https://x.y) `[w]`\n```\n[v](no.md)\n```\n")
    assert list(links(page)) == [(page, "a-b-c"), (tmp_path / "gone.md", "z")]
    assert anchors(page) == {"a-b-c", "a-b-c-1"}


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_is_used(figure: Path) -> None:
    assert any(figure == file for page in PAGES for file, _ in links(page))


def paths(text: str) -> list[str]:
    """What is in backticks and looks like a file or a folder."""
    quoted = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", text)
    return [path for path in quoted if "/" in path or Path(path).suffix in {".py", ".md", ".json", ".j2", ".toml"}]


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_paths_lead_somewhere(page: str) -> None:
    named = paths((ROOT / page).read_text("utf-8"))
    missing = {path for path in named if not any((root / path).exists() for root in (ROOT, ROOT / "firstframe"))}
    assert named and not missing


def test_the_architecture_tells_where_everything_in_the_compatibility_table_is() -> None:
    page, table = ((ROOT / "docs" / name).read_text("utf-8") for name in ("architecture.md", "compatibility.md"))
    rows = re.findall(r"^\| (?!---)(\S.*?) \|", table, re.MULTILINE)
    assert rows and [row for row in rows if re.split(r" \(|, |: ", row)[0] not in page] == []


def test_a_path_is_told_from_other_code() -> None:
    assert paths("`a/b.py` `c/` `d.py` `e.f(g)` `torch.nn` `B C F` a/x") == ["a/b.py", "c/", "d.py"]


def test_the_index_names_every_page() -> None:
    linked = {file for file, _ in links(ROOT / "docs" / "README.md")}
    assert {*(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "README.md"} <= linked


def test_the_page_of_nodes_is_up_to_date() -> None:
    page = nodes.PAGE.read_text("utf-8")
    for id in json.loads(nodes.CONTRACT.read_text("utf-8")):
        assert f"| `{id}` |" in page, id
    assert page == nodes.page(), "python docs/nodes.py"


def test_the_code_for_training_runs(small_model: TinyModel, tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text("utf-8"), re.DOTALL)
    given: dict[str, Any] = {
        "unet": small_model.unet,
        "motion": small_model.motion,
        "num_frames": 3,
        "batches": [(torch.randn(2, 4, 3, 8, 8), torch.randn(2, 5, 16))],
        "file": tmp_path / "adapter.safetensors",
    }
    (tmp_path / "page.py").write_text("\n".join(code), "utf-8")
    runpy.run_path(str(tmp_path / "page.py"), given)
    trained = load(I2V_ADAPTER, given["file"])
    for site in trained:
        assert trained[site].to_out.weight.any(), site


def code_of(page: str, **replaced: str) -> list[str]:
    """The Python code of a page, with some values replaced by smaller ones."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    for old, new in replaced.items():
        blocks = [re.sub(rf"\b{old}\b", new, block) for block in blocks]
    return blocks


def test_the_code_without_comfyui_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    networks = small_networks()
    save_state_dict("v1-5-pruned-emaonly.safetensors", ldm_checkpoint(networks), {})
    motion = MotionModule(MotionConfig(SMALL.block_out_channels, SMALL.layers_per_block, True, 24, SMALL.num_heads))
    torch.save(to_theirs(motion.state_dict(), ANIMATEDIFF), "mm_sd_v15.ckpt")
    adapter = I2VAdapter(SMALL.attention_sites, SMALL.num_heads)
    torch.save(to_theirs(adapter.state_dict(), OFFICIAL_ADAPTER), "i2v_module.pth")
    Image.new("RGB", (90, 60), "red").save("fish.png")
    given: dict[str, Any] = {"models": tmp_path}
    small = {"512": "64", "cuda": "cpu", "steps=25": "steps=2", "16": "4"}
    for block in code_of("standalone.md", **small):
        exec(block, given)
    assert given["clip"].shape == (4, 64, 64, 3)
    assert read_clip(tmp_path / "fish.mp4").frames.shape == (16, 64, 64, 3)


def test_the_code_for_references_and_jobs_runs(tmp_path: Path) -> None:
    for name in ("images", "references"):
        (tmp_path / name).mkdir()
    videos = {tmp_path / "waves.mp4": "waves roll in", tmp_path / "short.mp4": "too short"}
    for video, frames in zip(videos, (8, 2), strict=True):
        write_clip(video, torch.rand(frames, 48, 64, 3))
    (block,) = code_of("evaluate.md")
    exec(block, {"videos": videos, "folder": tmp_path, "FRAMES": 4, "SIDE": 32})
    (job,) = read_jobs(tmp_path / "jobs.jsonl", None, {"width": 32, "height": 32})
    assert job.animation.prompts == ("waves roll in",)
    (pair,) = find_pairs(tmp_path / "references", tmp_path / "images")
    assert pair.frames().shape == (4, 32, 32, 3)
    assert (pair.frames()[0] / 255 - pair.image(32, 32)).abs().mean() < 0.02


def test_the_weights_in_the_figure_are_those_of_the_attention() -> None:
    figures, heads = script("docs/figures.py"), 4
    query, key, value = (torch.randn(2, length, 32) for length in (6, 5, 5))
    each = [figures.attention_weights(q, k, 1) @ v for q, k, v in zip(*map(_heads, (query, key, value)), strict=True)]
    expected = scaled_dot_product_attention(query, key, value, heads)
    torch.testing.assert_close(torch.cat(each, -1), expected)
    mean = torch.stack([figures.attention_weights(q, k, 1) for q, k in zip(_heads(query), _heads(key), strict=True)])
    torch.testing.assert_close(figures.attention_weights(query, key, heads), mean.mean(0))


def _heads(tokens: Tensor, num_heads: int = 4) -> tuple[Tensor, ...]:
    return tokens.chunk(num_heads, -1)


FORMS = [*sorted((ROOT / ".github").glob("**/*.yml")), ROOT / ".pre-commit-config.yaml"]


@pytest.mark.parametrize("file", FORMS, ids=lambda file: str(file.relative_to(ROOT)))
def test_forms_and_workflows_are_yaml(file: Path) -> None:
    assert isinstance(yaml.safe_load(file.read_text("utf-8")), dict)


@pytest.mark.parametrize("file", FORMS, ids=lambda file: str(file.relative_to(ROOT)))
def test_actions_are_pinned(file: Path) -> None:
    for action in re.findall(r"uses: (\S+)", file.read_text("utf-8")):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action


def test_a_release_needs_one_number_everywhere() -> None:
    problems = script(".github/check_release.py").problems
    package = '__version__ = "1.2.3"\n'
    pyproject = '[project.urls]\nRepository = "https://x.y"\n[tool.comfy]\nPublisherId = "someone"  # whose\n'
    changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2030-01-01\n"
    assert problems("v1.2.3", package, pyproject, changelog) == []
    assert len(problems("v1.2.4", package, pyproject, changelog)) == 1
    assert len(problems("v1.2.3", package, pyproject, changelog.replace("1.2.3", "1.2"))) == 1
    assert len(problems("v1.2.3", package, pyproject.replace("someone", ""), changelog)) == 1
    assert len(problems("v1.2.3", package, pyproject.replace("https://x.y", ""), changelog)) == 1


def test_the_version_is_in_one_place() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "firstframe.__version__"}
    assert (ROOT / project["tool"]["comfy"]["version"]["path"]).read_text("utf-8").count("__version__ = ") == 1
