"""The check at start-up: two different pictures through the network, and tests of its output."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from adapters.engine.calling import GlobalStateGuard
from adapters.engine.network import eager, hold_in_eval
from adapters.engine.outputs import ToLogits
from adapters.errors import UnsupportedModelError
from app.errors import ModelError
from app.models.hosted import Preprocessing
from app.models.output_form import form_of, scores_of

CASTS = "its forward converts its input to that dtype"


class Trial(NamedTuple):
    """A network ready to be hosted, its number of classes, and notes for the user."""

    network: nn.Module
    classes: int
    notes: tuple[str, ...]
    is_binary: bool = False  # one output, of a class that is there or not
    casts: bool = False  # its forward converts its input to the type of its weights, so that must stay


def try_network(network: nn.Module, preprocessing: Preprocessing) -> Trial:
    """Run a network in ``eval()`` on two pictures, and make its output logits ``[n, classes]`` where it is not.

    That is done by a hook, so its layers keep their names. What `torch.compile` or `nn.DataParallel` put around it is
    left off, and it stays in ``eval()``. Weights of other types become float32, which `AdaptiveModel` turns into what
    the settings ask for.

    Raises:
        ModelError: it fails, its weights or its output hold numbers that no trained network has, or the output is no
            tensor of scores.
    """
    network = eager(network, inside=True)
    stubborn = hold_in_eval(network)
    notes = [f"eval() left {', '.join(stubborn[:5])} in training mode: set to evaluation mode too"] if stubborn else []
    images = pictures(preprocessing)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers() if not is_lazy(buffer)}
    output, types = _in_float32(network, images)
    check_weights(network)
    try:
        name, logits = scores_of(output, len(images))
        check_scores(logits)
        repeated = scores_of(_try_forward(network, images), len(images))[1]
        is_alone = isinstance(output, Tensor)
        form, meaning = form_of(lambda x: _forward(network, x), logits.float(), images)
    except UnsupportedModelError as error:
        raise ModelError(str(error)) from error
    finally:
        changed = _restore_buffers(network, buffers)
    if form != "logits" or not is_alone:
        network.register_forward_hook(ToLogits(form))
    notes += [*types, f"of its output, '{name}' is served" if name else "", meaning]
    notes += [_output_note(logits, repeated, changed), *_layer_notes(network)]
    is_binary = logits.shape[1] == 1
    return Trial(
        network,
        2 if is_binary else logits.shape[1],
        tuple(filter(None, notes)),
        is_binary,
        any(CASTS in line for line in types),
    )


def pictures(preprocessing: Preprocessing) -> Tensor:
    """Two pictures as the network takes them, ``[2, channels, height, width]``: coloured noise, and a ramp of light."""
    height, width = preprocessing.height, preprocessing.width
    noise = torch.rand(preprocessing.channels, height, width, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0, 1, width).expand(preprocessing.channels, height, width)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (torch.stack([noise, ramp]) - mean) / std


def check_weights(network: nn.Module) -> None:
    """Refuse numbers that no trained network has.

    Raises:
        ModelError: a weight is NaN or infinite, or a running variance negative; the tensor is named.
    """
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor) or not tensor.is_floating_point():
            continue
        wrong = ~tensor.isfinite()
        if bool(wrong.any()):
            raise ModelError(
                f"the weights '{name}' contain {int(wrong.sum())} values that are not finite (NaN or infinite)",
                hint="the training diverged or the file is damaged: take an earlier checkpoint",
            )
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ModelError(
                f"the variances '{name}' contain negative values",
                hint="the file is damaged, or its keys belong to other layers",
            )


def check_scores(logits: Tensor) -> None:
    """Refuse scores of ordinary pictures that are not finite.

    Raises:
        ModelError: one is NaN or infinite.
    """
    if not bool(logits.isfinite().all()):
        raise ModelError(
            "the network's output is not finite for ordinary pictures",
            hint="check the weights and the type that they were trained in; float16 overflows where bfloat16 does not",
        )


def _in_float32(network: nn.Module, images: Tensor) -> tuple[object, list[str]]:
    """Return the output of the network, with weights in float32 where its forward allows it, and notes."""
    places = [
        (place, name, tensor, tensor.data)
        for module in network.modules()
        for place in (module._parameters, module._buffers)
        for name, tensor in place.items()
        if tensor is not None and tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    if not places:
        return _try_forward(network, images), []
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for _, _, tensor, _ in places}))
    network.float()
    try:
        note = f"its weights were {kinds} and became float32; --dtype bfloat16 runs them in half"
        return _try_forward(network, images), [note]
    except ModelError as failure:
        for place, name, tensor, data in places:
            tensor.data = data
            place[name] = tensor  # type: ignore[assignment]
        try:
            return _try_forward(network, images), [f"its weights stay {kinds}: {CASTS}"]
        except ModelError:
            raise failure from failure.__cause__


def _forward(network: nn.Module, images: Tensor) -> object:
    with GlobalStateGuard():
        return network(images.clone())  # networks may write to their input


def _try_forward(network: nn.Module, images: Tensor) -> object:
    try:
        with torch.no_grad():
            return _forward(network, images)
    except Exception as error:
        channels, height, width = images.shape[1:]
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
        is_call = isinstance(error, TypeError) and "argument" in str(error)
        raise ModelError(
            f"the network fails on two {kind} images of {height} x {width} pixels: {type(error).__name__}: {error}",
            hint="wrap it in a module whose forward takes a batch of images and nothing else"
            if is_call
            else "give the size it was trained for with --size, and with --mean and --std as many numbers as it takes "
            f"channels; its input is float32 [n, {channels}, {height}, {width}]",
        ) from error


def _restore_buffers(network: nn.Module, saved: dict[str, Tensor]) -> list[str]:
    """Undo the changes of forwards to a network's buffers, and return the names of those changed."""
    tensors = {name: buffer for name, buffer in network.named_buffers() if name in saved}
    changed = [name for name, buffer in tensors.items() if not buffer.equal(saved[name].to(buffer))]
    for name in changed:
        tensors[name].data.copy_(saved[name])
    return changed


def _layer_notes(network: nn.Module) -> list[str]:
    """Return notes on the network's normalization layers."""
    modules = dict(network.named_modules())
    buffers = {name.rpartition(".")[0] for name, _ in network.named_buffers() if name.endswith("running_var")}
    unadapted = [
        f"{name} ({type(module).__name__})"
        for name, module in modules.items()
        if name in buffers and not isinstance(module, _BatchNorm)
    ]
    notes = []
    if unadapted:
        listed = ", ".join(unadapted[:5]) + (", ..." if len(unadapted) > 5 else "")
        notes.append(f"{len(unadapted)} layers with statistics are not PyTorch's BatchNorm and not adapted: {listed}")
    statistics = [(m.running_mean, m.running_var) for m in modules.values() if isinstance(m, _BatchNorm)]
    if statistics and all(
        mean is not None and var is not None and not mean.any() and bool((var == 1).all()) for mean, var in statistics
    ):
        notes.append("its BatchNorm statistics are those of untrained layers: are its weights loaded?")
    return notes


def _output_note(logits: Tensor, repeated: Tensor, changed: list[str]) -> str:
    """Return a note on a network whose output is random, constant or has side effects; else an empty text."""
    if changed:
        return f"its forward writes to its own tensors ({', '.join(changed[:5])}), which were restored"
    if not torch.equal(logits, repeated):
        return "its output for the same pictures changes from call to call: its forward is random or stateful"
    if torch.equal(logits[0], logits[1]):
        return "it gives the same output for two different pictures: are these trained weights?"
    return ""
