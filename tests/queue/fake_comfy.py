"""A small server that speaks ComfyUI's protocol over real sockets, and can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from hostile import Lie

CONTENT = b"a film" * 50_000


class FakeComfy:
    """Works off its queue, one graph after another. A graph's outputs are those of its node of class Save.

    ``down``: breaks off every connection. ``statuses``: answers with these first, by route. ``lose_answers``: so many
    answers to /prompt are lost after the graph was queued. ``deaf``: forgets what it is sent. ``breaks``: so many
    downloads break off half-way. ``closes_sockets``: websockets end at once. ``node_errors``: of every graph;
    ``refuses``: with these, all of it. ``lies``: what is sent instead of the true answer, by route.
    ``chatter``: what the
    websocket says first.
    """

    def __init__(self) -> None:
        self.url = ""
        self.down = self.deaf = self.closes_sockets = self.refuses = self.paused = False
        self.statuses: dict[str, list[int]] = {}
        self.lose_answers = self.breaks = 0
        self.node_errors: dict[str, Any] = {}
        self.lies: dict[str, Lie] = {}
        self.chatter: list[str | bytes] = []
        self.missing_files = False
        self.inputs: dict[str, bytes] = {}
        self.pending: list[list[Any]] = []
        self.running: list[list[Any]] = []
        self.history: dict[str, Any] = {}
        self.requests: Counter[str] = Counter()
        self.posted: list[dict[str, Any]] = []
        self.interrupts: list[Any] = []
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._interrupted = False

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self.misbehave], client_max_size=1 << 30)
        application.add_routes(
            [
                web.get("/ws", self.socket),
                web.get("/queue", self.get_queue),
                web.post("/queue", self.post_queue),
                web.get("/history/{id}", self.get_history),
                web.post("/prompt", self.post_prompt),
                web.post("/interrupt", self.post_interrupt),
                web.post("/upload/image", self.upload),
                web.get("/view", self.view),
            ]
        )
        return application

    @web.middleware
    async def misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        route = f"/{request.path.split('/')[1]}"
        self.requests[route] += 1
        if self.down:
            request.transport.abort()
            raise web.HTTPServiceUnavailable
        if self.statuses.get(route):
            return web.Response(status=self.statuses[route].pop(0), text="out of order")
        if route not in self.lies:
            return await handler(request)
        answers_itself = route in ("/ws", "/view")
        return await self.lies[route](request, web.Response() if answers_itself else await handler(request))

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[request.query["clientId"]] = socket
        for message in self.chatter:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        if not self.closes_sockets:
            async for _ in socket:
                pass
        return socket

    async def get_queue(self, _: web.Request) -> web.Response:
        return web.json_response({"queue_running": self.running, "queue_pending": self.pending})

    async def post_queue(self, request: web.Request) -> web.Response:
        delete = (await request.json())["delete"]
        self.pending = [item for item in self.pending if item[1] not in delete]
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        return web.json_response({id: self.history[id]} if id in self.history else {})

    async def post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.posted.append(body)
        if self.refuses:
            error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed", "details": ""}
            return web.json_response({"error": error, "node_errors": self.node_errors}, status=400)
        if not self.deaf:
            self.queue(body)
        if self.lose_answers:
            self.lose_answers -= 1
            request.transport.abort()
        return web.json_response({"prompt_id": body["prompt_id"], "node_errors": self.node_errors})

    def queue(self, body: dict[str, Any]) -> None:
        extra = {**body.get("extra_data", {}), "client_id": body.get("client_id")}
        self.pending.append([len(self.posted), body["prompt_id"], body["prompt"], extra, []])

    async def post_interrupt(self, request: web.Request) -> web.Response:
        self.interrupts.append(await request.json())
        self._interrupted = True
        return web.Response()

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        image: Any = form["image"]
        self.inputs[image.filename] = image.file.read()
        return web.json_response({"name": image.filename, "subfolder": "", "type": form["type"]})

    async def view(self, request: web.Request) -> web.StreamResponse:
        if self.missing_files:
            return web.Response(status=404)
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        if self.breaks:
            self.breaks -= 1
            await response.write(CONTENT[: len(CONTENT) // 2])
            request.transport.close()
            return response
        await response.write(CONTENT)
        return response

    async def work(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            if self.pending and not self.paused:
                self.running = [self.pending.pop(0)]
                await self._run(*self.running[0])
                self.running = []

    async def _run(self, _: int, id: str, graph: dict[str, Any], extra: dict[str, Any], __: Any) -> None:
        await self.tell(extra, "progress", {"prompt_id": id, "node": "2", "value": 1, "max": 2})
        self._interrupted = False
        seconds = graph["1"]["inputs"].get("seconds", 0.02)
        for _ in range(round(seconds / 0.01)):
            if self._interrupted:
                break
            await asyncio.sleep(0.01)
        if id not in (item[1] for item in self.running):  # restarted
            return
        messages: list[Any] = [["execution_start", {"timestamp": 1000}]]
        if self._interrupted:
            messages.append(["execution_interrupted", {}])
        elif graph["1"]["inputs"].get("fault"):
            error = {"node_id": "1", "node_type": "Make", "exception_type": "ValueError", "exception_message": "no\n"}
            messages.append(["execution_error", error])
        else:
            messages.append(["execution_success", {"timestamp": 3500}])
        files = [{"filename": f"{id}.mp4", "subfolder": "", "type": "output"}] if len(messages) == 2 else []
        self.history[id] = {"prompt": [0, id, graph, extra], "outputs": {"2": {"images": files}}}
        self.history[id]["status"] = {"messages": messages}
        await self.tell(extra, "executing", {"prompt_id": id, "node": None})

    async def tell(self, extra: dict[str, Any], kind: str, data: dict[str, Any]) -> None:
        socket = self._sockets.get(extra.get("client_id"))
        if socket and not socket.closed:
            await socket.send_json({"type": kind, "data": data})

    def restart(self) -> None:
        """Forget everything, as ComfyUI does."""
        self.pending, self.running, self.history = [], [], {}

    def runs(self) -> Counter[str]:
        """How often each job ran to a good end."""
        good = [entry for entry in self.history.values() if entry["outputs"]["2"]["images"]]
        return Counter(entry["prompt"][3]["firstframe_queue"]["job"] for entry in good)


@asynccontextmanager
async def serving(*fakes: FakeComfy) -> AsyncIterator[None]:
    """The servers, each at a port of its own."""
    runners, workers = [], []
    for fake in fakes:
        runner = web.AppRunner(fake.application(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
        workers.append(asyncio.create_task(fake.work()))
    try:
        yield
    finally:
        for worker in workers:
            worker.cancel()
        for runner in runners:
            await runner.cleanup()
