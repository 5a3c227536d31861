"""The processes of a training and how its networks are spread; the only file that knows Accelerate
and DeepSpeed.

Two networks, two rhythms: the effect network steps at every iteration, the SPN only at the first
of a group. Each has a learner of its own, so nobody looks for unused parameters, and an SPN that
took no part keeps its moments untouched whatever the engine. (In one engine, ZeRO-1 and 2 would
step it on zeros and ZeRO-3 on its last gradient again.)
"""

from __future__ import annotations

import copy
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sptmod_dist.tbptt import spn_loss
from sptmod_dist.train import launcher
from sptmod_dist.train.checkpoint import MOMENT_NAMES, Tensors, check_fit
from sptmod_dist.train.config import DistributedConfig, OptimizerConfig, TrainConfig
from sptmod_dist.train.learner import (
    Autocast,
    Learner,
    OrderedLearner,
    adamw,
    begin_moments,
    on_cpu,
)
from sptmod_dist.train.ranks import Ranks, SharedError


class Engine(Ranks):
    """This process among the others, with both networks: backward, step, and their state.

    Args:
        config: how many processes there must be, how long they wait, how they share the work.

    Raises:
        EngineError: another number of processes, or a launcher's setting that is not supported.
    """

    def __init__(self, config: DistributedConfig | None = None) -> None:
        self._config = config = config or DistributedConfig()
        launcher.refuse_unsupported(os.environ, torch.cuda.device_count())
        zero = launcher.asks_for_deepspeed(os.environ)
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32, on a GPU too
        gpu = torch.cuda.is_available()
        if zero:  # DeepSpeed calls what torch 2.13 renames, at every step
            warnings.filterwarnings("ignore", "`torch.distributed.*is deprecated", FutureWarning)
            if not gpu:
                os.environ.setdefault("DS_ACCELERATOR", "cpu")
        # Mixed precision is ours: DeepSpeed's would turn the weights themselves into bfloat16.
        group = InitProcessGroupKwargs(
            backend="gloo" if zero and not gpu else None, timeout=timedelta(seconds=config.timeout)
        )
        try:
            self._accelerator = Accelerator(
                cpu=not (gpu or zero),
                mixed_precision="no",
                dynamo_backend="no",
                kwargs_handlers=[group],
            )
        except (ValueError, OSError) as error:
            raise SharedError(
                f"Accelerate cannot use what the launcher asks for ({' '.join(str(error).split())})"
                ": mend its settings, or launch with a file of launch/accelerate"
            ) from error
        state = self._accelerator.state
        super().__init__(state.process_index, state.num_processes, state.device)
        self.meet()
        self._zero = copy.deepcopy(state.deepspeed_plugin.deepspeed_config) if zero else {}
        if config.processes is not None and config.processes != self.world_size:
            raise SharedError(
                f"distributed.processes asks for {config.processes} processes, but "
                f"{self.world_size} were launched: change one of them (accelerate launch "
                "--num_processes, or null the key)"
            )

    @property
    def name(self) -> str:
        """How gradients come together, in words; nothing where they need not."""
        if self._config.virtual_shards:
            return f"bit-identical, {self._config.virtual_shards} virtual shards"
        if self._zero_stage:
            return f"DeepSpeed ZeRO-{self._zero_stage}"
        return "DDP" if self.world_size > 1 else ""

    @property
    def _zero_stage(self) -> int:
        return launcher.zero_stage(self._zero)

    @property
    def n_slices(self) -> int:
        """Into how many slices this rank's rows are cut."""
        shards = self._config.virtual_shards
        return shards // self.world_size if shards else self._config.micro_batches

    def settle(self, config: TrainConfig) -> TrainConfig:
        """The settings with what the launcher asks for in the places that they leave open.

        Raises:
            SharedError: launcher and settings contradict each other, or the batch cannot be cut so.
        """
        self._config = config.distributed  # several trainings may follow each other
        return launcher.settle(config, os.environ, self._zero, self.world_size)

    def wrap(
        self,
        effect: nn.Module,
        spn: nn.Module | None,
        optimizer: OptimizerConfig,
        bf16: bool = False,
    ) -> None:
        """Take both networks, give each an AdamW, and spread them over the processes.

        Args:
            bf16: run their forward passes under bfloat16 autocast.
        """
        networks = {"effect": effect} | ({"spn": spn} if spn is not None else {})
        # Validation must not call what an engine may have cut to pieces: it gets these copies.
        self._judged = {name: copy.deepcopy(n).to(self.device) for name, n in networks.items()}
        self._learners = {
            name: self._learner(network.to(self.device), optimizer, bf16)
            for name, network in networks.items()
        }

    def _learner(self, network: nn.Module, optimizer: OptimizerConfig, bf16: bool) -> Learner:
        # DDP would broadcast rank 0's buffers before each forward pass: there must be none.
        assert not list(network.buffers())
        module = Autocast(network) if bf16 else network
        if self._zero_stage:
            return ShardedLearner(network, module, optimizer, self)
        if self._config.virtual_shards:
            self._start_equal(network)
            return OrderedLearner(network, module, optimizer, self.stack)
        if self.world_size > 1:
            gpus = [self.device.index] if self.device.type == "cuda" else None
            module = DistributedDataParallel(module, device_ids=gpus)
        return Learner(network, module, optimizer)

    def _start_equal(self, network: nn.Module) -> None:
        """Rank 0's weights everywhere, as DDP and DeepSpeed see to by themselves."""
        for parameter in network.parameters():
            parameter.data.copy_(self.stack(parameter.data[None])[0])

    def zero_settings(self, clip_norm: float | None) -> dict[str, Any]:
        """DeepSpeed's settings: the launcher's, and ours where theirs would change the numbers."""
        return launcher.without_auto(self._zero) | {
            "train_batch_size": self.n_slices * self.world_size,  # for their statistics alone
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": self.n_slices,
            "gradient_clipping": clip_norm or 0.0,  # theirs would be 1.0
            "bf16": {"enabled": False},
            "fp16": {"enabled": False},
            "zero_allow_untested_optimizer": True,  # torch's AdamW, the same one everywhere
            "zero_force_ds_cpu_optimizer": False,
        }

    @property
    def effect(self) -> nn.Module:
        """The effect network, as the training calls it."""
        return self._learners["effect"].module

    @property
    def spn(self) -> nn.Module | None:
        """The State Prediction Network, as the training calls it; None without one."""
        return self._learners["spn"].module if "spn" in self._learners else None

    def slice(self, index: int) -> AbstractContextManager[Any]:
        """Around a slice's forward and backward pass: gradients are exchanged in the last one."""
        stack = ExitStack()
        for learner in self._learners.values():
            stack.enter_context(learner.exchange(last=index == self.n_slices - 1))
        return stack

    def backward(self, loss: Tensor, seam: tuple[Tensor, Tensor] | None) -> None:
        """The backward pass of one slice, through the SPN too where there is a seam.

        Args:
            loss: the mean over the slice's rows, [].
            seam: predicted states and their leaf, where a group starts with an SPN.
        """
        # Virtual shards are averaged when all are there, the others while they are summed.
        share = 1 if self._config.virtual_shards else self.n_slices
        self._learners["effect"].backward(loss / share)
        self._spn_learns = seam is not None
        if seam is not None:
            self._learners["spn"].backward(spn_loss(seam))

    def step(self, learning_rate: float) -> Tensor:
        """One iteration's step, after the backward passes of all slices.

        Shape: the gradient norms of effect and SPN, [2]; the SPN's is 0 where it did not learn.
        """
        norm = self._learners["effect"].step(learning_rate)
        if not self._spn_learns:
            return torch.stack([norm, norm.new_zeros(())])
        return torch.stack([norm, self._learners["spn"].step(learning_rate)])

    # State -------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Keep weights, moments and averages as they are, to go back to."""
        self._kept = [tensor.clone() for tensor in self._state()]

    @torch.no_grad()
    def go_back(self) -> None:
        """Undo every step since `remember`."""
        for tensor, kept in zip(self._state(), self._kept, strict=True):
            tensor.copy_(kept)
        for learner in self._learners.values():
            learner.renew()

    def _state(self) -> list[Tensor]:
        return [tensor for learner in self._learners.values() for tensor in learner.state()]

    def judged(self) -> dict[str, nn.Module]:
        """Plain float copies of both networks with the weights that count: the averages, where
        there are any. Every rank must call this."""
        weights, _, averages = self.export()
        chosen = averages or weights
        for name, network in self._judged.items():
            own = {key.removeprefix(f"{name}."): value for key, value in chosen.items()}
            network.load_state_dict({key: own[key] for key in network.state_dict()})
        return self._judged

    def export(self) -> tuple[Tensors, Tensors, Tensors]:
        """Weights by parameter name, AdamW's moments and steps, and the averages, in the canonical
        form; every rank must call this."""
        weights, moments, averages = Tensors(), Tensors(), Tensors()
        for name, learner in self._learners.items():
            for key, weight, entries, average in learner.export():
                weights[f"{name}.{key}"] = weight
                moments |= {f"{name}.{key}.{entry}": value for entry, value in entries.items()}
                if average is not None:
                    averages[f"{name}.{key}"] = average
        return weights, moments, averages

    def load(self, weights: Tensors, moments: Tensors, averages: Tensors) -> None:
        """Take weights, moments and averages in the canonical form, whatever engine wrote them.

        Raises:
            CheckpointError: a name, shape or type that is not this model's; nothing was taken then.
        """
        ours = {
            f"{name}.{key}": parameter.data
            for name, network in self._judged.items()
            for key, parameter in network.named_parameters()
        }
        check_fit(ours, weights, moments, averages)
        for name, learner in self._learners.items():
            for key, _ in learner.network.named_parameters():
                full = f"{name}.{key}"
                kept = [entry for entry in MOMENT_NAMES if f"{full}.{entry}" in moments]
                entries = {entry: moments[f"{full}.{entry}"] for entry in kept}
                learner.load(key, weights[full], entries, averages.get(full))

    def close(self) -> None:
        """Leave the group of processes."""
        self._accelerator.end_training()

    def leave(self, code: int) -> None:
        """End one of several processes when its work is done and written; with one, do nothing.

        The orderly way is not safe: about one of fifty finished trainings was seen to abort while
        gloo's group of processes was taken down ("terminate called without an active exception"),
        and a launcher then reports a failure.
        """
        if self.world_size > 1:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


class ShardedLearner(Learner):
    """A network under DeepSpeed's ZeRO: moments (stage 1), gradients (2), weights (3) in parts.

    Args:
        network: the plain module, whose parameters DeepSpeed takes over.
        module: what training calls: the network, or what stands around it.
        engine: for its settings and its exchanges.
    """

    def __init__(
        self, network: nn.Module, module: nn.Module, config: OptimizerConfig, engine: Engine
    ) -> None:
        self._engine, self._slices_seen = engine, 0
        self._shapes = [p.shape for p in network.parameters()]
        super().__init__(network, module, config)

    def _make_optimizer(self) -> None:
        import deepspeed
        import deepspeed.utils

        self._utils = deepspeed.utils
        self._zero, *_ = deepspeed.initialize(
            model=self.module,
            optimizer=adamw(self.parameters, self.config),
            config=self._engine.zero_settings(self.config.clip_norm),
        )
        self.module, sharding = self._zero, self._zero.optimizer
        self._whole_weights = not hasattr(sharding, "fp32_partitioned_groups_flat")
        if self._whole_weights:
            self._masters = sharding.single_partition_of_fp32_groups
        else:
            self._masters = sharding.fp32_partitioned_groups_flat
        self.optimizer = sharding.optimizer
        for master in self._masters:
            begin_moments(self.optimizer, [master])
        if self._whole_weights:
            sharding._lazy_init_hp_params_optimizer_state()  # ties parameters to those moments

    def backward(self, loss: Tensor) -> None:
        """Add a slice's gradient to this rank's."""
        self._zero.backward(loss, scale_wrt_gas=False)
        self._slices_seen += 1
        if self._slices_seen < self._engine.n_slices:
            self._zero.step()  # which only counts before the last slice

    def step(self, learning_rate: float) -> Tensor:
        """Clip and step once all slices are in; give the gradient's norm before clipping, []."""
        self._set_rate(learning_rate)
        self._zero.step()
        self._slices_seen = 0
        self._average()
        norm = self._zero.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float32, device=self._engine.device)

    def _weights(self) -> list[Tensor]:
        if self._whole_weights:
            return super()._weights()
        return [p.ds_tensor for p in self.parameters]

    def state(self) -> list[Tensor]:
        """Every tensor of this rank that a step changes, to be copied and put back."""
        return [*super().state(), *self._masters]

    def renew(self) -> None:
        """After `state` was put back: make what follows from it follow again."""
        if not self._whole_weights:
            for i, p in enumerate(self.parameters):
                if p.numel():  # gathered, as small weights stay
                    p.detach().copy_(self._join(i, p.ds_tensor))

    def export(self) -> Iterator[tuple[str, Tensor, Tensors, Tensor | None]]:
        """Each parameter's name, weight, moments and average, whole, on the CPU."""
        utils = self._utils
        step = self.optimizer.state[self._masters[0]]["step"]
        for i, (name, p) in enumerate(self.network.named_parameters()):
            weight = utils.safe_get_full_fp32_param(p).view(self._shapes[i])
            moments = {
                key: on_cpu(utils.safe_get_full_optimizer_state(p, key).view(self._shapes[i]))
                for key in MOMENT_NAMES[1:]
            }
            average = None if self.averages is None else on_cpu(self._join(i, self.averages[i]))
            yield name, on_cpu(weight), {"step": on_cpu(step), **moments}, average

    @torch.no_grad()
    def load(self, name: str, weight: Tensor, moments: Tensors, average: Tensor | None) -> None:
        """Take one parameter whole; without moments it begins again, without average at weight."""
        index = [key for key, _ in self.network.named_parameters()].index(name)
        p, utils, zeros = self.parameters[index], self._utils, torch.zeros_like(weight)
        for master in self._masters:
            self.optimizer.state[master]["step"].copy_(moments.get("step", torch.zeros(())))
        values = {key: moments.get(key, zeros).to(self._engine.device) for key in MOMENT_NAMES[1:]}
        weight = weight.to(self._engine.device)
        if self._whole_weights:
            p.copy_(weight)
            utils.safe_set_full_fp32_param(p, weight)
            for key, value in values.items():
                utils.safe_set_full_optimizer_state(p, value, key)
        else:
            p.ds_tensor.copy_(self._part(p, weight))
            if p.numel():  # gathered, as small weights stay
                p.copy_(weight)
            utils.safe_set_local_fp32_param(p, self._part(p, weight))
            for key, value in values.items():
                utils.safe_set_local_optimizer_state(p, self._part(p, value), key)
        if self.averages is not None:
            whole = weight if average is None else average.to(self._engine.device)
            self.averages[index].copy_(whole if self._whole_weights else self._part(p, whole))

    def _part(self, parameter: Any, whole: Tensor) -> Tensor:
        """This rank's part of a weight; the last one may reach past the end, into zeros."""
        size = parameter.ds_tensor.numel()
        padded = torch.zeros(size * self._engine.world_size, device=whole.device)
        padded[: whole.numel()] = whole.flatten()
        return padded.narrow(0, size * self._engine.rank, size)

    def _join(self, index: int, part: Tensor) -> Tensor:
        """The whole of what every rank has a part of."""
        if self._whole_weights:
            return part
        shape = self._shapes[index]
        return self._engine.stack(part.flatten()[None]).flatten()[: shape.numel()].view(shape)
