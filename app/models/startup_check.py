"""The check at start-up: two different pictures through the network, and a look at what comes out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from adapters.engine.calling import SwitchesKept
from adapters.engine.network import eager, hold_in_eval
from adapters.engine.outputs import ToLogits
from adapters.errors import UnsupportedModelError
from app.errors import ModelError
from app.models.hosted import Preprocessing
from app.models.output_form import form_of, scores_of

CASTS = "its forward converts its input to that itself"


class Trial(NamedTuple):
    """A network as it is to be hosted, how many classes it tells apart, and what a person should know of it."""

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
    notes = [f"eval() left {', '.join(stubborn[:5])} in training mode: put in evaluation mode too"] if stubborn else []
    images = pictures(preprocessing)
    kept = {name: buffer.clone() for name, buffer in network.named_buffers() if not is_lazy(buffer)}
    output, types = _in_float32(network, images)
    check_weights(network)
    try:
        name, logits = scores_of(output, len(images))
        check_scores(logits)
        again = scores_of(_run(network, images), len(images))[1]
        is_alone = isinstance(output, Tensor)
        form, meaning = form_of(lambda x: _called(network, x), logits.float(), images)
    except UnsupportedModelError as error:
        raise ModelError(str(error)) from error
    finally:
        changed = _put_back(network, kept)
    if form != "logits" or not is_alone:
        network.register_forward_hook(ToLogits(form))
    notes += [*types, f"of its output, '{name}' is served" if name else "", meaning]
    notes += [_of_answers(logits, again, changed), *_of_layers(network)]
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
                f"the weights '{name}' hold {int(wrong.sum())} numbers that are not finite",
                hint="the training diverged or the file is damaged: take an earlier checkpoint",
            )
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ModelError(
                f"the variances '{name}' are negative", hint="the file is damaged, or its keys belong to other layers"
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
    """What the network answers, with its weights in float32 where its forward allows that; and what is said of it."""
    places = [
        (place, name, tensor, tensor.data)
        for module in network.modules()
        for place in (module._parameters, module._buffers)
        for name, tensor in place.items()
        if tensor is not None and tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    if not places:
        return _run(network, images), []
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for _, _, tensor, _ in places}))
    network.float()
    try:
        note = f"its weights were {kinds} and became float32; --dtype bfloat16 runs them in half"
        return _run(network, images), [note]
    except ModelError as failure:
        for place, name, tensor, data in places:
            tensor.data = data
            place[name] = tensor  # type: ignore[assignment]
        try:
            return _run(network, images), [f"its weights stay {kinds}: {CASTS}"]
        except ModelError:
            raise failure from failure.__cause__


def _called(network: nn.Module, images: Tensor) -> object:
    with SwitchesKept():
        return network(images.clone())  # networks may write to their input


def _run(network: nn.Module, images: Tensor) -> object:
    try:
        with torch.no_grad():
            return _called(network, images)
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


def _put_back(network: nn.Module, kept: dict[str, Tensor]) -> list[str]:
    """Undo what forwards did to a network's buffers; which they were."""
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in kept}
    changed = [name for name, buffer in buffers.items() if not buffer.equal(kept[name].to(buffer))]
    for name in changed:
        buffers[name].data.copy_(kept[name])
    return changed


def _of_layers(network: nn.Module) -> list[str]:
    """What is said of its normalization."""
    modules = dict(network.named_modules())
    buffers = {name.rpartition(".")[0] for name, _ in network.named_buffers() if name.endswith("running_var")}
    others = [
        f"{name} ({type(module).__name__})"
        for name, module in modules.items()
        if name in buffers and not isinstance(module, _BatchNorm)
    ]
    notes = []
    if others:
        listed = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        notes.append(f"{len(others)} layers with statistics are not of PyTorch's BatchNorm and not adapted: {listed}")
    statistics = [(m.running_mean, m.running_var) for m in modules.values() if isinstance(m, _BatchNorm)]
    if statistics and all(
        mean is not None and var is not None and not mean.any() and bool((var == 1).all()) for mean, var in statistics
    ):
        notes.append("its BatchNorm statistics are those of layers that never trained: are its weights loaded?")
    return notes


def _of_answers(logits: Tensor, again: Tensor, changed: list[str]) -> str:
    """What is said of how its answers come about."""
    if changed:
        return f"its forward writes to its own tensors ({', '.join(changed[:5])}), which were put back"
    if not torch.equal(logits, again):
        return "it answers the same pictures otherwise each time: there is chance or a memory in its forward"
    if torch.equal(logits[0], logits[1]):
        return "it gives the same output for two different pictures: are these trained weights?"
    return ""
