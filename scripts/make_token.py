"""What `scripts/token.sh` prints: a bearer token that chat accepts."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a traceback

import argparse
import sys
import time

import jwt
from pydantic import TypeAdapter, ValidationError

from chat_service.settings import ChatSettings
from daca_shared.domain import UserId

_LIFETIME_S = 3600


def main() -> None:
    """See `scripts/token.sh --help`."""
    parser = argparse.ArgumentParser(
        prog="scripts/token.sh", description="Print a bearer token, good for an hour."
    )
    parser.add_argument("user", help="whose it is to be")
    user = parser.parse_args().user
    try:
        TypeAdapter(UserId).validate_python(user)
    except ValidationError as error:
        parser.error(f"a user id {error.errors()[0]['msg']}")
    settings = ChatSettings.from_environment()
    if settings.jwt_secret is None:
        sys.exit("AUTH_JWT_SECRET is not set here: set it as where chat runs")
    claims = {"sub": user, "aud": settings.jwt_audience, "exp": int(time.time()) + _LIFETIME_S}
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    print(jwt.encode(claims, settings.jwt_secret.get_secret_value(), "HS256"))


if __name__ == "__main__":
    main()
