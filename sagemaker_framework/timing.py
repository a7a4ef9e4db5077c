"""Every window of time that decides something, in seconds, with the relations that they keep.

Windows that only pace a loop or a log line stay with that loop. tests/unit/test_timing.py holds the relations.
"""

from __future__ import annotations

# -- stopping ----------------------------------------------------------------------------------

#: From SIGTERM until SageMaker kills the container (StopTrainingJob, the SageMaker API reference).
SERVICE_GRACE = 120.0
#: From a request to stop until what still runs is killed, unless the job sets another; below SERVICE_GRACE, so that
#: the failure file is written before the container is gone.
DEFAULT_GRACE = 100.0
#: For all processes of this host together, once the job has failed, or once nothing is needed any more.
FAILURE_GRACE = 10.0
#: For each process, whatever others have taken of FAILURE_GRACE.
LEAST_GRACE = 0.2
#: For what a program that has ended by itself left running; below FAILURE_GRACE, as it is needed by nobody.
LEFTOVER_GRACE = 5.0

# -- which failure was the first ---------------------------------------------------------------

#: From what a process writes on its way out, such as a traceback, until its end, where both are one event.
LAST_WORDS = 1.0
#: Apart from each other, the failures of a program and of its server say nothing about which came first.
TOGETHER = 0.3
#: From a program's failure until a server that has raised an exception, too, must have ended to be heard.
#: Longer than TOGETHER: a server that tidies up is no less of a cause.
SERVER_ENDS = 2.0
#: From the end of a host until others notice by themselves that it is gone, and fail because of it.
LOSS_SHOWS = 1.0
#: From a failure that is probably a consequence until its host tells of it as its own; within WINDOW, in which
#: the leader waits for the cause.
DOUBT = 2.0
#: From the first failure until the leader decides, once all hosts have said what they know; covers TOGETHER.
LEAST_WINDOW = 0.3
#: The same, where a host has not answered, or where only consequences are known; covers DOUBT and LOSS_SHOWS.
WINDOW = 3.0

#: By which two clocks come apart, at most, in each second: they are of quartz, and perhaps nobody sets them.
CLOCK_DRIFT = 2e-4

# -- ranks -------------------------------------------------------------------------------------

#: From the end of a launcher until its ranks' ends are known; below DOUBT.
RANKS_SETTLE = 1.0
#: From the start of an sshd until it listens.
SSHD_LISTENS = 5.0
#: For a rank's wrapper, which does nothing else then, to take in what it is sent.
WRAPPER_LISTENS = 30.0

# -- what hosts wait for -----------------------------------------------------------------------

#: Between signs of life.
BEAT = 3.0
#: Without a sign of life until a host counts as lost; three of them must be missing.
SILENCE = 9.0
#: For the other hosts to come to the same phase, unless the job sets another.
DEFAULT_PHASE_TIMEOUT = 900.0
#: Longer than the leader waits for a phase, so that the leader can say who was late.
LEADER_SAYS_WHO = 10.0
#: From a host's failure, or a request to stop, until it knows the job's verdict; covers WINDOW and the way there.
VERDICT = 8.0
#: For a host that has not reached the leader yet to tell it of its failure; covers several attempts.
LAST_ATTEMPTS = 5.0
#: For one attempt of a host to reach the leader, and again for the leader to answer.
ATTEMPT = 5.0
#: For a connection to show that it is one of the job's hosts; longer than ATTEMPT, after which a host tries again.
INTRODUCTION = 10.0
#: Between two attempts of a host to reach the leader, at most.
LONGEST_RETRY = 1.0
#: The leader of a job that has failed, or is stopped, waits for hosts that have not connected, to tell them: as long
#: as a host that starts at the same moment needs for a few attempts.
LATECOMERS = 5.0
#: The leader waits for the others to take in its last word.
FAREWELL = 2.0
