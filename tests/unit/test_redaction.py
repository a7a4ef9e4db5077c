"""What our log, and the failure file, never show."""

from __future__ import annotations

import pytest
from jobs import Job

from sagemaker_framework.redaction import Redactor, is_secret_name


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "AWS_SECRET_ACCESS_KEY",
        "githubToken",
        "api-key",
        "HF_TOKEN",
        "wandb.api_key",
        "--auth",
        "PRIVATE_KEY",
        "Credentials",
        "PGPASSWORD",
        "password1",
        "APIToken",
        "TOKEN2",
        "githubtoken",
        "AWSSecretKey",
        "clientsecret",
        "encryption_key",
        "connection_string",
        "Authorization",
    ],
)
def test_names_of_secrets(name: str) -> None:
    """A name with a word such as password, token or secret in it, or a pair such as api key, marks a secret."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokenizer", "monkey", "max_tokens", "keyword", "epochs", "author", "PWD", "OLDPWD", "key_dim", ""]
)
def test_names_of_what_is_none(name: str) -> None:
    """A name that merely holds such a word's letters does not."""
    assert not is_secret_name(name)


def test_a_hidden_value_is_masked_anywhere() -> None:
    """A value that was hidden is masked wherever it stands, in its escaped form too."""
    redact = Redactor()
    redact.hide('top "secret"\n')

    assert "a ****** b ******" == redact('a top "secret"\n b top "secret"\\n')


def test_a_secret_of_many_lines_is_masked_line_by_line() -> None:
    """A private key is masked also where its lines stand alone, or without the last line feed."""
    redact = Redactor()
    redact.hide_named({"private_key": "-----BEGIN-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END-----\n"})

    assert "x ****** y" == redact("x MIIEvQIBADANBgkqhkiG9w0 y")
    assert "x ****** y" == redact("x -----BEGIN-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END----- y")


def test_a_secret_number_is_masked() -> None:
    """What a hyperparameter is by its name is secret as a number, too."""
    redact = Redactor()
    redact.hide_named({"password": 12345678, "epochs": 87654321})

    assert "****** 87654321" == redact("12345678 87654321")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://x/y?user=u&password=hunter2&z=1", "https://x/y?user=u&password=******&z=1"),
        ("https://x/y?token=abc", "https://x/y?token=******"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ******"),
    ],
)
def test_what_is_secret_by_the_name_before_it(text: str, shown: str) -> None:
    """Passwords and tokens in queries and headers are masked though nobody has hidden them."""
    assert shown == Redactor()(text)


@pytest.mark.parametrize("argument", ["it's p'w0rd$x", "a" * 250 + "p'w0rd$x"])
def test_secrets_are_masked_before_arguments_are_quoted_or_cut(argument: str) -> None:
    """A known value is found in an argument whatever becomes of that."""
    redact = Redactor()
    redact.hide("p'w0rd$x")

    assert "w0r" not in redact.command(["train.py", argument])
    assert "*" in redact.command(["train.py", argument])


def test_the_longest_hidden_value_is_masked_first() -> None:
    """A secret that is part of another leaves nothing of the other."""
    redact = Redactor()
    redact.hide("abcd")
    redact.hide("abcdefgh")

    assert "******" == redact("abcdefgh")


def test_passwords_in_urls_are_masked() -> None:
    """The password of a URL is masked though nobody has hidden it."""
    assert "postgres://u:******@h/db and https://aws:******@x/simple/" == Redactor()(
        "postgres://u:hunter2@h/db and https://aws:t0ken@x/simple/"
    )


def test_tokens_in_urls_are_masked() -> None:
    """A token that stands for user and password is masked; the user of a URL that is not for the web is none."""
    assert "https://******@github.com/x ssh://git@github.com/x" == Redactor()(
        "https://ghp_abc@github.com/x ssh://git@github.com/x"
    )


def test_the_password_of_a_variables_url_is_masked_by_itself_too() -> None:
    """The password in a variable such as PIP_INDEX_URL is masked also where it stands alone."""
    redact = Redactor()
    redact.hide_named({"PIP_INDEX_URL": "https://me:hunter2@pypi.example/simple"})

    assert "wrong password ******" == redact("wrong password hunter2")


def test_a_url_without_a_host_is_no_secret() -> None:
    """Neither `file:///` nor an at-sign beside it says anything of a password."""
    text = "pkg @ file:///wheels/pkg.whl"

    assert text == Redactor()(text)


def test_commands_show_no_secret_arguments() -> None:
    """The value after an option with a secret's name is masked, and so is `--option=value`."""
    redact = Redactor()

    assert "x --password ****** --api-key=****** --lr 0.1 'a b'" == redact.command(
        ["x", "--password", "hunter2", "--api-key=abc", "--lr", "0.1", "a b"]
    )


def test_long_arguments_are_cut_in_the_log() -> None:
    """An argument of thousands of characters does not fill the log."""
    assert len(Redactor().command(["x" * 5000])) < 300


def test_no_secret_of_a_job_is_in_its_log_or_failure_file(job: Job) -> None:
    """Neither a secret hyperparameter, nor one inside of another, nor a secret variable: only the program sees them."""
    job.program("import sys, os; raise ValueError(' '.join(sys.argv) + os.environ['HF_TOKEN'])")
    job.hyperparameters.update(password="hunter2", db={"user": "me", "passwd": "hunter3", "port": 1})
    job.env["HF_TOKEN"] = "hf_abcdef"
    job.env["SAGEMAKER_CONTAINER_LOG_LEVEL"] = "10"
    ended = job.run()
    ours = [line for line in ended.stderr.splitlines() if " sagemaker-framework " in line]
    text = "\n".join([*ours, ended.failure or ""])

    assert "ValueError: train.py --db passwd=******" in text
    assert not [secret for secret in ("hunter2", "hunter3", "hf_abcdef") if secret in text]
    assert "hunter2" in ended.stderr  # What the program writes is not ours to change.
