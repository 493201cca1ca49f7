"""The first call with a new key, ready to be pasted: the key, the model and the right address are filled in. Pure."""

import json
import shlex
from collections.abc import Mapping, Sequence
from textwrap import dedent
from uuid import UUID

from msgspec import Struct

from chappe_catalogue.listings.models import Listing
from chappe_catalogue.regions.models import Region

_QUESTION = "What is the capital of France?"
_TEXT = "Bonjour, Chappe!"


class Offer(Struct, frozen=True):
    """A model in a region, and that region's gateway."""

    region: str
    gateway_url: str
    model: str
    task: str


class Snippet(Struct, frozen=True):
    """`label` is the language's own name; `language` is what a highlighter calls it."""

    label: str
    language: str
    text: str


def offers_for(
    allowed: Sequence[str],
    models: Sequence[str] | None,
    regions: Sequence[Region],
    listings: Sequence[Listing],
    sold_in: Mapping[UUID, Sequence[str]],
) -> list[Offer]:
    """One offer for each of the `allowed` regions that sells something the key may use, in their order.

    A chat model if there is one: that is what somebody tries first. `models` is None when all are allowed.
    """
    url_of = {region.name: region.gateway_url for region in regions}
    usable = [listing for listing in listings if models is None or listing.name in models]
    usable.sort(key=lambda listing: (listing.task != "chat", listing.name))
    offers = []
    for region in allowed:
        sold = (listing for listing in usable if region in sold_in.get(listing.id, ()))
        first = next(sold, None)
        if first is not None and region in url_of:
            offers.append(Offer(region, url_of[region], first.name, first.task))
    return offers


def inference_snippets(offer: Offer, secret: str) -> list[Snippet]:
    return _embeddings(offer, secret) if offer.task == "embeddings" else _chat(offer, secret)


def management_snippets(portal_url: str, secret: str) -> list[Snippet]:
    """What a management key opens: the control plane's API."""
    url = f"{portal_url}/api/v1/balance"
    return [
        Snippet(
            "curl", "shell", f"curl {shlex.quote(url)} \\\n  -H {shlex.quote(f'Authorization: Bearer {secret}')}\n"
        ),
        _python(
            f"""
            import json
            from urllib.request import Request, urlopen

            call = Request({_quoted(url)}, headers={{"Authorization": {_quoted(f"Bearer {secret}")}}})
            with urlopen(call) as answer:
                print(json.load(answer))
            """
        ),
        _javascript(
            f"""
            const answer = await fetch({_quoted(url)}, {{
              headers: {{ Authorization: {_quoted(f"Bearer {secret}")} }},
            }});
            console.log(await answer.json());
            """
        ),
    ]


def _chat(offer: Offer, secret: str) -> list[Snippet]:
    base_url, model, key, question = (_quoted(part) for part in (_base(offer), offer.model, secret, _QUESTION))
    body = {"model": offer.model, "messages": [{"role": "user", "content": _QUESTION}]}
    return [
        _curl(f"{_base(offer)}/chat/completions", secret, body),
        _python(
            f"""
            # pip install openai
            from openai import OpenAI

            client = OpenAI(base_url={base_url}, api_key={key})
            answer = client.chat.completions.create(
                model={model},
                messages=[{{"role": "user", "content": {question}}}],
            )
            print(answer.choices[0].message.content)
            """
        ),
        _javascript(
            f"""
            // npm install openai
            import OpenAI from "openai";

            const client = new OpenAI({{ baseURL: {base_url}, apiKey: {key} }});
            const answer = await client.chat.completions.create({{
              model: {model},
              messages: [{{ role: "user", content: {question} }}],
            }});
            console.log(answer.choices[0].message.content);
            """
        ),
    ]


def _embeddings(offer: Offer, secret: str) -> list[Snippet]:
    base_url, model, key, text = (_quoted(part) for part in (_base(offer), offer.model, secret, _TEXT))
    return [
        _curl(f"{_base(offer)}/embeddings", secret, {"model": offer.model, "input": _TEXT}),
        _python(
            f"""
            # pip install openai
            from openai import OpenAI

            client = OpenAI(base_url={base_url}, api_key={key})
            answer = client.embeddings.create(model={model}, input={text})
            print(answer.data[0].embedding[:4])
            """
        ),
        _javascript(
            f"""
            // npm install openai
            import OpenAI from "openai";

            const client = new OpenAI({{ baseURL: {base_url}, apiKey: {key} }});
            const answer = await client.embeddings.create({{ model: {model}, input: {text} }});
            console.log(answer.data[0].embedding.slice(0, 4));
            """
        ),
    ]


def _base(offer: Offer) -> str:
    return f"{offer.gateway_url}/v1"


def _curl(url: str, secret: str, body: object) -> Snippet:
    parts = (
        f"curl {shlex.quote(url)}",
        f"  -H {shlex.quote(f'Authorization: Bearer {secret}')}",
        "  -H 'Content-Type: application/json'",
        f"  -d {shlex.quote(json.dumps(body))}",
    )
    return Snippet("curl", "shell", " \\\n".join(parts) + "\n")


def _python(text: str) -> Snippet:
    return Snippet("Python", "python", dedent(text).lstrip())


def _javascript(text: str) -> Snippet:
    return Snippet("JavaScript", "javascript", dedent(text).lstrip())


def _quoted(text: str) -> str:
    """A string literal that Python and JavaScript read alike."""
    return json.dumps(text)
