"""Tests of `frozen_modules`: named modules stand still, BatchNorm statistics included."""

import pytest
import torch
from torch import nn

from meco_hub.errors import ConfigurationError
from meco_hub.training.optimization import FrozenModules


def model() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.ModuleDict({"stem": stem, "body": nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))})


def test_what_is_named_stands_still_and_the_rest_does_not() -> None:
    network = model()
    still = FrozenModules(network, ["stem"])  # pyright: ignore[reportArgumentType]
    network.train()
    still.start_epoch()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    out = network["body"](network["stem"](torch.randn(4, 3, 9, 9)))  # pyright: ignore[reportIndexIssue]
    out.pow(2).sum().backward()
    torch.optim.SGD([one for one in network.parameters() if one.requires_grad], lr=0.1).step()
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"body"}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="'stem'"):
        FrozenModules(model(), ["stam"])  # pyright: ignore[reportArgumentType]
