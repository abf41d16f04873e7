"""The training loop, on Accelerate.

    samples → processor → model → loss → optimiser step; after every epoch one exact pass over validation

One validation criterion decides everything: which weights are kept, and when to stop. The kept weights are on disk as soon as
they are the best. At the end they are loaded again, the operating point is chosen on validation and written into them, and
the folder is one that the Auto classes load: config, safetensors, processor, and beside them recipe.yaml and run.json.

A run is decided by recipe and data: the same seed on the same machine gives the same weights, and a resumed run those of an
uninterrupted one, because order and augmentation depend on (seed, epoch, place) and everything else is in the checkpoint.
"""

import logging
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, ProjectConfiguration, set_seed
from tqdm import tqdm
from transformers import PreTrainedModel

from ..answers import accepted_inputs
from ..errors import CheckpointError, ConfigurationError, MecoError, TrainingInterrupted
from ..evaluation.calibration import class_prior
from ..reading import reading
from . import checkpoints, engine, optimization
from .arguments import LOCK, RunOptions, check_output, claim_output, prepare_output, save_best
from .construction import build
from .data import blend, load_training_data, mark
from .loaders import ImageSizes, build_criterion, build_loaders
from .losses import Distillation, SoftLabelHead, build_teacher, disagreement_of_views, mix_batch
from .recipes import Recipe, check_recipe_code, recipe_to_dict, write_recipe
from .result import fit_reference, flatten, write_result
from .validation import Validator, choose_after_training, keep_best_mean

logger = logging.getLogger(__name__)


def train(recipe: Recipe, options: RunOptions) -> dict[str, Any] | None:
    """Carry out a recipe.

    Returns:
        What `run.json` says; None in all processes but the main one.

    Raises:
        ConfigurationError: the recipe does not fit the architecture or the data, or the loss is no longer finite.
        CorpusError, LeakError: the data cannot be used.
        UnknownNameError: an architecture, corpus, split, recipe or tracker that does not exist.
        DependencyError: a tracker that is not installed.
        CheckpointError: the checkpoint to resume from is not there, not complete, or of another run.
        TrainingInterrupted: a signal stopped the run; a checkpoint is written.
    """
    check_recipe_code(recipe, options.trust_recipe_code)
    check_output(options, recipe.model_name_or_path)
    engine.check_trackers(options.report_to)
    run = TrainingRun(recipe, options)
    try:
        run.resume()
        with run.interruption:
            try:
                while not run.finished:
                    run.train_epoch()
                    run.close_epoch()
                run.interruption.check()
            except TrainingInterrupted as stop:
                raise run.stop(stop.signal_number) from stop
            run.interruption.heeded = False  # what is left is short, and nothing could go on from the middle of it
            return run.finish()
    finally:
        run.accelerator.end_training()
        if run.claim is not None:
            (options.output_dir / LOCK).unlink(missing_ok=True)
            run.claim.close()


class TrainingRun:
    """One run: everything that has a state, and the events in order."""

    def __init__(self, recipe: Recipe, options: RunOptions) -> None:
        self.recipe, self.options = recipe, options
        with engine.configuring(recipe):
            self.accelerator = Accelerator(
                mixed_precision=recipe.mixed_precision,
                gradient_accumulation_steps=recipe.gradient_accumulation_steps,
                log_with=list(options.report_to) or None,
                project_config=ProjectConfiguration(project_dir=str(options.output_dir)),
                dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
                # an expert that no sample of a batch chose has no gradient
                kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True), *engine.process_groups()],
            )
        engine.prepare_engine(self.accelerator)
        engine.check_engine(self.accelerator, recipe)
        show = options.progress and self.accelerator.is_local_main_process
        self.claim = claim_output(options.output_dir) if self.accelerator.is_main_process else None
        if self.claim is not None:
            prepare_output(options)
        self.accelerator.wait_for_everyone()
        self.identity = checkpoints.RunIdentity(flatten(recipe_to_dict(recipe)), self.accelerator.num_processes)
        self.checkpoint = checkpoints.choose_checkpoint(
            options.output_dir, options.resume_from_checkpoint, self.identity
        )
        if self.accelerator.is_main_process:
            write_recipe(recipe, options.output_dir / "recipe.yaml")
        self.data = load_training_data(recipe, options.data_dir)
        if self.accelerator.is_main_process and self.data.synthetic:
            write_recipe(recipe, options.output_dir / "recipe.yaml", synthetic=True)
        set_seed(recipe.seed)  # after the data, whose reading must not decide the first weights
        model, self.processor = build(recipe, self.data.task)
        mark(model, recipe.data.permute_labels, self.data.synthetic)
        self.loaders = build_loaders(recipe, self.data, model, self.processor, self.accelerator, show)
        self.reference: dict[str, Any] | None = None
        # before the training, which its errors must not cost
        if recipe.fit_reference and self.accelerator.is_main_process:
            first = [row for row in self.loaders.train_readable if row < len(self.data.train.labels)]
            self.reference = fit_reference(self.data, self.loaders.train_rows, first, progress=show)
        self.identity = replace(self.identity, data=self.data.fingerprints)
        self.plan = optimization.EpochPlan(
            samples=len(self.loaders.sampler),
            batch_size=recipe.per_device_train_batch_size,
            batches=self.loaders.batches(self.accelerator.num_processes),
            processes=self.accelerator.num_processes,
            accumulation=recipe.gradient_accumulation_steps,
        )
        self.losses = optimization.LossSum(self.accelerator)
        self.interruption = engine.Interruption(self.accelerator)
        self.progress = checkpoints.Progress()
        self.accelerator.register_for_checkpointing(self.progress)
        self._prepare_training(model)
        set_seed(recipe.seed, device_specific=True)  # the same first weights in every process, but other dropout
        if options.report_to:
            self.accelerator.init_trackers("meco_hub", config=flatten(recipe_to_dict(recipe)))
        self._bar = tqdm(total=self.total_steps, unit="step", desc="train", disable=not show)
        self._since = time.perf_counter()
        self._spent: dict[str, float] = {}
        self.energy = engine.EnergyMeter(gpus=self.accelerator.device.type == "cuda")

    def _prepare_training(self, model: PreTrainedModel) -> None:
        recipe, accelerator, loaders = self.recipe, self.accelerator, self.loaders
        steps = math.ceil(self.plan.batches / recipe.gradient_accumulation_steps)
        self.total_steps = recipe.max_train_steps or steps * recipe.num_train_epochs
        self.total_epochs = math.ceil(self.total_steps / steps)
        if recipe.channels_last and not engine.in_parts(accelerator):  # FSDP takes plain layouts only
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.frozen = optimization.FrozenModules(model, recipe.frozen_modules)
        self.sizes = ImageSizes(model, loaders.collate, recipe.image_sizes)
        optimizer = optimization.build_optimizer(model, recipe)
        self.distillation: Any = None
        if recipe.distillation is not None:
            teacher = build_teacher(recipe.distillation).to(accelerator.device)
            self.distillation = Distillation(model, teacher, recipe.distillation)
            optimizer.add_param_group({"params": list(self.distillation.parameters()), "lr": recipe.learning_rate})
        self.soft_head: Any = None
        if recipe.soft_label_head:
            self.soft_head = SoftLabelHead(model, recipe.soft_label_head)
            optimizer.add_param_group({"params": list(self.soft_head.parameters()), "lr": recipe.learning_rate})
        schedule = optimization.build_schedule(
            optimizer, recipe, steps_per_epoch=steps, total_steps=self.total_steps, ticks=accelerator.num_processes
        )
        self.freeze = optimization.BackboneFreeze(model, recipe.freeze_backbone_epochs)
        # copied before Accelerate wraps `forward`, because a copy of the wrapping would still call the original
        self.average = (
            optimization.AveragedCopy(model, recipe.ema_decay, accelerator.device)
            if recipe.ema_decay is not None
            else None
        )
        if self.average is not None:
            accelerator.register_for_checkpointing(self.average)
        self.bare_model = model
        if recipe.torch_compile:
            engine.compile_in_place({model, self.validated_model}, recipe.torch_compile_backend)
        engine.check_model(accelerator, model, recipe)
        batches, self.model, self.optimizer, self.schedule = accelerator.prepare(
            loaders.train, model, optimizer, schedule
        )
        engine.build_whole_models(accelerator)
        self.loaders = loaders = replace(loaders, train=batches)
        if self.distillation is not None:
            self.distillation.watch()  # only now: the averaged copy must not report to it
            self.distillation = accelerator.prepare(self.distillation)
        if self.soft_head is not None:
            self.soft_head.watch()
            self.soft_head = accelerator.prepare(self.soft_head)
        self._takes = accepted_inputs(model)
        prior = None if self.data.task.regression else class_prior(loaders.examples.labels, len(self.data.names))
        self.criterion = build_criterion(recipe, self.data.task, loaders)
        self.validator = Validator(accelerator, recipe, self.data, loaders, self.processor, prior)

    @property
    def validated_model(self) -> PreTrainedModel:
        """The model that is validated and kept: the averaged one, if there is one."""
        return cast(PreTrainedModel, self.average.module) if self.average is not None else self.bare_model

    def resume(self) -> None:
        """Go on from the checkpoint to resume from, if any."""
        folder, progress, bar = self.checkpoint, self.progress, self._bar
        if folder is None:
            return
        checkpoints.check_samples(folder, self.identity)
        with reading(f"{folder} is damaged, and cannot be gone on from", CheckpointError, "Resume from another."):
            self.accelerator.load_state(str(folder))
        if self.accelerator.is_main_process:
            checkpoints.restore_best(folder, self.options.output_dir)
        self.accelerator.wait_for_everyone()
        bar.initial = bar.n = bar.last_print_n = progress.step  # or the rate would count steps of other sessions
        bar.refresh()
        self.losses.begin(progress.loss_sums)
        self._spent = progress.energy
        logger.info("Resumed from %s at step %d, epoch %d.", folder, progress.step, progress.epoch + 1)

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
        self.model.train()
        self.freeze.start_epoch(progress.epoch)
        self.frozen.start_epoch()
        self.sizes.start_epoch(progress.epoch)
        if progress.batch == 0:
            progress.learning_rate = self.schedule.get_last_lr()[0]
        for batch in self._batches():
            if progress.step >= self.total_steps:
                break
            self._train_batch(batch)
            progress.loss_count += self.plan.all(progress.batch)
            progress.batch += 1
            if not accelerator.sync_gradients:
                continue
            progress.step += 1
            self._bar.update()
            if self.average is not None:
                self.average.update_parameters(self.bare_model)
            every = self.options.checkpointing_steps
            if isinstance(every, int) and progress.step % every == 0:
                self._save(f"step_{progress.step}")
            self.interruption.check()
        self._update_progress()
        if not math.isfinite(sum(progress.loss_sums)):
            raise ConfigurationError(
                f"The loss of epoch {progress.epoch + 1} is {sum(progress.loss_sums)}; expected a finite number. Lower "
                "learning_rate, set max_grad_norm, or train with mixed_precision no."
            )

    def _train_batch(self, batch: dict[str, Any]) -> None:
        """One forward and backward pass, and the optimiser's step when it is due."""
        recipe, accelerator = self.recipe, self.accelerator
        number, process = self.progress.batch, accelerator.process_index
        own = self.plan.own(number, process)
        # where all are fillers the batch stays as it is: this process must take part in the step, but nothing of it counts
        if 0 < own < len(batch["labels"]):
            batch = optimization.take_first(batch, own)
        labels, mask = batch["labels"], batch.get("label_mask")
        beside = ("labels", "label_mask", "soft_labels")
        inputs = {key: value for key, value in batch.items() if key not in beside}
        known = {"label_mask": mask} if mask is not None and "label_mask" in self._takes else {}
        soft = batch.get("soft_labels")
        targets = blend(labels, soft, recipe.soft_label_weight)
        if recipe.mixup_alpha:
            place = (recipe.seed, self.progress.epoch, self.progress.batch, accelerator.process_index)
            generator = np.random.default_rng(place)
            whole = inputs if soft is None else {**inputs, "soft_labels": soft}
            count = len(self.data.names)
            inputs, targets = mix_batch(whole, targets, count, recipe.mixup_alpha, generator, recipe.views)
            soft = inputs.pop("soft_labels", None)
        with accelerator.accumulate(self.model):
            # labels make the model compute its auxiliary losses; its own label loss is not used
            outputs = self.model(**inputs, **known, labels=labels)
            loss = self.criterion(outputs.logits, targets, *([] if mask is None else [mask]))
            if outputs.aux_loss is not None:
                loss = loss + outputs.aux_loss
            if recipe.consistency_weight:
                loss = loss + recipe.consistency_weight * disagreement_of_views(outputs.logits)
            if self.distillation is not None:
                loss = loss + self.distillation(inputs, outputs.logits)
            if self.soft_head is not None:
                loss = loss + self.soft_head(soft)
            accelerator.backward(loss * self.plan.weight(number, process))
            if accelerator.sync_gradients and recipe.max_grad_norm is not None:
                accelerator.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        self.losses.add(loss, own)

    def close_epoch(self) -> None:
        """Validate, keep the weights if they are the best so far, and write down how it went."""
        self.sizes.end()
        progress, accelerator = self.progress, self.accelerator
        # several processes validate in different numbers of batches, and cannot agree to stop between two of them
        alone = accelerator.num_processes == 1
        result = self.validator.validate(
            self.validated_model, (lambda *_: self.interruption.check()) if alone else None
        )
        value = self.validator.value(result, progress.epoch + 1)
        better = progress.best is None or value > progress.best
        if better:
            progress.best, progress.best_epoch, progress.stale_epochs = value, progress.epoch + 1, 0
            # by every process, for the main one to write
            gathered = accelerator.get_state_dict(self.model) if engine.in_parts(accelerator) else None
            if accelerator.is_main_process:
                with checkpoints.writing(self.options.output_dir / checkpoints.BEST):
                    save_best(self.validated_model, self.processor, self.options.output_dir, gathered)
            accelerator.wait_for_everyone()
        else:
            progress.stale_epochs += 1
        self._update_progress()
        row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "learning_rate": progress.learning_rate,
            "train_loss": sum(progress.loss_sums) / max(progress.loss_count, 1),
            **result.summary(),
            "selection": value,
            "best": better,
            "seconds": round(progress.seconds, 1),
        }
        progress.history.append(row)
        progress.epoch += 1
        progress.batch, progress.loss_sums, progress.loss_count = 0, [], 0
        self.losses.begin([])
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
        if not (folder / checkpoints.BEST).is_dir():
            raise MecoError(
                f"{folder / checkpoints.BEST} is gone, which held the best weights so far. Train anew, or put it back."
            )
        accelerator.wait_for_everyone()
        kept = type(self.bare_model).from_pretrained(folder / checkpoints.BEST)
        if engine.in_parts(accelerator):
            model = cast(Any, kept).to(accelerator.device)
        else:
            model = self.bare_model
            model.load_state_dict(kept.state_dict())
        means: dict[str, float] = {}
        if self.recipe.average_with_start:
            start, _ = build(self.recipe, self.data.task)
            result, means = keep_best_mean(model, start.state_dict(), self.validator)
        else:
            result = self.validator.validate(model, together=False)
        choices = replace(choose_after_training(model, result, self.validator), means=means)
        record = None
        if accelerator.is_main_process:
            with checkpoints.writing(folder / "run.json"):
                record = write_result(self, model, choices)
        accelerator.wait_for_everyone()
        return record

    def stop(self, signal_number: int) -> TrainingInterrupted:
        """Write a checkpoint of where the run stands; gives the error that says so."""
        place = self._save(f"step_{self.progress.step}")
        self._bar.close()
        return TrainingInterrupted(
            f"{signal.Signals(signal_number).name} stopped the training after step {self.progress.step} of {self.total_steps}; "
            f"{place} is complete. Go on by the same command with --resume_from_checkpoint auto.",
            signal_number,
        )

    def _update_progress(self) -> None:
        """Bring the progress up to date, the same in every process."""
        now = time.perf_counter()
        self.progress.seconds, self._since = self.progress.seconds + now - self._since, now
        self.progress.loss_sums = self.losses.of_all()
        spent = self.energy.read() or {}
        self.progress.energy = {key: round(self._spent.get(key, 0.0) + value, 1) for key, value in spent.items()}

    def _save(self, name: str) -> Path:
        self._update_progress()
        with checkpoints.writing(self.options.output_dir / name):
            return checkpoints.save_checkpoint(
                self.accelerator,
                self.options.output_dir,
                name,
                progress=self.progress,
                identity=self.identity,
                total_limit=self.options.checkpoints_total_limit,
            )
