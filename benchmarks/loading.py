"""What loading weights costs: seconds and peak memory, as ratios to ComfyUI's own reading of the same file.

    python benchmarks/loading.py --motion mm_sd_v15.ckpt --adapter i2v_module.pth --repeats 5 --out benchmarks/results

Published files, or synthetic ones of the same bytes from tests/synthetic.py. Needs ComfyUI, which is found as
tests/host/run.py finds it (COMFYUI_PATH, the first of several). Every load has a process of its own, the two ways take
turns, and the file is read through before each, so that it comes from memory where there is room for it. The smallest
numbers count, because whatever else the machine does only ever adds; processor seconds leave most of that out. Peak
memory is the highest resident set less what the imported libraries take (Linux only). A loader may map a file and read
nothing, so one number of every page is read afterwards and counts too. Writes loading.json and loading.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
PAGE_BYTES = 4096
CHUNK_BYTES = 2**24

sys.path.insert(0, str(ROOT / "tests" / "host"))
from run import find_hosts, find_python, overlay  # noqa: E402


def loader(way: str) -> Callable[[Path], Mapping[str, Tensor]]:
    """Imports the host in this process. What it returns reads a file as ``way`` does; the tensors by name."""
    arguments, sys.argv = sys.argv, ["main.py", *([] if torch.cuda.is_available() else ["--cpu"])]
    sys.path[:] = [str(Path.cwd()), *sys.path, str(ROOT)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils

    sys.argv = arguments
    from firstframe.bindings.comfy.weights import load_in_host
    from firstframe.weights import I2V_ADAPTER, MOTION_MODULE

    if way == "host":
        return lambda path: comfy.utils.load_torch_file(str(path), safe_load=True)
    kind = {"motion": MOTION_MODULE, "adapter": I2V_ADAPTER}[way]
    return lambda path: load_in_host(kind, path).model.state_dict()


def load_once(way: str, path: Path) -> dict[str, float]:
    """Seconds and bytes of one load; of no use in a process that did something else before."""
    load = loader(way)
    imported = resident_bytes()
    wall, processor = time.perf_counter(), time.process_time()
    for tensor in load(path).values():
        tensor.flatten()[:: PAGE_BYTES // tensor.itemsize].sum()
    return {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "peak_bytes": resident_bytes() - imported,
    }


def resident_bytes() -> int:
    """The highest resident set so far, as Linux tells it (getrusage would count the parent's, too)."""
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def load_in_new_process(python: Path, host: Path, way: str, path: Path) -> dict[str, float]:
    read_through(path)
    command = [python, __file__, "--load", way, path]
    output = subprocess.run(command, cwd=host, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def read_through(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(CHUNK_BYTES):
            pass


def measure(kind: str, path: Path, host: Path, repeats: int) -> dict[str, Any]:
    """The smallest numbers of both ways and the ratios of ours to the host's."""
    python = overlay(find_python(host))
    rounds = [{way: load_in_new_process(python, host, way, path) for way in ("host", kind)} for _ in range(repeats)]
    best = {way: {name: min(taken[way][name] for taken in rounds) for name in rounds[0][way]} for way in ("host", kind)}
    ratios = {name: round(best[kind][name] / best["host"][name], 3) for name in best["host"]}
    return {"bytes": path.stat().st_size, "host": best["host"], "ours": best[kind], "ratios": ratios}


def as_table(files: dict[str, Any]) -> str:
    lines = [
        "| file | | seconds | time | processor seconds | time | peak memory (MiB) | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in files.items():
        for way, title in (("host", "ComfyUI's reading"), ("ours", "our loader")):
            row, ratios = result[way], result["ratios"] if way == "ours" else dict.fromkeys(result["ratios"], 1)
            lines.append(
                f"| {name}, {result['bytes'] / 1e6:.0f} MB | {title} | {row['seconds']:.2f} | x{ratios['seconds']:.2f} "
                f"| {row['processor_seconds']:.2f} | x{ratios['processor_seconds']:.2f} "
                f"| {row['peak_bytes'] / 2**20:.0f} | x{ratios['peak_bytes']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motion", action="append", type=Path, default=[], help="a motion module; may be given twice")
    parser.add_argument("--adapter", action="append", type=Path, default=[], help="an I2V adapter; may be given twice")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.load:
        way, path = options.load
        print("\n" + json.dumps(load_once(way, Path(path))))
        return
    hosts = find_hosts()
    if not hosts:
        raise SystemExit("no ComfyUI in COMFYUI_PATH or ~/comfy/ComfyUI")
    files = {
        path.name: measure(kind, path.resolve(), hosts[0], options.repeats)
        for kind in ("motion", "adapter")
        for path in getattr(options, kind)
    }
    options.out.mkdir(parents=True, exist_ok=True)
    report = {"repeats": options.repeats, "machine": platform.machine(), "files": files}
    (options.out / "loading.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    (options.out / "loading.md").write_text(as_table(files), "utf-8")
    print(as_table(files))


if __name__ == "__main__":
    main()
