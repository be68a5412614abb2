"""``harmowam fuzz``: many fuzzed episodes on several processes, resumable; a failing one is made small and kept as a case that replays."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harmowam_bringup.fuzz.episode import Player
from harmowam_bringup.fuzz.events import Event, draw
from harmowam_core.cell import load_cell
from harmowam_core.results import commit, write_json

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
BLOCK = 10
"""Episodes that a process plays in one go."""
KEPT_CASES = 20
"""More failures than this are counted, but not kept."""

_player: Player | None = None


@dataclass(frozen=True)
class Block:
    """What came of episodes ``first`` to ``first + BLOCK - 1``; failed: their numbers."""

    seed: int
    first: int
    chunks: int
    accepted: int
    trajectories: int
    failed: tuple[int, ...]


def fuzz(
    chunks: Annotated[int, typer.Option(min=1, help="How many chunks, at least.")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same chunks.")] = 0,
    replay: Annotated[Path | None, typer.Option(help="Play one kept case again, nothing else; exit 1 if it still fails.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of journal and cases; an interrupted run goes on from there.")] = Path("out/fuzz"),
    json_file: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write the results as JSON to FILE, or standard output.")] = "",
) -> None:
    """Random hostile and plausible chunks and joint states through the pure arbiter; exit 1 if the auditor objects to a trajectory."""
    console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True)
    if replay is not None:
        raise typer.Exit(_replay(replay, console))
    out.mkdir(parents=True, exist_ok=True)
    journal = out / f"seed-{seed}-{commit()[:12]}.jsonl"
    blocks = _read(journal)
    before = sum(block.chunks for block in blocks)
    began_s, code = time.monotonic(), 0
    try:
        _play_on(blocks, journal, chunks, workers, seed, out, console)
    except KeyboardInterrupt:
        code = INTERRUPTED
    results = _summary(blocks, seed, before, time.monotonic() - began_s)
    write_json(json_file, results)
    console.print(
        f"{results['chunks']} chunks ({results['accepted']} taken), {results['trajectories']} trajectories, "
        f"{len(results['failed'])} failed episodes; {results['chunks_per_s']:.0f} chunks/s; journal {journal}"
    )
    for index in results["failed"][:KEPT_CASES]:
        console.print(f"  {_case_path(out, seed, index)}", style="red")
    raise typer.Exit(code or (FAILED if results["failed"] else 0))


def _play_on(blocks: list[Block], journal: Path, chunks: int, workers: int, seed: int, out: Path, console: Console) -> None:
    """Add blocks until there are enough chunks."""
    done = before = sum(block.chunks for block in blocks)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    todo = _missing({block.first for block in blocks})
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_load)
    running: set[Future[Block]] = set()
    with Progress(*columns, console=console) as progress, journal.open("a") as file:
        bar = progress.add_task("chunks", total=chunks, completed=done)
        began_s = time.monotonic()
        try:
            while done < chunks or running:
                while done < chunks and len(running) < workers + 1:
                    running.add(pool.submit(_play_block, seed, next(todo), out))
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    block = future.result()
                    blocks.append(block)
                    file.write(json.dumps(asdict(block)) + "\n")
                    file.flush()
                    done += block.chunks
                    rate = (done - before) / (time.monotonic() - began_s)
                    failed = sum(len(block.failed) for block in blocks)
                    progress.update(bar, completed=done, description=f"chunks, {rate:.0f}/s, {failed} episodes failed")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _missing(done: set[int]) -> Iterator[int]:
    return (first for first in count(0, BLOCK) if first not in done)


def _read(journal: Path) -> list[Block]:
    """Earlier blocks; a torn last line is dropped."""
    blocks = []
    for line in journal.read_text().splitlines() if journal.is_file() else []:
        try:
            told = json.loads(line)
        except json.JSONDecodeError:
            continue
        blocks.append(Block(**{**told, "failed": tuple(told["failed"])}))
    return blocks


def _summary(blocks: Sequence[Block], seed: int, before: int, took_s: float) -> dict[str, Any]:
    """{"chunks", "accepted", "trajectories", "episodes", "failed", "seed", "chunks_per_s" (of this run), "commit"}."""
    chunks = sum(block.chunks for block in blocks)
    return {
        "chunks": chunks,
        "accepted": sum(block.accepted for block in blocks),
        "trajectories": sum(block.trajectories for block in blocks),
        "episodes": BLOCK * len(blocks),
        "failed": sorted(index for block in blocks for index in block.failed),
        "seed": seed,
        "chunks_per_s": round((chunks - before) / took_s, 1) if took_s > 0 else 0.0,
        "commit": commit(),
    }


# ---- in the workers ------------------------------------------------------------------------------------------------------


def _load() -> None:
    global _player
    _player = Player(load_cell())


def _play_block(seed: int, first: int, out: Path) -> Block:
    assert _player is not None
    chunks = accepted = trajectories = 0
    failed = []
    for index in range(first, first + BLOCK):
        events = draw(seed, index)
        played = _player.play(events)
        chunks, accepted, trajectories = chunks + played.chunks, accepted + played.accepted, trajectories + played.trajectories
        if played.violations:
            failed.append(index)
            if len(list(out.glob("case-*.json"))) < KEPT_CASES:
                keep(_case_path(out, seed, index), seed, index, shrunk(_player, events), _player)
    return Block(seed, first, chunks, accepted, trajectories, tuple(failed))


# ---- cases ---------------------------------------------------------------------------------------------------------------


def shrunk(player: Player, events: Sequence[Event]) -> list[Event]:
    """The same failure with fewer events: ever smaller runs of them are left out as long as it still fails."""
    kept = list(events)
    size = len(kept) // 2
    while size >= 1:
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + size :]
            if player.play(fewer).violations:
                kept = fewer
            else:
                start += size
        size //= 2
    return kept


def keep(path: Path, seed: int, index: int, events: Sequence[Event], player: Player) -> None:
    """Write a case; NaN becomes null, for JSON knows none."""
    told = [[e.tick, e.what, e.how, [None if math.isnan(number) else number for number in e.numbers]] for e in events]
    write_json(path, {"seed": seed, "index": index, "violations": list(player.play(events).violations), "events": told, "commit": commit()})


def read_case(path: Path) -> list[Event]:
    """The events of a kept case; ValueError if it is none."""
    try:
        told = json.loads(path.read_text())["events"]
        return [Event(tick, what, how, tuple(math.nan if n is None else n for n in numbers)) for tick, what, how, numbers in told]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no case of 'harmowam fuzz': {error}") from error


def _case_path(out: Path, seed: int, index: int) -> Path:
    return out / f"case-{seed}-{index}.json"


def _replay(path: Path, console: Console) -> int:
    try:
        events = read_case(path)
    except ValueError as error:
        console.print(str(error), style="red", markup=False)
        return BAD_INPUT
    played = Player(load_cell()).play(events)
    for violation in played.violations:
        console.print(violation, style="red", markup=False)
    console.print(f"{played.chunks} chunks, {played.trajectories} trajectories, {len(played.violations)} violations")
    return FAILED if played.violations else 0
