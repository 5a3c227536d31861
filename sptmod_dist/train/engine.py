"""The processes of a training and what passes between them; the only file that knows Accelerate.

Two networks, two rhythms: the effect network steps at every iteration, the SPN only at the first
of a group. Each has its own wrapper and its own Adam, so nobody ever looks for unused parameters
and an SPN that took no part keeps its moments untouched.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from sptmod_dist.errors import UserError
from sptmod_dist.tbptt import spn_loss

T = TypeVar("T")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
Tensors = dict[str, Tensor]


class EngineError(UserError):
    """A launch that this training cannot honour, or ranks that do not agree."""


class SharedError(EngineError):
    """An error that every rank raises alike; one message is enough."""

    everywhere = True


def _refuse_unsupported(environment: Mapping[str, str]) -> None:
    """Whatever a launcher asks for is honoured or refused, never dropped in silence."""
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        raise EngineError(
            f"the launcher asks for mixed precision {precision!r}, but this model trains in "
            "float32 (its loss divides by energies that fp16 cannot hold): launch with "
            "--mixed_precision no"
        )
    for key, name in {
        "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
        "ACCELERATE_USE_FSDP": "FSDP",
        "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    }.items():
        if environment.get(key, "false").lower() in ("1", "true", "yes"):
            raise EngineError(
                f"the launcher asks for {name}, but training is spread by DDP: launch with "
                "--config_file launch/accelerate/ddp.yaml (GPUs) or cpu.yaml"
            )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() != "no":
        raise EngineError(
            f"the launcher asks for torch.compile by {backend!r}, which does nothing for recurrent "
            "layers: launch with --dynamo_backend no"
        )
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        raise EngineError(
            f"the launcher asks for {steps} gradient accumulation steps, but each iteration of a "
            "group is one optimizer step: set it to 1 and choose batch_size instead"
        )


def _refuse_too_many(environment: Mapping[str, str]) -> None:
    """Accelerate would fail with a traceback where two processes meet on one GPU."""
    gpus, processes = torch.cuda.device_count(), int(environment.get("LOCAL_WORLD_SIZE", 1))
    if 0 < gpus < processes:
        raise EngineError(
            f"{processes} processes were launched on a machine with {gpus} GPU(s): launch one a "
            "GPU (launch/accelerate/ddp.yaml), or set CUDA_VISIBLE_DEVICES= for the CPU"
        )


class Engine:
    """This process among the others: rank, device, both networks, backward, step, agreement.

    Args:
        processes: how many there must be; None for as many as were launched.

    Raises:
        EngineError: another number of processes, or a launcher's setting that is not supported.
    """

    def __init__(self, processes: int | None = None) -> None:
        _refuse_unsupported(os.environ)
        _refuse_too_many(os.environ)
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32, on a GPU too
        cpu = not torch.cuda.is_available()
        self._accelerator = Accelerator(cpu=cpu, mixed_precision="no", dynamo_backend="no")
        self.rank = self._accelerator.process_index
        self.world_size = self._accelerator.num_processes
        self.device = self._accelerator.device
        if processes is not None and processes != self.world_size:
            raise SharedError(
                f"distributed.processes asks for {processes} processes, but {self.world_size} were "
                "launched: change one of them (accelerate launch --num_processes, or null the key)"
            )

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes files and talks to the user."""
        return self.rank == 0

    def wrap(self, effect: nn.Module, spn: nn.Module | None, learning_rate: float) -> None:
        """Take both networks, give each an Adam, and spread them over the processes."""
        self.networks = {"effect": effect} | ({"spn": spn} if spn is not None else {})
        self._wrapped: dict[str, nn.Module] = {}
        self._optimizers: dict[str, Any] = {}
        for name, network in self.networks.items():
            # DDP would broadcast rank 0's buffers before each forward pass: there must be none.
            assert not list(network.buffers())
            network.to(self.device)
            optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
            wrapped, optimizer = self._accelerator.prepare(network, optimizer)
            self._wrapped[name], self._optimizers[name] = wrapped, optimizer

    @property
    def effect(self) -> nn.Module:
        """The effect network, as the training calls it."""
        return self._wrapped["effect"]

    @property
    def spn(self) -> nn.Module | None:
        """The State Prediction Network, as the training calls it; None without one."""
        return self._wrapped.get("spn")

    def step(self, loss: Tensor, seam: tuple[Tensor, Tensor] | None) -> Tensor:
        """Backward, all-reduce and Adam for one iteration; the SPN learns where there is a seam.

        Args:
            loss: the mean over this rank's rows, [].
            seam: predicted states and their leaf, where a group starts with an SPN.

        Shape: the gradient norms of effect and SPN, [2]; the SPN's is 0 where it did not learn.
        """
        norms = [self._step("effect", loss), loss.new_zeros(())]
        if seam is not None:
            norms[1] = self._step("spn", spn_loss(seam))
        return torch.stack(norms)

    def _step(self, name: str, loss: Tensor) -> Tensor:
        self._accelerator.backward(loss)
        gradients = [p.grad for p in self.networks[name].parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._optimizers[name].step()
        self._optimizers[name].zero_grad(set_to_none=True)
        return norm

    # Agreement ---------------------------------------------------------------------------------

    def together(self, action: Callable[[], T]) -> T:
        """Run an action without collectives on every rank; where one refuses, all refuse alike.

        Raises:
            SharedError: the first refusal, with its rank where that is not 0.
        """
        try:
            result, refusal = action(), None
        except UserError as error:
            refusal = str(error)
        for rank, message in enumerate(self.gather([refusal])):
            if message is not None:
                raise SharedError(message if rank == 0 else f"[rank {rank}] {message}")
        return result

    def on_main(self, action: Callable[[], T]) -> T:
        """Run an action on rank 0 and give its result, or its refusal, to every rank.

        Raises:
            SharedError: rank 0's refusal.
        """
        packet: list[Any] = [None]
        self.together(lambda: packet.__setitem__(0, action()) if self.is_main else None)
        if self.world_size > 1:
            broadcast_object_list(packet)
        return packet[0]

    def gather(self, items: list[T]) -> list[T]:
        """All ranks' lists, joined in the order of the ranks, on every rank."""
        return gather_object(items) if self.world_size > 1 else items

    def agree(self, position: str, error: UserError | None = None) -> None:
        """Check that every rank is about to learn from the same group, and that none has failed.

        Args:
            position: what must be equal on all ranks: epoch, group, sequences.
            error: what went wrong here, if anything did; it ends all ranks.

        Raises:
            SharedError: naming the rank that failed, or both positions where two differ.
        """
        digest = hashlib.blake2b(position.encode(), digest_size=6).digest()
        mine = [float(int.from_bytes(digest, "big")), float(error is not None)]
        table = self.share(torch.tensor(mine, dtype=torch.float64))
        if table[:, 1].any():
            self.together(lambda: _raise(error))
        if (table[:, 0] != table[0, 0]).any():
            positions = self.gather([position])
            other = next(r for r, p in enumerate(positions) if p != positions[0])
            raise SharedError(
                f"the ranks have lost each other: rank 0 is at {positions[0]:.200}, rank {other} "
                f"at {positions[other]:.200}; all were stopped before they learned from it"
            )

    def share(self, values: Tensor) -> Tensor:
        """Every rank's few numbers on every rank: [n] -> [W, n], on the CPU."""
        gathered = self._accelerator.gather(values.to(self.device)[None])
        return gathered.cpu()

    # State -------------------------------------------------------------------------------------

    def export(self) -> tuple[Tensors, Tensors]:
        """Weights by parameter name, and Adam's moments and steps, in the canonical form."""
        weights, moments = {}, {}
        for name, key, parameter in self._parameters():
            weights[f"{name}.{key}"] = parameter.detach().cpu().contiguous()
            for entry, value in self._optimizers[name].state.get(parameter, {}).items():
                moments[f"{name}.{key}.{entry}"] = value.detach().cpu().contiguous()
        return weights, moments

    def load(self, weights: Tensors, moments: Tensors) -> None:
        """Take weights and moments in the canonical form, whatever engine wrote them.

        Raises:
            EngineError: a name, shape or type that is not this model's; nothing was taken then.
        """
        self._check_weights(weights)
        self._check_moments(weights, moments)
        for name, key, parameter in self._parameters():
            with torch.no_grad():
                parameter.copy_(weights[f"{name}.{key}"])
            entries = {entry: moments.get(f"{name}.{key}.{entry}") for entry in _MOMENTS}
            self._optimizers[name].state[parameter] = {
                entry: value if entry == "step" else value.to(self.device)
                for entry, value in entries.items()
                if value is not None
            }

    def _check_weights(self, weights: Tensors) -> None:
        ours = {f"{name}.{key}": p for name, key, p in self._parameters()}
        for key in sorted({*ours, *weights}):
            if key not in ours or key not in weights:
                where = "the model" if key not in ours else "the checkpoint"
                raise EngineError(f"{where} has no parameter {key}: they are of two models")
            want, have = ours[key], weights[key]
            if (want.shape, want.dtype) != (have.shape, have.dtype):
                raise EngineError(
                    f"the checkpoint's {key} is {tuple(have.shape)} {have.dtype}, the model's "
                    f"{tuple(want.shape)} {want.dtype}: they are of two models"
                )

    def _check_moments(self, weights: Tensors, moments: Tensors) -> None:
        """Adam has all three entries of a parameter that it stepped, and nothing else."""
        for key in {name.rpartition(".")[0] for name in moments}:
            shapes = [
                tuple(moments[f"{key}.{entry}"].shape) if f"{key}.{entry}" in moments else None
                for entry in _MOMENTS
            ]
            if key not in weights or shapes != [(), *2 * [tuple(weights[key].shape)]]:
                raise EngineError(
                    f"the checkpoint's optimizer moments of {key} are incomplete or of another "
                    "shape: take another checkpoint"
                )

    def _parameters(self) -> list[tuple[str, str, nn.Parameter]]:
        return [
            (name, key, parameter)
            for name, network in self.networks.items()
            for key, parameter in network.named_parameters()
        ]

    def close(self) -> None:
        """Leave the group of processes."""
        self._accelerator.end_training()


def _raise(error: UserError | None) -> None:
    if error is not None:
        raise error
