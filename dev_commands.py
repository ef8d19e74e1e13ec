"""The developer's commands: `uv run dev.py token`, `explain` and `reset`."""

import argparse
import asyncio
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dev_postgres import EmbeddedPostgres, SetupError, only_one

if TYPE_CHECKING:
    from config import Settings

PROJECT = Path(__file__).parent
DEMO_USER = "demo-user"
REASONS = PROJECT / "docs" / "authentication.md"
MAX_MINUTES = 366 * 24 * 60


def run(arguments: list[str]) -> None:
    """Do what the command line says.

    Raises:
        SetupError: It cannot be done.
        SystemExit: The command line is wrong or asks for help, or `explain` refuses the token.

    """
    parsed = _parser().parse_args(arguments)
    if parsed.command == "token":
        print(signed_token(_secret(), parsed.user, 60 * parsed.minutes))
    elif parsed.command == "explain":
        sys.exit(explain())
    elif parsed.command == "reset":
        reset(PROJECT / ".postgres", is_confirmed=parsed.yes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="Without a command: serve the API with reload, on a PostgreSQL of its own"
        " (data in .postgres/), with a random secret (in .env). PORT chooses the port.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    token = commands.add_parser(
        "token",
        help="print a token for curl: TOKEN=$(uv run dev.py token)",
        description="Print a token, signed with the secret of .env, and nothing else.",
    )
    token.add_argument(
        "--user", type=_user_id, default=DEMO_USER, help="its user id (default: %(default)s)"
    )
    token.add_argument(
        "--minutes", type=_minutes, default=60, help="how long it is valid (default: %(default)s)"
    )
    commands.add_parser(
        "explain",
        help="say why a token is refused, and what to change",
        description="Read a token from standard input. Say whether the service accepts it with the"
        " settings in .env; if not, which check refuses it and what to change. The exit code is 0"
        " if it is accepted and 1 if not. Nothing of a refused token is printed.",
    )
    reset = commands.add_parser(
        "reset",
        help="delete all tasks of the development database",
        description="Delete the development database in .postgres/. The next start makes a new"
        " one.",
    )
    reset.add_argument("--yes", action="store_true", help="do not ask, for scripts")
    return parser


def _user_id(text: str) -> str:
    from models import USER_ID_MAX_LENGTH
    from texts import is_storable

    if not 1 <= len(text) <= USER_ID_MAX_LENGTH or not is_storable(text):
        raise argparse.ArgumentTypeError("a user id has 1 to 255 characters that can be stored")
    return text


def _minutes(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MAX_MINUTES}")
    return int(text)


def signed_token(secret: str, user_id: str, seconds: int) -> str:
    """Return a token as Better Auth signs it with the shared secret."""
    from jose import jwt

    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + seconds}, secret, "HS256")


def _settings() -> "Settings":
    from config import ENV_FILE, ConfigurationError, load_settings

    # dev.py has a database of its own, and these commands need none.
    os.environ["DATABASE_URL"] = "postgresql://127.0.0.1/unused"
    try:
        return load_settings()
    except ConfigurationError as exc:
        hint = "" if ENV_FILE.exists() else "\nThere is no .env: `uv run dev.py` writes it."
        raise SetupError(f"Configuration error: {exc}{hint}") from exc


def _secret() -> str:
    return _settings().better_auth_secret.get_secret_value()


def explain() -> int:
    """Read a token from standard input, say what the service makes of it, return the exit code."""
    settings = _settings()
    if sys.stdin.isatty():
        print("Paste the token and press Enter:", file=sys.stderr)
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]  # standard input has it
    line = sys.stdin.readline().strip()
    token = re.sub("^(Authorization:)? *Bearer +", "", line, flags=re.IGNORECASE)
    accepted, sentence = asyncio.run(verdict(settings, token))
    print(sentence)
    return 0 if accepted else 1


async def verdict(settings: "Settings", token: str) -> tuple[bool, str]:
    """Tell whether the service accepts the token, and say for whom, or why not and what to do."""
    from auth import TokenVerifier
    from errors import Unauthorized

    verifier = TokenVerifier(settings)
    try:
        user_id = await verifier.subject(token)
    except Unauthorized as exc:
        reason = exc.reason if token else "no bearer token"
        return False, f"Refused: {reason}. {advice(reason)}"
    finally:
        await verifier.close()
    return True, f"Accepted for user {user_id if user_id.isprintable() else ascii(user_id)}."


def advice(reason: str) -> str:
    """Return what docs/authentication.md tells people to do about a 401's reason."""
    for line in REASONS.read_text(encoding="utf-8").splitlines():
        reasons, _, what_to_do = line.removeprefix("| ").removesuffix(" |").partition(" | ")
        if line.startswith("| `") and reason in re.findall("`(.*?)`", reasons):
            return what_to_do
    raise LookupError(f"{REASONS.name} does not explain: {reason}")


def reset(folder: Path, *, is_confirmed: bool) -> None:
    """Delete the development database, after asking.

    Raises:
        SetupError: There is none, dev.py runs, or the answer is not yes.

    """
    if not (folder / "data").exists():
        raise SetupError("Nothing to reset: there is no development database yet.")
    with only_one(folder):
        if not is_confirmed:
            _ask("This deletes all tasks in .postgres/ for good. Type yes to go on: ")
        postgres = EmbeddedPostgres(folder)
        # One that was left running by a dev.py that was killed.
        postgres.stop()
        # Renamed first: half of a database would not start. The next start deletes what is left.
        deleted = postgres.data.rename(folder / "data.deleted")
        shutil.rmtree(deleted)
    print("Deleted. `uv run dev.py` starts with an empty database.")


def _ask(question: str) -> None:
    try:
        answer = input(question)
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        raise SetupError("Nothing was deleted. In a script: uv run dev.py reset --yes")
