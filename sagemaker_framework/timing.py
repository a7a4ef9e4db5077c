"""Every window of time that decides how a job ends, in seconds, and the relations between them.

A window that only paces a loop or a log line is not here but in that loop's module. tests/unit/test_timing.py checks
the relations.
"""

from __future__ import annotations

# -- stopping ----------------------------------------------------------------------------------

#: From SIGTERM until SageMaker kills the container (StopTrainingJob, the SageMaker API reference).
SERVICE_GRACE = 120.0
#: From a request to stop until processes that still run are killed, unless the job sets another; below SERVICE_GRACE,
#: so that the failure file is written before the container is gone.
DEFAULT_GRACE = 100.0
#: For `cleanup`, and for a process that has not been asked to stop before, once the grace period has ended; short, so
#: that the failure file is still written before the container is gone.
AFTER_GRACE = 2.0
#: For all processes of this host together to end, once the job has failed, or once none of them is needed any more.
FAILURE_GRACE = 10.0
#: For each process to end, even if others have used FAILURE_GRACE up.
LEAST_GRACE = 0.2
#: For processes to end that a program left running when it ended; below FAILURE_GRACE, as nobody needs them.
LEFTOVER_GRACE = 5.0

# -- which failure was the first ---------------------------------------------------------------

#: From the last output of a process, such as a traceback, until its end, if both count as one event.
LAST_WORDS = 1.0
#: From when a process that writes nothing begins to end, and closes its connections, until it has ended, at least.
TIDYING = 0.05
#: Between the failures of a program and of its server, if their order cannot be known.
TOGETHER = 0.3
#: From a program's failure until the end of a server whose own exception may still be the cause. Longer than TOGETHER,
#: as a server may tidy up after its exception.
SERVER_ENDS = 2.0
#: From the loss of a host until processes of other hosts notice it by themselves, and fail.
LOSS_SHOWS = 1.0
#: From a failure that is probably a consequence until its host reports it all the same; below WINDOW, in which the
#: leader waits for the cause.
DOUBT = 2.0
#: From the first failure until the leader decides, if all hosts have answered; covers TOGETHER.
LEAST_WINDOW = 0.3
#: The same, if a host has not answered, or if only consequences are known; covers DOUBT and LOSS_SHOWS.
WINDOW = 3.0

#: By which two clocks come apart, at most, in each second: they are of quartz, and perhaps nobody sets them.
CLOCK_DRIFT = 2e-4

# -- ranks -------------------------------------------------------------------------------------

#: From the end of a launcher until its ranks' ends are known; below DOUBT.
RANKS_SETTLE = 1.0
#: From the start of an sshd until it listens.
SSHD_LISTENS = 5.0
#: For a rank's wrapper to read the order that it is sent; it does nothing else at that time.
WRAPPER_LISTENS = 30.0

# -- what hosts wait for -----------------------------------------------------------------------

#: Between signs of life.
BEAT = 3.0
#: From a host's last sign of life until it counts as lost: three beats are missing.
SILENCE = 9.0
#: For the other hosts to come to the same phase, unless the job sets another time.
DEFAULT_PHASE_TIMEOUT = 900.0
#: A follower waits so much longer for a phase than the leader, so that the leader can say which host was late.
LEADER_SAYS_WHO = 10.0
#: From a host's failure, or a request to stop, until it knows the job's verdict; covers WINDOW and the way there.
VERDICT = 9.0
#: For a failed host that has not reached the leader yet to do so and report; covers several attempts.
LAST_ATTEMPTS = 5.0
#: For one attempt of a host to connect to the leader, and again for the leader to answer.
ATTEMPT = 5.0
#: For a connection to show that it is one of the job's hosts; longer than ATTEMPT, after which a host tries again.
INTRODUCTION = 10.0
#: Between two attempts of a host to reach the leader, at most.
LONGEST_RETRY = 1.0
#: For hosts to connect that have not yet, once the job has failed or is stopped, so that the leader can tell them;
#: covers a few attempts of a host that starts at the same moment.
LATECOMERS = 5.0
#: For the other hosts to read the leader's last message.
FAREWELL = 2.0
