"""The workflow and its hooks, as an author of a training image meets them."""

from __future__ import annotations

import socket
import subprocess
import textwrap
from pathlib import Path

import psutil
import pytest
from jobs import Finished, Job

HOOKS = ["pre_train", "source", "entry_point", "strategy", "args", "env_vars", "post_train", "cleanup"]


class Image:
    """An image with a framework package of its own, `container`."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self.folder = folder
        folder.mkdir()
        job.env["PYTHONPATH"] = str(folder)

    def module(self, text: str, attribute: str = "MyTrainer") -> None:
        """Make this text the module that SAGEMAKER_TRAINING_MODULE names."""
        (self.folder / "container.py").write_text(textwrap.dedent(text))
        self.job.env["SAGEMAKER_TRAINING_MODULE"] = f"container:{attribute}"

    def run(self, text: str, attribute: str = "MyTrainer") -> Finished:
        self.module(text, attribute)
        return self.job.run()


def until(process: subprocess.Popen[bytes], words: str) -> None:
    """Wait until the job has written these words to stderr."""
    assert process.stderr is not None
    assert any(words in line.decode() for line in process.stderr), f"the job ended before {words!r} came"


@pytest.fixture
def image(job: Job, tmp_path: Path) -> Image:
    """An image whose job has a program that says so and succeeds."""
    job.program("print('the program')")
    return Image(job, tmp_path / "site")


TELLING = """
    from sagemaker_framework import Trainer
    class MyTrainer(Trainer):
        pass
    def tell(name):
        def hook(self):
            print(name, flush=True)
            return getattr(super(MyTrainer, self), name)()
        return hook
    for name in HOOKS:
        setattr(MyTrainer, name, tell(name))
""".replace("HOOKS", str(HOOKS))


def test_hooks_are_called_in_the_documented_order(image: Image) -> None:
    """Each hook is called once, in the order of the class's docstring, around the program."""
    told = image.run(TELLING).stdout.split("\n")

    assert [*HOOKS[:-2], "the program", *HOOKS[-2:], ""] == told


def test_after_a_failure_cleanup_is_called_and_post_train_is_not(image: Image) -> None:
    """`post_train` is for success alone, `cleanup` for every end."""
    image.job.program("raise SystemExit(6)")
    ended = image.run(TELLING)

    assert 6 == ended.returncode
    assert [*HOOKS[:-2], "cleanup", ""] == ended.stdout.split("\n")


@pytest.mark.parametrize("hook", [*HOOKS, "__init__"])
def test_a_hook_that_raises_fails_the_job_and_is_named(image: Image, hook: str) -> None:
    """The cause names the class, the hook and the exception; the failure file shows the author's code."""
    ended = image.run(f"""
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def {hook}(self, *args):
                raise KeyError("weights")
        """)

    assert 1 == ended.returncode
    assert ended.cause.endswith("failed: KeyError: 'weights'")
    assert "MyTrainer" in ended.cause
    assert "container.py" in (ended.failure or "")
    assert not ended.has_success_marker


def test_a_hook_can_give_the_job_owner_a_cause_of_its_own(image: Image) -> None:
    """A FrameworkError is the cause as it stands."""
    ended = image.run("""
        from sagemaker_framework import FrameworkError, Trainer
        class MyTrainer(Trainer):
            def pre_train(self):
                raise FrameworkError("the channel 'training' has no records: check its S3 prefix")
        """)

    assert "the channel 'training' has no records: check its S3 prefix" == ended.cause
    assert "" == ended.stdout


def test_a_failure_in_cleanup_does_not_hide_the_first_one(image: Image) -> None:
    """What failed first is the cause; what failed after it is in the log."""
    image.job.program("raise SystemExit(6)")
    ended = image.run("""
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def cleanup(self): raise OSError("cleanup")
        """)

    assert (6, "train.py exited with code 6") == (ended.returncode, ended.cause)
    assert "MyTrainer.cleanup failed: OSError: cleanup" in ended.stderr


def test_a_trainer_can_change_arguments_variables_and_program(image: Image) -> None:
    """What `args`, `env_vars` and `entry_point` return is what runs."""
    image.job.write("other.py", "import os, sys; print(sys.argv, os.environ['MORE'], os.environ['SM_HOSTS'])")
    ended = image.run("""
        from sagemaker_framework import PythonEntryPoint, Trainer
        class MyTrainer(Trainer):
            def entry_point(self): return PythonEntryPoint("other.py", self.env.code_dir)
            def args(self): return ["--one", *super().args()]
            def env_vars(self): return {**super().env_vars(), "MORE": self.env.current_host}
        """)

    assert "['other.py', '--one'] algo-1 [\"algo-1\"]\n" == ended.stdout


def test_hyperparameters_for_the_image(image: Image) -> None:
    """Those that the Trainer claims are neither arguments nor variables of the program; the Trainer has them."""
    image.job.hyperparameters.update(_ps_port=9000, lr=0.1)
    image.job.program(
        "import os, sys; print(sys.argv[1:], os.environ['SM_HPS'], [name for name in os.environ if 'PORT' in name])"
    )
    ended = image.run("""
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            framework_hyperparameters = {"_ps_port", "_ps_verbose"}
            def pre_train(self):
                print(self.env.additional_framework_parameters, flush=True)
        """)

    assert ["{'_ps_port': 9000}", "['--lr', '0.1'] {\"lr\":0.1} ['SM_MASTER_PORT']", ""] == ended.stdout.split("\n")


SERVERS = """
    import sys
    from sagemaker_framework import SingleProcessStrategy, Trainer
    SERVER = '''
    import signal, sys
    def stop(*_):
        print(sys.argv[1], "stopped", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    open(sys.argv[2], "w").close()
    while True: signal.pause()
    '''
    class Servers(SingleProcessStrategy):
        def start_servers(self, launch):
            for name in ("first", "second"):
                launch(name, [sys.executable, "-c", SERVER, name, f"{self.env.model_dir}/{name}"])
        def env_vars(self):
            return {"SERVERS": "2"}
    class MyTrainer(Trainer):
        def strategy(self): return Servers(self.env)
        def post_train(self): print("post_train", flush=True)
"""
WAIT_FOR_SERVERS = """
    import os, time
    while not all(os.path.exists(os.environ["SM_MODEL_DIR"] + "/" + name) for name in ("first", "second")):
        time.sleep(0.01)
"""


def test_servers_run_beside_the_program_and_are_stopped_in_reverse(image: Image) -> None:
    """Servers start before the program, and are stopped after it, the last one first, before `post_train`."""
    image.job.program(WAIT_FOR_SERVERS + "    print('the program', os.environ['SERVERS'])\n")
    ended = image.run(SERVERS)

    assert ["the program 2", "second stopped", "first stopped", "post_train", ""] == ended.stdout.split("\n")
    assert ended.succeeded


def test_a_server_that_ends_first_fails_the_job(image: Image) -> None:
    """A server that dies while the program runs is the cause, with its name, code and last words."""
    image.job.program("import signal\nwhile True: signal.pause()")
    ended = image.run("""
        import sys
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Servers(SingleProcessStrategy):
            def start_servers(self, launch):
                launch("scheduler", [sys.executable, "-c", "import sys; sys.exit('no port left')"])
        class MyTrainer(Trainer):
            def strategy(self): return Servers(self.env)
        """)

    assert (1, "scheduler exited with code 1 while train.py was running: no port left") == (
        ended.returncode,
        ended.cause,
    )


#: A program that ignores requests to stop, asks its server to end, and waits for a word from the test.
STAYS = """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(int(open(os.environ["SM_MODEL_DIR"] + "/server").read()), signal.SIGTERM)
    while not os.path.exists(os.environ["SM_MODEL_DIR"] + "/go"): time.sleep(0.01)
"""
#: A server that does as it is asked to with this exit code, and may end where it is said to.
SERVER = """
    import os, sys, time
    from sagemaker_framework import SingleProcessStrategy, Trainer
    SERVER = '''
    import os, signal, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(CODE))
    os.write(os.open("new", os.O_WRONLY | os.O_CREAT), str(os.getpid()).encode())
    os.rename("new", "server")
    while True: signal.pause()
    '''
    class Servers(SingleProcessStrategy):
        def start_servers(self, launch):
            launch("server", [sys.executable, "-c", SERVER], cwd=self.env.model_dir, may_end=MAY_END)
            while not os.path.exists(self.env.model_dir + "/server"): time.sleep(0.01)
    class MyTrainer(Trainer):
        def strategy(self): return Servers(self.env)
"""


def test_a_program_has_ten_seconds_once_its_server_has_failed(image: Image) -> None:
    """Not the whole grace period of a stopped job; one that ends within them is not killed."""
    image.job.program(STAYS)
    image.module(SERVER.replace("MAY_END", "False").replace("CODE", "0"))
    process = image.job.start()
    until(process, "server ended before train.py did: stopping train.py, within 10 s")
    (image.job.base / "model/go").touch()
    ended = image.job.finish(process)

    assert (1, "server exited with code 0 while train.py was running") == (ended.returncode, ended.cause)
    assert "killing it" not in ended.stderr


def test_a_program_that_ignores_the_death_of_its_server_is_killed(image: Image) -> None:
    """When the time that it has is over, which is the job's grace period where that is shorter."""
    image.job.program(STAYS)
    image.job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "1"
    ended = image.run(SERVER.replace("MAY_END", "False").replace("CODE", "0"))

    assert (1, "server exited with code 0 while train.py was running") == (ended.returncode, ended.cause)
    assert "train.py did not end within 1 s of being asked to: killing it" in ended.stderr


def test_a_server_that_ends_well_too_early_fails_the_job_too(image: Image) -> None:
    """Exit code 0 of a server, while the program needs it, is no success."""
    image.job.program("import signal\nwhile True: signal.pause()")
    ended = image.run("""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Servers(SingleProcessStrategy):
            def start_servers(self, launch): launch("scheduler", ["true"])
        class MyTrainer(Trainer):
            def strategy(self): return Servers(self.env)
        """)

    assert (1, "scheduler exited with code 0 while train.py was running") == (ended.returncode, ended.cause)
    assert not ended.has_success_marker


#: Has its server end, says so once `train` knows, and waits for a word from the test.
OUTLIVES = """
    import os, signal, sys, time
    server = int(open(os.environ["SM_MODEL_DIR"] + "/server").read())
    os.kill(server, signal.SIGTERM)
    while os.path.exists(f"/proc/{server}"): time.sleep(0.01)
    print("the server is gone", file=sys.stderr)
    while not os.path.exists(os.environ["SM_MODEL_DIR"] + "/go"): time.sleep(0.01)
"""


def test_a_server_that_may_end_ends_well(image: Image) -> None:
    """A server that was started with `may_end` may exit with 0 before the program does."""
    image.job.program(OUTLIVES)
    image.module(SERVER.replace("MAY_END", "True").replace("CODE", "0"))
    process = image.job.start()
    # `train` passes this on when it has dealt with all that it knew of when the server was gone.
    until(process, "the server is gone")
    (image.job.base / "model/go").touch()

    assert image.job.finish(process).succeeded


def test_a_server_that_may_end_ends_badly(image: Image) -> None:
    """It may exit with nothing but 0."""
    image.job.program(OUTLIVES)
    ended = image.run(SERVER.replace("MAY_END", "True").replace("CODE", "4"))

    assert (4, "server exited with code 4 while train.py was running") == (ended.returncode, ended.cause)


def test_a_server_has_the_programs_variables_and_its_own(image: Image) -> None:
    """`env_vars` of `launch` are added to the variables that the program gets; `env` is used instead of them."""
    image.job.program("import os, time\nwhile len(os.listdir(os.environ['SM_MODEL_DIR'])) < 2: time.sleep(0.01)")
    image.run("""
        import sys
        from sagemaker_framework import SingleProcessStrategy, Trainer
        SERVER = '''
        import os, signal, sys
        print(os.environ.get("SM_HOSTS"), os.environ["ROLE"], file=open(sys.argv[1] + ".new", "w"), flush=True)
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        while True: signal.pause()
        '''
        class Servers(SingleProcessStrategy):
            def start_servers(self, launch):
                for name, variables in (("more", "env_vars"), ("own", "env")):
                    argv = [sys.executable, "-c", SERVER, self.env.model_dir + "/" + name]
                    launch(name, argv, **{variables: {"ROLE": name}})
        class MyTrainer(Trainer):
            def strategy(self): return Servers(self.env)
        """)

    assert ['["algo-1"] more\n', "None own\n"] == [
        (image.job.base / "model" / name).read_text() for name in ("more", "own")
    ]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("['sleep', 60]", "its argument list is ['sleep', 60], not a list of strings"),
        ("'sleep 60'", "its argument list is 'sleep 60', not a list of strings"),
        ("['sleep', '60'], env={'PORT': 1}", "its variables are not a mapping of strings"),
        ("['sleep', '60'], env_vars={'PORT': 1}", "its variables are not a mapping of strings"),
    ],
)
def test_a_server_that_is_started_wrongly_fails_the_job(image: Image, arguments: str, what: str) -> None:
    """What an author gives to `launch` by mistake is named, without a traceback of ours."""
    ended = image.run(f"""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Servers(SingleProcessStrategy):
            def start_servers(self, launch): launch("server", {arguments})
        class MyTrainer(Trainer):
            def strategy(self): return Servers(self.env)
        """)

    assert (1, f"launch('server'): {what}") == (ended.returncode, ended.failure and ended.failure.rstrip())


def test_servers_are_stopped_when_the_program_fails(image: Image) -> None:
    """No server outlives a program that failed."""
    image.job.program(WAIT_FOR_SERVERS + "    raise SystemExit(3)\n")
    ended = image.run(SERVERS)

    assert 3 == ended.returncode
    assert ["second stopped", "first stopped", ""] == ended.stdout.split("\n")


#: What a server, and a program that needs it, do when one of them fails; `{...}` on the way out.
FALLING = """
    import sys
    from sagemaker_framework import SingleProcessStrategy, Trainer
    SERVER = '''
    import os, socket, sys, time
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], file=open("new", "w"))
    os.rename("new", "port")
    client, _ = server.accept()
    SERVER_DOES
    '''
    class Servers(SingleProcessStrategy):
        def start_servers(self, launch):
            launch("server", [sys.executable, "-c", SERVER], cwd=self.env.model_dir)
    class MyTrainer(Trainer):
        def strategy(self): return Servers(self.env)
"""
ASKS = (
    "import os, socket, sys, time\nport = os.environ['SM_MODEL_DIR'] + '/port'\n"
    "while not os.path.exists(port): time.sleep(0.01)\n"
    "server = socket.create_connection(('127.0.0.1', int(open(port).read())))\n"
)


#: Says why it fails, and ends once the program, which that brings down, is gone.
FAILS_AND_TIDIES_UP = """
    import traceback
    try:
        raise OSError("no space left for keys")
    except OSError:
        traceback.print_exc()
    client.shutdown(socket.SHUT_WR)
    client.recv(1)
    sys.exit(4)
"""


def test_a_server_that_is_slow_to_fail_is_named_first(image: Image) -> None:
    """What raised first stands first, though it ended last; of both together, the exit code is the program's."""
    image.job.program(ASKS + "if not server.recv(1): raise ConnectionError('lost a server')")
    ended = image.run(FALLING.replace("SERVER_DOES", FAILS_AND_TIDIES_UP))

    servers = "server exited with code 4 while train.py was running: OSError: no space left for keys"
    programs = "train.py exited with code 1: ConnectionError: lost a server"
    # On a machine that is so busy that the program needs longer to notice, the server is the cause alone.
    assert (ended.returncode, ended.cause) in [(1, f"{servers}; at the same moment, {programs}"), (4, servers)]


def test_a_program_whose_server_fails_because_of_it_is_named_first(image: Image) -> None:
    """A server that ends because the program has gone stands behind it, if at all; the exit code is the program's."""
    image.job.program(ASKS + "sys.exit(3)")
    ended = image.run(FALLING.replace("SERVER_DOES", "client.recv(1); sys.exit('lost a worker')"))

    both = "train.py exited with code 3; at the same moment, server exited with code 1"
    assert 3 == ended.returncode
    assert ended.cause.startswith((both, "train.py exited with code 3"))


def test_a_program_that_tidies_up_has_its_own_exit_code(image: Image) -> None:
    """A server that fails as soon as the program lets go of it does not hide the code that the program exits with."""
    # It waits until the server's process is gone.
    image.job.program(ASKS + "server.shutdown(socket.SHUT_WR); server.recv(1); sys.exit(3)")
    ended = image.run(FALLING.replace("SERVER_DOES", "client.recv(1); sys.exit('lost a worker')"))

    servers = "server exited with code 1 while train.py was running: lost a worker"
    assert (ended.returncode, ended.cause) in [
        (3, f"{servers}; at the same moment, train.py exited with code 3"),
        (3, f"train.py exited with code 3; at the same moment, {servers}"),  # or so quick that its end comes first
        (1, servers),  # on a machine so busy that the program needs longer to exit
    ]


def test_servers_that_ignore_the_request_to_end_take_their_time_together(image: Image) -> None:
    """Not the ten seconds, or the job's shorter grace period, each, one after the other."""
    text = SERVERS.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    image.job.program(WAIT_FOR_SERVERS + "    pass\n")
    image.job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "1"
    ended = image.run(text)

    assert ended.succeeded
    assert "second did not end within 1 s of being asked to: killing it" in ended.stderr
    assert "first did not end within 0 s of being asked to: killing it" in ended.stderr


# -- functions -----------------------------------------------------------------------------------------------------


def test_a_strategy_that_runs_nothing_anywhere_fails_the_job(image: Image) -> None:
    """A host may serve others, but somebody has to run something."""
    ended = image.run("""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Idle(SingleProcessStrategy):
            def command(self, entry_point, args): return None
        class MyTrainer(Trainer):
            def strategy(self): return Idle(self.env)
        """)

    assert 1 == ended.returncode
    assert ended.cause.startswith("Idle: no host has a program to wait for: on every one, command returned None")


def test_a_host_outside_of_the_distributions_groups_runs_by_itself(image: Image) -> None:
    """Hosts that run independently each have a program, also where the job names other instance groups."""
    image.job.config(
        "resourceconfig",
        {
            "current_host": "algo-2",
            "hosts": ["algo-1", "algo-2"],
            "current_group_name": "two",
            "instance_groups": [
                {"instance_group_name": "one", "instance_type": "ml.m5.large", "hosts": ["algo-1"]},
                {"instance_group_name": "two", "instance_type": "ml.m5.large", "hosts": ["algo-2"]},
            ],
            "network_interface_name": "lo",
        },
    )
    image.job.hyperparameters["sagemaker_distribution_instance_groups"] = ["one"]
    image.job.env["SAGEMAKER_FRAMEWORK_CLUSTER"] = "off"
    ended = image.job.run()

    assert (True, "the program\n") == (ended.succeeded, ended.stdout)


def test_a_strategys_hooks_are_called_in_the_documented_order(image: Image) -> None:
    """On one host too, each hook is called once, in the order of the class's docstring."""
    told = image.run("""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        HOOKS = "advertise plan command env_vars start_servers completes_job summary close verify".split()
        class Telling(SingleProcessStrategy):
            pass
        def tell(name):
            def hook(self, *args):
                print(name, flush=True)
                return getattr(super(Telling, self), name)(*args)
            return hook
        for name in HOOKS:
            setattr(Telling, name, tell(name))
        class MyTrainer(Trainer):
            def strategy(self): return Telling(self.env)
        """).stdout.split("\n")

    before = ["advertise", "plan", "command", "env_vars", "start_servers", "completes_job"]
    assert [*before, "the program", "summary", "close", "verify", ""] == told


def test_close_is_called_again_if_the_job_fails_after_it(image: Image) -> None:
    """A `verify` that raises comes after `close`, which is then called a second time."""
    told = image.run("""
        from sagemaker_framework import FrameworkError, SingleProcessStrategy, Trainer
        class Telling(SingleProcessStrategy):
            def close(self): print("close", flush=True)
            def verify(self, summaries): raise FrameworkError("a rank is missing")
        class MyTrainer(Trainer):
            def strategy(self): return Telling(self.env)
        """)

    assert "the program\nclose\nclose\n" == told.stdout
    assert "a rank is missing" == told.cause


def test_a_stopped_job_has_a_summary(image: Image) -> None:
    """`summary` is called for a program that ends well after a request to stop; `verify` is not."""
    image.job.program("""
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getppid(), signal.SIGTERM)
        signal.sigwait([signal.SIGTERM])
        """)
    told = image.run("""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Telling(SingleProcessStrategy):
            def summary(self):
                print("summary", flush=True)
                return {}
            def verify(self, summaries): print("verify", flush=True)
        class MyTrainer(Trainer):
            def strategy(self): return Telling(self.env)
        """)

    assert ("summary\n", False) == (told.stdout, told.has_success_marker)


@pytest.mark.parametrize("hook", ["advertise", "plan", "start_servers", "completes_job", "summary", "verify"])
def test_a_strategys_hook_that_raises_fails_the_job_and_is_named(image: Image, hook: str) -> None:
    """What goes wrong in a strategy is told with the name of the hook, and is never a success."""
    ended = image.run(f"""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Broken(SingleProcessStrategy):
            def {hook}(self, *args): raise OSError("of no use")
        class MyTrainer(Trainer):
            def strategy(self): return Broken(self.env)
        """)

    assert (1, f"Broken.{hook} failed: OSError: of no use") == (ended.returncode, ended.cause)
    assert not ended.has_success_marker


# -- the environment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_strategy_that_cannot_tell_if_it_is_idle_costs_nothing_else(image: Image, is_stopped: bool) -> None:
    """An exception of `is_idle` is in the log, counts as idle, and hides neither the program's end nor later hooks."""
    image.job.program(
        """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
        print("ready", flush=True)
        while STOPPED: signal.pause()
        sys.exit(3)
        """.replace("STOPPED", str(is_stopped))
    )
    image.module("""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Broken(SingleProcessStrategy):
            def is_idle(self): raise RuntimeError("of no use")
            def close(self): print("closed", flush=True)
        class MyTrainer(Trainer):
            def strategy(self): return Broken(self.env)
            def cleanup(self): print("cleaned up", flush=True)
        """)
    process = image.job.start()
    assert process.stdout is not None
    assert b"ready\n" == process.stdout.readline()
    if is_stopped:
        process.terminate()
    ended = image.job.finish(process)

    assert 3 == ended.returncode
    assert "train.py exited with code 3" in ended.cause
    assert "cleaned up\nclosed\n" == ended.stdout
    assert "Broken.is_idle failed: RuntimeError: of no use" in ended.stderr


def test_there_is_one_environment(image: Image) -> None:
    """`__init__` gets the TrainingEnv that `self.env` is, and that a strategy made with it has."""
    ended = image.run("""
        from sagemaker_framework import SingleProcessStrategy, Trainer, TrainingEnv
        class MyTrainer(Trainer):
            def __init__(self, env):
                super().__init__(env)
                print(type(env) is TrainingEnv, self.env is env, SingleProcessStrategy(env).env is env, flush=True)
        """)

    assert "True True True\nthe program\n" == ended.stdout


def test_a_hook_that_changes_the_environment(image: Image) -> None:
    """It fails the job, with what to do instead; nothing was changed."""
    image.job.hyperparameters["lr"] = 0.1
    ended = image.run("""
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def pre_train(self):
                self.env.hyperparameters["lr"] = 0.5
        """)

    assert ended.cause == (
        "MyTrainer.pre_train failed: TypeError: the environment is read-only: change a copy, such as "
        "copy.deepcopy(env.hyperparameters); for the whole job, in the Trainer's __init__: "
        "super().__init__(env.evolve(hyperparameters=the_copy))"
    )


def test_what_the_error_says_to_do_instead_works(image: Image) -> None:
    """A deep copy can be changed at every depth, and becomes the job's when it is passed on."""
    image.job.hyperparameters["opt"] = {"lr": [0.1]}
    image.job.program("import os; print(os.environ['SM_HP_OPT'])")
    ended = image.run("""
        import copy
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def __init__(self, env):
                the_copy = copy.deepcopy(env.hyperparameters)
                the_copy["opt"]["lr"].append(0.5)
                super().__init__(env.evolve(hyperparameters=the_copy))
        """)

    assert '{"lr":[0.1,0.5]}\n' == ended.stdout


@pytest.mark.parametrize(
    "changed", ["env.evolve(hyperparameters={'lr': 0.5})", "{**env, 'hyperparameters': {'lr': 0.5}}"]
)
def test_an_image_may_change_it_for_all(image: Image, changed: str) -> None:
    """What a Trainer gives to `super().__init__`, a changed copy or a mapping, is the job's environment."""
    image.job.env["SAGEMAKER_FRAMEWORK_CLUSTER_PORT"] = "7000"
    image.job.program("import sys; print(sys.argv[1:])")
    ended = image.run(f"""
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def __init__(self, env):
                super().__init__({changed})
            def pre_train(self):
                print(self.env.hyperparameters["lr"], self.env.settings.cluster_port, flush=True)
        """)

    assert "0.5 7000\n['--lr', '0.5']\n" == ended.stdout


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("None", "was given NoneType for an environment, not a TrainingEnv"),
        ("{'hosts': []}", "was given a mapping that is not an environment: TrainingEnv needs hyperparameters, "),
        (
            "{**env, 'hosts': 'algo-1'}",
            "was given a mapping that is not an environment: TrainingEnv.hosts must be list",
        ),
        ("{**env, 'x': 1}", "was given a mapping that is not an environment: TrainingEnv has no attribute x"),
    ],
)
@pytest.mark.parametrize("kind", ["Trainer", "SingleProcessStrategy"])
def test_what_is_no_environment(image: Image, kind: str, given: str, cause: str) -> None:
    """Anything else fails the job with what is wrong with it."""
    ended = image.run(f"""
        import sagemaker_framework
        class MyTrainer(sagemaker_framework.Trainer):
            def __init__(self, env):
                super().__init__(env)
                class Mine(sagemaker_framework.{kind}): pass
                Mine({given})
        """)

    assert ended.cause.startswith(f"Mine.__init__ {cause}")


# -- a function instead ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", ["env", "env, *args", "environment=None", "*, env=None", "", "*args", "**more"])
def test_a_function_gets_the_environment_if_it_takes_a_parameter(image: Image, signature: str) -> None:
    """`pkg.mod:function` is called with the TrainingEnv if it has a parameter for it, without if not."""
    ended = image.run(f"def train({signature}): print(list(locals().values()))", "train")
    takes = signature.startswith("env")

    assert ended.succeeded
    assert takes == ("<TrainingEnv of job None on 'algo-1'>" in ended.stdout)


def test_the_seed_documents_framework_container(image: Image) -> None:
    """The MXNet container of the AWS document, with this package in the place of sagemaker_containers."""
    image.job.hyperparameters["lr"] = 0.1
    image.job.program("import sys, os; print(sys.argv[1:], os.environ['SAGEMAKER_CHANNELS'])")
    ended = image.run(
        """
        from sagemaker_framework.beta import framework

        def train(env):
            env = framework.training_env()
            user_entry_point = env.module_name + ".py"
            framework.entry_point.run(env.module_dir, user_entry_point, env.to_cmd_args(), env.to_env_vars())
        """,
        "train",
    )

    assert (0, "['--lr', '0.1'] training\n") == (ended.returncode, ended.stdout)


def test_a_program_that_fails_within_a_function_fails_the_job_with_its_code(image: Image) -> None:
    """What `entry_point.run` raises carries the program's exit code and cause."""
    image.job.program("raise SystemExit('bad')")
    ended = image.run(
        """
        import sagemaker_framework as framework
        def train(env): framework.entry_point.run('train.py', [], env.to_env_vars())
        """,
        "train",
    )

    assert (1, "train.py exited with code 1: bad") == (ended.returncode, ended.cause)


@pytest.mark.parametrize(
    ("call", "code", "cause"),
    [
        ("sys.exit(3)", 3, "called sys.exit(3)"),
        ("sys.exit('no licence')", 1, "exited: no licence"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_a_function_that_exits_fails_the_job(image: Image, call: str, code: int, cause: str) -> None:
    """A framework module that leaves through sys.exit is no success: its code, and a failure file."""
    ended = image.run(f"import sys\ndef train(): {call}", "train")

    assert (code, False) == (ended.returncode, ended.has_success_marker)
    assert cause in ended.cause


def test_a_function_that_exits_well_is_a_success(image: Image) -> None:
    """sys.exit(0) is a return."""
    assert image.run("import sys\ndef train(): sys.exit(0)", "train").succeeded


@pytest.mark.parametrize("end", ["pass", "raise OSError('no licence')", "sys.exit(3)"])
@pytest.mark.parametrize("program", ["pass", "raise SystemExit(6)"])
def test_what_a_function_leaves_running_is_stopped(image: Image, program: str, end: str) -> None:
    """Processes that a function has started end with the job, however that ends; also those that lost their parent."""
    image.job.program(program)
    ended = image.run(
        f"""
        import os, subprocess, sys
        import sagemaker_framework as framework

        def train(env):
            print(subprocess.Popen(["sleep", "1000"]).pid)
            try:
                framework.entry_point.run("train.py", [], env.to_env_vars())
            finally:
                sys.stdout.flush()
                os.system("setsid sleep 1000 & echo $!")
            {end}
        """,
        "train",
    )

    assert (program == end == "pass") == ended.succeeded
    assert [] == [pid for pid in map(int, ended.stdout.split()) if psutil.pid_exists(pid)]
    assert 2 == len(ended.stdout.split())


def test_a_function_that_is_stopped_leaves_nothing_running(image: Image) -> None:
    """SIGTERM ends a function that waits, and what it has started."""
    image.module(
        """
        import subprocess
        def train():
            helper = subprocess.Popen(["sleep", "1000"])
            print(helper.pid, flush=True)
            helper.wait()
        """,
        "train",
    )
    process = image.job.start()
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.terminate()
    ended = image.job.finish(process)

    assert (143, False) == (ended.returncode, ended.has_success_marker)
    assert not psutil.pid_exists(pid)


def test_a_function_that_swallows_the_request_is_no_success(image: Image) -> None:
    """What a function catches by mistake comes up again when it has returned."""
    image.module(
        """
        import time
        def train():
            try:
                print("ready", flush=True)
                time.sleep(600)
            except BaseException:
                pass
        """,
        "train",
    )
    process = image.job.start()
    assert process.stdout is not None
    assert b"ready\n" == process.stdout.readline()
    process.terminate()
    ended = image.job.finish(process)

    assert (143, False) == (ended.returncode, ended.has_success_marker)
    assert "the job was stopped by SIGTERM before its program ran" == ended.cause


def test_a_function_whose_program_is_stopped_is_no_success(image: Image) -> None:
    """A program that saves its state on SIGTERM and exits 0 has ended well, and the job was stopped all the same."""
    image.job.program(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    image.module(
        """
        import sagemaker_framework as framework
        def train(env):
            framework.entry_point.run("train.py", [], env.to_env_vars())
            print("goes on", flush=True)
        """,
        "train",
    )
    process = image.job.start()
    assert process.stdout is not None
    assert b"ready\n" == process.stdout.readline()
    process.terminate()
    ended = image.job.finish(process)

    assert (0, None, False, "") == (ended.returncode, ended.failure, ended.has_success_marker, ended.stdout)


def test_a_function_that_does_not_tell_its_parameters(job: Job) -> None:
    """Of some that are written in C, nobody knows: they are called without any."""
    job.env["SAGEMAKER_TRAINING_MODULE"] = "builtins:max"

    assert job.run().cause.startswith("builtins:max failed: TypeError: max expected at least 1 argument")


def test_a_host_that_cannot_tell_the_others_has_its_own_cause(job: Job) -> None:
    """That the leader's port is taken is in the log, and not the reason."""
    job.hosts("algo-1", "algo-2")
    job.env["SAGEMAKER_TRAINING_MODULE"] = "not_there:MyTrainer"
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        job.env["SAGEMAKER_FRAMEWORK_CLUSTER_PORT"] = str(port)
        ended = job.run()

    assert "No module named 'not_there'" in ended.cause
    assert f"port {port}" in ended.stderr


def test_a_nested_attribute_can_be_named(image: Image) -> None:
    """`pkg.mod:Class.method` works as in console scripts."""
    assert "in\n" == image.run("class A:\n  @staticmethod\n  def go(): print('in')", "A.go").stdout


@pytest.mark.parametrize("hook", ["advertise", "plan", "summary"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("None", "returned None, not a mapping that can be sent to other hosts as JSON"),
        ("{'ports': {1, 2}}", "returned what cannot be sent to other hosts as JSON: Object of type set is not JSON"),
        ("{'x': 'x' * 9_000_000}", "returned 9,000,009 bytes of JSON; 8,388,608 can be sent to other hosts"),
    ],
)
def test_what_hosts_cannot_be_sent_is_the_hooks_mistake(image: Image, hook: str, value: str, said: str) -> None:
    """The failure names the hook, on one host too, and not the connection that it would break."""
    ended = image.run(f"""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Odd(SingleProcessStrategy):
            def {hook}(self, *args): return {value}
        class MyTrainer(Trainer):
            def strategy(self): return Odd(self.env)
        """)

    assert ended.cause.startswith(f"Odd.{hook} {said}")


def test_a_host_sees_of_its_own_advert_what_others_see(image: Image) -> None:
    """Also on one host, keys are strings and tuples are lists: what works there works on two."""
    image.job.program("import os; print(os.environ['SEEN'])")
    ended = image.run("""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Odd(SingleProcessStrategy):
            def advertise(self): return {1: (2, 3)}
            def plan(self, adverts): return adverts["algo-1"]
            def env_vars(self): return {"SEEN": repr(dict(self.plan_result))}
        class MyTrainer(Trainer):
            def strategy(self): return Odd(self.env)
        """)

    assert "{'1': [2, 3]}\n" == ended.stdout


@pytest.mark.parametrize("name", ["hosts", "is_leader"])
def test_a_strategy_does_not_choose_its_hosts(image: Image, name: str) -> None:
    """Overriding what the job decides is told as a mistake, with what decides it."""
    ended = image.run(f"""
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Mine(SingleProcessStrategy):
            def {name}(self):
                return ["algo-1"]
    """)

    assert ended.cause == (
        f"Mine overrides {name}, which the job decides; remove it. The hosts of a distribution are those of its "
        "instance groups (sagemaker_distribution_instance_groups), and their first is the leader"
    )
