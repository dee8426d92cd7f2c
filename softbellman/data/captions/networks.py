"""Image networks of torchvision and timm without their classifiers; need the extra `[caption]`.

Notation: B images, P pixels a side, G grid positions, F feature width.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.text import refuse_named_pipe

DOWNLOAD = "download"
"""The word in the place of a file of weights: the library fetches its own."""
TIMM = "timm:"
"""What the names of timm's networks start with."""
FAMILIES = ("resnet", "efficientnet_")
"""The networks of torchvision."""
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels by channel."""


class Network(NamedTuple):
    """An image network.

    Attributes:
        whole: with its classifier, as its files of weights have it.
        cells: from pixels [B, 3, P, P] to the vectors of the grid, [B, G, F].
        mean, deviation: of the pixels it was trained with, by channel.
        size: the only P it takes; None: any.
    """

    whole: nn.Module
    cells: nn.Module
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_DEVIATION
    size: int | None = None


def load_network(name: str, weights: str | Path | None) -> Network:
    """A network by its name; the arguments and errors are those of `ImageEncoder`."""
    build = _build_timm if name.startswith(TIMM) else _build_torchvision
    found = build(name, weights == DOWNLOAD)
    if weights is not None and weights != DOWNLOAD:
        _load_weights(found.whole, Path(weights), name)
    return found


def _build_torchvision(name: str, download: bool) -> Network:
    models = _import_models()
    known = [known for known in models.list_models() if known.startswith(FAMILIES)]
    if name not in known:
        raise ValueError(f"encoder must be one of {', '.join(known)} or timm:NAME, got {name!r}")
    whole = _make(name, download, lambda: models.get_model(name, weights="DEFAULT" if download else None))
    # a resnet is a sequence of its children, the last two of them pooling and classifier
    trunk = nn.Sequential(*list(whole.children())[:-2]) if name.startswith("resnet") else whole.features
    return Network(whole, Cells(trunk, layout="channels first"))


def _build_timm(name: str, download: bool) -> Network:
    timm = _import_timm()
    own = name.removeprefix(TIMM)
    architecture = own.partition(".")[0]  # NAME.TAG picks one of several sets of weights
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(TIMM + other for other in near)}" if near else ""
        raise ValueError(f"encoder is no network of timm, got {name!r}{hint}")
    whole = _make(name, download, lambda: timm.create_model(own, pretrained=download))
    facts = whole.pretrained_cfg
    size = facts["input_size"][-1] if facts.get("fixed_input_size") else None
    with torch.inference_mode():
        side = size or 64
        shape = whole.eval().forward_features(torch.zeros(1, 3, side, side)).shape
    width, prefix = whole.num_features, getattr(whole, "num_prefix_tokens", 0)
    layout: Layout
    if len(shape) == 3 and shape[2] == width:
        layout = "tokens"
    elif len(shape) == 4 and width in (shape[1], shape[3]):
        layout = "channels first" if shape[1] == width else "channels last"
    else:
        raise ValueError(
            f"encoder {name} gives features of shape {tuple(shape)}, which are no grid of {width}"
        )
    cells = Cells(whole, layout=layout, prefix=prefix)
    return Network(whole, cells, tuple(facts["mean"]), tuple(facts["std"]), size)


Layout = Literal["channels first", "channels last", "tokens"]


class Cells(nn.Module):
    """The vectors of the grid from a network's last layer before the classifier, [B, G, F].

    Args:
        network: gives [B, F, H, W] (channels first), [B, H, W, F] (channels last) or [B, prefix + G, F] (tokens), by
            its `forward_features` where it has one.
        layout: which of the three.
        prefix: tokens before those of the grid, such as the class token.
    """

    def __init__(self, network: nn.Module, *, layout: Layout, prefix: int = 0) -> None:
        super().__init__()
        self.network, self.layout, self.prefix = network, layout, prefix

    def forward(self, pixels: Tensor) -> Tensor:
        network: Any = self.network
        found: Tensor = getattr(network, "forward_features", network)(pixels)
        if self.layout == "tokens":
            return found[:, self.prefix :]
        if self.layout == "channels first":
            return found.flatten(2).transpose(1, 2)  # (B, F, H, W) -> (B, G, F)
        return found.flatten(1, 2)  # (B, H, W, F) -> (B, G, F)


def _make(name: str, download: bool, build: Callable[[], Any]) -> Any:
    """The network; random weights are the same at every call, and a download that fails is one sentence."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build()
    except (
        Exception
    ) as error:  # each library has errors of its own for "no network" and for "no such weights"
        if not download:
            raise
        message = f"the weights of {name} cannot be downloaded ({_first_line(error)}); give a file of weights"
        raise OSError(message) from error


def _load_weights(network: nn.Module, path: Path, name: str) -> None:
    refuse_named_pipe(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except FileNotFoundError:
        raise MissingFileError("the weights do not exist", path=path) from None
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise DataError(f"cannot be read as weights of {name}: {_first_line(error)}", path=path) from error


def _import_models() -> Any:
    try:
        from torchvision import models
    except ImportError as error:
        raise _not_installed("torchvision", error) from error
    except RuntimeError as error:
        raise _does_not_fit(error) from error
    return models


def _import_timm() -> Any:
    """timm; its layers import torchvision, so that it needs one that loads."""
    try:
        import timm
    except ImportError as error:
        raise _not_installed("timm", error) from error
    except RuntimeError as error:
        raise _does_not_fit(error) from error
    logging.getLogger("timm").setLevel(logging.ERROR)  # says of every network where it looks for weights
    return timm


def _not_installed(library: str, error: ImportError) -> ImportError:
    lacking = error.name.partition(".")[0] if error.name else library
    beside = "" if lacking == library else f", which needs {lacking}"
    return ImportError(
        f"features from pixels by {library}{beside}: not installed; "
        "they need the extra [caption] (pip install 'softbellman[caption]')"
    )


def _does_not_fit(error: RuntimeError) -> ImportError:
    """A torchvision whose compiled operators do not load, as one built for CUDA beside a torch for the CPU."""
    return ImportError(
        f"torchvision {metadata.version('torchvision')} does not load beside torch {torch.__version__} "
        f"({_first_line(error)}): it was built for another torch, such as one with CUDA where this one is for the "
        "CPU; install both together from one index, as https://pytorch.org/get-started says, or give features "
        "that were extracted elsewhere"
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
