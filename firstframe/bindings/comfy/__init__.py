"""Everything that touches ComfyUI.

Each module here imports the host (``comfy``), so this package is imported by the nodes only, inside a running ComfyUI
(or with its folder first on ``sys.path``). Frames travel as a batch: the host's tensors are ``(B*F, C, H, W)``.

A model is never altered: what an applied part does to it happens between the start and the end of one evaluation of
the UNet, and its weights are *additional models* of the patcher, so that the host's memory manager knows them.
"""
