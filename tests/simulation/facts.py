"""What really happens in a simulated job, whatever the hosts think."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from world import World

from sagemaker_framework.cluster.events import Action, Event, Failed
from sagemaker_framework.failures import CAUSE, Failure


@dataclass
class Misfortune:
    """A failure that happens on a host.

    Attributes:
        host: where.
        text: its words, which no other has.
        raised_at: when it happened.
        process: see `Failure`.
        code: the exit code that it stands for.
        kind: as its host takes it.
        of: what brought it about; None where it stands for itself.
        told_at: when the leader heard of it; None if it never did.
    """

    host: str
    text: str
    raised_at: float
    process: str = "program"
    code: int = 1
    kind: str = CAUSE
    of: Misfortune | None = None
    told_at: float | None = None


@dataclass
class Facts:
    """What has happened.

    Attributes:
        misfortunes: by their words.
        log: what the leader has handled, and what its state has asked for.
        stops: when which host was asked to stop, from outside, and by which signal.
        troubles: when something happened that the job need not survive, and what.
    """

    world: World
    misfortunes: dict[str, Misfortune] = field(default_factory=dict)
    log: list[tuple[float, Any]] = field(default_factory=list)
    stops: list[tuple[float, str, int]] = field(default_factory=list)
    troubles: list[tuple[float, str]] = field(default_factory=list)

    def misfortune(self, host: str, what: str, **more: Any) -> Misfortune:
        """Note that something has failed."""
        text = f"{what} of {host} fails (no. {len(self.misfortunes) + 1})"
        self.misfortunes[text] = found = Misfortune(host, text, self.world.now, **more)
        self.troubles.append((self.world.now, text))
        self.world.note(host, f"! {text}")
        return found

    def heard(self, event: Event) -> None:
        """Note what the leader handles."""
        self.log.append((self.world.now, event))
        if isinstance(event, Failed):
            told = self.find(event.failure)
            if told is not None and told.told_at is None:
                told.told_at = self.world.now

    def did(self, action: Action) -> None:
        """Note what the leader's state asks for."""
        self.log.append((self.world.now, action))

    def find(self, failure: Failure) -> Misfortune | None:
        """Return the misfortune that a failure tells of: the first, where it tells of two."""
        found = [(failure.cause.find(text), text) for text in self.misfortunes if text in failure.cause]
        return self.misfortunes[min(found)[1]] if found else None
