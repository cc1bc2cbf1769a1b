"""A simulated outside for one bot: disk, launcher, processes, gateway, lock, and a supervisor that may be replaced.

Whatever the policy asks is put down as work; a test decides what becomes of it, and when and in which order
the news arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from supervisor.policy import events as ev
from supervisor.policy import instructions as do
from supervisor.policy.fleet import Fleet
from supervisor.policy.lifecycle import is_stale
from supervisor.policy.states import Bot, Cause, Kind, Limits, State, Wanted


@dataclass
class Process:
    """A process of the simulated machine."""

    epoch: int
    alive: bool = True
    hung: bool = False
    deaf: bool = False  # ignores SIGTERM and SIGABRT
    spoke: bool = False
    ready: bool = False
    paused: bool = False


@dataclass
class World:
    """Everything outside the policy, and the checks after each step."""

    limits: Limits
    kind: Kind = "bot"
    now: float = 1000.0
    news: list[ev.Event] = field(default_factory=list)
    intents: list[int] = field(default_factory=list)
    launches: list[int] = field(default_factory=list)
    fences: list[int] = field(default_factory=list)
    confirms: list[int] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    gateway_highest: int = 0
    lock_holder: int = 0  # pid of a foreign process with the lock
    ceiling: int = 0  # highest epoch that the store has reserved
    launched: list[int] = field(default_factory=list)
    held: bool = False
    met: set[tuple[State, str, State]] = field(default_factory=set)
    ends: list[do.RecordEnd] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = Fleet(Random(5), [Bot(1, "alpha", kind=self.kind, limits=self.limits)])

    @property
    def bot(self) -> Bot:
        return self.fleet.bots[1]

    @property
    def alive(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def apply(self, event: ev.Event) -> list[do.Instruction]:
        """One event, with all that must hold of the answer."""
        before = self.bot
        instructions = self.fleet.apply(event, self.now)
        after = self.bot
        if not is_stale(before, event):
            self.met.add((before.state, type(event).__name__, after.state))
        notes = [i for i in instructions if isinstance(i, do.Note) and i.type == "state"]
        changed = (before.state, before.epoch) != (after.state, after.epoch)
        assert len(notes) == int(changed), (before, event, instructions)
        assert after.epoch >= before.epoch or isinstance(event, ev.AdoptStarted)
        if not isinstance(event, ev.WantRunning | ev.WantPaused | ev.WantStopped | ev.Restart):
            assert after.wanted is before.wanted
        for instruction in instructions:
            self.perform(instruction)
        self.check()
        return instructions

    def perform(self, instruction: do.Instruction) -> None:
        """Put down what was asked."""
        match instruction:
            case do.RecordIntent(epoch=epoch):
                assert epoch > self.ceiling or epoch > max(self.launched, default=0)
                self.intents.append(epoch)
            case do.Launch(epoch=epoch):
                assert not self.alive, "launched beside a living run"
                assert not self.launches, "launched twice"
                assert epoch > max(self.launched, default=0), "an epoch used twice"
                self.launched.append(epoch)
                self.launches.append(epoch)
            case do.SendFence(epoch=epoch):
                self.fences.append(epoch)
            case do.ConfirmDead(pid=pid):
                self.confirms.append(pid)
            case do.SendStop(epoch=epoch):
                for process in self.of(epoch):
                    if not process.hung and process.spoke:
                        self.die(process, code=0)
            case do.SendAbort(epoch=epoch):
                for process in self.of(epoch):
                    if process.spoke and not process.deaf:
                        self.die(process, signal=6)
            case do.SendPause(epoch=epoch) | do.SendResume(epoch=epoch):
                for process in self.of(epoch):
                    if not process.hung:
                        process.paused = isinstance(instruction, do.SendPause)
                        kind = ev.PauseDone if process.paused else ev.ResumeDone
                        self.news.append(kind(1, epoch))
            case do.SendSignal(epoch=epoch, signal=signal):
                for process in self.of(epoch):
                    if signal == "KILL" or not process.deaf:
                        self.die(process, signal={"KILL": 9, "TERM": 15, "ABRT": 6}[signal])
            case do.RecordEnd():
                self.ends.append(instruction)
            case _:
                pass

    def of(self, epoch: int) -> list[Process]:
        return [process for process in self.alive if process.epoch == epoch]

    def die(self, process: Process, *, code: int = -1, signal: int = 0, known: bool = True) -> None:
        """A process ends, and the news of it is on its way."""
        process.alive = False
        if not known:
            self.news.append(ev.Gone(1, process.epoch, "the launcher died"))
        else:
            status = signal or code << 8
            self.news.append(ev.Exited(1, process.epoch, status, code, signal))

    def record(self, ok: bool) -> None:
        epoch = self.intents.pop(0)
        self.ceiling = max(self.ceiling, epoch)
        self.news.append(ev.Recorded(1, epoch) if ok else ev.RecordFailed(1, epoch, "database is locked"))

    def hold(self) -> None:
        """What it waits for is not running: the intent is not written, and later it is released."""
        epoch = self.intents.pop(0)
        self.held = True
        self.news.append(ev.Blocked(1, epoch, "waiting for two"))

    def launch(self, outcome: str) -> None:
        epoch = self.launches.pop(0)
        if outcome == "failed":
            self.news.append(ev.LaunchFailed(1, epoch, Cause.LAUNCH, "ENOMEM"))
            return
        process = Process(epoch, deaf=outcome == "deaf")
        self.processes.append(process)
        self.news.append(ev.Launched(1, epoch, 4000 + epoch))
        if self.lock_holder:
            process.alive = False
            self.news.append(ev.LockHeld(1, epoch, self.lock_holder))

    def fence(self) -> None:
        epoch = self.fences.pop(0)
        if epoch < self.gateway_highest:
            self.news.append(ev.FenceLow(1, epoch, self.gateway_highest))
        else:
            self.gateway_highest = epoch
            self.news.append(ev.FenceAcked(1, epoch))

    def confirm(self) -> None:
        if self.confirms.pop(0) == self.lock_holder:
            self.lock_holder = 0
        self.news.append(ev.OldRunDead(1))

    def replace_supervisor(self, *, adopt: bool = True) -> None:
        """kill -9 of the supervisor; the next one knows the store, and adopts what lives."""
        wanted, name = self.bot.wanted, self.bot.name
        for _ in list(self.launches):  # the launcher answers its list after every earlier request
            self.launch("ok")
        self.news.clear()
        self.intents.clear()
        self.fences.clear()
        self.confirms.clear()
        self.held = False
        floor = max([self.ceiling, *self.launched])
        self.fleet = Fleet(Random(6), [Bot(1, name, kind=self.kind, limits=self.limits, wanted=wanted, floor=floor)])
        for process in self.alive:
            self.apply(ev.AdoptStarted(1, process.epoch))
            process.spoke = False
        if not self.alive and wanted is not Wanted.STOPPED:
            self.apply(ev.WantRunning(1) if wanted is Wanted.RUNNING else ev.WantPaused(1))

    def check(self) -> None:
        """What holds at every moment."""
        bot = self.bot
        assert len(self.alive) <= 1, "two living runs"
        if self.alive and bot.state in (State.STOPPED, State.FAILED, State.BACKOFF):
            raise AssertionError(f"{bot.state} beside a living process: {bot.story}")
        assert not (self.launches and bot.held == "stop" and bot.state is State.STARTING), "launched although held"
        if bot.queued:
            assert bot.state is State.STOPPED and bot.held == "stop", "queued, and nothing holds it"
        if bot.kind == "bot" and bot.limits.restart == "permanent":
            assert len(bot.failures) <= bot.limits.intensity + 1
        if bot.state in (State.STOPPED, State.FAILED):
            assert bot.deadline is None
            return
        if bot.deadline is not None:
            return
        # No deadline: somebody owes an answer, or heartbeats watch it.
        if bot.run == "recording":
            owed = bot.epoch in self.intents or any(
                isinstance(e, ev.Recorded | ev.RecordFailed | ev.Blocked) and e.epoch == bot.epoch for e in self.news
            )
        elif bot.run == "launching":
            owed = bot.epoch in self.launches or any(
                isinstance(e, ev.Launched | ev.LaunchFailed | ev.LockHeld | ev.ExecFailed | ev.Exited | ev.Gone)
                and e.epoch == bot.epoch
                for e in self.news
            )
        elif bot.state is State.BACKOFF:
            owed = self.held
        else:
            owed = bot.run == "alive" and bot.hello and bot.state is not State.STOPPING
        assert owed, f"stuck in {bot.state}, run {bot.run}: {bot.story}"

    def advance(self, *, wait: bool = True) -> bool:
        """One step of a world in which all goes well; False when nothing is left to do."""
        bot = self.bot
        if self.intents:
            self.record(True)
        elif self.launches:
            self.launch("ok")
        elif self.fences:
            self.fence()
        elif self.confirms:
            self.confirm()
        elif self.news:
            self.apply(self.news.pop(0))
        elif self.held:
            self.held = False
            self.apply(ev.Unblocked(1))
        elif talker := next((p for p in self.alive if not p.hung and not (p.spoke and p.ready)), None):
            talker.spoke = talker.ready = True
            self.apply(ev.HelloSeen(1, talker.epoch, True, talker.paused))
        elif bot.hello and bot.state is not State.STOPPING and any(p.hung for p in self.of(bot.epoch)):
            self.apply(ev.Hung(1, bot.epoch, "no heartbeat for 6 s"))
        elif wait and (due := self.fleet.next_deadline()) is not None:
            self.now = max(self.now, due)
            for bot_id in self.fleet.due(self.now):
                self.apply(ev.Deadline(bot_id))
        else:
            return False
        return True

    def settle(self, limit: int = 600) -> None:
        """From here on everything goes well: until nothing happens any more."""
        for _ in range(limit):
            if not self.advance():
                return
        raise AssertionError(f"does not come to rest: {self.bot.story}")
