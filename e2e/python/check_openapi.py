"""Checks that an OpenAPI document (standard input) is valid, and that its examples are what it says they are."""

import json
import sys

import jsonschema_rs
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR


def validator(document, schema):
    """A validator of a schema that may refer to the document's components."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]}, validate_formats=True)


def media(document):
    """Every body of a request or an answer, with the name of where it is."""
    for path, methods in document["paths"].items():
        for verb, operation in methods.items():
            if "requestBody" in operation:
                yield f"{verb} {path}", operation["requestBody"]["content"]["application/json"]
    for name, response in document["components"]["responses"].items():
        yield name, response["content"]["application/json"]


document = json.load(sys.stdin)
OPENAPI_31_VALIDATOR.validate(document)
for schema in document["components"]["schemas"].values():
    jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
checked = 0
for where, body in media(document):
    try:
        validator(document, body["schema"]).validate(body["example"])
    except jsonschema_rs.ValidationError as error:
        sys.exit(f"the example of {where} is not what its schema says: {error}")
    checked += 1
print(json.dumps({"version": document["openapi"], "examples": checked}))
