"""Run the tests that are marked with a feature in every ComfyUI that COMFYUI_PATH names, and write the results.

    COMFYUI_PATH=A:B:C python tests/host/compatibility.py

Writes docs/compatibility.md between its two marks; what did not run this time stays. A cell is "yes" where every test
of its row passed, else the reason of the first that did not. Options go to pytest.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from run import ROOT, find_hosts, run

PAGE = ROOT / "docs" / "compatibility.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")
Table = dict[str, dict[str, str]]


def version(host: Path) -> str:
    """Of a ComfyUI."""
    match = re.search(r'__version__ = "(.+)"', (host / "comfyui_version.py").read_text("utf-8"))
    return match[1] if match else host.name


def results(report: Path) -> Iterator[tuple[str, str]]:
    """(feature, "yes" or the reason why not) of every test in a report of JUnit's form."""
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = next(
            (case.find(kind) for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None
        )
        verdict = "yes" if outcome is None else f"no: {_first_line(outcome.get('message', ''))}"
        for told in case.iter("property"):
            if told.get("name") == "feature":
                yield str(told.get("value")), verdict


def measured(hosts: list[Path], options: list[str]) -> Table:
    """Verdicts by feature and version."""
    table: Table = defaultdict(dict)
    for host in hosts:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            run(host, ["-q", "-m", "feature", f"--junitxml={report}", "-o", "junit_family=xunit1", *options])
            for feature, verdict in results(report):
                before = table[feature].get(version(host), "yes")
                table[feature][version(host)] = verdict if before == "yes" else before
    return table


def written(text: str) -> Table:
    """The table that a page has; none is empty."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n") if line]
    heads, rows = lines[:1], lines[2:]
    return {feature: dict(zip(heads[0][1:], cells, strict=True)) for feature, *cells in rows}


def as_markdown(table: Table) -> str:
    """One row for each feature, one column for each version."""
    versions = sorted({version for cells in table.values() for version in cells}, key=_numbers)
    lines = [["", *versions], ["---"] * (1 + len(versions))]
    lines += [[feature, *(cells.get(one, "not run") for one in versions)] for feature, cells in table.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Run, and write the page."""
    found = measured(find_hosts(), sys.argv[1:])
    before, rest = PAGE.read_text("utf-8").split(MARKS[0])
    old, behind = rest.split(MARKS[1])
    table = written(old)
    for feature, cells in found.items():
        table.setdefault(feature, {}).update(cells)
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{as_markdown(table)}\n{MARKS[1]}{behind}", "utf-8")


def _first_line(text: str) -> str:
    return text.splitlines()[0].replace("|", "/") if text else "no reason was given"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


if __name__ == "__main__":
    main()
