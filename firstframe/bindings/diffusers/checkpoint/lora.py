"""LoRAs merged into the networks of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin as Lora
from transformers import CLIPTextModel

from ....errors import WeightsError
from ....weights.files import load_state_dict

NAME = "merged"


def merge_lora(path: Path, strength: float, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
    """Add a LoRA, of kohya or of diffusers, to the weights of UNet and text encoder, ``strength`` times.

    Raises:
        WeightsError: the file is no LoRA, or was made for other networks.
    """
    tensors = load_state_dict(path)
    try:
        state, alphas = Lora.lora_state_dict(tensors, unet_config=unet.config)
        networks = {name.split(".")[0] for name in state}
        if not networks & {"unet", "text_encoder"}:
            raise ValueError(f"it has tensors such as {min(tensors, default='none')!r}")
        if "unet" in networks:
            Lora.load_lora_into_unet(state, alphas, unet, adapter_name=NAME)
            _merge(unet, strength)
        if "text_encoder" in networks:
            Lora.load_lora_into_text_encoder(state, alphas, text_encoder, "text_encoder", adapter_name=NAME)
            _merge(text_encoder, strength)
    except Exception as error:  # of diffusers and peft, of many kinds
        raise WeightsError(f"{path}: cannot be merged as a LoRA of Stable Diffusion 1.5 ({error})") from error


def _merge(network: UNet2DConditionModel | CLIPTextModel, strength: float) -> None:
    """Into the layers' own weights; afterwards the network has the layers that it had before."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, BaseTunerLayer)}
    for name, layer in layers.items():
        layer.scale_layer(strength)
        layer.merge()
        network.set_submodule(name, layer.get_base_layer())
    del network.peft_config
