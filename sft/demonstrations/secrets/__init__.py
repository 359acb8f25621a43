"""Secrets in bytes: tokens, keys, passwords of the environment, and who the user is. Nothing is sent anywhere.

:func:`secrets_in` looks through a file of any kind, weights and pickles included; :func:`in_demonstrations` looks
through what an expert wrote, where e-mail addresses and the home folders of others count too. What is found
is never repeated in full.
"""

from sft.demonstrations.secrets import reviewing
from sft.demonstrations.secrets.findings import Finding
from sft.demonstrations.secrets.looking import in_demonstrations, secrets_in

__all__ = ["Finding", "in_demonstrations", "reviewing", "secrets_in"]
