"""The script's rules: they pass their own tests under the locked Node, and agree with the ones in Python."""

import ast
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chappe_control.pages.formats import amount
from chappe_control.pages.languages import LOCALES
from chappe_kernel.rating import Counts, Price, rate

NODE = Path(sys.executable).with_name("node")
WEB = Path(__file__).parents[2] / "platform/chappe_control/web"
# What breaks quoting, in shells and elsewhere.
NASTY = ("'", '"', "\\", "$(id)", "`id`", "!", "\n", "\t", "\r", "é", "😀", "\u2028", "%", "{}", " #", "*", "~", "\x01")


def run_node(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(NODE), *arguments], input=stdin, capture_output=True, text=True, cwd=WEB, check=False)


def ask(**question: Any) -> Any:
    """What the script's own functions say."""
    asked = {"calls": [], "costs": [], "amounts": [], **question}
    done = run_node("tests/answer.ts", stdin=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_scripts_own_tests_pass() -> None:
    done = run_node("--test", "--test-reporter=tap", "tests/playground.test.ts")
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed.group(1)) >= 10


def test_cost_is_what_the_rating_says() -> None:
    dice = random.Random(1)  # noqa: S311 -- cases, not secrets
    cases = []
    for _ in range(300):
        prompt = dice.randrange(10**6)
        counts = Counts(prompt, dice.choice([0, prompt, dice.randint(0, prompt)]), dice.randrange(10**6))
        cases.append((Price(*(dice.randrange(10 ** dice.randint(1, 13)) for _ in range(4))), counts))
    costs = [
        {
            "price": {
                "input": str(price.input_nano_per_token),
                "cachedInput": str(price.cached_input_nano_per_token),
                "output": str(price.output_nano_per_token),
                "request": str(price.request_nano),
            },
            "counts": {
                "prompt": counts.prompt_tokens,
                "cached": counts.cached_tokens,
                "completion": counts.completion_tokens,
            },
        }
        for price, counts in cases
    ]
    assert [int(cost) for cost in ask(costs=costs)["costs"]] == [rate(price, counts) for price, counts in cases]


@pytest.mark.parametrize("language", list(LOCALES))
def test_amounts_look_as_on_the_other_pages(language: str) -> None:
    dice = random.Random(2)  # noqa: S311 -- cases, not secrets
    nanos = [0, 1, 10**9, 123_456_789_012_345_678, *(dice.randrange(10 ** dice.randint(1, 15)) for _ in range(200))]
    locale = LOCALES[language]
    tag = str(locale).replace("_", "-")
    shown = ask(amounts=[{"nano": str(nano), "currency": "EUR", "locale": tag} for nano in nanos])["amounts"]
    assert [_plain(text) for text in shown] == [_plain(amount(locale, nano, "EUR")) for nano in nanos]


def _calls() -> list[dict[str, Any]]:
    """Of any text that somebody may write."""
    dice = random.Random(3)  # noqa: S311 -- cases, not secrets
    calls = []
    for number in range(40):
        messages = [
            {"role": role, "content": "".join(dice.choices(NASTY, k=dice.randint(1, 12)))}
            for role in ("system", "user", "assistant", "user")[dice.randint(0, 3) :]
        ]
        body = {"model": "smollm2-135m-instruct", "messages": messages, "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        if number % 2:
            body |= {"temperature": 0.7, "top_p": 1, "max_tokens": 256}
        calls.append({"gatewayUrl": "http://127.0.0.1:8411", "region": "fr-par", "body": body})
    return calls


def test_curl_is_given_exactly_the_call_by_a_real_shell() -> None:
    calls = _calls()
    for call, answer in zip(calls, ask(calls=calls)["calls"], strict=True):
        script = 'curl() { for word in "$@"; do printf "%s\\0" "$word"; done; }\n' + answer["curl"]
        for shell in (["sh"], ["bash"]):
            done = subprocess.run(
                shell, input=script.encode(), capture_output=True, env={"CHAPPE_API_KEY": "ck_x"}, check=True
            )
            words = done.stdout.decode().split("\0")[:-1]
            assert words[:-1] == [
                "-N",
                "http://127.0.0.1:8411/v1/chat/completions",
                "-H",
                "Authorization: Bearer ck_x",
                "-H",
                "Content-Type: application/json",
                "-H",
                "x-chappe-region: fr-par",
                "--data-raw",
            ]
            assert json.loads(words[-1]) == call["body"]


def test_python_makes_exactly_the_call() -> None:
    calls = _calls()
    for call, answer in zip(calls, ask(calls=calls)["calls"], strict=True):
        client, create = [
            node
            for node in ast.walk(ast.parse(answer["python"]))
            if isinstance(node, ast.Call) and node.keywords and not _is_print(node)
        ]
        assert _literals(client)["base_url"] == "http://127.0.0.1:8411/v1"
        made = _literals(create)
        assert made.pop("extra_headers") == {"x-chappe-region": "fr-par"}
        assert made == call["body"]


def test_javascript_makes_exactly_the_call(tmp_path: Path) -> None:
    """Run, with a stand-in for the package that prints what it is asked."""
    package = tmp_path / "node_modules" / "openai"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "openai", "type": "module", "exports": "./index.js"}')
    (package / "index.js").write_text(
        "export default class { constructor(options) { this.chat = { completions: { create: async (...call) => "
        "{ console.log(JSON.stringify([options, ...call])); return []; } } }; } }"
    )
    calls = _calls()
    answers = ask(calls=calls)["calls"]
    # One process for all of them: each is a module of its own.
    for number, answer in enumerate(answers):
        (tmp_path / f"{number}.mjs").write_text(answer["javascript"])
    (tmp_path / "all.mjs").write_text("".join(f'await import("./{number}.mjs");\n' for number in range(len(answers))))
    done = subprocess.run(
        [str(NODE), "all.mjs"], cwd=tmp_path, env={"CHAPPE_API_KEY": "ck_x"}, capture_output=True, text=True, check=True
    )
    for call, line in zip(calls, done.stdout.strip("\n").split("\n"), strict=True):
        assert json.loads(line) == [
            {"baseURL": "http://127.0.0.1:8411/v1", "apiKey": "ck_x"},
            call["body"],
            {"headers": {"x-chappe-region": "fr-par"}},
        ]


def _is_print(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "print"


def _literals(node: ast.Call) -> dict[str, Any]:
    return {
        keyword.arg: ast.literal_eval(keyword.value)
        for keyword in node.keywords
        if keyword.arg is not None and not isinstance(keyword.value, ast.Subscript)
    }


def _plain(text: str) -> str:
    """Which blank stands before a currency differs between two tables of the same standard."""
    return re.sub(r"\s", " ", text)
