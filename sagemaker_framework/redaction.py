"""Keeps secrets out of the log and the failure file: by the name of a value, and by the value itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK = "******"

#: Words that mark the value of a name as secret: `db_password`, `githubToken` and
#: `AWS_SECRET_ACCESS_KEY` contain one, `tokenizer` and `monkey` do not.
_SECRET_WORDS = frozenset(
    "secret secrets password passwords passwd pwd passphrase token credential credentials creds auth apikey "
    "authorization bearer jwt sshpass".split()
)
#: Endings that mark a name as secret if it is written as one word: `PGPASSWORD`, `githubtoken`, `clientsecret`.
_SECRET_ENDS = ("password", "passwd", "passphrase", "token", "secret", "apikey", "secretkey", "privatekey", "accesskey")
_SECRET_PAIRS = frozenset(
    {("connection", "string")}
    | {(kind, "key") for kind in "api access private account signing encryption ssh license wandb".split()}
)
#: Every name of a secret contains one of these. Most names contain none, and need no closer look.
_PARTS_OF_SECRETS = tuple("secret pass pwd token cred auth key bearer jwt connection".split())
#: A secret after its name: in the query of a URL, in a header.
_NAMED_IN_TEXT = r"(?i)([?&](?:password|passwd|token|secret|api_?key|access_?token|signature)=|\bbearer )[^\s&\"']+"

#: The shell's working folders: here "pwd" does not mean password.
_NOT_SECRET = frozenset({"PWD", "OLDPWD"})

#: Shorter values are hidden if their name is known, but not searched for in other
#: strings: a log with every "1" or "yes" masked could not be read.
_SHORTEST_IN_TEXT = 4
_LEAST_OF_A_LINE = 16

#: Characters besides letters and digits that need no quotes in a shell.
_PLAIN = dict.fromkeys(map(ord, "@%+=:,./-_"))


def is_secret_name(name: str) -> bool:
    """Tell whether the value of `name` (a hyperparameter, a variable, an option) must be hidden."""
    lowered = name.lower()
    if name in _NOT_SECRET or not any(part in lowered for part in _PARTS_OF_SECRETS):
        return False
    words = [word.rstrip("0123456789") for word in _words(name)]
    if not _SECRET_WORDS.isdisjoint(words) or any(word.endswith(_SECRET_ENDS) for word in words):
        return True
    return any(pair in _SECRET_PAIRS for pair in zip(words, words[1:]))


def _words(name: str) -> list[str]:
    spaced = []
    for before, char in zip(" " + name, name):
        if not char.isalnum():
            spaced.append(" ")
        elif char.isupper() and before.islower():
            spaced.append(" " + char)
        else:
            spaced.append(char)
    return "".join(spaced).lower().split()


class Redactor:
    """Masks the secrets that it knows in any string."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}

    def hide(self, value: str) -> None:
        """Mask `value` from now on, wherever it stands."""
        # The lines of a long value, such as a private key, are masked one by one, as a log may separate them.
        lines = [line for line in value.splitlines() if len(line) >= _LEAST_OF_A_LINE]
        for form in (value, value.strip(), _escaped(value), repr(value)[1:-1], *lines):
            if len(form) >= _SHORTEST_IN_TEXT:
                self._values[form] = None

    def hide_named(self, values: Mapping[str, object]) -> None:
        """Mask values whose names mark them as secret, and the passwords in URLs among the others."""
        for name, value in values.items():
            if isinstance(value, (int, float)) and value >= 10**_SHORTEST_IN_TEXT and is_secret_name(name):
                self.hide(str(value))
            if not isinstance(value, str):
                continue
            if is_secret_name(name):
                self.hide(value)
            elif "://" in value and "@" in value:
                for password in _url_passwords(value):
                    self.hide(password)

    def __call__(self, text: str) -> str:
        for value in sorted(self._values, key=len, reverse=True):
            if value in text:
                text = text.replace(value, MASK)
        if "://" in text and "@" in text:
            for password in _url_passwords(text):
                for before in (":", "//"):
                    text = text.replace(f"{before}{password}@", f"{before}{MASK}@")
        if "=" in text or "earer " in text:
            import re

            text = re.sub(_NAMED_IN_TEXT, rf"\1{MASK}", text)
        return text

    def command(self, argv: Iterable[str]) -> str:
        """Return `argv` as a person would type it, with secrets masked and long arguments cut."""
        shown = []
        hide_next = False
        for arg in argv:
            name, equals, _ = arg.partition("=")
            if hide_next:
                hide_next = False
                shown.append(MASK)
            elif arg.startswith("-") and is_secret_name(name):
                hide_next = not equals
                shown.append(f"{name}={MASK}" if equals else arg)
            else:
                arg = self(arg)  # Before cutting or quoting changes it.
                shown.append(_quoted(arg if len(arg) <= 256 else arg[:256] + "..."))
        return self(" ".join(shown))


def _quoted(arg: str) -> str:
    if arg.isascii() and arg.translate(_PLAIN).isalnum():
        return arg  # shlex is slow to load, and most arguments need no quotes.
    import shlex

    return shlex.quote(arg)


def _escaped(value: str) -> str:
    # The form that the value has in the repr of an error, or in JSON.
    return value.encode("unicode_escape").decode("ascii")


def _url_passwords(text: str) -> list[str]:
    """Return the passwords of `scheme://user:password@host` and the tokens of `https://token@host` in `text`."""
    found = []
    before, *others = text.split("://")
    for rest in others:
        is_web, before = before.endswith(("http", "https")), rest
        authority = next(iter(rest.split("/", 1)[0].split()), "")
        user_info, at, _ = authority.rpartition("@")
        _, colon, password = user_info.partition(":")
        if is_web and not colon:
            password = user_info
        if at and password and password != MASK:
            found.append(password)
    return found
