"""Runs Schemathesis, which tests an API from its OpenAPI document, with the arguments given."""

from schemathesis.cli import schemathesis

schemathesis()
