"""The part of the commands' argument parsers that all share."""

from __future__ import annotations


def parser(name: str, description: str):  # type: ignore[no-untyped-def]
    import argparse

    class Version(argparse.Action):
        """Prints the version; a class, because looking the version up is slow and rarely needed."""

        def __call__(self, *args: object) -> None:
            from importlib.metadata import version

            print(f"sagemaker-framework {version('sagemaker-framework')}")
            made.exit()

    made = argparse.ArgumentParser(prog=name, description=description)
    made.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    return made
