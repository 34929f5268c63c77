"""One layer for each site of the UNet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar, cast

from torch import nn

from ..sites import Site

Leaf = TypeVar("Leaf", bound=nn.Module)


class SiteModules(nn.Module, Generic[Leaf]):
    """A module that owns one leaf per site, found by ``modules[site]``.

    Keys of the state dict are ``sites.down_0_0.`` and so on, followed by the leaf's own names.

    Attributes:
        widths: channels at each site, in the order in which data flows through the UNet.
    """

    def __init__(self, widths: Mapping[Site, int], leaf: Callable[[Site, int], Leaf]) -> None:
        """Build ``leaf(site, width)`` for each site."""
        super().__init__()
        self.widths = dict(widths)
        self.sites = nn.ModuleDict({site.key: leaf(site, width) for site, width in widths.items()})

    def __getitem__(self, site: Site) -> Leaf:
        return cast(Leaf, self.sites[site.key])

    def __contains__(self, site: object) -> bool:
        return site in self.widths

    def __iter__(self) -> Iterator[Site]:
        return iter(self.widths)


def heads_by_site(sites: Iterable[Site], num_heads: int | Mapping[Site, int]) -> dict[Site, int]:
    """Numbers of attention heads, of every site or by site, by site."""
    return dict.fromkeys(sites, num_heads) if isinstance(num_heads, int) else {site: num_heads[site] for site in sites}
