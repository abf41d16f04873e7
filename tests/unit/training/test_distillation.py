"""Tests of distillation: the extra layer's loss, what it trains, and what it leaves alone."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.errors import ConfigurationError
from meco_hub.training.losses import Distillation, build_teacher
from meco_hub.training.recipes import DistillationRecipe


class Student(nn.Module):
    main_input_name = "pixel_values"
    config = SimpleNamespace(id2label={0: "three", 1: "one"})

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.classifier = nn.Linear(6, 2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.tanh(self.body(pixel_values)))


class Teacher(nn.Module):
    outputs = ("one", "two", "three")

    def __init__(self, gain: float = 3.0) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        with torch.no_grad():
            self.layer.weight.mul_(gain)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.layer(pixel_values)


def recipe(**options: float) -> DistillationRecipe:
    return DistillationRecipe(teacher="a.module:Teacher", options=options)


def distil(
    student: Student, teacher: nn.Module, weight: float = 1.0, direct: float = 0.0, t: float = 1.0
) -> Distillation:
    weights = DistillationRecipe(teacher="a.module:Teacher", weight=weight, direct_weight=direct, temperature=t)
    built = Distillation(student, teacher, weights)  # pyright: ignore[reportArgumentType]
    built.watch()
    return built


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[Student, nn.Module]:
    monkeypatch.setattr("meco_hub.plugins.load_dotted", lambda path: Teacher)
    torch.manual_seed(0)
    return Student(), build_teacher(recipe(gain=3.0))


def test_the_teacher_stands_still(pair: tuple[Student, nn.Module]) -> None:
    _, teacher = pair
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_wrong_options_of_the_teacher_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meco_hub.plugins.load_dotted", lambda path: Teacher)
    with pytest.raises(ConfigurationError, match="height"):
        build_teacher(recipe(height=3.0))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_is_the_formula(pair: tuple[Student, nn.Module], temperature: float) -> None:
    student, teacher = pair
    distillation = distil(student, teacher, weight=0.5, t=temperature)
    pixels = torch.randn(5, 4)
    loss = distillation({"pixel_values": pixels}, student(pixels))
    target = torch.softmax(teacher(pixels) / temperature, -1)
    foreseen = distillation.layer(torch.tanh(student.body(pixels))) / temperature
    expected = 0.5 * temperature**2 * -(target * F.log_softmax(foreseen, -1)).sum(-1).mean()
    torch.testing.assert_close(loss, expected)


def test_the_loss_shapes_the_features_and_not_the_classifier(pair: tuple[Student, nn.Module]) -> None:
    student, teacher = pair
    distillation = distil(student, teacher)
    pixels = torch.randn(5, 4)
    distillation({"pixel_values": pixels}, student(pixels)).backward()
    assert student.body.weight.grad is not None
    assert student.body.weight.grad.abs().sum() > 0
    assert student.classifier.weight.grad is None
    assert distillation.layer.weight.grad is not None


def test_a_student_learns_what_the_teacher_says(pair: tuple[Student, nn.Module]) -> None:
    student, teacher = pair
    distillation = distil(student, teacher)
    optimizer = torch.optim.Adam([*student.parameters(), *distillation.parameters()], lr=0.02)
    pixels = torch.randn(256, 4)
    for _ in range(150):
        optimizer.zero_grad()
        distillation({"pixel_values": pixels}, student(pixels)).backward()
        optimizer.step()
    with torch.no_grad():
        agreed = distillation.layer(torch.tanh(student.body(pixels))).argmax(-1) == teacher(pixels).argmax(-1)
    assert agreed.float().mean() > 0.9


def test_state_holds_the_extra_layer_only_and_the_student_keeps_its_names(pair: tuple[Student, nn.Module]) -> None:
    student, teacher = pair
    names = set(student.state_dict())
    distillation = distil(student, teacher)
    assert set(distillation.state_dict()) == {"layer.weight", "layer.bias"}
    assert set(student.state_dict()) == names


def test_copies_made_before_and_passes_in_evaluation_are_not_watched(pair: tuple[Student, nn.Module]) -> None:
    student, teacher = pair
    average = copy.deepcopy(student)
    distillation = distil(student, teacher)
    pixels = torch.randn(5, 4)
    expected = distillation({"pixel_values": pixels}, student(pixels))
    logits = student(pixels)
    average(torch.randn(7, 4))
    student.eval()
    student(torch.randn(7, 4))
    torch.testing.assert_close(distillation({"pixel_values": pixels}, logits), expected)


def test_a_student_without_a_linear_classifier_is_refused(pair: tuple[Student, nn.Module]) -> None:
    student, teacher = pair
    student.classifier = nn.Sequential()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConfigurationError, match="classifier"):
        distil(student, teacher)


def test_agreeing_compares_classes_by_name_and_trains_the_classifier(pair: tuple[Student, nn.Module]) -> None:
    student, teacher = pair
    distillation = distil(student, teacher, weight=0.0, direct=0.5, t=2.0)
    pixels = torch.randn(5, 4)
    logits = student(pixels)
    loss = distillation({"pixel_values": pixels}, logits)
    target = torch.softmax(teacher(pixels)[:, [2, 0]] / 2, -1)  # the student's order is three, one
    torch.testing.assert_close(loss, 0.5 * 4 * -(target * F.log_softmax(logits / 2, -1)).sum(-1).mean())
    loss.backward()
    assert student.classifier.weight.grad is not None
    assert student.classifier.weight.grad.abs().sum() > 0


def test_agreeing_without_common_classes_is_refused(
    pair: tuple[Student, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = pair
    monkeypatch.setattr(Student, "config", SimpleNamespace(id2label={0: "four", 1: "one"}))
    with pytest.raises(ConfigurationError, match="share"):
        distil(student, teacher, direct=1.0)
