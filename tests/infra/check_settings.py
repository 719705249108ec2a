#!/usr/bin/env python3
"""Checks docs/connection.schema.json with a JSON schema validator of its own, and then checks the check.

    python tests/infra/check_settings.py        (needs tests/infra/requirements.txt)

That the schema knows exactly the settings the code knows is a test of tools/qad-coupa; this one says that it is a schema at
all, that the documented example fits it, and that what the code refuses does not.
"""

import copy
import json
import sys
import tomllib
from pathlib import Path

from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]

# (where in the example, the value put there): each must be refused.
WRONG = [
    (["typo"], 1),
    (["id"], "Not An Id"),
    (["coupa", "base_url"], "http://example.com"),
    (["coupa", "requests_per_second"], 26),
    (["coupa", "token_path"], "oauth"),
    (["coupa", "scopes"], ["a b"]),
    (["coupa", "order_number"], {"field": ""}),
    (["qad", "auth"], {"type": "kerberos"}),
    (["qad", "auth"], {"type": "basic", "username": "a:b", "password": "x"}),
    (["qad", "profile"], {"receipts": {"fields": {"prize": "x"}}}),
    (["qad", "profile"], {"receipts": {"page_rows": 0}}),
    (["invoices", "charge_accounts"], {"tips": {"gl_account": "1"}}),
    (["invoices", "tolerance"], {"total_amount": "-1"}),
    (["invoices", "tolerance"], {"total_amount": -1}),
    (["invoices", "posting_date"], "some-day"),
    (["payments", "statuses"], {"Paid": "perhaps"}),
    (["hold_recheck_seconds"], 0),
    (["webhook", "scheme"], "none"),
    (["webhook", "secrets"], []),
    (["schedules"], {"poll_moon": "every 5 seconds"}),
]
# These must be taken.
RIGHT = [
    (["qad", "auth"], {"type": "client-credentials", "client_id": "a", "client_secret": "b"}),
    (["qad", "profile"], {"order_lines": {"fields": {"price": "pod_det.pod_user1"}}, "create_constants": {"isTaxable": True}}),
    (["invoices", "tolerance"], {"total_amount": "0.10", "unit_price_percent_over": 2.5}),
    (["invoices", "units"], {"DOZEN": {"to": "EA", "factor": "12"}}),
]


def changed(document, path, value):
    document = copy.deepcopy(document)
    place = document
    for step in path[:-1]:
        place = place.setdefault(step, {})
    place[path[-1]] = value
    return document


def main():
    schema = json.loads((ROOT / "docs/connection.schema.json").read_text(encoding="utf-8"))
    example = tomllib.loads((ROOT / "docs/examples/connection.toml").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    failed = [f"the example at {'.'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(example)]
    failed += [f"taken: {path} = {value}" for path, value in WRONG if validator.is_valid(changed(example, path, value))]
    failed += [f"refused: {path} = {value}" for path, value in RIGHT if not validator.is_valid(changed(example, path, value))]
    for line in failed:
        print(f"FAILED {line}")
    print(f"settings: {1 + len(WRONG) + len(RIGHT) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
