"""Lets the leader start processes on the job's other hosts, over an sshd of the job's own.

Only a private folder on each host is read and written: neither /etc/ssh nor ~/.ssh. Each host's sshd has a key that was
made for this job, and admits only the holder of another key, which never leaves the leader. The hosts exchange public
keys and ports over the cluster session, so that both sides know each other from the start.
"""

from __future__ import annotations

import os
import shlex

from sagemaker_framework.errors import ConfigurationError, FrameworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Folders in which sshd may be, besides PATH.
_SBIN = "/usr/sbin:/usr/local/sbin:/sbin"

#: Variables of the container that a launcher's processes on other hosts need to be found and to run.
_LAUNCHERS_OWN = ("PATH", "LD_LIBRARY_PATH", "OPAL_PREFIX", "PRTE_PREFIX", "PMIX_PREFIX", "TMPDIR", "LANG", "LC_ALL")
_LAUNCHERS_PREFIXES = ("OMPI_MCA_", "PRTE_MCA_", "PMIX_MCA_")

_SERVER = """\
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
PermitRootLogin prohibit-password
AllowUsers {user}
UsePAM {pam}
# The folder is private, but below /tmp, which sshd does not like.
StrictModes no
PidFile none
DisableForwarding yes
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
UseDNS no
MaxStartups 4096
MaxSessions 4096
PrintMotd no
PrintLastLog no
LogLevel ERROR
ForceCommand exec /bin/sh {folder}/login
"""

_CLIENT = """\
{hosts}
Host *
    User {user}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PreferredAuthentications publickey
    BatchMode yes
    # Above the session's own limit for a host that does not answer.
    ConnectTimeout 30
    # The default resists computers of the future, but takes a tenth of a second more for each connection.
    KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org
    ForwardAgent no
    ForwardX11 no
    ControlMaster no
    LogLevel ERROR
"""


class Server:
    """This host's sshd.

    Args:
        folder: a private folder for its files.

    Attributes:
        advert: the facts that the leader needs, a JSON object.
        port: the port at which it listens.

    Raises:
        ConfigurationError: the image has no sshd, or the user has no account.
        FrameworkError: its key cannot be made.
    """

    def __init__(self, folder: str) -> None:
        from sagemaker_framework.strategies._network import free_port

        self._folder = folder
        self._sshd = _find("sshd", "openssh-server")
        self.port = free_port(0)
        self.advert: Mapping[str, Any] = {
            "port": self.port,
            "user": _user(),
            "host_key": _make_key(folder, "host_key"),
        }

    def command(self, public_key: str) -> list[str]:
        """Return the argument list that runs sshd.

        Args:
            public_key: the public key of the only client to admit.

        Raises:
            FrameworkError: its files cannot be written.
        """
        pam = "yes" if _is_locked() else "no"
        settings = _SERVER.format(port=self.port, folder=self._folder, user=_user(), pam=pam)
        _write(self._folder, "sshd_config", settings)
        _write(self._folder, "authorized_keys", f"restrict {public_key}\n")
        own = [
            f"export {name}={shlex.quote(value)}\n"
            for name, value in os.environ.items()
            if name in _LAUNCHERS_OWN or name.startswith(_LAUNCHERS_PREFIXES)
        ]
        # sshd starts commands with almost no variables, and older versions have no setting for more.
        login = [*own, 'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n']
        _write(self._folder, "login", "".join(login))
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd confines its unprivileged part to this folder.
        return [self._sshd, "-D", "-e", "-f", os.path.join(self._folder, "sshd_config")]


class Client:
    """The ssh client on the leader.

    Args:
        folder: a private folder for its files.

    Attributes:
        public_key: the key by which the hosts' sshd know it.

    Raises:
        ConfigurationError: the image has no ssh.
        FrameworkError: its key cannot be made.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._ssh = _find("ssh", "openssh-client")
        self.public_key = _make_key(folder, "key")

    def command(self, servers: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return the argument list that, followed by a host and a command, runs the command on that host.

        Args:
            servers: the `Server.advert` of each other host, by host.

        Raises:
            FrameworkError: its files cannot be written.
        """
        hosts = [f"Host {name}\n    HostKeyAlias {name}\n    Port {int(it['port'])}\n" for name, it in servers.items()]
        known = [f"{name} {it['host_key']}\n" for name, it in servers.items()]
        _write(self._folder, "known_hosts", "".join(known))
        _write(self._folder, "config", _CLIENT.format(hosts="".join(hosts), folder=self._folder, user=_user()))
        return [self._ssh, "-F", os.path.join(self._folder, "config")]


def _find(program: str, package: str) -> str:
    from shutil import which

    found = which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if found is None:
        raise ConfigurationError(
            f"this image has no {program}, which MPI on several hosts needs: install {package} in the Dockerfile"
        )
    return found


def _user() -> str:
    import pwd

    try:
        account = pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise ConfigurationError(
            f"user {os.geteuid()} has no account in this image, which ssh, and MPI on several hosts, need: "
            "add one with useradd in the Dockerfile"
        ) from error
    if os.path.basename(account.pw_shell) in ("nologin", "false"):
        raise ConfigurationError(
            f"the account of {account.pw_name} has {account.pw_shell} as its shell, with which ssh, and so MPI on "
            "several hosts, cannot run anything: set another with usermod --shell in the Dockerfile"
        )
    return account.pw_name


def _is_locked() -> bool:
    """Tell whether sshd would refuse the user, whose password is locked, as in images based on Red Hat's."""
    try:
        with open("/etc/shadow", encoding="utf-8") as file:
            entries = [line.split(":") for line in file]
    except OSError:
        return False  # sshd cannot see it either, unless it is root's.
    return any(entry[0] == _user() and entry[1].startswith("!") for entry in entries)


def _make_key(folder: str, name: str) -> str:
    """Make a pair of keys, and return the public one."""
    import subprocess

    path = os.path.join(folder, name)
    command = [_find("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if made.returncode:
        raise FrameworkError(f"no key can be made for ssh: {(made.stderr or made.stdout).strip()}")
    with open(f"{path}.pub", encoding="ascii") as file:
        return file.read().strip()


def _write(folder: str, name: str, text: str) -> None:
    path = os.path.join(folder, name)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        raise FrameworkError(f"{path} cannot be written: {error.strerror}") from error
