"""Several trainings as processes of their own: so many at a time, resumed, none of them twice."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

import torch

from common import runs
from common.errors import Interrupted, UserError
from common.locks import hold
from common.machine import cores
from common.progress import tqdm
from common.training.console import say
from common.training.folder import LOCK
from common.training.signals import stop_on_signal

LOOK = 0.2  # seconds between two looks at a process
LOOK_ELSEWHERE = 2.0  # and at what other processes train
TOLD = 12  # lines of what a training said that are said again where it failed


@dataclass(frozen=True)
class Job:
    """A training: its run directory and the command that begins or resumes it there.

    kind: what trainings of equal cost share. epochs: how many there will be, where that is known.
    """

    folder: Path
    kind: str
    command: tuple[str, ...]
    epochs: int | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder.parent / "logs" / f"{self.name}.log"


@dataclass(frozen=True)
class Reached:
    """How far a training is."""

    done: int
    planned: int | None
    seconds: float

    @property
    def finished(self) -> bool:
        return self.planned is not None and self.done >= self.planned


def reached(job: Job) -> Reached:
    """What a job's run directory says of its epochs. Raises UserError where it is damaged."""
    if not (job.folder / "config.json").exists():
        return Reached(0, job.epochs, 0.0)
    run = runs.load(job.folder)
    planned = run.options["epochs"]
    if not (job.folder / "metrics.csv").exists():
        return Reached(0, planned, 0.0)
    table = run.metrics()
    return Reached(len(table), planned, float(table["epoch_seconds"].sum()))


def time_left(jobs: Sequence[Job], at_once: int) -> str:
    """From the seconds that an epoch of each kind has taken so far."""
    states = [(job.kind, reached(job)) for job in jobs]
    pace = {}
    for kind in {kind for kind, _ in states}:
        of_kind = [state for other, state in states if other == kind and state.done]
        if of_kind:
            pace[kind] = sum(s.seconds for s in of_kind) / sum(s.done for s in of_kind)
    open_ = [(kind, state) for kind, state in states if not state.finished]
    known = [(kind, s) for kind, s in open_ if kind in pace and s.planned is not None]
    seconds = sum(pace[kind] * (state.planned - state.done) for kind, state in known) / at_once
    unknown = "" if len(known) == len(open_) else "at least "
    return f"{unknown}{tqdm.format_interval(seconds)} left"


@dataclass
class _Crew:
    """What workers share."""

    jobs: Sequence[Job]
    failed: list[Job] = field(default_factory=list)
    taken: set[Job] = field(default_factory=set)
    turn: Lock = field(default_factory=Lock)
    ending: Event = field(default_factory=Event)

    def left(self) -> list[Job]:
        return [job for job in self.jobs if job not in self.failed and not reached(job).finished]


def train_all(jobs: Sequence[Job], at_once: int) -> None:
    """Trains what is not yet trained, `at_once` at a time, and waits for what others train.

    Each has one GPU where there are several, and its share of the cores where there is none. A
    training that fails lets the others go on; one that could not even begin ends all. Raises
    UserError with what they said; Interrupted after a signal, once all have saved what they did.
    """
    crew = _Crew(jobs)
    count = len(jobs) - len(crew.left())
    say(f"{len(jobs)} trainings, {count} of them done")
    with stop_on_signal() as stop, ThreadPoolExecutor(at_once) as pool:
        work = [pool.submit(_work, crew, place, at_once) for place in _places(at_once)]
        with tqdm(total=len(jobs), unit="training", leave=False) as bar:
            while wait(work, LOOK, FIRST_EXCEPTION).not_done and not crew.ending.is_set():
                if stop.signum or any(one.done() and one.exception() for one in work):
                    crew.ending.set()
                if not bar.disable:
                    bar.n = sum(reached(job).finished for job in jobs)
                    bar.set_postfix_str(time_left(jobs, at_once))
    if stop.signum:
        raise Interrupted(
            "stopped; every training has saved what it did. The same command goes on.", stop.signum
        )
    for one in work:
        one.result()
    if crew.failed:
        listed = "\n".join(f"  {job.name}: {job.log}" for job in crew.failed)
        raise UserError(
            f"{len(crew.failed)} of {len(jobs)} trainings failed, and said why:\n{listed}\n"
            "Give the same command again when it is mended: nothing is trained twice."
        )


def run_until(
    ending: Callable[[], bool], command: Sequence[str], log: Path, place: dict[str, str]
) -> int:
    """Runs a command until it ends, or is ended because `ending()`; returns its code.

    Its output is appended to `log`. place: further variables of its environment.
    """
    with (
        log.open("ab") as said,
        subprocess.Popen(
            command, env=os.environ | place, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        ) as process,
    ):
        while process.poll() is None:
            if ending():
                process.terminate()  # a training saves, and ends
                break
            time.sleep(LOOK)
    return process.returncode


def _work(crew: _Crew, place: dict[str, str], at_once: int) -> None:
    """Trains one job after another that nobody else trains, until all are done."""
    while left := crew.left():
        for job in left:
            with _claimed(job, crew) as mine:
                if mine and not reached(job).finished:
                    _train(job, crew, place, at_once)
            if crew.ending.is_set():
                return
        crew.ending.wait(LOOK_ELSEWHERE)


def _train(job: Job, crew: _Crew, place: dict[str, str], at_once: int) -> None:
    say(f"{job.name} {'goes on' if reached(job).done else 'begins'}")
    code = run_until(crew.ending.is_set, job.command, job.log, place)
    if code == 0:
        done = sum(reached(other).finished for other in crew.jobs)
        left = time_left(crew.jobs, at_once)
        say(f"{job.name} is trained, {done} of {len(crew.jobs)}; {left}")
    elif not crew.ending.is_set() and not _is_held(job.folder / LOCK):
        if not (job.folder / "config.json").exists():
            raise UserError(f"{job.name} cannot be trained:\n{last_words(job.log)}")
        crew.failed.append(job)
        say(f"{job.name} failed, the others go on:\n{last_words(job.log)}")


@contextmanager
def _claimed(job: Job, crew: _Crew) -> Iterator[bool]:
    """Whether nobody else trains this job, nor begins to until the context is left."""
    with ExitStack() as held:
        with crew.turn:  # where the file system knows no locks, one process's own still differ
            mine = job not in crew.taken
            if mine:
                try:
                    held.enter_context(hold(job.log.with_suffix(".lock"), wait=False))
                    mine = not _is_held(job.folder / LOCK)
                except BlockingIOError:
                    mine = False
            if mine:
                crew.taken.add(job)
                held.callback(crew.taken.discard, job)
        yield mine


def _is_held(lock: Path) -> bool:
    """Whether a process holds this lock."""
    if not lock.exists():
        return False
    try:
        with hold(lock, wait=False):
            return False
    except BlockingIOError:
        return True


def last_words(log: Path) -> str:
    """The end of what a training said."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-TOLD:])


def _places(at_once: int) -> list[dict[str, str]]:
    """Variables of the environment that give each worker its GPU, or its share of the cores."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
    if len(gpus) > 1:
        return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(at_once)]
    if gpus or at_once == 1 or "OMP_NUM_THREADS" in os.environ:
        return [{}] * at_once
    return [{"OMP_NUM_THREADS": str(max(1, cores() // at_once))}] * at_once
