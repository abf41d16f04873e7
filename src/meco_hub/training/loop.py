"""The training loop, on Accelerate.

    samples → processor → model → loss → optimiser step; after every epoch one exact pass over validation

One validation criterion decides everything: which weights are kept, and when to stop. The kept weights are on disk as soon as
they are the best. At the end they are loaded again, the operating point is chosen on validation and written into them, and
the folder is one that the Auto classes load: config, safetensors, processor, and beside them recipe.yaml and run.json.

A run is decided by recipe and data: the same seed on the same machine gives the same weights, and a resumed run those of an
uninterrupted one, because order and augmentation depend on (seed, epoch, place) and everything else is in the checkpoint.

This file knows the order of events; models, data, losses and schedules are handed to it.
"""

import logging
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    ProjectConfiguration,
    set_seed,
)
from tqdm import tqdm
from transformers import PreTrainedModel

from ..errors import ConfigurationError, MecoError
from ..evaluation.metrics import figures
from ..evaluation.operating_point import class_prior, correct, write_operating_point
from ..evaluation.predict import accepted_inputs
from ..evaluation.report import write_json
from .arguments import RunOptions
from .checkpoints import Progress, find_checkpoint, list_checkpoints, save_checkpoint
from .construction import build
from .data import load_training_data
from .distillation import Distillation, build_teacher
from .ema import averaged_copy
from .loaders import build_loaders
from .losses import ClassificationLoss, RegressionLoss, mix_batch
from .optimization import BackboneFreeze, StillModules, build_optimizer, build_schedule
from .output import BEST, check_output, prepare_output, save_model
from .recipe_files import recipe_to_dict
from .recipes import Recipe
from .record import describe_figures, flatten, write_record
from .validation import Validator

logger = logging.getLogger(__name__)


def train(recipe: Recipe, options: RunOptions) -> dict[str, Any] | None:
    """Carry out a recipe.

    Args:
        recipe: what is trained, on what, how.
        options: where to read and write.

    Returns:
        What `run.json` says; None in all processes but the main one.

    Raises:
        ConfigurationError: the recipe does not fit the architecture or the data, or the loss is no longer finite.
        CorpusError, LeakError: the data cannot be used.
        UnknownNameError: an architecture, corpus, split or recipe that does not exist.
    """
    check_output(options)
    run = TrainingRun(recipe, options)
    try:
        if options.resume_from_checkpoint is not None:
            run.resume(options.resume_from_checkpoint)
        while not run.finished:
            run.train_epoch()
            run.close_epoch()
        return run.finish()
    finally:
        run.accelerator.end_training()


class TrainingRun:
    """One run: everything that has a state, and the events in order."""

    def __init__(self, recipe: Recipe, options: RunOptions) -> None:
        self.recipe, self.options = recipe, options
        self.accelerator = Accelerator(
            mixed_precision=recipe.mixed_precision,
            gradient_accumulation_steps=recipe.gradient_accumulation_steps,
            log_with=list(options.report_to) or None,
            project_config=ProjectConfiguration(project_dir=str(options.output_dir)),
            dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
            # an expert that no sample of a batch chose has no gradient
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        show = options.progress and self.accelerator.is_local_main_process
        if self.accelerator.is_main_process:
            prepare_output(recipe, options)
        self.data = load_training_data(recipe, options.data_dir)
        set_seed(recipe.seed)  # after the data, whose reading must not decide the first weights
        model, self.processor = build(recipe, self.data.task)
        self.loaders = build_loaders(recipe, self.data, model, self.processor, self.accelerator, show)
        self.progress = Progress()
        self.accelerator.register_for_checkpointing(self.progress)
        self._prepare_training(model)
        set_seed(recipe.seed, device_specific=True)  # the same first weights in every process, but other dropout
        if options.report_to:
            self.accelerator.init_trackers("meco_hub", config=flatten(recipe_to_dict(recipe)))
        self._bar = tqdm(total=self.total_steps, unit="step", desc="train", disable=not show)

    # --- preparation

    def _prepare_training(self, model: PreTrainedModel) -> None:
        recipe, accelerator, loaders = self.recipe, self.accelerator, self.loaders
        steps = math.ceil(len(loaders.train) / recipe.gradient_accumulation_steps)
        self.total_steps = recipe.max_train_steps or steps * recipe.num_train_epochs
        self.total_epochs = math.ceil(self.total_steps / steps)
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.still = StillModules(model, recipe.frozen_modules)
        optimizer = build_optimizer(model, recipe)
        self.distillation: Any = self._build_distillation(model, optimizer)
        schedule = build_schedule(
            optimizer, recipe, steps_per_epoch=steps, total_steps=self.total_steps, ticks=accelerator.num_processes
        )
        self.freeze = BackboneFreeze(model, recipe.freeze_backbone_epochs)
        # copied before Accelerate wraps `forward`, because a copy of the wrapping would still call the original
        self.average = (
            averaged_copy(model, recipe.ema_decay, accelerator.device) if recipe.ema_decay is not None else None
        )
        if self.average is not None:
            accelerator.register_for_checkpointing(self.average)
        self.bare_model = model
        self.model, self.optimizer, self.schedule = accelerator.prepare(model, optimizer, schedule)
        if self.distillation is not None:
            self.distillation.watch()  # only now: the averaged copy must not report to it
            self.distillation = accelerator.prepare(self.distillation)
        self._takes = accepted_inputs(model)
        self.prior: Any = None
        if self.data.task.regression:
            self.criterion: Any = RegressionLoss(recipe.mse_weight, recipe.ccc_weight)
        else:
            shown = loaders.class_counts(len(self.data.names)).astype(np.float64)
            self.criterion = ClassificationLoss(recipe.label_smoothing, shown / shown.sum(), recipe.logit_adjustment)
            # the prior of the samples as they are, whatever was drawn: the operating point corrects towards the population
            self.prior = class_prior(loaders.examples.labels, len(self.data.names))
        self.validator = Validator(accelerator, recipe, self.data, loaders, self.processor, self.prior)

    def _build_distillation(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Distillation | None:
        recipe = self.recipe.distillation
        if recipe is None:
            return None
        teacher = build_teacher(recipe).to(self.accelerator.device)
        built = Distillation(model, teacher, recipe)
        optimizer.add_param_group({"params": list(built.parameters()), "lr": self.recipe.learning_rate})
        return built

    @property
    def judged_model(self) -> PreTrainedModel:
        """The model that is validated and kept: the averaged one, if there is one."""
        return cast(PreTrainedModel, self.average.module) if self.average is not None else self.bare_model

    def resume(self, wanted: str) -> None:
        """Go on from a checkpoint; "auto" with none there begins at the beginning."""
        folder = find_checkpoint(self.options.output_dir, wanted)
        if folder is None:
            logger.info("There is no checkpoint in %s; the run begins at the beginning.", self.options.output_dir)
            return
        self.accelerator.load_state(str(folder))
        self._bar.update(self.progress.step)
        logger.info("Resumed from %s at step %d, epoch %d.", folder, self.progress.step, self.progress.epoch + 1)

    # --- events

    @property
    def finished(self) -> bool:
        """All epochs or steps are done, or early stopping says so."""
        patience = self.recipe.early_stopping_patience
        stale = patience is not None and self.progress.stale_epochs >= patience
        done = self.progress.epoch >= self.total_epochs or self.progress.step >= self.total_steps
        return self.progress.batch == 0 and (stale or done)  # a resumed epoch may still lack its validation

    def _batches(self) -> Iterator[Any]:
        """What is left of the epoch under way."""
        self.loaders.sampler.set_epoch(self.progress.epoch)
        self.loaders.train.set_epoch(self.progress.epoch)
        loader = self.loaders.train
        if self.progress.batch:
            loader = skip_first_batches(loader, self.progress.batch)
        yield from loader

    def train_epoch(self) -> None:
        """Train to the end of the epoch under way, or of the steps."""
        progress, accelerator = self.progress, self.accelerator
        began = time.perf_counter()
        self.model.train()
        self.freeze.start_epoch(progress.epoch)
        self.still.start_epoch()
        total = torch.zeros((), device=accelerator.device)
        if progress.batch == 0:
            progress.learning_rate = self.schedule.get_last_lr()[0]
        for batch in self._batches():
            if progress.step >= self.total_steps:
                break
            total += self._train_batch(batch)
            progress.batch += 1
            progress.loss_count += 1
            if not accelerator.sync_gradients:
                continue
            progress.step += 1
            self._bar.update()
            if self.average is not None:
                self.average.update_parameters(self.bare_model)
            every = self.options.checkpointing_steps
            if isinstance(every, int) and progress.step % every == 0:
                progress.loss_sum, total = progress.loss_sum + float(total), torch.zeros_like(total)
                progress.seconds, began = progress.seconds + time.perf_counter() - began, time.perf_counter()
                self._save(f"step_{progress.step}")
        progress.loss_sum += float(total)
        progress.seconds += time.perf_counter() - began
        if not math.isfinite(progress.loss_sum):
            raise ConfigurationError(
                f"The loss of epoch {progress.epoch + 1} is {progress.loss_sum}; expected a finite number. Lower "
                "learning_rate, set max_grad_norm, or train with mixed_precision no."
            )

    def _train_batch(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """One forward and backward pass; gives the loss, detached."""
        recipe, accelerator = self.recipe, self.accelerator
        labels, mask = batch["labels"], batch.get("label_mask")
        inputs = {key: value for key, value in batch.items() if key not in ("labels", "label_mask")}
        known = {"label_mask": mask} if mask is not None and "label_mask" in self._takes else {}
        targets = labels
        if recipe.mixup_alpha:
            place = (recipe.seed, self.progress.epoch, self.progress.batch, accelerator.process_index)
            generator = np.random.default_rng(place)
            inputs, targets = mix_batch(inputs, labels, len(self.data.names), recipe.mixup_alpha, generator)
        with accelerator.accumulate(self.model):
            # labels make the model compute its auxiliary losses; its own label loss is not used
            outputs = self.model(**inputs, **known, labels=labels)
            loss = self.criterion(outputs.logits, targets, *([] if mask is None else [mask]))
            if outputs.aux_loss is not None:
                loss = loss + outputs.aux_loss
            if self.distillation is not None:
                loss = loss + self.distillation(inputs, outputs.logits)
            accelerator.backward(loss)
            if accelerator.sync_gradients and recipe.max_grad_norm is not None:
                accelerator.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        return loss.detach()

    def close_epoch(self) -> None:
        """Validate, keep the weights if they are the best so far, and write down how it went."""
        progress, accelerator = self.progress, self.accelerator
        began = time.perf_counter()
        judgement = self.validator.judge(self.judged_model)
        value = self.validator.value(judgement)
        better = progress.best is None or value > progress.best
        if better:
            progress.best, progress.best_epoch, progress.stale_epochs = value, progress.epoch + 1, 0
            self._save_model(self.judged_model, self.options.output_dir / BEST)
        else:
            progress.stale_epochs += 1
        progress.seconds += time.perf_counter() - began
        row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "learning_rate": progress.learning_rate,
            "train_loss": progress.loss_sum / max(progress.loss_count, 1),
            **judgement.summary(),
            "selection": value,
            "best": better,
            "seconds": round(progress.seconds, 1),
        }
        progress.history.append(row)
        progress.epoch += 1
        progress.batch, progress.loss_sum, progress.loss_count = 0, 0.0, 0
        if self.options.report_to:
            accelerator.log({key: number for key, number in row.items() if number is not None}, step=progress.step)
        if accelerator.is_main_process:
            kept = "  (best)" if better else ""
            logger.info("%s%s", "  ".join(f"{key} {number:.4g}" for key, number in row.items() if key != "best"), kept)
        if self.options.checkpointing_steps == "epoch":
            self._save(f"epoch_{progress.epoch}")

    def finish(self) -> dict[str, Any] | None:
        """Take the best weights, choose the operating point, and write the folder that is the result."""
        self._bar.close()
        accelerator, folder = self.accelerator, self.options.output_dir
        if not (folder / BEST).is_dir():
            raise MecoError(f"{folder / BEST} is gone, which held the best weights so far. Train anew, or put it back.")
        accelerator.wait_for_everyone()
        model = self.bare_model
        model.load_state_dict(type(model).from_pretrained(folder / BEST).state_dict())
        judgement = self.validator.judge(model)
        final, point = judgement.figures, self.validator.choose_point(judgement)
        validation = {}
        if point is not None:
            write_operating_point(model, point)
            validation = {"before_operating_point": describe_figures(final)}
            corrected = correct(judgement.outputs, self.prior, point.tau)
            final = figures(judgement.labels, corrected, self.data.names)
        validation = describe_figures(final) | validation
        self._save_model(model, folder)
        record = None
        if accelerator.is_main_process:
            if not list_checkpoints(folder):  # whoever resumes one may need the kept weights again
                shutil.rmtree(folder / BEST)
            record = write_record(
                folder / "run.json",
                accelerator=accelerator,
                model=model,
                recipe=self.recipe,
                data=self.data,
                data_dir=self.options.data_dir,
                progress=self.progress,
                validation=validation,
                operating_point=point.to_dict() if point else None,
                unreadable=self.loaders.unreadable(),
            )
            numbers = {f"eval_{key}": value for key, value in validation.items() if isinstance(value, int | float)}
            write_json({"epoch": self.progress.epoch, **numbers}, folder / "all_results.json")
        accelerator.wait_for_everyone()
        return record

    def _save(self, name: str) -> None:
        save_checkpoint(self.accelerator, self.options.output_dir, name, self.options.checkpoints_total_limit)

    def _save_model(self, model: PreTrainedModel, folder: Path) -> None:
        if self.accelerator.is_main_process:
            save_model(model, self.processor, folder)
        self.accelerator.wait_for_everyone()
