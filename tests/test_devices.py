"""The precision that a device gets: bf16 only where it is not emulated, unless asked for."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from common.devices import has_bf16, memory_format, pick_device, pick_precision, training_precision
from common.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SLOW_BF16 = ("fp32", "as this CPU is not known to train faster in bf16")


@pytest.fixture
def gpu(monkeypatch):
    """A function that pretends to a GPU of some compute capability (T4 7.5, A100 8.0)."""

    def pretend(major: int) -> None:
        properties = SimpleNamespace(major=major)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device", nullcontext)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.version, "hip", None)

    return pretend


@pytest.mark.parametrize(("major", "precision"), [(7, "fp32"), (8, "bf16"), (9, "bf16")])
def test_a_gpu_gets_bf16_only_where_it_is_not_emulated(gpu, capsys, major, precision) -> None:
    gpu(major)
    assert pick_precision(None, GPU) == precision
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("capability", "fast"),
    [("DEFAULT", False), ("AVX2", False), ("AVX512", True), ("SVE256", True)],
)
def test_emulated_bf16_on_a_cpu_is_done_with_a_warning(
    monkeypatch, capsys, capability, fast
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert has_bf16(CPU) == fast
    assert pick_precision("bf16", CPU) == "bf16"
    assert ("this CPU only emulates bf16" in capsys.readouterr().out) != fast


def test_a_cpu_computes_in_fp32_unless_asked(capsys) -> None:
    assert pick_precision(None, CPU) == "fp32"
    assert pick_precision("fp32", CPU) == "fp32"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, ("bf16", "as this CPU has amx_bf16")),
        ({"amx_bf16": False, "avx512_bf16": True}, ("bf16", "as this CPU has avx512_bf16")),
        (
            {"avx512_bf16": True, "cpu_name": "AMD EPYC 9654"},
            ("bf16", "as this CPU has avx512_bf16"),
        ),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, SLOW_BF16),
        ({"amx_bf16": True, "cpu_name": "Intel Xeon"}, ("bf16", "as this CPU has amx_bf16")),
        ({"avx512_f": True}, SLOW_BF16),
        ({}, SLOW_BF16),
    ],
)
def test_a_training_on_a_cpu_goes_by_what_the_cpu_has(monkeypatch, capabilities, expected) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert training_precision(None, CPU) == expected
    assert training_precision("fp32", CPU) == ("fp32", "as asked")
    assert pick_precision(None, CPU) == "fp32"  # to compare and to predict
    monkeypatch.setattr(
        torch.backends.cpu, "get_cpu_capability", lambda: "AVX2"
    )  # told to use less
    assert training_precision(None, CPU)[0] == "fp32"


def test_a_training_on_a_pytorch_that_does_not_tell_takes_fp32(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert training_precision(None, CPU)[0] == "fp32"


@pytest.mark.parametrize(
    ("major", "expected"),
    [(7, ("fp32", "as this GPU emulates bf16")), (9, ("bf16", "as this GPU computes bf16"))],
)
def test_a_training_on_a_gpu_says_why(gpu, major, expected) -> None:
    gpu(major)
    assert training_precision(None, GPU) == expected


def test_a_gpu_that_emulates_bf16_says_so(gpu, capsys) -> None:
    gpu(7)
    assert pick_precision("bf16", GPU) == "bf16"
    assert "this GPU only emulates bf16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("AVX2", torch.contiguous_format), ("AVX512", torch.channels_last)],
)
def test_channels_come_last_where_that_is_faster(monkeypatch, capability, expected) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert memory_format(CPU) == expected
    assert memory_format(GPU) == torch.channels_last


def test_the_gpu_of_a_command_becomes_the_current_one(gpu, monkeypatch) -> None:
    gpu(9)
    current = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("auto") == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == torch.device("cuda:1")
    assert current == [torch.device("cuda:1"), torch.device("cuda:0"), torch.device("cuda:1")]


def test_a_gpu_that_is_not_there_is_named(gpu, monkeypatch) -> None:
    gpu(9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="--device cuda:2: there are 2 CUDA devices"):
        pick_device("cuda:2")
