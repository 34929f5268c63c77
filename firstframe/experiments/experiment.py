"""What an experiment is: what is sampled, which numbers compare it, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..bindings.diffusers import SamplingSettings
from ..clips.metrics.plot import Panel
from ..tiny.scenes.target import Look, Target

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """How many scenes and images are measured, the seed that chooses them, and how clips are sampled."""

    scenes: int
    seed: int
    settings: SamplingSettings
    images: int = 0


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        row: the first cells of the row, by column.
        method: which of METHODS makes the clips.
        changes: settings that differ from those of the run.
        numbers: the numbers of the row; None takes those of the experiment, and without any there is no row.
        shown: whether the report shows clips.
    """

    row: Row
    method: str = "adapter"
    changes: Mapping[str, Any] = field(default_factory=dict)
    numbers: Sequence[str] | None = None
    shown: bool = False


class Clip(NamedTuple):
    """A clip to make and measure; ``shown`` asks for its frames, too."""

    case: Case
    target: Target
    settings: SamplingSettings
    shown: bool = False


def caption_and_cells(target: Target, case: Case) -> tuple[str, str]:
    """Clips are grouped by target, each under the first cells of its row."""
    return target.scene.caption, ", ".join(v if isinstance(v, str) else f"{k} {v:g}" for k, v in case.row.items())


@dataclass(frozen=True)
class Experiment:
    """A table, plots and clips about one question.

    Attributes:
        name: of its files and in the JSON file.
        targets: what is sampled for every case.
        panels: the plots of the table's rows.
        shown: of how many targets the report shows clips.
        clip_name: the heading and the name under which a clip is shown.
        least_steps: fewer steps are raised to this number.
        look: which base is measured.
    """

    name: str
    title: str
    text: str
    targets: Callable[[Setup], Sequence[Target]]
    cases: Sequence[Case]
    numbers: Sequence[str]
    panels: Callable[[Sequence[Row]], list[Panel]]
    shown: int = 0
    clip_name: Callable[[Target, Case], tuple[str, str]] = caption_and_cells
    least_steps: int = 1
    look: Look = "plain"

    def clips(self, setup: Setup) -> list[Clip]:
        """The clips of all cases, target by target."""
        settings = replace(setup.settings, steps=max(setup.settings.steps, self.least_steps))
        return [
            Clip(case, target, replace(settings, **case.changes), case.shown and index < self.shown)
            for index, target in enumerate(self.targets(setup))
            for case in self.cases
        ]


@dataclass(frozen=True)
class Report:
    """A page about experiments; ``name`` is that of its JSON and Markdown files.

    Names in braces in ``lead``, the first words of the page, are fields of `Setup`.
    """

    name: str
    title: str
    lead: str
    experiments: Sequence[Experiment]
