"""OpenVINO, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmowam_core.backends import BackendError, Network, Run
from harmowam_core.backends.cache import artefact
from harmowam_core.backends.onnx_backend import EXPORTERS, FILE, export

MODEL = "network.xml"


def has_bf16() -> bool:
    """Has the CPU bfloat16 arithmetic (AVX-512 or AMX)?"""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def load(network: Network, precision: str, cache_dir: Path | None, threads: int) -> Run:
    """OpenVINO's model, compiled for this CPU when it is loaded (about a second)."""
    import openvino as ov

    if network.example_inputs[0].device.type != "cpu":
        raise BackendError("backend 'openvino' runs on the CPU; use device 'cpu', or backend 'torch' or 'tensorrt' on a GPU")
    found = artefact(network, "openvino", (*EXPORTERS, "openvino"), cache_dir)

    def build(folder: Path) -> None:
        onnx_file = export(network, cache_dir).file(FILE)
        try:
            model = ov.convert_model(onnx_file)
        except ov.frontend.OpConversionFailure as error:
            lacks = str(error).strip().splitlines()[-1]
            raise BackendError(f"OpenVINO cannot convert {network.name} ({lacks}); use 'torch' or 'onnx'") from error
        ov.save_model(model, folder / MODEL, compress_to_fp16=False)

    found.ensure(build)
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": ov.Type.bf16 if precision == "bf16" else ov.Type.f32,
    }
    request = ov.Core().compile_model(found.file(MODEL), "CPU", config).create_infer_request()

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        results = request.infer([t.detach().contiguous().numpy() for t in x], share_inputs=True)
        return tuple(torch.from_numpy(np.array(results[i])) for i in range(len(results)))

    return run
