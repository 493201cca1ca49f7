"""Payments through a payment service: asking for them, crediting what came, giving it back."""
