"""A stateful Stripe for one machine: the real SDK talks to it through its base addresses. It takes no money.

It knows nothing of Chappe. `api.py` lists every route, `switches.py` is what makes it misbehave,
`docs/stripe-stand-in.md` says what it does and where it differs. It was written from Stripe's documentation, fixtures
and SDK: none of it was compared with live Stripe.
"""
