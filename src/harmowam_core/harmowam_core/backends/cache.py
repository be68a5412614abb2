"""What has been built from networks, on disk: one folder an artefact, with a manifest of what it depends on.

    <cache>/<network>-<hash of weights, shapes and types>/<kind>/manifest.json and files

A folder is whole or absent. It is *stale* where code or libraries have changed since, *damaged* where a file is not what was written;
either is built anew, and said.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import platformdirs
import torch

from harmowam_core.backends import Network

MANIFEST = "manifest.json"
LOG = logging.getLogger("harmowam.engines")


def default_cache_dir() -> Path:
    """The user's cache of engines."""
    return platformdirs.user_cache_path("harmowam") / "engines"


@dataclass(frozen=True)
class Artefact:
    """One folder of the cache. kind: such as ``openvino`` or ``tensorrt-bf16-sm89``; made_with: code and library versions."""

    network: str
    kind: str
    folder: Path
    made_with: dict[str, str]

    def file(self, name: str) -> Path:
        """A file of it."""
        return self.folder / name

    def fault(self) -> str:
        """Why it must be built: "absent", "stale: ...", "damaged: ..."; empty where it is current."""
        manifest = read_manifest(self.folder)
        return (damage(self.folder, manifest) or staleness(manifest, self.made_with)) if manifest is not None else _no_manifest(self.folder)

    def ensure(self, build: Callable[[Path], object]) -> bool:
        """Have ``build`` write the files into a new folder, unless they are there and current; True if it did.

        One process at a time builds an artefact; the others wait and then read it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(self.folder.parent / f".{self.kind}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fault = self.fault()
            if not fault:
                return False
            if fault == "absent":
                LOG.warning("building %s of %s, once (seconds, or a minute)", self.kind, self.network)
            else:
                LOG.warning("%s of %s is %s; building it anew", self.kind, self.network, fault)
            started = time.monotonic()
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".new") as directory:
                new = Path(directory) / "artefact"
                new.mkdir()
                build(new)
                self._write_manifest(new, time.monotonic() - started)
                with contextlib.suppress(FileNotFoundError):
                    self.folder.rename(Path(directory) / "old")
                new.rename(self.folder)
            return True

    def _write_manifest(self, folder: Path, seconds: float) -> None:
        files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())}
        manifest = {
            "network": self.network,
            "kind": self.kind,
            "built": datetime.now().isoformat(timespec="seconds"),
            "seconds": round(seconds, 2),
            "made_with": self.made_with,
            "files": files,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def artefact(network: Network, kind: str, packages: tuple[str, ...], cache_dir: Path | None) -> Artefact:
    """The artefact of a network that depends on its code and on the versions of ``packages``."""
    made_with = {"code": _code_hash(network)} | {package: importlib.metadata.version(package) for package in packages}
    folder = (cache_dir or default_cache_dir()) / f"{network.name}-{_network_hash(network)}" / kind
    return Artefact(network.name, kind, folder, made_with)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where it is absent or unreadable."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest if {"network", "kind", "made_with", "files"} <= manifest.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def damage(folder: Path, manifest: dict[str, Any]) -> str:
    """What is wrong with the files, "damaged: ..."; empty if nothing."""
    for name, told in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"damaged: {name} is missing"
        if path.stat().st_size != told["bytes"]:
            return f"damaged: {name} has {path.stat().st_size} bytes, {told['bytes']} were written"
        if _sha256(path) != told["sha256"]:
            return f"damaged: {name} is not what was written"
    return ""


def staleness(manifest: dict[str, Any], made_with: dict[str, str]) -> str:
    """What has changed since it was built, "stale: ..."; empty if nothing."""
    before = manifest["made_with"]
    changed = [name for name in sorted({*before, *made_with}) if before.get(name) != made_with.get(name)]
    return "stale: " + ", ".join(f"{n} {before.get(n, 'none')} -> {made_with.get(n, 'none')}" for n in changed) if changed else ""


def _no_manifest(folder: Path) -> str:
    return f"damaged: no readable {MANIFEST}" if folder.exists() else "absent"


def entries(cache_dir: Path | None = None) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """Every folder of the cache, its manifest (or {}) and what is wrong with it, as far as can be said without the network."""
    for folder in sorted((cache_dir or default_cache_dir()).glob("*/[!.]*")):
        manifest = read_manifest(folder)
        if manifest is None:
            yield folder, {}, _no_manifest(folder)
            continue
        now = {name: _installed(name) for name in manifest["made_with"] if name != "code"}
        before = manifest | {"made_with": {name: version for name, version in manifest["made_with"].items() if name != "code"}}
        yield folder, manifest, damage(folder, manifest) or staleness(before, now)


def remove(folder: Path) -> None:
    """Delete one folder of the cache."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # others of the same network are left
        os.rmdir(folder.parent)


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code_hash(network: Network) -> str:
    digest = hashlib.sha256(repr(network.module).encode())
    for file in sorted({inspect.getfile(type(m)) for m in network.module.modules() if not type(m).__module__.startswith("torch.")}):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def _network_hash(network: Network) -> str:
    digest = hashlib.sha256()
    for x in network.example_inputs:
        digest.update(f"{tuple(x.shape)},{x.dtype};".encode())
    for name, value in network.module.state_dict().items():
        digest.update(f"{name},{tuple(value.shape)},{value.dtype};".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
