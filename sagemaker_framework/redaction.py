"""Keeps secrets out of what we write: by the name of a value, and by the value itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK = "******"

#: Parts of a name that mark its value as secret, each a whole word of the name:
#: `db_password`, `githubToken` and `AWS_SECRET_ACCESS_KEY` do, `tokenizer` and `monkey` do not.
_SECRET_WORDS = frozenset(
    "secret secrets password passwords passwd pwd passphrase token credential credentials creds auth apikey "
    "authorization bearer jwt sshpass".split()
)
#: What a word ends with that is run together: `PGPASSWORD`, `githubtoken`, `clientsecret`, `AWSSecretKey`.
_SECRET_ENDS = ("password", "passwd", "passphrase", "token", "secret", "apikey", "secretkey", "privatekey", "accesskey")
_SECRET_PAIRS = frozenset(
    {("connection", "string")}
    | {(kind, "key") for kind in "api access private account signing encryption ssh license wandb".split()}
)
#: Of these, each name of a secret has one: most names have none, and need not be taken apart.
_PARTS_OF_SECRETS = tuple("secret pass pwd token cred auth key bearer jwt connection".split())
#: Where a value is secret by the name that stands before it: in the query of a URL, in a header.
_NAMED_IN_TEXT = r"(?i)([?&](?:password|passwd|token|secret|api_?key|access_?token|signature)=|\bbearer )[^\s&\"']+"

#: The shell's working folders, where "pwd" is no password.
_NOT_SECRET = frozenset({"PWD", "OLDPWD"})

#: Shorter values are hidden where their name is known, but not looked for in free
#: text: masking every "1" or "yes" would make it unreadable.
_SHORTEST_IN_TEXT = 4
_LEAST_OF_A_LINE = 16

#: What needs no quotes in a shell, besides letters and digits.
_PLAIN = dict.fromkeys(map(ord, "@%+=:,./-_"))


def is_secret_name(name: str) -> bool:
    """Whether the value that goes by `name` (a hyperparameter, a variable, an option) is to be hidden."""
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
    """Masks the secrets it has been told of in any text."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}

    def hide(self, value: str) -> None:
        """Mask `value` from now on, wherever it stands."""
        # Of a text of many lines, such as a private key, each is looked for, since a log has them one by one.
        lines = [line for line in value.splitlines() if len(line) >= _LEAST_OF_A_LINE]
        for form in (value, value.strip(), _escaped(value), repr(value)[1:-1], *lines):
            if len(form) >= _SHORTEST_IN_TEXT:
                self._values[form] = None

    def hide_named(self, values: Mapping[str, object]) -> None:
        """Mask those of `values` whose name says that they are secret, and the passwords in their URLs."""
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
        """`argv` as a person would type it, secrets masked, long arguments cut."""
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
                arg = self(arg)  # Before it is cut, or quoted, and looks another way.
                shown.append(_quoted(arg if len(arg) <= 256 else arg[:256] + "..."))
        return self(" ".join(shown))


def _quoted(arg: str) -> str:
    if arg.isascii() and arg.translate(_PLAIN).isalnum():
        return arg  # As most are; shlex takes longer to load than the whole line to write.
    import shlex

    return shlex.quote(arg)


def _escaped(value: str) -> str:
    # How the value stands in the repr of an error or in JSON.
    return value.encode("unicode_escape").decode("ascii")


def _url_passwords(text: str) -> list[str]:
    """The passwords of `scheme://user:password@host`, and the tokens of `https://token@host`, in `text`."""
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
