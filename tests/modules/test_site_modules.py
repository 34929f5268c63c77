from __future__ import annotations

import pytest
from torch import nn

from firstframe.modules.site_modules import SiteModules
from firstframe.sites import Site

WIDTHS = {Site("down", 1, 0): 3, Site("mid", 0, 0): 4}


def test_one_leaf_for_each_site() -> None:
    modules = SiteModules(WIDTHS, lambda _, width: nn.Linear(width, 2, bias=False))
    assert list(modules) == list(WIDTHS) and modules.widths == WIDTHS
    assert {site: modules[site].in_features for site in modules} == WIDTHS
    assert Site("down", 1, 0) in modules and Site("down", 0, 0) not in modules
    assert list(modules.state_dict()) == ["sites.down_1_0.weight", "sites.mid_0_0.weight"]


def test_a_site_that_it_lacks() -> None:
    with pytest.raises(KeyError):
        SiteModules(WIDTHS, lambda _, width: nn.Linear(width, 2))[Site("up", 0, 0)]
