"""One bad client after another, for so many seconds: `python -m tests.fuzz PORT KEY SEED SECONDS`.

It runs in a process of its own, so that the tests' engine and their other clients are not slowed down by it. The last
line that it writes is a JSON object of what came back; a finding ends it with the smallest case that shows it.
"""

import contextlib
import json
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.bad_clients.answers import Answer, Unclean, check_named, check_refusal, read_answers
from tests.fuzz.cases import Case, cases

_EXAMPLES_AT_ONCE = 40
_ANSWERED_WITHIN_S = 20.0
_PERHAPS_WITHIN_S = 0.1
_BETWEEN_PIECES_S = 0.001
_READ_BYTES = 65536


@dataclass
class Findings:
    """What came back in all."""

    cases: int = 0
    unanswered: int = 0
    left: int = 0
    """Connections that were left because perhaps no answer was to come."""
    statuses: Counter[int] = field(default_factory=Counter)
    served: list[str] = field(default_factory=list)
    """Requests that were good by chance, on paths that charge."""

    def add(self, case: Case, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if answer.status == 200 and case.target.is_charged:
            self.served.append(answer.headers["x-request-id"])


class BadClient:
    """Plays cases against one gateway."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.findings = Findings()

    def play(self, case: Case) -> None:
        """Raises `Unclean`."""
        self.findings.cases += 1
        answers, is_closed = self._exchange(case)
        if not answers and not is_closed and not case.may_wait:
            raise Unclean("no answer")
        self.findings.unanswered += not answers
        self.findings.left += case.may_wait and not is_closed
        for number, answer in enumerate(answers):
            self.findings.add(case, answer)
            check_named(answer)
            if answer.status not in (200, 204):
                # What follows the first is what the case's own bytes made of themselves.
                path = case.target.path if case.knows_path and number == 0 else _told_path(answer)
                if not case.is_head:
                    check_refusal(answer, path)
                elif not 400 <= answer.status < 500:
                    raise Unclean(f"status {answer.status}")

    def _exchange(self, case: Case) -> tuple[list[Answer], bool]:
        with socket.create_connection(("127.0.0.1", self._port), timeout=_ANSWERED_WITHIN_S) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Who is refused early may not be able to send the rest.
            with contextlib.suppress(ConnectionError):
                for number, piece in enumerate(case.pieces):
                    if number:
                        time.sleep(_BETWEEN_PIECES_S)
                    client.sendall(piece)
            return self._read(client, case)

    def _read(self, client: socket.socket, case: Case) -> tuple[list[Answer], bool]:
        received = b""
        give_up_at = time.monotonic() + _ANSWERED_WITHIN_S
        while True:
            answers, is_partial = read_answers(received, is_head=case.is_head)
            if answers and not is_partial and (answers[-1].closes or not case.may_wait):
                return answers, False
            patience_s = _PERHAPS_WITHIN_S if case.may_wait and not is_partial else _ANSWERED_WITHIN_S
            client.settimeout(min(patience_s, max(0.01, give_up_at - time.monotonic())))
            try:
                part = client.recv(_READ_BYTES)
            except TimeoutError:
                if is_partial or time.monotonic() > give_up_at:
                    raise Unclean(f"an answer that does not end: {received[-200:]!r}") from None
                return answers, False
            except ConnectionError:
                return answers, True
            if not part:
                if is_partial:
                    raise Unclean(f"a part of an answer: {received[-200:]!r}")
                return answers, True
            received += part


def _told_path(answer: Answer) -> str:
    """By its own word: the gateway alone knows what it made of the first line."""
    return "/v1/messages" if b'"request_id"' in answer.body else "/v1"


def main() -> None:
    port, key, name, seconds = sys.argv[1:]
    client = BadClient(int(port))
    end = time.monotonic() + float(seconds)
    batch = 0

    def play(case: Case) -> None:
        # Whoever shrinks a finding goes on after the end.
        if time.monotonic() < end + 120:
            client.play(case)

    while time.monotonic() < end:
        batch += 1
        bounds = settings(
            max_examples=_EXAMPLES_AT_ONCE,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        seed(f"{name} {batch}")(bounds(given(cases(key))(play)))()
    print(json.dumps(vars(client.findings)))  # noqa: T201 -- its answer


if __name__ == "__main__":
    main()
