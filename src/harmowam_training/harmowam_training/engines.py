"""``harmowam engines``: what the backends run from, built beforehand, checked against PyTorch on recorded observations, and listed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from harmowam_core.results import write_json

ENGINE_BACKENDS = ("onnx", "openvino", "tensorrt")

Json = Annotated[str, typer.Option("--json", metavar="[FILE]", help="Results as JSON to FILE; without FILE to standard output.")]


def build(
    preset: Annotated[str, typer.Option(help="Preset by name, or path of a preset file.")] = "compact",
    backend: Annotated[str, typer.Option(help="onnx, openvino, tensorrt, or all that can be built here.")] = "all",
    out: Annotated[Path | None, typer.Option(help="Cache folder; default: the user's, which the nodes read.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of weights; default: those of the preset.")] = None,
    compute_capability: Annotated[str, typer.Option(help="GPU that TensorRT builds for where none is here, such as 8.9.")] = "8.9",
    json_to: Json = "",
) -> None:
    """Build the engines of every network of a preset, and compare each with PyTorch; exit 1 if one cannot be built or disagrees."""
    from harmowam_core.backends import BackendError
    from harmowam_core.presets import PresetError

    console = Console(stderr=json_to == "-", highlight=False, soft_wrap=True)
    try:
        chosen = chosen_backends(backend)
        result = build_engines(preset, chosen, out, weights, capability_of(compute_capability), console, skip=backend == "all")
    except (PresetError, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    except BackendError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    write_json(json_to, result)
    if json_to != "-":
        _print_built(result, console)


def list_engines(
    out: Annotated[Path | None, typer.Option(help="Cache folder; default: the user's.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what is stale or damaged.")] = False,
    json_to: Json = "",
) -> None:
    """List the engines in the cache, and which of them are stale or damaged."""
    from harmowam_core.backends import cache

    console = Console(stderr=json_to == "-", highlight=False, soft_wrap=True)
    rows = []
    for folder, manifest, fault in cache.entries(out):
        size = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
        rows.append(
            {
                "network": manifest.get("network", folder.parent.name),
                "kind": folder.name,
                "bytes": size,
                "built": manifest.get("built", ""),
                "state": fault or "current",
                "folder": str(folder),
            }
        )
        if prune and fault:
            cache.remove(folder)
            rows[-1]["state"] += " (deleted)"
    write_json(json_to, {"cache": str(out or cache.default_cache_dir()), "engines": rows})
    if json_to != "-":
        table = Table(box=None, pad_edge=False)
        for column in ("network", "engine", "MB", "built", "state"):
            table.add_column(column, justify="right" if column == "MB" else "left")
        for row in rows:
            table.add_row(row["network"], row["kind"], f"{row['bytes'] / 1e6:.1f}", row["built"], row["state"])
        console.print(table if rows else "no engines; `harmowam engines build` makes them")


def chosen_backends(name: str) -> tuple[str, ...]:
    """All, or the one of that name; ValueError where it has no engines."""
    from harmowam_core.backends import OTHER_NAMES

    if name == "all":
        return ENGINE_BACKENDS
    if (known := OTHER_NAMES.get(name, name)) not in ENGINE_BACKENDS:
        raise ValueError(f"no engines for backend '{name}'; give {', '.join(ENGINE_BACKENDS)} or all")
    return (known,)


def capability_of(text: str) -> tuple[int, int]:
    """ "8.9" to (8, 9); ValueError for anything else."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise ValueError(f"compute capability is '{text}', expected major.minor such as 8.9")
    return int(major), int(minor)


def build_engines(
    preset: str,
    backends: Sequence[str],
    cache_dir: Path | None,
    weights: Path | None,
    capability: tuple[int, int],
    console: Console,
    *,
    skip: bool,
) -> dict[str, Any]:
    """Build and check; one row a network and backend. ``skip``: leave out, and name, the backends that cannot build here.

    Raises BackendError where one cannot build (unless skipped) or a network disagrees.
    """
    from harmowam_core.backends import cache
    from harmowam_training.recorded import load_models, recorded_inputs, recorded_observations

    skipped = {name: why for name in backends if (why := lacking(name))} if skip else {}
    backends = [name for name in backends if name not in skipped]
    seen = recorded_observations()
    models = load_models(preset, "torch", weights=weights)
    inputs = recorded_inputs(models, seen)
    rows: list[dict[str, Any]] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("engines", total=len(backends) * len(inputs))
        for name, compiled in models.compiled.items():
            for backend in backends:
                progress.update(task, description=f"{name}, {backend}")
                rows.append(_build_one(compiled.network, backend, inputs[name], cache_dir, capability))
                progress.advance(task)
    return {
        "preset": preset,
        "cache": str(cache_dir or cache.default_cache_dir()),
        "observations": len(seen),
        "engines": rows,
        "skipped": skipped,
    }


def lacking(backend: str) -> str:
    """Why engines of this backend cannot be built here; empty if they can."""
    from harmowam_core.backends import BackendError
    from harmowam_core.backends.tensorrt_backend import import_tensorrt

    if backend == "tensorrt":
        try:
            import_tensorrt()
        except BackendError as error:
            return str(error)
    return ""


def _build_one(
    network: Any, backend: str, inputs: Iterable[tuple[Any, ...]], cache_dir: Path | None, capability: tuple[int, int]
) -> dict[str, Any]:
    import torch

    from harmowam_core.backends import check, compile_module
    from harmowam_core.backends.tensorrt_backend import build_engine

    began = time.monotonic()
    row: dict[str, Any] = {"network": network.name, "backend": backend, "precision": "f32"}
    if backend == "tensorrt" and not torch.cuda.is_available():
        built = build_engine(network, cache_dir, capability)
        row |= {"kind": built.kind, "cosine": None, "max_error": None, "note": "built, not run: no GPU here"}
    else:
        compiled = compile_module(network.module, network.example_inputs, backend, name=network.name, cache_dir=cache_dir)
        agreements = check(compiled, list(inputs))
        row |= {
            "precision": compiled.precision,
            "cosine": min(a.cosine for a in agreements),
            "max_error": max(a.max_error for a in agreements),
            "outputs": [asdict(a) for a in agreements],
        }
    return row | {"seconds": round(time.monotonic() - began, 2)}


def _print_built(result: dict[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("network", "backend", "precision", "cosine", "largest error", "of", "s"):
        table.add_column(column, justify="left" if column in ("network", "backend", "precision") else "right")
    for row in result["engines"]:
        if row["cosine"] is None:
            figures = (row["note"], "", "")
        else:
            figures = (f"{row['cosine']:.6f}", f"{row['max_error']:.2g}", f"{max(o['max_value'] for o in row['outputs']):.2g}")
        table.add_row(row["network"], row["backend"], row["precision"], *figures, f"{row['seconds']:.1f}")
    console.print(table)
    for backend, why in result["skipped"].items():
        console.print(f"[yellow]no engines for {backend}: {why}[/yellow]")
    console.print(f"compared with PyTorch in float32 on {result['observations']} recorded observations; engines in {result['cache']}")
