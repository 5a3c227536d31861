"""Weights under the original release's names: in, so that its models live on here, and out again.

Only names and constructor arguments are shared with the original; a model that was trained with it
gives the same audio here. What the original carries and never uses (the last block's second 1x1) is
left out on the way in and written as zeros on the way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sptmod_dist.errors import UserError
from sptmod_dist.model.config import SPNConfig, SPTModConfig
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.model.sptmod import SPTMod

_POOLING: dict[str, Any] = {"max": "max", "avg": "average"}
_RNN = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def reference_config(arguments: Mapping[str, Any]) -> SPTModConfig:
    """Our config for the original's constructor arguments.

    Raises:
        UserError: where an argument is missing or has a value that the model does not know.
    """
    try:
        spn = None if not arguments["spnet"] else SPNConfig(
            channels=tuple(arguments["spnet_out_channels_list"]),
            kernel_sizes=tuple(arguments["spnet_kernel_size_list"]),
            dilations=tuple(arguments["spnet_dilation_list"]),
            strides=tuple(arguments["spnet_stride_list"]),
            poolings=tuple(arguments["spnet_pooling_list"]),
            pooling_type=_POOLING[arguments["spnet_pooling_type"]],
            film_hidden=tuple(arguments["spnet_film_hidden_neurons_list"]),
            linear_end=bool(arguments["spnet_linear_end"]),
            dropout=float(arguments["spnet_dropout"]),
            dropout_items=bool(arguments["spnet_dropout_full_items"]),
        )
        return SPTModConfig(
            input_channels=arguments["input_channels"],
            sidechain_channels=arguments["sidechain_channels"],
            n_params=arguments["n_params"],
            channels=tuple(arguments["s_channels_list"]),
            kernel_sizes=tuple(arguments["s_kernel_size_list"]),
            dilations=tuple(arguments["s_dilation_list"]),
            pooling_size=arguments["tfilm_block_size"],
            pooling_type=_POOLING[arguments["tfilm_pooling_type"]],
            film_hidden=tuple(arguments["film_hidden_neurons_list"]),
            cond_size=arguments["cond_size"],
            rnn_cell=arguments["rnn_cell"],
            hidden_size=arguments["rnn_hidden_size"],
            spn=spn,
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"the original's arguments lack, or have an impossible value for, {error}: give those "
            "that its constructor was called with"
        ) from None


def load_reference(
    config: Mapping[str, Any], weights: Mapping[str, Any]
) -> tuple[SPTMod, StatePredictionNetwork | None]:
    """Build both networks from the original's constructor arguments and state dict.

    Args:
        config: the original's constructor arguments, by name.
        weights: its state dict; arrays or tensors.

    Raises:
        UserError: where a weight is missing or has another shape.
    """
    ours = reference_config(config)
    effect = SPTMod(ours)
    spn = StatePredictionNetwork(ours) if ours.spn else None
    _refuse_strangers(weights, effect, spn)
    with torch.no_grad():
        for name, parameter in named_reference_parameters(effect, spn):
            if name not in weights:
                raise UserError(f"the original's weights lack {name!r}: is this its whole state?")
            value = torch.as_tensor(weights[name])
            target = parameter if value.dim() == parameter.dim() else parameter.unsqueeze(-1)
            if value.shape != target.shape:
                raise UserError(
                    f"the original's weight {name!r} is {tuple(value.shape)}, but its arguments "
                    f"ask for {tuple(target.shape)}: weights and arguments are of two models"
                )
            target.copy_(value)
    return effect, spn


def _refuse_strangers(
    weights: Mapping[str, Any], effect: SPTMod, spn: StatePredictionNetwork | None
) -> None:
    """A weight without a place means that the arguments are of a smaller model."""
    strangers = set(weights) - set(reference_weights(effect, spn))
    if strangers:
        raise UserError(
            f"the original's weights hold {min(strangers)!r}, for which its arguments have no "
            "place: weights and arguments are of two models"
        )


def reference_weights(effect: SPTMod, spn: StatePredictionNetwork | None) -> dict[str, Tensor]:
    """Both networks' weights under the original's names: a state dict that it loads."""
    weights = {n: p.detach().clone() for n, p in named_reference_parameters(effect, spn)}
    for name, value in weights.items():
        if "conv11" in name and value.dim() == 2:  # a 1x1 convolution there, a linear layer here
            weights[name] = value.unsqueeze(-1)
    config = effect.config
    P, H, end = config.pooling_size, config.hidden_size, config.n_blocks - 1
    ramp = 1 - (torch.arange(2 * P) - P).abs() / P
    for j in range(config.n_blocks):
        weights[f"s_tfilms.{j}.upsample.convt.weight"] = ramp.expand(H, 1, -1).clone()
    weights[f"s_conv11s.{end}.weight"] = torch.zeros(2 * config.channels[-1], H, 1)
    weights[f"s_conv11s.{end}.bias"] = torch.zeros(2 * config.channels[-1])
    return weights


def named_reference_parameters(
    effect: SPTMod, spn: StatePredictionNetwork | None
) -> Iterator[tuple[str, nn.Parameter]]:
    """Our parameters by the original's names; its 1x1 convolutions are linear layers here."""
    block: Any  # ModuleList forgets what it holds
    for j, block in enumerate(effect.blocks):
        yield from _affine(f"s_convs.{j}.conv", block.conv.conv)
        yield f"s_acts.{j}.weight", block.activation.weight
        for name in _RNN:
            yield f"s_tfilms.{j}.rnn.rnn.{name}", getattr(block.rnn, name)
        if block.film is not None:
            yield from _mlp(f"s_tfilms.{j}.film_nn", block.film.net)
        yield from _affine(f"s_conv11f.{j}", block.to_audio)
        if block.to_signal is not None:
            yield from _affine(f"s_conv11s.{j}", block.to_signal)
    if effect.condition is not None:
        for name, parameter in effect.condition.named_parameters():
            yield f"condnet.{name}", parameter
    if spn is not None:
        yield from _spn(spn)


def _spn(spn: StatePredictionNetwork) -> Iterator[tuple[str, nn.Parameter]]:
    block: Any
    for j, block in enumerate(spn.blocks):
        yield from _affine(f"spnet.convs.{j}", block.conv)
        yield f"spnet.acts.{j}.weight", block.activation.weight
        if block.film is not None:
            yield from _mlp(f"spnet.films.{j}", block.film.net)
    if isinstance(spn.to_states, nn.Linear):
        yield from _affine("spnet.linear_end_module", spn.to_states)


def _affine(name: str, module: Any) -> Iterator[tuple[str, nn.Parameter]]:
    yield f"{name}.weight", module.weight
    yield f"{name}.bias", module.bias


def _mlp(name: str, net: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The original nests each hidden layer with its PReLU: `0.0`, `0.1`, `1.0`, … and the end."""
    layers: list[Any] = list(net.children())
    for i in range(0, len(layers) - 1, 2):
        yield from _affine(f"{name}.{i // 2}.0", layers[i])
        yield f"{name}.{i // 2}.1.weight", layers[i + 1].weight
    yield from _affine(f"{name}.{len(layers) // 2}", layers[-1])
