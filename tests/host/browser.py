"""ComfyUI's editor in a headless Chromium, used as a person uses it: with the mouse, and looking at what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import RUN_SECONDS, START, Server
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from run import find_browser

SECONDS = 1000
PATIENCE = 60 * SECONDS
PACK = "ComfyUI-FirstFrame"
SIZE = {"width": 1600, "height": 1000}
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Locale": "en",
    "Comfy.VueNodes.Enabled": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.Minimap.Visible": False,
}

IS_READY = (
    "() => window.app?.vueAppReady && app.canvas?.graph?.nodes.length && !document.querySelector('#splash-loader')"
)
WATCH_RUNS = """() => ["execution_success", "execution_error", "execution_interrupted"].forEach(
    (kind) => app.api.addEventListener(kind, () => (window.ended = kind)))"""
DRAWN = """async () => {
  for (let frame = 0; frame < 3; frame++) {
    app.canvas.setDirty(true, true);
    await new Promise(requestAnimationFrame);
  }
}"""
PROBLEMS = """() => {
  const graph = app.graph, types = LiteGraph.registered_node_types, problems = [];
  for (const node of graph.nodes) {
    if (!(node.type in types) && !node.isVirtualNode) problems.push(`missing node: ${node.type}`);
    for (const [slot, input] of (node.inputs ?? []).entries()) {
      if (input.link == null) continue;
      const link = graph.getLink(input.link), source = graph.getNodeById(link.origin_id);
      const given = source?.outputs[link.origin_slot]?.type;
      if (link.target_id != node.id || link.target_slot != slot || !LiteGraph.isValidConnection(given, input.type))
        problems.push(`bad link: ${given} to ${node.type}.${input.name}`);
    }
  }
  return problems;
}"""
OVERLAPS = """() => {
  const boxes = app.graph.nodes.map((node) => [`${node.id} ${node.type}`, ...node.boundingRect]);
  return boxes.flatMap(([one, x, y, width, height], i) => boxes.slice(i + 1)
    .filter(([, X, Y, W, H]) => x < X + W && X < x + width && y < Y + H && Y < y + height)
    .map(([other]) => `${one} and ${other}`));
}"""
PLACE = """([type, widget, x]) => {
  const node = app.graph.nodes.find((node) => node.type === type);
  const found = node.widgets?.find(({ name }) => name === widget);
  const [left, top] = [node.pos[0] + x, node.pos[1] + (found ? found.y + 10 : -15)];
  const { scale, offset } = app.canvas.ds, canvas = app.canvas.canvas.getBoundingClientRect();
  return [(left + offset[0]) * scale + canvas.left, (top + offset[1]) * scale + canvas.top];
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """This machine's own browser, without a window. None is downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Editor:
    """One page with the editor. ``errors`` are the exceptions that went through our scripts and that none caught."""

    page: Page
    server: Server
    images: Path
    errors: list[str]

    def image(self, name: str) -> None:
        """Keep what is to be seen as a PNG."""
        self.page.evaluate(DRAWN)
        self.page.screenshot(path=self.images / f"{name}.png")

    def open(self, graph: dict[str, Any]) -> None:
        """A workflow as the editor saves it. Older editors list missing models in a dialog, which is closed before."""
        while self.page.locator(".p-dialog-mask").count():
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(SECONDS / 2)
        self.page.evaluate("async (graph) => { await app.loadGraphData(graph); }", graph)
        self.page.evaluate(DRAWN)

    def templates(self) -> Locator:
        """Open the template browser at the pack's own page; the cards on it."""
        self.page.get_by_text("Templates", exact=True).first.click()
        self.page.get_by_text(PACK, exact=True).first.click()
        cards = self.page.locator("[data-testid^=template-workflow-]")
        cards.filter(has_text=START).wait_for()
        count = 0
        while count < cards.count():  # older editors add cards where the list ends
            count = cards.count()
            cards.last.scroll_into_view_if_needed()
            self.page.wait_for_timeout(SECONDS)
        return cards

    def open_template(self, name: str) -> None:
        """Choose one of the pack's templates."""
        self.templates()
        self.page.get_by_test_id(f"template-workflow-{name}").click()
        self.page.wait_for_function("() => app.graph.nodes.some(({ type }) => type.startsWith('FirstFrame'))")
        self.page.get_by_role("dialog").wait_for(state="hidden")
        self.page.evaluate(DRAWN)

    def add_from_library(self, name: str) -> None:
        """Find a node or a blueprint in the sidebar, and put it in the middle of the canvas."""
        self.page.get_by_text("Nodes", exact=True).first.click()
        self.page.get_by_placeholder("Search").first.fill(name)
        self.page.get_by_text(name).first.click()
        self.page.mouse.move(900, 400)  # newer editors hang it at the mouse until the next click
        self.page.evaluate(DRAWN)
        self.page.mouse.click(900, 400)
        self.page.wait_for_function("(name) => app.graph.nodes.some(({ title }) => title === name)", arg=name)
        self.page.evaluate(DRAWN)

    def problems(self) -> list[str]:
        """Missing nodes and links that go nowhere or join what does not fit."""
        return self.page.evaluate(PROBLEMS)

    def alerts(self) -> list[str]:
        """What the editor itself found to say, in a corner."""
        return self.page.locator(".p-toast-message").all_inner_texts()

    def overlaps(self) -> list[str]:
        """Pairs of nodes of which one covers a part of the other."""
        return self.page.evaluate(OVERLAPS)

    def graph(self) -> dict[str, Any]:
        """The workflow as it would be saved."""
        return self.page.evaluate("() => app.graph.serialize()")

    def queued(self) -> dict[str, Any]:
        """The workflow as it would be queued."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def values(self, type: str) -> dict[str, Any]:
        """What the widgets of the first node of a type show, by name."""
        script = "(type) => app.graph.nodes.find((node) => node.type === type).widgets.map((w) => [w.name, w.value])"
        return dict(self.page.evaluate(script, type))

    def click(self, type: str, widget: str = "", x: float = 60) -> None:
        """On a widget of the first node of a type, else on its title; ``x`` from the node's left, in its own units."""
        self.hover(type, widget, x)
        self.page.mouse.down()
        self.page.evaluate(DRAWN)
        self.page.mouse.up()
        self.page.evaluate(DRAWN)

    def hover(self, type: str, widget: str, x: float = 100) -> None:
        """Rest the mouse where ``click`` clicks."""
        left, top = self.page.evaluate(PLACE, [type, widget, x])
        self.page.mouse.move(left, top - 2)
        self.page.evaluate(DRAWN)
        self.page.mouse.move(left, top)

    def choose(self, type: str, widget: str, option: str) -> None:
        """One of the options of a widget."""
        self.click(type, widget, x=100)
        self.page.locator(".litemenu-entry", has_text=option).click()

    def errors_shown(self) -> Locator:
        """What the editor says of a graph that the server refused: a dialog, or the newer one's list of errors."""
        overlay, dialog = self.page.get_by_test_id("error-overlay-see-errors"), self.page.get_by_role("dialog")
        overlay.or_(dialog).first.wait_for()
        if not overlay.count():
            return dialog
        overlay.click()
        return self.page.locator("body")

    def fit(self) -> None:
        """Bring all nodes into view."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(SECONDS)  # it glides there

    def press_run(self) -> None:
        """The button."""
        self.page.evaluate("() => (window.ended = null)")
        self.page.get_by_test_id("queue-button").get_by_role("button").or_(
            self.page.locator("button[data-testid=queue-button]")
        ).first.click()

    def ended(self) -> str | None:
        """How the run ended: "execution_success", "execution_error", "execution_interrupted"; None while it goes on."""
        return self.page.evaluate("() => window.ended")

    def run(self) -> str:
        """Press Run and wait for the end."""
        self.press_run()
        return self.page.wait_for_function("() => window.ended", timeout=RUN_SECONDS * SECONDS).json_value()

    def drop(self, file: Path) -> None:
        """A file from the desktop onto the canvas."""
        session = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for step in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": step, "x": 800, "y": 850, "data": data})


@contextmanager
def editor(browser: Browser, server: Server, images: Path, scale: int = 1, **settings: Any) -> Iterator[Editor]:
    """A new page with the editor; ``settings`` are the user's, by their names; ``scale`` is the screen's."""
    server.post("settings", {**SETTINGS, **settings})
    images.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport=SIZE, device_scale_factor=scale)
    context.set_default_timeout(PATIENCE)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(error.stack) if PACK in error.stack else None)
    page.goto(f"http://{server.address}/")
    page.wait_for_function(IS_READY)
    page.evaluate(WATCH_RUNS)
    yield Editor(page, server, images, errors)
    context.close()
