"""What a client raises."""


class FanlineError(Exception):
    """Base of all errors of this package."""


class AskError(FanlineError):
    """Why a `send` or a `request` was not done: `code` is the server's, `not_connected` or `connection_lost`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class Closed(FanlineError):
    """The client has ended for good: `code` is the close code or the HTTP status, if there was one."""

    def __init__(self, reason: str, code: "int | None" = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class ProtocolError(FanlineError):
    """The server, or something in front of it, said what the protocol does not allow."""


class Unauthorized(FanlineError):
    """For token functions to raise: there will be no token, so the client ends."""
