"""The TOML file of a training: ``[model] [data] [[datasets]] [train] [samples]``.

Names are those of kohya's musubi-tuner and of diffusion-pipe where these have one. Relative paths are relative to the
file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

TINY = "tiny"


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    return path if str(path) == TINY else (info.context or {}).get("folder", Path()) / path.expanduser()


File = Annotated[Path, AfterValidator(_beside_the_file)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of the file. Unknown keys are errors: they are mostly slips."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraFile(Table):
    """A LoRA that is merged into the base before training."""

    path: File
    strength: float = 1.0


class ModelTable(Table):
    """The frozen base, and files to continue from.

    Attributes:
        checkpoint: Stable Diffusion 1.5 or SDXL in one file, or "tiny", the model that ships.
        motion_module: AnimateDiff's or Hotshot-XL's; the tiny model has its own.
        vae: an autoencoder in place of the checkpoint's.
        loras: merged into the base.
        i2v_adapter: to continue training, or, for a retention branch, an adapter that half of the batches have beside.
        retention: a branch to continue training.
        content_adapter: IP-Adapter Plus or one of your own, to continue training.
        clip_vision: CLIP's image encoder, which a content adapter needs.
    """

    checkpoint: File
    motion_module: File | None = None
    vae: File | None = None
    loras: tuple[LoraFile, ...] = ()
    i2v_adapter: File | None = None
    retention: File | None = None
    content_adapter: File | None = None
    clip_vision: File | None = None

    @model_validator(mode="after")
    def _motion_is_known(self) -> ModelTable:
        if str(self.checkpoint) != TINY and self.motion_module is None:
            raise ValueError("motion_module is missing: a checkpoint knows single images only")
        return self


class DataTable(Table):
    """What holds for all datasets. Keys of ``[[datasets]]`` may stand here, too, as their defaults.

    Attributes:
        cache_directory: for latents and text states.
        held_out: share of the clips that are never trained on; they tell how well other clips will do.
    """

    cache_directory: File = Field(default=Path("cache"), validate_default=True)
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1


class DatasetTable(Table):
    """One folder or list of clips, and how frames are taken from them.

    Attributes:
        video_directory: clips, each with a text file of the same name.
        video_jsonl_file: lines ``{"video_path": ..., "caption": ...}``.
        image_sequence_directory: folders of numbered images, each beside a text file of the same name.
        caption_extension: of the text files.
        allow_empty_captions: keep clips without a caption.
        resolution: width and height, in pixels; with buckets, their product is kept and not their ratio.
        enable_bucket: sort clips by aspect ratio instead of cropping all to ``resolution``.
        bucket_no_upscale: do not enlarge clips that are smaller.
        target_frames: lengths of the samples, each a bucket of its own.
        frame_extraction: "head" takes the first frames, "chunk" cuts the clip into pieces, "slide" starts anew every
            ``frame_stride`` frames, "uniform" takes ``frame_sample`` pieces evenly spread.
        target_fps: the pace at which the model sees the clip.
        sample_stride: take every n-th frame, in place of ``target_fps``.
        source_fps: of the clips, where their files do not say it, or say it wrongly.
        num_repeats: how often each sample counts in an epoch.
    """

    video_directory: File | None = None
    video_jsonl_file: File | None = None
    image_sequence_directory: File | None = None
    caption_extension: str = ".txt"
    allow_empty_captions: bool = False
    resolution: tuple[Annotated[int, Field(ge=64)], Annotated[int, Field(ge=64)]] = (256, 256)
    enable_bucket: bool = False
    bucket_no_upscale: bool = False
    target_frames: tuple[Annotated[int, Field(ge=2)], ...] = (16,)
    frame_extraction: Literal["head", "chunk", "slide", "uniform"] = "head"
    frame_stride: Positive = 1
    frame_sample: Positive = 1
    target_fps: Annotated[float, Field(gt=0)] = 8.0
    sample_stride: Positive | None = None
    source_fps: Annotated[float, Field(gt=0)] | None = None
    num_repeats: Positive = 1

    @model_validator(mode="after")
    def _one_source(self) -> DatasetTable:
        sources = [self.video_directory, self.video_jsonl_file, self.image_sequence_directory]
        if len([source for source in sources if source]) != 1:
            raise ValueError("give one of video_directory, video_jsonl_file and image_sequence_directory")
        if any(side % 64 for side in self.resolution):
            raise ValueError(f"resolution must be multiples of 64, got {self.resolution}")
        return self


class TrainTable(Table):
    """How it is trained. The defaults are those of I2V-Adapter (arXiv 2312.16693, Section 4.1): AdamW, fixed 1e-4.

    Attributes:
        output_dir: gets checkpoint, log, samples and the trained file.
        output_name: of the trained file; the name of what is trained if not given.
        max_train_steps: optimiser steps.
        batch_size: clips for each GPU and accumulated step.
        gradient_accumulation_steps: batches for each optimiser step.
        learning_rate, lr_scheduler, lr_warmup_steps: constant, or falling to zero along a cosine.
        optimizer_type: "adamw8bit" needs bitsandbytes.
        adam_beta2: decay of the second moment.
        max_grad_norm: gradients are scaled down to it; 0 leaves them.
        ema_decay: of averaged weights, which are saved in place of the last ones; 0 for none.
        mixed_precision: of the forward pass; the frozen base is stored in it, too.
        gradient_checkpointing: activations are computed twice and not stored.
        seed: all draws follow from it.
        save_every_n_steps, checkpoint_every_n_minutes: checkpoints, from which ``--resume`` goes on.
        log_every_n_steps: steps to a line of the log.
        log_with: besides log.jsonl.
        temporal: train the base's motion module with the retention branch (DreamVideo), saved in the same file.
        drop_text, drop_image, drop_both: shares of the batches that lack the caption, the image, or both.
        loss_type: of the predicted noise (or velocity).
        weighting_scheme, snr_gamma: "min_snr" is arXiv 2303.09556.
        noise_offset: of each channel's mean in the noise.
        prior_share: of the batches whose noisiest quarter of timesteps starts from the frame similarity prior, as
            sampling does. The paper uses the prior for sampling only, which is 0.
        keep_probability: of that prior.
    """

    output_dir: File
    output_name: str = ""
    max_train_steps: Positive = 2000
    batch_size: Positive = 1
    gradient_accumulation_steps: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 0
    optimizer_type: Literal["adamw", "adamw8bit"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_checkpointing: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    save_every_n_steps: Positive = 250
    checkpoint_every_n_minutes: Annotated[float, Field(ge=0)] | None = None
    log_every_n_steps: Positive = 10
    log_with: Literal["none", "tensorboard", "wandb"] = "none"
    temporal: bool = False
    drop_text: Share = 0.1
    drop_image: Share = 0.0
    drop_both: Share = 0.0
    loss_type: Literal["l2", "l1", "huber"] = "l2"
    weighting_scheme: Literal["none", "min_snr"] = "none"
    snr_gamma: Annotated[float, Field(gt=0)] = 5.0
    noise_offset: Annotated[float, Field(ge=0)] = 0.0
    prior_share: Share = 0.0
    keep_probability: Share = 0.5

    @model_validator(mode="after")
    def _shares_add_up(self) -> TrainTable:
        if self.drop_text + self.drop_image + self.drop_both > 1:
            raise ValueError("drop_text, drop_image and drop_both add up to more than 1")
        return self


class SamplesTable(Table):
    """Clips made while training: of held-out clips, or of the first ones where none is held out.

    Attributes:
        every_n_steps: 0 for none.
        count: how many clips.
        sample_steps, guidance_scale, seed: of sampling.
    """

    every_n_steps: Annotated[int, Field(ge=0)] = 250
    count: Positive = 4
    sample_steps: Positive = 20
    guidance_scale: float = 7.5
    seed: Annotated[int, Field(ge=0)] = 0


class TrainingConfig(Table):
    """The whole file."""

    model: ModelTable
    data: DataTable = Field(default_factory=DataTable)
    datasets: tuple[DatasetTable, ...] = Field(min_length=1)
    train: TrainTable
    samples: SamplesTable = Field(default_factory=SamplesTable)
