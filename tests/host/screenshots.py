"""Images of graphs as ComfyUI's editor shows them, in the first ComfyUI that COMFYUI_PATH names. Needs Chromium.

    python tests/host/screenshots.py

Writes docs/images/graph.png (the first template after a run) and, for the template browser, an image of every
workflow: four frames of what it makes, or its graph where it needs published weights. FIRSTFRAME_PACKS names a folder
with other packs, for the workflow with AnimateDiff-Evolved and IPAdapter_plus.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from run import ROOT, find_hosts, find_python, overlay

SUFFIXES = (".safetensors", ".pth", ".ckpt")
FOLDERS = ("animatediff_models", "checkpoints", "clip_vision", "controlnet", "diffusion_models", "firstframe")
FOLDERS += ("ipadapter", "loras", "text_encoders", "vae")
PACKS = ("ComfyUI-AnimateDiff-Evolved", "ComfyUI_IPAdapter_plus")
MARGIN = 12
BOX = """() => {
  const { scale, offset } = app.canvas.ds, boxes = app.graph.nodes.map((node) => [...node.boundingRect]);
  const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])));
  return [(left + offset[0]) * scale, (top + offset[1]) * scale, (right - left) * scale, (bottom - top) * scale];
}"""


def name_files(base: Path, graphs: list[dict[str, Any]]) -> None:
    """Empty files with the names that graphs ask for: else the editor marks them as missing."""
    values = [value for graph in graphs for node in graph["nodes"] for value in node.get("widgets_values") or ()]
    for folder in FOLDERS:
        (base / "models" / folder).mkdir(parents=True)
        for value in values:
            if isinstance(value, str) and value.endswith(SUFFIXES):
                (base / "models" / folder / value).touch()
    (base / "input").mkdir()
    shutil.copy(ROOT / "firstframe" / "tiny" / "example.png", base / "input")


def taken(editor: Any) -> Any:
    """An image of all nodes."""
    from PIL import Image

    editor.fit()
    left, top, width, height = editor.page.evaluate(BOX)
    clip = {"x": left - MARGIN, "y": top - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    return Image.open(BytesIO(editor.page.screenshot(clip=clip))).convert("RGB")


def main(host: Path) -> None:
    """Runs in the overlay's Python."""
    from browser import chromium, editor
    from harness import START, TITLES, running_server, template

    packs = Path(os.environ["FIRSTFRAME_PACKS"]) if "FIRSTFRAME_PACKS" in os.environ else None
    made = {title: name for name, title in TITLES.items() if "FirstFrameLoadTinyModel" in json.dumps(template(title))}
    names = [title for title in TITLES.values() if title not in made and (packs or "Evolved" not in title)]
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        base = Path(folder) / "base"
        name_files(base, [template(name) for name in names])
        more = [packs / name for name in PACKS] if packs else []
        with running_server(host, base, more) as server, editor(browser, server, base, scale=2) as shown:
            shown.page.evaluate("() => app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
            for name in names:
                shown.open(template(name))
                if covered := shown.overlaps():
                    print(f"{name}: {covered} lie on each other")
                image = taken(shown)
                image.thumbnail((512, 512))
                image.save(of_template(name), quality=85)
            image_of_run(shown).save(ROOT / "docs" / "images" / "graph.png", optimize=True)
            for title, name in made.items():
                graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
                four_frames(server.output_files(server.run(graph))[0]).save(of_template(title), quality=90)
            (started,) = (base / "output" / "video").glob("FirstFrame_00001*.mp4")
            four_frames(started).save(of_template(START), quality=90)


def of_template(title: str) -> Path:
    """Where the template browser looks for a workflow's image."""
    return ROOT / "workflows" / f"{title}.jpg"


def four_frames(clip: Path) -> Any:
    """The first frame of a clip, the last one, and two between them, as a square of 512 pixels."""
    import imageio_ffmpeg
    from PIL import Image

    reader = imageio_ffmpeg.read_frames(str(clip))
    width, height = next(reader)["size"]
    frames = [Image.frombytes("RGB", (width, height), frame) for frame in reader]
    square = Image.new("RGB", (512, 512))
    for place in range(4):
        frame = frames[place * (len(frames) - 1) // 3].resize((254, 254), Image.Resampling.LANCZOS)
        square.paste(frame, (258 * (place % 2), 258 * (place // 2)))
    return square


def image_of_run(editor: Any) -> Any:
    """The first template with its video, in 256 colours."""
    from harness import START, template
    from PIL.Image import Dither, Quantize

    editor.open(template(START))
    editor.page.evaluate("() => app.queuePrompt(0)")
    editor.page.wait_for_function("() => window.ended", timeout=0)
    editor.page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    editor.page.locator("video").evaluate("(video) => (video.currentTime = 1)")
    return taken(editor).quantize(256, Quantize.FASTOCTREE, dither=Dither.NONE)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        (host, *_) = find_hosts()
        subprocess.run([overlay(find_python(host)), __file__, host], cwd=host, check=True)
