"""A run of `python -m benchmarks.load`: servers are started, and measured in turn, round after round."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

from rich.progress import Progress

from benchmarks.load.drive import ask, drive
from benchmarks.load.hosting import awake, hosting, renorm
from benchmarks.load.job import Load, LoadJob, Tally
from benchmarks.load.overhead import HttpOverhead, addition
from benchmarks.load.payloads import Dialect
from benchmarks.load.peers import PEERS, environment
from benchmarks.load.plan import OURS, Contender, LoadPlan, renorm_contenders
from benchmarks.load.results import IdleUsage, LoadResults, LoadRow, machine
from benchmarks.load.servers import HOST, LoadError, ServerProcess, others_cpu_s
from benchmarks.load.tuning import Best, best, likeliest, steps

CHECKED = 64  # images that every server is asked about before it is measured
AGREED = 0.95  # share of them that all must answer alike: rounding may turn one that is near a border
SETTLE_S = 1.0


class LoadRun:
    """Measures everything in a plan; ``results`` are filled as they come."""

    def __init__(self, plan: LoadPlan, progress: Progress) -> None:
        self.plan, self.progress = plan, progress
        self.results = LoadResults(machine(plan.threads), plan.strategies[0])
        self._task = progress.add_task("starting", total=None)

    def everything(self) -> None:
        """Run the whole plan.

        Raises:
            LoadError: Renorm itself cannot be measured. What is wrong with a peer becomes a note instead.
        """
        with ExitStack() as stack:
            # Processes of their own: for the clients, and for the call without a server, which needs torch.
            context = get_context("spawn")
            self._clients = stack.enter_context(ProcessPoolExecutor(1, context))
            chosen = list(self._chosen())
            contenders = self._started(chosen, stack)
            self._begin(self._steps(contenders), "idle servers")
            self._idle({contender.server for contender in contenders})
            with ProcessPoolExecutor(1, context) as local:
                self._add(contenders[0], local)
            self._loads(contenders)

    def _chosen(self) -> Iterator[Best]:
        """Each peer that works, run as it does best."""
        folder = self.plan.peers
        if folder is None:
            return
        for peer in PEERS:
            self._begin(steps(peer) if self.plan.tuned else 1, f"installing {peer.title}")
            try:
                python = environment(peer, folder)
                if not self.plan.tuned:
                    yield likeliest(peer, python)
                    continue
                choice, tried, failed = best(self.plan, peer, python, self._drive)
            except LoadError as error:
                self.results.notes[peer.title] = str(error)
                continue
            self.results.tried += tried
            self.results.notes |= failed
            yield choice

    def _started(self, chosen: Sequence[Best], stack: ExitStack) -> list[Contender]:
        """All servers, running and asleep."""
        self._begin(1 + len(chosen), "starting servers")
        server = stack.enter_context(renorm(self.plan))
        expected = self._classes(server, Dialect(OURS, "raw", "source"))
        server.sleep()
        contenders = renorm_contenders(self.plan, server)
        for choice in chosen:
            self.progress.advance(self._task)
            try:
                contenders.append(self._peer(choice, expected, stack))
            except LoadError as error:
                self.results.notes[choice.peer.title] = str(error)
        return contenders

    def _peer(self, choice: Best, expected: Sequence[int], stack: ExitStack) -> Contender:
        """A peer, asleep, that answers as our network does without adaptation.

        Raises:
            LoadError: it does not start, does not answer, or hosts another network.
        """
        title = choice.peer.title
        server = stack.enter_context(hosting(choice.peer, choice.options, choice.python, self.plan.threads))
        classes = self._classes(server, choice.dialect)
        agreement = sum(a == b for a, b in zip(classes, expected, strict=True)) / len(expected)
        self.results.agreement[title] = agreement
        server.sleep()
        if agreement < AGREED:
            raise LoadError(f"it answers only {100 * agreement:.0f} % of images as Renorm's source does")
        loads = [load for load in (*self.plan.closed, *self.plan.open) if not load.shared]
        return Contender(title, server, choice.dialect, loads)

    def _classes(self, server: ServerProcess, dialect: Dialect) -> list[int]:
        try:
            return self._clients.submit(ask, HOST, server.port, dialect, CHECKED).result()
        except (OSError, ValueError) as error:
            raise LoadError(f"{server.title} does not answer: {error}") from error

    def _idle(self, servers: set[ServerProcess]) -> None:
        for server in sorted(servers, key=lambda server: server.title != OURS):
            self._say(f"{server.title}, idle")
            with awake(server):
                time.sleep(SETTLE_S)
                start, previous_cpu_s = time.perf_counter(), server.cpu_s
                time.sleep(self.plan.idle_s)
                share = (server.cpu_s - previous_cpu_s) / (time.perf_counter() - start)
                self.results.idle[server.title] = IdleUsage(100 * share, server.memory)
            self.progress.advance(self._task)

    def _add(self, contender: Contender, local: ProcessPoolExecutor) -> None:
        plan, server = self.plan, contender.server
        self._say("one client, with a server and without")
        comparison = HttpOverhead(
            HOST, server.port, plan.strategies[0], plan.threads, plan.compiled, plan.blocks, plan.calls
        )
        with awake(server):
            try:
                self.results.addition = local.submit(addition, comparison).result()
            except (OSError, ValueError) as error:
                raise LoadError(f"{server.title} does not answer: {error}") from error
        self.progress.advance(self._task)

    def _loads(self, contenders: Sequence[Contender]) -> None:
        start, previous_cpu_s = time.perf_counter(), others_cpu_s()
        for load in [*self.plan.closed, *self.plan.open]:
            self._load(load, [contender for contender in contenders if load in contender.loads])
        share = (others_cpu_s() - previous_cpu_s) / (time.perf_counter() - start)
        self.results.machine["other programs meanwhile"] = f"{100 * share:.0f} % of a core"

    def _load(self, load: Load, contenders: Sequence[Contender]) -> None:
        """All contenders under one load, A B A B, so that whatever slows the machine slows all of them."""
        rows = [LoadRow(contender.title, load, []) for contender in contenders]
        self.results.rows += rows
        for i in range(self.plan.rounds):
            for contender, row in zip(contenders, rows, strict=True):
                with awake(contender.server):
                    row.rounds.append(self._drive(self._job(contender, load, i)))

    def _job(self, contender: Contender, load: Load, seed: int) -> LoadJob:
        plan, server = self.plan, contender.server
        return LoadJob(
            HOST, server.port, server.pid, contender.dialect, load, plan.seconds, plan.warm_s, plan.pictures, seed
        )

    def _drive(self, job: LoadJob) -> Tally:
        self._say(f"{job.dialect.server} {job.dialect.strategy or job.dialect.body}, {job.load.label}")
        tally = self._clients.submit(drive, job).result()
        self.progress.advance(self._task)
        return tally

    def _steps(self, contenders: Sequence[Contender]) -> int:
        measured = sum(len(contender.loads) for contender in contenders) * self.plan.rounds
        return measured + len({contender.server for contender in contenders}) + 1

    def _begin(self, steps: int, description: str) -> None:
        self.progress.reset(self._task, total=steps, description=description)

    def _say(self, description: str) -> None:
        self.progress.update(self._task, description=description)
