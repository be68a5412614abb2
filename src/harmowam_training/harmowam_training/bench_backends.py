"""``harmowam bench backends``: how long imagination, each expert and the gate take by backend, and how near they stay to PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from harmowam_core.results import commit, write_json
from harmowam_training.engines import Json

if TYPE_CHECKING:
    from harmowam_core.stages import Imagination, Observation
    from harmowam_training.recorded import Models

CPU_BACKENDS = ("torch", "torch_bf16", "onnx", "openvino")
STAGES = ("imagination", "predictive_expert", "reactive_expert", "gate")
WARM_UP = 5


def bench(
    backend: Annotated[str, typer.Option(help="Backends to compare with torch, separated by commas; all: those of a CPU.")] = "all",
    repeats: Annotated[int, typer.Option(min=2, help="Calls measured, by backend and number of threads.")] = 100,
    threads: Annotated[str, typer.Option(help="Numbers of threads, separated by commas.")] = "1,2",
    preset: Annotated[str, typer.Option(help="Preset by name, or path of a preset file.")] = "compact",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_to: Json = "",
) -> None:
    """Milliseconds of whole calls on recorded observations, backends alternating, and the cosine of every network to PyTorch in float32."""
    from harmowam_core.backends import BackendError, backend_named
    from harmowam_core.presets import PresetError

    console = Console(stderr=json_to == "-", highlight=False, soft_wrap=True)
    try:
        names = CPU_BACKENDS if backend == "all" else ("torch", *(backend_named(n) for n in backend.split(",") if n != "torch"))
        results = measure(names, repeats, [int(n) for n in threads.split(",")], preset, device, console)
    except (PresetError, BackendError, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    write_json(json_to, results)
    if json_to != "-":
        _print(results, console)


def measure(names: tuple[str, ...], repeats: int, threads: list[int], preset: str, device: str, console: Console) -> dict[str, Any]:
    """Timings {threads: {backend: {stage: {p50, p95, speedup}}}} in ms, and {backend: {network: {cosine, max_error}}}."""
    import psutil
    import torch
    from rich.progress import track

    from harmowam_core.backends import compare
    from harmowam_training.recorded import load_models, recorded_inputs, recorded_observations

    seen = recorded_observations()
    timings: dict[str, Any] = {}
    agreement: dict[str, Any] = {}
    for count in threads:
        torch.set_num_threads(count)
        models = {name: load_models(preset, name, device) for name in names}
        dreams = [models["torch"].imagine(observation) for observation in seen]
        times: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in STAGES} for name in names}
        for number in track(range(-WARM_UP, repeats), description=f"{count} threads", console=console, transient=True):
            observation, dream = seen[number % len(seen)], dreams[number % len(seen)]
            for name in names:
                took_ms = _timed(models[name], observation, dream)
                if number >= 0:
                    for stage, value in took_ms.items():
                        times[name][stage].append(value)
        timings[str(count)] = {name: _summary(times[name], times["torch"]) for name in names}
        if not agreement:
            inputs = recorded_inputs(models["torch"], seen)
            for name in names:
                agreement[name] = {}
                for network, compiled in models[name].compiled.items():
                    found = compare(compiled.outputs, models["torch"].compiled[network].network.module, inputs[network])
                    agreement[name][network] = {"cosine": min(a.cosine for a in found), "max_error": max(a.max_error for a in found)}
    return {
        "preset": preset,
        "device": device,
        "repeats": repeats,
        "observations": len(seen),
        "cpu_count": psutil.cpu_count(),
        "load_average": psutil.getloadavg()[0],
        "timings_ms": timings,
        "agreement": agreement,
        "commit": commit(),
    }


def _timed(models: Models, observation: Observation, dream: Imagination) -> dict[str, float]:
    def took(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - began)

    return {
        "imagination": took(lambda: models.imagine(observation)),
        "predictive_expert": took(lambda: models.predictive.act([observation], [dream])),
        "reactive_expert": took(lambda: models.reactive.act([observation], [dream])),
        "gate": took(lambda: models.gate.score([observation])),
    }


def _summary(times: dict[str, list[float]], baseline: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        stage: {
            "p50": round(float(np.median(values)), 3),
            "p95": round(float(np.quantile(values, 0.95)), 3),
            "speedup": round(float(np.median(baseline[stage]) / np.median(values)), 3),
        }
        for stage, values in times.items()
    }


def _print(results: dict[str, Any], console: Console) -> None:
    table = Table(title="p50 / p95 ms (times as fast as torch in float32)", box=None, pad_edge=False)
    for column in ("threads", "backend", *STAGES, "least cosine"):
        table.add_column(column.replace("_", " "))
    for count, by_backend in results["timings_ms"].items():
        for name, stages in by_backend.items():
            cells = (f"{s['p50']:.1f} / {s['p95']:.1f} ({s['speedup']:.2f})" for s in stages.values())
            cosine = min(results["agreement"][name].values(), key=lambda a: a["cosine"])["cosine"]
            table.add_row(count, name, *cells, f"{cosine:.6f}")
    console.print(table)
    console.print(f"{results['cpu_count']} cores, load average {results['load_average']:.1f}, {results['repeats']} calls each")
