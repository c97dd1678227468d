"""The check at start-up: two different pictures through the network, and a look at what comes out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adapters.answers import Form, ToLogits, named_logits
from adapters.errors import UnsupportedModelError
from adapters.network import eager
from app.errors import ModelError
from app.models.hosted import Preprocessing

CLOSE = 1e-3
"""How far from one the sum of a row may be that counts as probabilities: half precision rounds that much."""

_RESHAPING = ("View", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy", "Clone", "Reshape", "Alias", "Clamp")
"""Names of autograd's nodes that may stand behind a sigmoid and leave its numbers within 0 and 1."""


class Trial(NamedTuple):
    """A network as it is to be hosted, how many classes it tells apart, and what a person should know of it."""

    network: nn.Module
    classes: int
    notes: tuple[str, ...]
    is_binary: bool = False  # one output, of a class that is there or not


def try_network(network: nn.Module, preprocessing: Preprocessing) -> Trial:
    """Run a network in ``eval()`` on two pictures, and make its output logits ``[n, classes]`` where it is not.

    That is done by a hook, so its layers keep their names. What `torch.compile` or `nn.DataParallel` put around it is
    left off. Weights of other types become float32, which `AdaptiveModel` turns into what the settings ask for.

    Raises:
        ModelError: it fails, its weights or its output hold numbers that no trained network has, or the output is no
            tensor of scores.
    """
    network = eager(network, inside=True)
    notes = _to_float32(network)
    images = pictures(preprocessing)
    output = _run(network, images)
    check_weights(network)
    name, logits = _logits(output, len(images))
    if name:
        notes.append(f"its output '{name}' is served, the others are left out")
    if not bool(logits.isfinite().all()):
        raise ModelError(
            "the network's output is not finite for ordinary pictures",
            hint="check the weights and the type that they were trained in; float16 overflows where bfloat16 does not",
        )
    if len(logits) > 1 and torch.equal(logits[0], logits[1]):
        notes.append("it gives the same output for two different pictures: are these trained weights?")
    return _as_logits(network, logits.float(), notes, images, is_alone=isinstance(output, Tensor))


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


def _to_float32(network: nn.Module) -> list[str]:
    tensors = [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors} - {"float32"}
    if not kinds:
        return []
    network.float()
    return [f"its weights were {', '.join(sorted(kinds))} and became float32; --dtype bfloat16 runs them in half"]


def _run(network: nn.Module, images: Tensor) -> object:
    try:
        with torch.no_grad():
            return network(images)
    except Exception as error:
        channels, height, width = images.shape[1:]
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
        raise ModelError(
            f"the network fails on two {kind} images of {height} x {width} pixels: {type(error).__name__}: {error}",
            hint="give the size it was trained for with --size, and with --mean and --std as many numbers as it takes "
            f"channels; its input is float32 [n, {channels}, {height}, {width}]",
        ) from error


def _logits(output: object, images: int) -> tuple[str, Tensor]:
    """The scores ``[images, classes]`` in what a network answers, and their name; none where it answers them alone."""
    try:
        name, logits = named_logits(output)
    except UnsupportedModelError as error:
        raise ModelError(str(error)) from error
    if logits.shape == (images,):
        return name, logits.view(images, 1)
    if logits.dim() == 2 and len(logits) == images and logits.shape[1] > 0:
        return name, logits
    what = f"a {type(output).__name__}, its '{name}'" if name else "a tensor"
    raise ModelError(
        f"the network answers {images} images with {what} of shape {list(logits.shape)}, expected logits of shape "
        f"[{images}, classes]",
        hint="wrap it in a module whose forward returns the logits alone",
    )


def _as_logits(network: nn.Module, output: Tensor, notes: list[str], images: Tensor, *, is_alone: bool) -> Trial:
    form, note = _form(network, output, images)
    if form != "logits" or not is_alone:
        network.register_forward_hook(ToLogits(form))
    is_binary = output.shape[1] == 1
    return Trial(network, 2 if is_binary else output.shape[1], (*notes, *([note] if note else ())), is_binary)


def _form(network: nn.Module, output: Tensor, images: Tensor) -> tuple[Form, str]:
    """What the answers mean, and what is said of it."""
    is_within = bool((output >= 0).all() and (output <= 1).all())
    if is_within and bool(((output.sum(1) - 1).abs() < CLOSE).all()) and output.shape[1] > 1:
        return "probabilities", "it ends in a softmax: its output is taken as probabilities"
    is_sigmoid = is_within and _ends_in_sigmoid(network, images)
    if output.shape[1] == 1 and is_sigmoid:
        return "probability", "it has one output and ends in a sigmoid: taken as the probability of its class"
    if output.shape[1] == 1:
        return "logit", "it has one output: taken as the logit of its class, whose probability is the sigmoid"
    if is_sigmoid:
        raise ModelError(
            "the network ends in a sigmoid: its outputs lie within 0 and 1 and do not sum to one, as for images of "
            "several labels",
            hint="classes that exclude each other are served: return the scores before the sigmoid",
        )
    return "logits", ""


def _ends_in_sigmoid(network: nn.Module, images: Tensor) -> bool:
    """Whether the last operation that computes anything is a sigmoid.

    Logits may lie within 0 and 1 by chance, so autograd is asked what made them. A network that keeps gradients out
    does not tell, and numbers within 0 and 1 for both pictures have to do.
    """
    with torch.enable_grad():
        _, output = named_logits(network(images.clone().requires_grad_()))
    node = output.grad_fn
    while node is not None and any(word in node.name() for word in _RESHAPING):
        node = next((step for step, _ in node.next_functions if step is not None), None)
    return node is None or "Sigmoid" in node.name()
