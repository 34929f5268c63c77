"""A training from its configuration to its file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from tqdm.auto import tqdm

from ..errors import FirstFrameError
from ..modules.text import Text
from .base import VideoBase
from .clips.batches import Batches
from .clips.cache import Cache
from .clips.plan import LeftOut, Plan, Sample
from .config import ModelTable, TrainingConfig
from .estimate import Estimate, measure
from .job import clip_job
from .loop import Loop, Watcher
from .objective import Objective
from .target import Kind, Target, new_target
from .watch import HeldOutLoss, Samples

LoadBase = Callable[[ModelTable], VideoBase]
TYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Training:
    """Everything that a configuration asks for, on its device.

    Attributes:
        plan: without the clips that could not be read.
    """

    config: TrainingConfig
    base: VideoBase
    target: Target
    objective: Objective
    plan: Plan
    accelerator: Accelerator

    @classmethod
    def of(cls, kind: Kind, config: TrainingConfig, base: VideoBase, plan: Plan, cpu: bool) -> Training:
        """Put ``base`` and what is trained on the device of this process; with ``cpu``, on no GPU.

        Frozen weights are stored in the type of the forward pass, trained ones in fp32.

        Raises:
            FirstFrameError: fp16 on a CPU, where no scaling of gradients goes with it.
        """
        settings = config.train
        if settings.mixed_precision == "fp16" and PartialState(cpu=cpu).device.type == "cpu":
            raise FirstFrameError('mixed_precision "fp16" needs a GPU; use "bf16" or "no" on a CPU')
        accelerator = Accelerator(
            cpu=cpu,
            mixed_precision="fp16" if settings.mixed_precision == "fp16" else "no",  # bf16 is the loop's
            log_with=None if settings.log_with == "none" else settings.log_with,
            project_dir=settings.output_dir,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        with torch.random.fork_rng():  # for what starts with random weights
            torch.manual_seed(settings.seed)
            target = new_target(kind, base, config.model, settings)
        for weight in target.denoiser.parameters():
            weight.data = weight.data.to(
                accelerator.device, torch.float32 if weight.requires_grad else TYPES[settings.mixed_precision]
            )
        target.denoiser.to(accelerator.device)
        return cls(config, base, target, _objective(config, base, accelerator.device), plan, accelerator)

    def estimate(self) -> Estimate:
        """What a step takes, measured on random numbers."""
        return measure(self.target, self.plan, self.objective, self.config.train, self.accelerator)

    def run(self, resume: bool) -> int:
        """Encode what is not encoded yet, then train. Returns the steps done."""
        vision = self.base.vision if self.target.kind == "content" else None
        cache = Cache(self.config.data.cache_directory, self.base.encoders, vision)
        plan = self._encoded(cache)
        empty = cache.text("").to(self.accelerator.device)
        settings = self.config.train
        if self.accelerator.log_with:
            beside = {"wandb": {"dir": str(settings.output_dir)}}  # by default it writes where the command was called
            self.accelerator.init_trackers("firstframe", {"kind": self.target.kind}, beside)
        batches = Batches(cache, plan.train, settings.batch_size, settings.seed)
        job = clip_job(self.target, batches, empty, self.objective, self.config, self.accelerator.device)
        steps = Loop(job, settings, self.accelerator).run(self._watchers(cache, plan, empty), resume)
        self.accelerator.end_training()
        return steps

    def _encoded(self, cache: Cache) -> Plan:
        """Each process encodes its share; the encoders then leave the device."""
        accelerator, samples = self.accelerator, self.plan.samples
        self._move_encoders(accelerator.device)
        mine = samples[accelerator.process_index :: accelerator.num_processes]
        with tqdm(total=len(mine), desc="encoding", disable=not accelerator.is_main_process) as bar:
            failed = cache.fill(mine, bar.update)
        if accelerator.num_processes > 1:
            accelerator.wait_for_everyone()
            failed = cache.fill(samples)  # what the others could not read, either
        self._move_encoders(torch.device("cpu"))
        return _without(self.plan, failed)

    def _move_encoders(self, device: torch.device) -> None:
        self.base.encoders.to(device)
        if self.base.vision is not None:
            self.base.vision.encoder.to(device)

    def _watchers(self, cache: Cache, plan: Plan, empty: Text) -> list[Watcher]:
        settings, watchers = self.config.samples, []
        if not settings.every_n_steps:
            return []
        if plan.held_out:
            unseen = replace(self.target, settings=self.target.settings.model_copy(update=NOTHING_DROPPED))
            seed = self.config.train.seed
            loss = HeldOutLoss(unseen, cache, plan.held_out, empty, self.objective, seed)
            watchers.append(Watcher(loss, settings.every_n_steps))
        shown = _of_one_bucket(plan.held_out or plan.train)[: settings.count]
        folder = self.config.train.output_dir / "samples"
        samples = Samples(self.target, self.base, cache, shown, settings, folder)
        return [*watchers, Watcher(samples, settings.every_n_steps)]


NOTHING_DROPPED = {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0}


def _objective(config: TrainingConfig, base: VideoBase, device: torch.device) -> Objective:
    settings = config.train
    return Objective(
        base.scheduler.alphas_cumprod.to(device),
        base.scheduler.config.prediction_type,
        settings.loss_type,
        settings.snr_gamma if settings.weighting_scheme == "min_snr" else None,
        settings.noise_offset,
        settings.prior_share,
        settings.keep_probability,
    )


def _without(plan: Plan, failed: Sequence[LeftOut]) -> Plan:
    """The plan without clips that could not be read after all."""
    paths = {clip.source.path for clip in failed}

    def readable(samples: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(sample for sample in samples if sample.source.path not in paths)

    return replace(
        plan, train=readable(plan.train), held_out=readable(plan.held_out), left_out=(*plan.left_out, *failed)
    )


def _of_one_bucket(samples: Sequence[Sample]) -> list[Sample]:
    """Those of the most frequent size and length, one for each clip."""
    usual = Counter(sample.bucket for sample in samples).most_common(1)[0][0]
    return list({sample.digest: sample for sample in samples if sample.bucket == usual}.values())
