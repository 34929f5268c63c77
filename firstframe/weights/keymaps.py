"""Names of tensors in published files and in our modules, as two-way tables.

In a table ``{site}`` stands for a place in the UNet and ``{}`` for a number, ``weight`` or ``bias``. Left
is the name in the file, right the name in our state dict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..errors import WeightsError
from ..sites import SD15, SDXL, SITE_KEY, DiffusersKind, Site, UNetConfig

_NUMBER = r"(?:0|[1-9][0-9]?)"
_DIFFUSERS_BLOCK = rf"(?:down_blocks\.{_NUMBER}|mid_block|up_blocks\.{_NUMBER})"
_ANY = rf"({_NUMBER}|weight|bias)"


def _pattern(template: str, site: str) -> re.Pattern[str]:
    pattern = re.escape(template).replace(re.escape("{site}"), f"({site})").replace(re.escape("{}"), _ANY)
    return re.compile(pattern)


@dataclass(frozen=True)
class SiteNames:
    """How a file writes places in the UNet: ``pattern`` matches them, ``read`` and ``write`` translate them."""

    pattern: str
    read: Callable[[str], Site]
    write: Callable[[Site], str]


def _site_from_diffusers(path: str) -> Site:
    numbers = re.findall(r"\d+", path.replace("mid_block", "mid_block.0"))
    return Site(path.partition("_")[0], *map(int, numbers))  # type: ignore[arg-type]


def _in_diffusers(kind: DiffusersKind) -> SiteNames:
    return SiteNames(rf"{_DIFFUSERS_BLOCK}\.{kind}\.{_NUMBER}", _site_from_diffusers, lambda site: site.diffusers(kind))


def _in_ip_adapter(config: UNetConfig) -> SiteNames:
    """IP-Adapter counts all attentions of a UNet as diffusers registers them; the odd numbers are those to the text."""
    order = sorted(config.attention_sites, key=lambda site: ("down", "up", "mid").index(site.stage))

    def read(path: str) -> Site:
        number = int(path.split(".")[1])
        if number % 2 == 0 or number // 2 >= len(order):
            raise WeightsError(f"{path} is no attention to the text: the odd numbers to {2 * len(order) - 1} are")
        return order[number // 2]

    return SiteNames(r"ip_adapter\.\d{1,3}", read, lambda site: f"ip_adapter.{2 * order.index(site) + 1}")


IN_MOTION_MODULES = _in_diffusers("motion_modules")
IN_TEMPORAL_ATTENTIONS = _in_diffusers("temporal_attentions")
IN_TRANSFORMERS = SiteNames(
    rf"{_DIFFUSERS_BLOCK}\.attentions\.{_NUMBER}\.transformer_blocks\.{_NUMBER}",
    _site_from_diffusers,
    lambda site: site.diffusers_transformer,
)


class Names(Protocol):
    """A two-way translation of names."""

    def ours(self, name: str) -> str | None:
        """Our name for a file's ``name``; None for one that is dropped on purpose."""

    def theirs(self, name: str) -> str:
        """The file's name for our ``name``."""


class KeyMap:
    """A table between a file's names, whose sites are written as ``sites`` says, and ours.

    Names that ``dropped`` matches are left out on purpose; any other unknown name is an error.
    """

    def __init__(self, sites: SiteNames, table: Mapping[str, str], dropped: str) -> None:
        self.sites = sites
        self.into = [(_pattern(theirs, sites.pattern), ours) for theirs, ours in table.items()]
        self.back = [(_pattern(ours, SITE_KEY), theirs) for theirs, ours in table.items()]
        self.dropped = re.compile(dropped)

    def ours(self, name: str) -> str | None:
        """Our name for a file's ``name``; None for one that is dropped on purpose."""
        for pattern, template in self.into:
            if match := pattern.fullmatch(name):
                path, *rest = match.groups()
                return template.replace("{site}", self.sites.read(path).key).format(*rest)
        if self.dropped.fullmatch(name):
            return None
        raise WeightsError(f"the name {name!r} is unknown")

    def theirs(self, name: str) -> str:
        """The file's name for our ``name``."""
        for pattern, template in self.back:
            if match := pattern.fullmatch(name):
                key, *rest = match.groups()
                return template.replace("{site}", self.sites.write(Site.from_key(key))).format(*rest)
        raise WeightsError(f"the name {name!r} is unknown")


class Prefix:
    """Our own names behind a prefix. Names that ``dropped`` matches are left out on purpose."""

    def __init__(self, prefix: str, dropped: str) -> None:
        self.prefix = prefix
        self.dropped = re.compile(dropped)

    def ours(self, name: str) -> str | None:
        """Our name for a file's ``name``; None for one that is dropped on purpose."""
        if name.startswith(self.prefix):
            return name.removeprefix(self.prefix)
        if self.dropped.fullmatch(name):
            return None
        raise WeightsError(f"the name {name!r} is unknown")

    def theirs(self, name: str) -> str:
        """The file's name for our ``name``."""
        return self.prefix + name


def to_ours(tensors: Mapping[str, Tensor], keymap: Names) -> dict[str, Tensor]:
    """A file's tensors under our names."""
    renamed = {keymap.ours(name): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}


def to_theirs(tensors: Mapping[str, Tensor], keymap: Names) -> dict[str, Tensor]:
    """Our tensors under a file's names: the inverse of `to_ours`."""
    return {keymap.theirs(name): tensor for name, tensor in tensors.items()}


UNET = "|".join(
    [
        r"(?:conv_in|conv_out|conv_norm_out|(?:time|add)_embedding\.linear_[12])\.(?:weight|bias)",
        _DIFFUSERS_BLOCK + r"\.resnets\.\d+\.(?:norm1|conv1|time_emb_proj|norm2|conv2|conv_shortcut)\.(?:weight|bias)",
        _DIFFUSERS_BLOCK + r"\.(?:downsamplers|upsamplers)\.0\.conv\.(?:weight|bias)",
        _DIFFUSERS_BLOCK + r"\.attentions\.\d+\.(?:norm|proj_in|proj_out)\.(?:weight|bias)",
        _DIFFUSERS_BLOCK
        + rf"\.attentions\.\d+\.transformer_blocks\.{_NUMBER}\.(?:"
        + r"attn[12]\.to_[qkv]\.weight|attn[12]\.to_out\.0\.(?:weight|bias)|"
        + r"norm[123]\.(?:weight|bias)|ff\.net\.(?:0\.proj|2)\.(?:weight|bias))",
    ]
)
"""A pattern of every name in a UNet of Stable Diffusion 1.5 or SDXL, as diffusers has them."""

_MOTION = _DIFFUSERS_BLOCK + r"\.motion_modules\.\d+\.temporal_transformer\..*"
_ADAPTER = IN_TRANSFORMERS.pattern + r"\.attn1\.to_(?:q|out)_ff\..*"
_IMAGE_TOKENS = IN_TRANSFORMERS.pattern + r"\.attn2\.to_[kv]_ip\.weight"

_TEMPORAL = "{site}.temporal_transformer."
_BLOCK = _TEMPORAL + "transformer_blocks.0."
_OURS = "sites.{site}."


def _motion_table(layer: str, positions: str) -> dict[str, str]:
    """Names of a motion module's layer, which is called ``layer`` in the file; ``positions`` are its encoding's."""
    block = layer + "transformer_blocks.0."
    return {
        layer + "norm.{}": _OURS + "norm.{}",
        layer + "proj_in.{}": _OURS + "proj_in.{}",
        layer + "proj_out.{}": _OURS + "proj_out.{}",
        block + "norms.{}.{}": _OURS + "norms.{}.{}",
        block + "attention_blocks.{}.to_q.weight": _OURS + "attentions.{}.to_q.weight",
        block + "attention_blocks.{}.to_k.weight": _OURS + "attentions.{}.to_k.weight",
        block + "attention_blocks.{}.to_v.weight": _OURS + "attentions.{}.to_v.weight",
        block + "attention_blocks.{}.to_out.0.{}": _OURS + "attentions.{}.to_out.{}",
        block + "attention_blocks.{}.pos_encoder." + positions: _OURS + "attentions.{}.pe",
        block + "ff_norm.{}": _OURS + "ff_norm.{}",
        block + "ff.net.0.proj.{}": _OURS + "ff.proj.{}",
        block + "ff.net.2.{}": _OURS + "ff.out.{}",
    }


ANIMATEDIFF = KeyMap(IN_MOTION_MODULES, _motion_table(_TEMPORAL, "pe"), dropped="|".join([UNET, _IMAGE_TOKENS]))
"""Motion modules as AnimateDiff publishes them (guoyww/animatediff), for Stable Diffusion 1.5 and SDXL."""

HOTSHOT = KeyMap(IN_TEMPORAL_ATTENTIONS, _motion_table("{site}.", "positional_encoding"), dropped=UNET)
"""Motion modules for SDXL as Hotshot-XL publishes them (hotshotco/Hotshot-XL)."""

_LORA = _BLOCK + "attention_blocks.{}.processor."
_OUR_LORA = _OURS + "attentions.{}."

MOTION_LORA = KeyMap(
    IN_MOTION_MODULES,
    {
        _LORA + f"to_{name}_lora.{half}.weight": _OUR_LORA + f"to_{name}.lora_{half}.weight"
        for name in ("q", "k", "v", "out")
        for half in ("up", "down")
    },
    dropped=r"(?!)",
)
"""Motion LoRAs as AnimateDiff publishes them: low-rank changes of a motion module's attentions, without alpha."""

_ATTN1 = "{site}.attn1."

OFFICIAL_ADAPTER = KeyMap(
    IN_TRANSFORMERS,
    {
        _ATTN1 + "to_q_ff.weight": _OURS + "to_q.weight",
        _ATTN1 + "to_out_ff.{}": _OURS + "to_out.{}",
    },
    dropped="|".join([UNET, _MOTION, _IMAGE_TOKENS]),
)
"""The I2V adapter as its authors publish it (space-xun/i2v_adapter, i2v_module.pth)."""

_UNOFFICIAL = "{site}.i2v_adapter."

UNOFFICIAL_ADAPTER = KeyMap(
    IN_TRANSFORMERS,
    {
        _UNOFFICIAL + "to_q.weight": _OURS + "to_q.weight",
        _UNOFFICIAL + "to_k.weight": _OURS + "to_k.weight",
        _UNOFFICIAL + "to_v.weight": _OURS + "to_v.weight",
        _UNOFFICIAL + "to_out.0.{}": _OURS + "to_out.{}",
    },
    dropped="|".join([UNET, _MOTION, _IMAGE_TOKENS]),
)
"""Adapters of the community's training code (xUhEngwAng/I2V-Adapter-Unofficial): with keys and values of their own."""


def _image_tokens(place: str) -> dict[str, str]:
    return {f"{place}.to_{name}_ip.weight": f"{_OURS}to_{name}_ip.weight" for name in ("k", "v")}


OFFICIAL_IMAGE_TOKENS = KeyMap(
    IN_TRANSFORMERS,
    _image_tokens("{site}.attn2"),
    dropped="|".join([UNET, _MOTION, _ADAPTER]),
)
"""Projections of image tokens under UNet names (space-xun/i2v_adapter, animatediff_v15_v1_ipplus.pth)."""

IP_ADAPTER = KeyMap(_in_ip_adapter(SD15), _image_tokens("{site}"), dropped=r"image_proj\..*")
"""Projections of image tokens as IP-Adapter publishes them for Stable Diffusion 1.5 (h94/IP-Adapter)."""

IP_ADAPTER_SDXL = KeyMap(_in_ip_adapter(SDXL), _image_tokens("{site}"), dropped=r"image_proj\..*")
"""The same for SDXL."""

IP_ADAPTER_RESAMPLER = Prefix("image_proj.", dropped=r"ip_adapter\..*")
"""The resampler in the files of IP-Adapter Plus (h94/IP-Adapter)."""
