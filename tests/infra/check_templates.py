#!/usr/bin/env python3
"""Checks infra/*.yaml against the rules the code relies on, and then checks the checks.

    python tests/infra/check_templates.py        (needs tests/infra/requirements.txt)

First every check runs on the templates as they are. Then each line of MUTATIONS breaks one thing in a copy, and the
check named beside it must notice: a check that cannot fail proves nothing. No network, no AWS account.
"""

import copy
import importlib.machinery
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
STACK = "stack"
CONNECTION = "connection"
OPERATORS = "operators"
PATHS = {name: ROOT / f"infra/{name}.yaml" for name in (STACK, CONNECTION, OPERATORS)}
# What has to be said of each template, and what switches on all that it can have.
GIVEN = {
    STACK: {},
    CONNECTION: {"StackName": "x", "ConnectionId": "y"},
    OPERATORS: {
        "StackName": "x",
        "ConnectionId": "y",
        "RegisterTableName": "register",
        "AuditTableName": "audit",
        "TokensTableName": "tokens",
    },
}
PEOPLE = ("Viewer", "Clerk", "Operator", "Admin")
EVERYTHING = {
    STACK: {
        "ConsoleLogin": "oidc",
        "WebhookDomainName": "hooks.example.com",
        "WebhookCertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/c",
        "ConsoleDomainName": "ap.example.com",
        "ConsoleCertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/c",
    },
    CONNECTION: {},
    OPERATORS: {f"{person}Principals": f"arn:aws:iam::1:user/{person}" for person in PEOPLE},
}
SCHEDULED = {"poll-coupa", "poll-payments", "poll-receipts", "reconcile", "sweep", "sync-lookups", "sync-suppliers"}
DAY_SECONDS = 86_400
UNREADABLE = "cannot be checked"

# The chain is checked as a whole when a function starts, so a function gets all of it or none.
TIMES = {
    "HTTP_TIMEOUT_SECONDS",
    "FUNCTION_TIMEOUT_SECONDS",
    "STOP_MARGIN_SECONDS",
    "LEASE_SECONDS",
    "COMMIT_LATENESS_SECONDS",
    "COUPA_COMMIT_LATENESS_SECONDS",
    "CLOCK_SKEW_SECONDS",
    "QUEUE_VISIBILITY_SECONDS",
    "QUEUE_RECEIVE_COUNT_MAX",
}

SES = "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}"
# What each role may do, written a second time on purpose: a permission is only added by changing two files.
# Logs and the key are checked separately because every function has them.
GRANTS = {
    "receive-webhook": {"InvoicesQueue": {"sqs:SendMessage"}},
    "match-invoice": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "InvoicesQueue": {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"},
    },
    "poll-coupa": {
        "RegisterTable": {"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem"},
        # Who owns both systems is looked at by whoever works on a connection, and told in the audit trail.
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "InvoicesQueue": {"sqs:SendMessage"},
    },
    "poll-receipts": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "InvoicesQueue": {"sqs:SendMessage"},
    },
    "poll-payments": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "PaymentsQueue": {"sqs:SendMessage"},
    },
    "reconcile": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
    },
    "write-payment": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "PaymentsQueue": {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"},
    },
    "sync-lookups": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
    },
    "sync-suppliers": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "TokensTable": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "InvoicesQueue": {"sqs:SendMessage"},
    },
    # The page: what people decide, and no credential of Coupa or QAD.
    "console": {
        "RegisterTable": {
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        "AuditTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "InvoicesQueue": {"sqs:SendMessage"},
        # The mail of the day, under the condition MailOn.
        f"{SES}:identity/${{MailIdentity}}": {"ses:SendEmail"},
        f"{SES}:configuration-set/${{MailConfiguration}}": {"ses:SendEmail"},
    },
    "sweep": {
        "RegisterTable": {"dynamodb:Query"},
        "RegisterTable/index/due": {"dynamodb:Query"},
        "InvoicesQueue": {"sqs:SendMessage"},
        "PaymentsQueue": {"sqs:SendMessage"},
    },
}
# What a role is given where the functions run in a network of one's own.
NETWORK = {"Fn::If": ["InVpc", [{"Ref": "NetworkInterfaces"}], {"Ref": "AWS::NoValue"}]}
# What a stack makes unless it is given one that exists: the condition, and which parameter takes the place of which resource.
TAKEN_OVER = {
    "OwnTables": {"RegisterTable": "RegisterTableName", "AuditTable": "AuditTableName"},
    "OwnConnectionSecret": {"ConnectionSecret": "ConnectionSecretArn"},
    "OwnWebhookSecret": {"WebhookSecret": "WebhookSecretArn"},
}
KEY_ACTIONS = {"kms:Decrypt", "kms:GenerateDataKey"}
LOG_ACTIONS = {"logs:CreateLogStream", "logs:PutLogEvents"}
SECRET_READERS = {
    "ConnectionSecret": {
        "MatchInvoiceRoleArn",
        "PollCoupaRoleArn",
        "PollPaymentsRoleArn",
        "PollReceiptsRoleArn",
        "ReconcileRoleArn",
        "SyncLookupsRoleArn",
        "SyncSuppliersRoleArn",
        "WritePaymentRoleArn",
    },
    "WebhookSecret": {"ReceiveWebhookRoleArn"},
    "ConsoleSecret": {"ConsoleRole"},
}


# ---------------------------------------------------------------------------------------------------------------------
# Reading templates
# ---------------------------------------------------------------------------------------------------------------------


def load():
    """Both templates, parsed, with short intrinsics spelled out."""
    return {name: yaml_parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}


def of_type(template, kind):
    return {name: r for name, r in template["Resources"].items() if r["Type"] == kind}


def properties(template, name):
    return template["Resources"][name]["Properties"]


def as_list(value):
    return value if isinstance(value, list) else [value]


def number(template, value):
    """A number, or the default of the parameter it refers to."""
    if isinstance(value, dict) and "Ref" in value:
        value = template["Parameters"][value["Ref"]]["Default"]
    return int(value)


def functions(template):
    """Our functions by their own name, for example `match-invoice`."""
    return {
        r["Metadata"]["BuildProperties"]["Binary"]: (name, r["Properties"])
        for name, r in of_type(template, "AWS::Serverless::Function").items()
    }


def logical(name):
    """`match-invoice` -> `MatchInvoice`."""
    return "".join(part.capitalize() for part in name.split("-"))


def variables(function):
    return function.get("Environment", {}).get("Variables", {})


def target(resource):
    """The logical name behind `!GetAtt X.Arn`, `!Ref X`, `!Sub ${X.Arn}/rest` or an import; of what may be taken over, that of
    the stack's own; anything else as JSON."""
    if isinstance(resource, dict):
        if "Fn::If" in resource and resource["Fn::If"][0] in TAKEN_OVER:
            return target(resource["Fn::If"][1])
        if "Fn::GetAtt" in resource:
            parts = resource["Fn::GetAtt"]
            return (parts.split(".") if isinstance(parts, str) else parts)[0]
        if "Ref" in resource:
            return resource["Ref"]
        if "Fn::Sub" in resource and isinstance(resource["Fn::Sub"], str):
            return re.sub(r"^\$\{(\w+)\.Arn\}", r"\1", resource["Fn::Sub"])
        if "Fn::ImportValue" in resource:
            return imported(resource)
    return json.dumps(resource, sort_keys=True)


def imported(value):
    """The export's own name behind `!ImportValue ${StackName}-Name`."""
    return value["Fn::ImportValue"]["Fn::Sub"].removeprefix("${StackName}-")


def statements(role):
    for policy in role["Properties"].get("Policies", []):
        # One that is there under a condition counts as there.
        policy = policy["Fn::If"][1] if "Fn::If" in policy else policy
        yield from as_list(policy["PolicyDocument"]["Statement"])


def machines(templates):
    """The templates without the one for people, whose policies are compared with the manual instead."""
    return [template for name, template in templates.items() if name != OPERATORS]


def roles(templates):
    for template in machines(templates):
        yield from of_type(template, "AWS::IAM::Role").items()


def translated(template, **given):
    """Plain CloudFormation, as AWS's own translator makes it, with these parameter values or the defaults."""
    draft = copy.deepcopy(template)
    for resource in draft["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://code/function.zip"  # what packaging puts there
    values = {n: p["Default"] for n, p in template["Parameters"].items() if "Default" in p} | given
    plain = transform(draft, dict(values), NoManagedPolicies())
    return plain, values


def holds(template, condition, values):
    """Whether a condition holds with these parameter values."""
    if isinstance(condition, str):
        return holds(template, template["Conditions"][condition], values)
    ((kind, inner),) = condition.items()
    if kind == "Condition":
        return holds(template, inner, values)
    if kind == "Fn::Equals":
        left, right = (resolve(side, values, {"AWS::StackName": "s"}) for side in inner)
        return str(left) == str(right)
    parts = [holds(template, part, values) for part in inner]
    return {"Fn::Not": lambda: not parts[0], "Fn::And": lambda: all(parts), "Fn::Or": lambda: any(parts)}[kind]()


def decided(template, **given):
    """The template as it is with these parameter values, or the defaults: no conditions, only what they leave; and the values."""
    values = {n: p["Default"] for n, p in template["Parameters"].items() if "Default" in p} | given
    nothing = {"Ref": "AWS::NoValue"}

    def of(value):
        while isinstance(value, dict) and set(value) == {"Fn::If"}:
            condition, yes, no = value["Fn::If"]
            value = yes if holds(template, condition, values) else no
        if isinstance(value, dict):
            return {k: d for k, d in ((k, of(v)) for k, v in value.items()) if d != nothing}
        return [d for d in map(of, value) if d != nothing] if isinstance(value, list) else value

    def there(part):
        return {n: r for n, r in template[part].items() if "Condition" not in r or holds(template, r["Condition"], values)}

    left = {part: of(there(part)) for part in ("Resources", "Outputs") if part in template}
    return {"Parameters": template["Parameters"], **left}, values


def resolve(value, values, names):
    """A value as CloudFormation would see it: parameters from `values`, resources by their physical name from `names`."""

    def of(name):
        if name in values:
            return str(values[name])
        if name.startswith("AWS::"):
            return {"AWS::StackName": names["AWS::StackName"], "AWS::URLSuffix": "amazonaws.com"}.get(name, name[5:])
        return names.get(name, f"{names['AWS::StackName']}/{name}")

    def text(template, more):
        return re.sub(r"\$\{([\w:.]+)\}", lambda m: more[m[1]] if m[1] in more else of(m[1].split(".")[0]), template)

    if isinstance(value, list):
        return [resolve(v, values, names) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        return of(value["Ref"])
    if set(value) == {"Fn::GetAtt"}:
        parts = value["Fn::GetAtt"]
        return of(parts.split(".")[0] if isinstance(parts, str) else parts[0])
    if set(value) == {"Fn::Sub"}:
        template, more = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
        return text(template, {k: resolve(v, values, names) for k, v in more.items()})
    if set(value) == {"Fn::Join"}:
        separator, parts = value["Fn::Join"]
        parts = resolve(parts, values, names)
        return separator.join(parts.split(",") if isinstance(parts, str) else parts)
    if set(value) == {"Fn::Split"}:
        separator, text = value["Fn::Split"]
        return resolve(text, values, names).split(separator)
    if set(value) == {"Fn::ImportValue"}:
        return f"import {resolve(value['Fn::ImportValue'], values, names)}"
    return {k: resolve(v, values, names) for k, v in value.items()}


def walk(value):
    """Every value inside a template."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


# ---------------------------------------------------------------------------------------------------------------------
# The checks. Each yields what is wrong, in words.
# ---------------------------------------------------------------------------------------------------------------------

CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


@check
def translates(templates):
    """AWS's own translator turns both templates into plain CloudFormation and adds no role of its own."""
    for name, template in templates.items():
        try:
            plain, _ = translated(template, **GIVEN[name])
        except Exception as error:  # the translator raises several kinds; all mean the same here
            yield f"{name}: {error}"
            continue
        made = set(of_type(plain, "AWS::IAM::Role")) - set(of_type(template, "AWS::IAM::Role"))
        if made:
            yield f"{name}: the translator made roles we did not write: {sorted(made)}"


class NoManagedPolicies:
    """The translator asks AWS for the list of managed policies; we use none."""

    def load(self):
        return {}


@check
def no_wildcard_in_identity_policies(templates):
    """No `*` in an action or a resource of a role, no NotAction or NotResource, no managed policy but the stack's own for
    a network of one's own, which `company_account` reads."""
    for name, role in roles(templates):
        if role["Properties"].get("ManagedPolicyArns", NETWORK) != NETWORK:
            yield f"{name} carries a managed policy, whose content we do not control"
        for statement in statements(role):
            if {"NotAction", "NotResource"} & set(statement):
                yield f"{name}: {statement.get('Sid')} allows by exclusion"
            for part in ("Action", "Resource"):
                if any("*" in v for v in walk(statement.get(part)) if isinstance(v, str)):
                    yield f"{name}: {statement.get('Sid')} has a wildcard in its {part}"
    for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for template in machines(templates):
            for name in set(of_type(template, kind)) - {"NetworkInterfaces"}:
                yield f"{name}: policies live inside their role, where this check reads them"


@check
def one_role_per_function(templates):
    """Every function names a role of its own, and no role serves two."""
    seen = {}
    for name, (_, function) in functions(templates[STACK]).items():
        role = target(function.get("Role", {}))
        if role != f"{logical(name)}Role":
            yield f"{name} runs as {role}"
        if role in seen:
            yield f"{name} and {seen[role]} share {role}"
        seen[role] = name


@check
def grants_are_exactly_these(templates):
    """Each role allows what GRANTS says, its own log, the key through named services, and nothing else."""
    template = templates[STACK]
    for name in functions(template):
        role = template["Resources"].get(f"{logical(name)}Role")
        if role is None or name not in GRANTS:
            yield f"{name} has no role or no line in GRANTS"
            continue
        allowed = {}
        for statement in statements(role):
            if statement["Effect"] != "Allow":
                yield f"{name}: {statement.get('Sid')} is not an Allow"
            for resource in as_list(statement["Resource"]):
                allowed.setdefault(target(resource), set()).update(as_list(statement["Action"]))
            if target(as_list(statement["Resource"])[0]) == "Key" and not services_of(statement):
                yield f"{name}: the key may be used without going through a named service"
        if allowed.pop("Key", set()) - KEY_ACTIONS:
            yield f"{name} may do more with the key than use it"
        if allowed.pop(f"{logical(name)}LogGroup", None) != LOG_ACTIONS:
            yield f"{name} must write its own log"
        if allowed != GRANTS[name]:
            yield f"{name} allows {show(allowed)}, expected {show(GRANTS[name])}"


# What the page is given instead of a flow's `Deps`: shared/pages reads the register, acts through flows::operator and sends hints.
PAGE = "Context<'a> dyn Register dyn Queue"
# Flows that a function runs besides the one it is named after.
ALSO_RUNS = {"match-invoice": ["order-event", "supplier-event"], "poll-coupa": ["owner"]}


@check
def grants_follow_from_what_the_flows_are_given(templates):
    """A flow's `Deps` is its permissions: who is given the register, both systems or a queue gets the grant, nobody else.
    `Context` writes records with their audit entries; a client of Coupa or QAD needs the cache of tokens."""
    template = templates[STACK]
    for name in functions(template):
        fields = PAGE if name == "console" else "".join(deps_of(flow) for flow in [name, *ALSO_RUNS.get(name, [])])
        needed = {
            "RegisterTable": "Context<" in fields or "dyn Register" in fields,
            "AuditTable": "Context<" in fields,
            "TokensTable": bool(re.search(r"dyn (Coupa|Qad)", fields)),
            "sqs:SendMessage": "dyn Queue" in fields,
        }
        granted = dict.fromkeys(needed, False)
        for statement in statements(template["Resources"][f"{logical(name)}Role"]):
            for resource in as_list(statement["Resource"]):
                granted.update({table: True for table in needed if target(resource).split("/")[0] == table})
            granted["sqs:SendMessage"] |= "sqs:SendMessage" in as_list(statement["Action"])
        for what in needed:
            if needed[what] != granted[what]:
                yield f"{name}: {what} is {'' if granted[what] else 'not '}granted, its Deps say otherwise"


def deps_of(flow):
    """The fields of a flow's `Deps`."""
    path = ROOT / f"shared/flows/src/{flow.replace('-', '_')}.rs"
    return re.search(r"pub struct Deps<'a> \{(.*?)\n\}", path.read_text(encoding="utf-8"), re.S).group(1)


def services_of(statement):
    return as_list(statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService", []))


def show(grants):
    return {resource: sorted(actions) for resource, actions in sorted(grants.items())}


@check
def audit_is_append_only(templates):
    """Whoever reaches the audit table may put and read, and nothing else: the page shows what happened, and after a restore of the
    register alone a flow goes on where the trail of its record ends."""
    for name, role in roles(templates):
        for statement in statements(role):
            reaches = any(target(r).startswith("AuditTable") for r in as_list(statement["Resource"]))
            allowed = ["dynamodb:PutItem", "dynamodb:Query"]
            if reaches and as_list(statement["Action"]) != allowed:
                yield f"{name} may do {statement['Action']} on the audit table"


@check
def the_page_is_off_and_holds_no_key(templates):
    """Whatever belongs to the page is made only when it is switched on, which it is not by default; the key of its sessions is
    drawn by AWS, once, and exists only where people sign in at a provider."""
    template = templates[STACK]
    if template["Parameters"]["ConsoleLogin"]["Default"] != "off":
        yield "the page is on by default"
    for name, resource in template["Resources"].items():
        wanted = "ConsoleOidc" if name.startswith("ConsoleSecret") else "ConsoleOn"
        wanted = "ConsoleDomainOn" if name.startswith("ConsoleDomain") else wanted
        if name.startswith("Console") and resource.get("Condition") != wanted:
            yield f"{name} is made whatever ConsoleLogin says"
    if template["Parameters"]["MailTo"]["Default"] != "":
        yield "somebody gets a mail by default"
    for name, resource in template["Resources"].items():
        if name.startswith("Mail") and resource.get("Condition") != "MailOn":
            yield f"{name} is made although nobody gets a mail"
    scheduled = properties(template, "MailOfTheDay")["Target"]
    if "RetryPolicy" not in scheduled or "DeadLetterConfig" not in scheduled:
        yield "the mail of the day loses a tick without a word"
    drawn = properties(template, "ConsoleSecret").get("GenerateSecretString", {})
    if drawn.get("GenerateStringKey") != "session_key" or int(drawn.get("PasswordLength", 0)) < 32:
        yield "the key of the sessions is not drawn by AWS"
    if json.loads(drawn.get("SecretStringTemplate", "{}")) != {"client_secret": ""}:
        yield "the page's secret comes with a value"


@check
def receiver_sees_no_table(templates):
    """The function that faces the internet has no DynamoDB permission and no table in its environment."""
    role = templates[STACK]["Resources"]["ReceiveWebhookRole"]
    for statement in statements(role):
        if any(action.startswith("dynamodb:") for action in as_list(statement["Action"])):
            yield f"{statement.get('Sid')} lets the receiver use DynamoDB"
    for variable in variables(functions(templates[STACK])["receive-webhook"][1]):
        if variable.endswith("_TABLE") or variable == "CONNECTION_SECRET_PREFIX":
            yield f"the receiver is told {variable}"


@check
def secrets_name_their_readers(templates):
    """A secret is readable by exactly these roles, through its own policy; no role policy speaks of secrets."""
    for name, role in roles(templates):
        if any("secretsmanager:" in a for s in statements(role) for a in as_list(s["Action"])):
            yield f"{name}: secrets are granted by the secrets themselves"
    policies = [item for t in templates.values() for item in of_type(t, "AWS::SecretsManager::ResourcePolicy").items()]
    found = {}
    for name, policy in policies:
        p = policy["Properties"]
        if p.get("BlockPublicPolicy") is not True:
            yield f"{name} does not block public access"
        for statement in as_list(p["ResourcePolicy"]["Statement"]):
            if as_list(statement["Action"]) != ["secretsmanager:GetSecretValue"]:
                yield f"{name} allows {statement['Action']}"
            found.setdefault(target(p["SecretId"]), set()).update(
                target(r) for r in as_list(statement["Principal"]["AWS"])
            )
    if found != SECRET_READERS:
        yield f"readers are {found}, expected {SECRET_READERS}"
    for name, secret in [item for t in templates.values() for item in of_type(t, "AWS::SecretsManager::Secret").items()]:
        if "SecretString" in secret["Properties"]:
            yield f"{name} carries its value in the template"
        if "KmsKeyId" not in secret["Properties"]:
            yield f"{name} is not encrypted with our key"


@check
def names_agree_with_the_code(templates):
    """One function in the template per folder in functions/, built from it, named after it."""
    folders = {p.parent.name for p in ROOT.glob("functions/*/Cargo.toml")}
    found = functions(templates[STACK])
    if set(found) != folders:
        yield f"functions/ has {sorted(folders)}, the template {sorted(found)}"
    for name, (resource, function) in found.items():
        if resource != f"{logical(name)}Function":
            yield f"{name} is called {resource}"
        if function["CodeUri"] != f"../functions/{name}":
            yield f"{name} is built from {function['CodeUri']}"
        if function["Runtime"] != "provided.al2023" or function["Handler"] != "bootstrap":
            yield f"{name} does not run as a binary on Amazon Linux 2023"
        if function["Architectures"] != [{"Ref": "StackArchitecture"}]:
            yield f"{name} does not follow StackArchitecture"


def packer():
    """infra/build as a module."""
    loader = importlib.machinery.SourceFileLoader("packer", str(ROOT / "infra/build"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("packer", loader))
    sys.dont_write_bytecode = True  # it lies beside the templates
    loader.exec_module(module)
    return module


@check
def packed_template_is_the_stack(templates):
    """What infra/build deploys is the stack, with packages in the folders' place."""
    build = packer()
    for architecture in ("arm64", "x86_64"):
        packed = yaml_parse(build.packed_template(architecture, build.functions()))
        wanted = copy.deepcopy(templates[STACK])
        wanted["Parameters"]["StackArchitecture"]["Default"] = architecture
        for name, (resource, _) in functions(templates[STACK]).items():
            del wanted["Resources"][resource]["Metadata"]
            wanted["Resources"][resource]["Properties"]["CodeUri"] = f"{name}.zip"
        if packed != wanted:
            parts = [n for n in wanted["Resources"] if packed["Resources"].get(n) != wanted["Resources"][n]]
            yield f"{architecture}: infra/build changes more than the packages: {parts}"


@check
def environment_agrees_with_the_code(templates):
    """Every variable a function is given is one that shared/aws/src/config.rs reads, and the other way round."""
    known = {name for name in variables_in_code() if not name.startswith("AWS_")}  # AWS sets its own
    given = set()
    for name, (_, function) in functions(templates[STACK]).items():
        mine = set(variables(function))
        given |= mine
        for extra in sorted(mine - known):
            yield f"{name} is given {extra}, which config.rs does not read"
    for missing in sorted(known - given):
        yield f"config.rs reads {missing}, which no function is given"


@check
def each_function_gets_what_it_needs(templates):
    """What a function's main refuses to start without, the times, the telemetry, and nothing else."""
    wiring = (ROOT / "shared/wiring/src/lib.rs").read_text(encoding="utf-8")
    shared = dict(re.findall(r"pub const (NEEDED\w*): &\[Variable\] = &\[(.*?)\];", wiring, re.S))
    for name, (_, function) in functions(templates[STACK]).items():
        main = (ROOT / f"functions/{name}/src/main.rs").read_text(encoding="utf-8")
        named = re.search(r"\bstart\([^;{]*\b(NEEDED\w*)\b", main)
        needed = shared[named.group(1)] if named else main
        needed = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", needed))
        given = set(variables(function))
        for variable in sorted(needed - given):
            yield f"{name} does not start without {variable}"
        for variable in sorted(given - needed - TIMES - {"INSTANCES_MAX", "METRICS_NAMESPACE", "LOG_LEVEL"}):
            yield f"{name} is given {variable} and does not ask for it"


def variables_in_code():
    """Each variable config.rs declares, with its default (None when it has none)."""
    source = (ROOT / "shared/aws/src/config.rs").read_text(encoding="utf-8").split("#[cfg(test)]")[0]
    declared = re.findall(r'\b(?:required|optional)\(\s*"([A-Z0-9_]+)",\s*"[^"]*"(?:,\s*"([^"]*)")?,?\s*\)', source)
    return {name: default or None for name, default in declared}


@check
def defaults_agree_with_the_code(templates):
    """Where the code has a default too, it is the template's."""
    template = templates[STACK]
    code = variables_in_code()
    for name, (_, function) in functions(template).items():
        for variable, value in variables(function).items():
            default = value_of(template, value)
            # One instance is right for what runs once per tick; what a queue feeds is told its ceiling.
            if variable.endswith("_NAMESPACE") or variable == "INSTANCES_MAX":
                continue
            if code.get(variable) not in (None, default):
                yield f"{name}: {variable} is {default} in the template and {code[variable]} in config.rs"


def value_of(template, value):
    """A value as the text a function sees, parameters at their defaults."""
    if isinstance(value, dict) and value.get("Ref") in template["Parameters"]:
        value = template["Parameters"][value["Ref"]]["Default"]
    return str(value)


@check
def timing_chain(templates):
    """HTTP < function - margin; lease >= function + 1 s + 2 x skew; the environment says what the platform does."""
    template = templates[STACK]
    for name, (_, function) in functions(template).items():
        env = variables(function)
        missing = TIMES - set(env)
        if missing == TIMES:
            continue
        if missing:
            yield f"{name} is told some times and not {sorted(missing)}: it would check them against defaults"
            continue
        seconds = {k: number(template, v) for k, v in env.items() if k.endswith("_SECONDS")}
        timeout = number(template, function["Timeout"])
        if seconds["FUNCTION_TIMEOUT_SECONDS"] != timeout:
            yield f"{name} is told {seconds['FUNCTION_TIMEOUT_SECONDS']} s and ended after {timeout} s"
        if seconds["HTTP_TIMEOUT_SECONDS"] >= timeout - seconds["STOP_MARGIN_SECONDS"]:
            yield f"{name}: an HTTP exchange may outlive the function"
        if seconds["LEASE_SECONDS"] < timeout + 1 + 2 * seconds["CLOCK_SKEW_SECONDS"]:
            yield f"{name}: the lease may end before its holder does"


@check
def queue_chain(templates):
    """Visibility >= 6 x timeout, receive count >= 5, dead letters kept longer, and the environment says the same."""
    template = templates[STACK]
    queues = of_type(template, "AWS::SQS::Queue")
    for name, (_, function) in functions(template).items():
        for event in function.get("Events", {}).values():
            if event["Type"] != "SQS":
                continue
            queue = queues[target(event["Properties"]["Queue"])]["Properties"]
            visibility = number(template, queue["VisibilityTimeout"])
            receives = number(template, queue["RedrivePolicy"]["maxReceiveCount"])
            dead = queues[target(queue["RedrivePolicy"]["deadLetterTargetArn"])]["Properties"]
            if visibility < 6 * number(template, function["Timeout"]):
                yield f"{name}: visibility {visibility} s is less than six function timeouts"
            if receives < 5:
                yield f"{name}: {receives} receives are fewer than five"
            if dead["MessageRetentionPeriod"] <= queue["MessageRetentionPeriod"]:
                yield f"{name}: dead letters vanish no later than live messages"
            env = variables(function)
            if env.get("QUEUE_VISIBILITY_SECONDS") != queue["VisibilityTimeout"]:
                yield f"{name} is told another visibility than its queue has"
            if env.get("QUEUE_RECEIVE_COUNT_MAX") != queue["RedrivePolicy"]["maxReceiveCount"]:
                yield f"{name} is told another receive count than its queue has"


@check
def one_bad_message_fails_alone(templates):
    """Queue deliveries answer per message and have a ceiling on concurrency."""
    for name, (_, function) in functions(templates[STACK]).items():
        for event in function.get("Events", {}).values():
            if event["Type"] != "SQS":
                continue
            if event["Properties"].get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
                yield f"{name} fails whole batches"
            most = event["Properties"].get("ScalingConfig", {}).get("MaximumConcurrency")
            if most is None:
                yield f"{name} may call QAD from any number of instances"
            if variables(function).get("INSTANCES_MAX") != most:
                yield f"{name} is told another number of instances than share its pace"


@check
def tables_are_safe(templates):
    """On demand, our key, point-in-time recovery, deletion protection, kept when the stack goes."""
    template = templates[STACK]
    tables = of_type(template, "AWS::DynamoDB::Table")
    if set(tables) != {"RegisterTable", "AuditTable", "TokensTable"}:
        yield f"tables are {sorted(tables)}"
    for name, table in tables.items():
        p = table["Properties"]
        sse = p.get("SSESpecification", {})
        if sse.get("SSEType") != "KMS" or target(sse.get("KMSMasterKeyId", {})) != "Key":
            yield f"{name} is not encrypted with our key"
        if p.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled") is not True:
            yield f"{name} has no point-in-time recovery"
        if p.get("DeletionProtectionEnabled") is not True:
            yield f"{name} has no deletion protection"
        if p.get("BillingMode") != "PAY_PER_REQUEST":
            yield f"{name} is not on demand"
        if "TimeToLiveSpecification" in p:
            yield f"{name}: nothing in here may expire by itself"


@check
def what_is_kept_does_not_block_a_second_try(templates):
    """Tables, key and whatever secret has a name of its own outlive the stack. What a first try made and rolls back goes again,
    except where it cannot: a table that is protected from deletion would make the rollback fail."""
    for template in templates.values():
        for name, resource in template["Resources"].items():
            p = resource.get("Properties", {})
            named_secret = resource["Type"] == "AWS::SecretsManager::Secret" and "Name" in p
            if not named_secret and resource["Type"] not in ("AWS::DynamoDB::Table", "AWS::KMS::Key"):
                continue
            if resource.get("UpdateReplacePolicy") != "Retain":
                yield f"{name} goes when it is replaced"
            wanted = "Retain" if p.get("DeletionProtectionEnabled") else "RetainExceptOnCreate"
            if resource.get("DeletionPolicy") != wanted:
                yield f"{name} has the deletion policy {resource.get('DeletionPolicy')}, not {wanted}"
            if wanted == "Retain" and "TableName" in p:
                yield f"{name} has a fixed name and stays: a second try could not make it"


@check
def what_exists_can_be_taken_over(templates):
    """With names of existing tables, or ARNs of existing secrets, everything that spoke of the stack's own speaks of them: grants,
    environments, the dashboard, outputs, who may read a secret. A register never comes without its audit trail."""
    for which, template in templates.items():
        base = GIVEN[which]
        for condition, taken in TAKEN_OVER.items():
            if condition not in template["Conditions"]:
                continue
            own, values = decided(template, **base)
            mine = resolve(own, values, {"AWS::StackName": "s"})
            given = {parameter: f"given-{parameter}" for parameter in taken.values()}
            other, values = decided(template, **base, **given)
            theirs = resolve(other, values, {"AWS::StackName": "s"})
            for resource, parameter in taken.items():
                pattern = rf"s/{resource}\b"
                wanted = {path for path, text in texts(mine) if re.search(pattern, text)}
                found = {path for path, text in texts(theirs) if re.search(rf"given-{parameter}\b", text)}
                if not wanted or wanted != found:
                    yield f"{parameter} changes {sorted(wanted ^ found)} too much or too little"
                if any(re.search(pattern, text) for _, text in texts(theirs)):
                    yield f"with {parameter} something still speaks of the stack's own {resource}"
                if template["Parameters"][parameter].get("Default") != "":
                    yield f"{parameter} takes something over by default"
    yield from both_or_neither(templates[STACK], "TablesComeInPairs", "RegisterTableName", "AuditTableName")


def both_or_neither(template, rule, *parameters):
    """The rule takes both parameters or neither."""
    (assertion,) = template["Rules"][rule]["Assertions"]
    for given in (("", ""), ("a", "b"), ("a", ""), ("", "b")):
        taken = holds(template, assertion["Assert"], dict(zip(parameters, given)))
        if taken != (bool(given[0]) == bool(given[1])):
            yield f"{parameters} = {given} is {'taken' if taken else 'refused'}"


@check
def company_account(templates):
    """Boundary and path of every role, and the network of every function, are parameters; none is there by default."""
    interfaces = {"AssignPrivateIpAddresses", "CreateNetworkInterface", "DeleteNetworkInterface", "DescribeNetworkInterfaces"}
    interfaces = sorted(f"ec2:{action}" for action in interfaces | {"DescribeSubnets", "UnassignPrivateIpAddresses"})
    for which, template in templates.items():
        base = {**GIVEN[which], **EVERYTHING[which]}
        vpc = {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"} if which == STACK else {}
        for given in ({}, {"PermissionsBoundaryArn": "boundary", "RolePath": "/ap/", **vpc}):
            plain, _ = translated(template, **base, **given)
            plain, values = decided(plain, **base, **given)
            for name, role in of_type(plain, "AWS::IAM::Role").items():
                p = resolve(role["Properties"], values, {"AWS::StackName": "s"})
                wanted = (given.get("PermissionsBoundaryArn"), given.get("RolePath", "/"))
                if (p.get("PermissionsBoundary"), p.get("Path")) != wanted:
                    yield f"{name} has boundary and path {p.get('PermissionsBoundary'), p.get('Path')}, not {wanted}"
                if which != OPERATORS and p.get("ManagedPolicyArns") != (["s/NetworkInterfaces"] if given and vpc else None):
                    yield f"{name} has the policies {p.get('ManagedPolicyArns')}"
            for name, function in of_type(plain, "AWS::Lambda::Function").items():
                network = resolve(function["Properties"].get("VpcConfig"), values, {})
                wanted = {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]} if given else None
                if network != wanted:
                    yield f"{name} runs in {network}, not {wanted}"
            for name, managed in of_type(plain, "AWS::IAM::ManagedPolicy").items():
                if managed["Properties"]["Path"] != {"Ref": "RolePath"}:
                    yield f"{name} is elsewhere than the roles"
                if which == OPERATORS:
                    continue
                found = managed["Properties"]["PolicyDocument"]["Statement"]
                found = [{k: sorted(v) if k == "Action" else v for k, v in part.items() if k != "Sid"} for part in found]
                allow = {"Effect": "Allow", "Action": interfaces, "Resource": "*"}
                code = {"Null": {"lambda:SourceFunctionArn": "false"}}  # only what a function itself asks for carries its ARN
                if found != [allow, {**allow, "Effect": "Deny", "Condition": code}] or not given:
                    yield f"{name} is about more than network interfaces, lets code make them, or is there without a network"
    yield from both_or_neither(templates[STACK], "SubnetsHaveSecurityGroups", "SubnetIds", "SecurityGroupIds")


# Who may run which verb of the table of rights in docs/commands.md; each role may also what those before it may.
VERBS = {
    "Viewer": "invoice|holds|parked|payments|payments show|suppliers list|suppliers proposals|lookups|explain|timeline|audit",
    "Clerk": "recheck|replay|skip|pause|resume|entity open-from|lookups allow|suppliers allow|suppliers accept|reindex",
    "Operator": "status|plan|suppliers plan|lookups --plan|reconcile|doctor|release|adopt|backfill|owner show|owner take|restore|dlq",
    "Admin": "connection|run",
}
DEAD_LETTERS = ("invoices-dead-letter", "payments-dead-letter", "schedules-dead-letter")
# What the table calls a resource, and what that is.
RESOURCES = {
    "the register": ("register",),
    "the audit trail": ("audit",),
    "the tokens table": ("tokens",),
    "the invoices queue": ("invoices",),
    "the queues of invoices and payments": ("invoices", "payments"),
    "all queues": ("invoices", "payments", *DEAD_LETTERS),
    "both queues": ("invoices", "payments", *DEAD_LETTERS),
    "the dead-letter queue": DEAD_LETTERS,
    "its target": ("invoices", "payments"),
    "the connection's secret": ("connection",),
    "the webhook's secret": ("webhook",),
    "both secrets": ("connection", "webhook"),
    "them": ("connection", "webhook"),
}
# What stands above the table, for every verb: names from the stack, the key, whether there is such a connection.
FOR_EVERYBODY = {
    ("cloudformation:DescribeStacks", "stack"),
    ("kms:Decrypt", "key"),
    ("kms:GenerateDataKey", "key"),
    ("secretsmanager:DescribeSecret", "connection"),
    ("secretsmanager:ListSecrets", "*"),
}


def rights_in_the_manual():
    """The table of rights: each verb with its (action, resource) pairs. Read as a person reads it: an action without a service is of
    the one before it, actions belong to the resource that follows, `as` and `what … needs` refer to another verb."""
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    above, rows = text.split("\n## What it needs in AWS\n")[1].split("| verbs | rights beside |\n|---|---|\n")
    for action, _ in FOR_EVERYBODY:
        if f"`{action}`" not in above:
            raise ValueError(f"docs/commands.md does not say that everybody needs {action}")
    rows = [row.strip("| ").split(" | ") for row in rows.split("\n\n")[0].splitlines()]
    everybody, _ = read_rights(rows.pop(0)[1])
    found, refers = {}, {}
    for verbs, cell in rows:
        verbs = re.findall(r"`([^`]+)`", verbs)
        pairs, named = read_rights(cell)
        if "the same on both tables" in cell:
            named.add("skip")
        if "the role of the function" in cell:
            flows = SCHEDULED | {"match-invoice"}
            grants = {(a, r) for flow in flows for r, actions in GRANTS[flow].items() for a in actions}
            short = {"RegisterTable": "register", "AuditTable": "audit", "TokensTable": "tokens", "InvoicesQueue": "invoices"}
            short |= {"PaymentsQueue": "payments", "RegisterTable/index/due": "register/index/due"}
            pairs |= {(action, short[resource]) for action, resource in grants}
        for verb in verbs:
            found.setdefault(verb, set()).update(pairs)
            refers.setdefault(verb, set()).update(named)
    for verb, named in refers.items():
        for other in named:
            found[verb] |= found[other]
    return everybody | FOR_EVERYBODY, found


def read_rights(cell):
    """The pairs that one cell spells out, and the verbs it refers to."""
    pairs, waiting, service = set(), [], None
    phrases = "|".join(sorted(map(re.escape, RESOURCES), key=len, reverse=True))
    for token in re.finditer(rf"`(?:([a-z]+):)?([A-Z][A-Za-z]+)`|\bon ({phrases})", cell):
        if token[3]:
            pairs |= {(action, resource) for action in waiting for resource in RESOURCES[token[3]]}
            waiting = []
        else:
            service = token[1] or service
            waiting.append(f"{service}:{token[2]}")
    # What is on nothing that the table names: the alarms' topic, or all there are.
    pairs |= {(action, "topic" if action.startswith("sns:") else "*") for action in waiting}
    return pairs, set(re.findall(r"(?:\bas|\bwhat) `([a-z -]+)`", cell))


@check
def people_may_what_their_verbs_need(templates):
    """Each policy for people allows what docs/commands.md says its verbs need beside what the roles before it may, and nothing else;
    every verb of the table is somebody's; a session is called as its user is."""
    everybody, verbs = rights_in_the_manual()
    yours = {person: set(names.split("|")) for person, names in VERBS.items()}
    for verb in set(verbs) ^ set().union(*yours.values()):
        yield f"{verb} is in the table and nobody's, or somebody's and not in the table"
    template, values = decided(templates[OPERATORS], **GIVEN[OPERATORS], **EVERYTHING[OPERATORS])
    arn = "arn:Partition:{}:Region:AccountId:{}"
    names = {arn.format("dynamodb", f"table/{name}"): name for name in ("register", "audit", "tokens", "register/index/due")}
    names |= {arn.format("sqs", f"x-{name}"): name for name in RESOURCES["all queues"]}
    names |= {arn.format("secretsmanager", f"secret:x/{name}/y-??????"): name for name in ("connection", "webhook")}
    names |= {arn.format("cloudformation", "stack/x/*"): "stack", "import x-KeyArn": "key", "import x-AlarmTopicArn": "topic", "*": "*"}
    allowed, needed = set(), set(everybody)
    for number, person in enumerate(PEOPLE):
        policy = resolve(template["Resources"][f"{person}Policy"]["Properties"], values, {"AWS::StackName": "s"})
        mine = set()
        for statement in policy["PolicyDocument"]["Statement"]:
            pairs = {(a, names.get(r, r)) for a in as_list(statement["Action"]) for r in as_list(statement["Resource"])}
            mine |= pairs
            services = [service.split(".")[0] for service in services_of(statement)]
            wanted = ["dynamodb", "sqs", "secretsmanager"] if ("kms:Decrypt", "key") in pairs else []
            if statement["Effect"] != "Allow" or services != wanted:
                yield f"{person}: {statement['Sid']} is not an Allow through {wanted}"
        for pair in mine & allowed:
            yield f"{person}: {pair} is in a policy before it"
        allowed |= mine
        needed |= {pair for verb in yours[person] for pair in verbs.get(verb, ())}
        for pair in sorted(allowed - needed):
            yield f"{person}: {pair} is allowed and no verb needs it"
        for pair in sorted(needed - allowed):
            yield f"{person}: {pair} is needed and not allowed"
        role = template["Resources"][f"{person}Role"]["Properties"]
        if [target(policy) for policy in role["ManagedPolicyArns"]] != [f"{name}Policy" for name in PEOPLE[: number + 1]]:
            yield f"{person} has the policies {role['ManagedPolicyArns']}"
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        if trust["Condition"] != {"StringEquals": {"sts:RoleSessionName": "${aws:username}"}}:
            yield f"a session of {person} may be called as anybody is"
    if any(of_type(decided(templates[OPERATORS], **GIVEN[OPERATORS])[0], "AWS::IAM::Role")):
        yield "a role is made for nobody"


@check
def any_partition(templates):
    """No ARN and no address names the commercial partition: the same templates work in GovCloud and in China. A service that
    acts is called the same everywhere (`lambda.amazonaws.com`), but not with a region in its name."""
    for which, template in templates.items():
        for path, text in texts(template):
            if re.search(r"arn:aws\b", text) or (".amazonaws." in text and not re.fullmatch(r"[a-z]+\.amazonaws\.com", text)):
                yield f"{which}: {path} says {text}"


def texts(value, path=""):
    """Every text inside a template with where it stands."""
    if isinstance(value, str):
        yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from texts(child, f"{path}/{key}")


@check
def queues_are_safe(templates):
    """Our key at rest, TLS on the way, for every queue."""
    template = templates[STACK]
    denied = set()
    for policy in of_type(template, "AWS::SQS::QueuePolicy").values():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Condition"].get("Bool", {}).get("aws:SecureTransport") == "false" and statement["Effect"] == "Deny":
                denied |= {target(r) for r in statement["Resource"]} & {target(q) for q in policy["Properties"]["Queues"]}
    for name, queue in of_type(template, "AWS::SQS::Queue").items():
        if target(queue["Properties"].get("KmsMasterKeyId", {})) != "Key":
            yield f"{name} is not encrypted with our key"
        if name not in denied:
            yield f"{name} takes requests without TLS"


@check
def key_is_safe(templates):
    """The key rotates, and its policy lists actions one by one."""
    for name, key in of_type(templates[STACK], "AWS::KMS::Key").items():
        if key["Properties"].get("EnableKeyRotation") is not True:
            yield f"{name} does not rotate"
        for statement in key["Properties"]["KeyPolicy"]["Statement"]:
            if any("*" in action for action in as_list(statement["Action"])):
                yield f"{name}: {statement['Sid']} has a wildcard action"
            if "Service" in statement["Principal"] and "Condition" not in statement:
                yield f"{name}: {statement['Sid']} lets a service in for anybody"
        conditions = [statement.get("Condition", {}) for statement in key["Properties"]["KeyPolicy"]["Statement"]]
        named = {v for v in walk(conditions) if isinstance(v, str) and ":log-group:" in v}
        named = {v.split(":log-group:")[1] for v in named}
        groups = of_type(templates[STACK], "AWS::Logs::LogGroup").values()
        for group in (g["Properties"]["LogGroupName"]["Fn::Sub"] for g in groups):
            if group not in named:
                yield f"{name}: the log service may not use it for {group}, so that group cannot be created"


@check
def logs_end_and_are_encrypted(templates):
    """Every function writes to a log group of its own, with a retention and our key."""
    template = templates[STACK]
    groups = of_type(template, "AWS::Logs::LogGroup")
    for name, (_, function) in functions(template).items():
        group = target(function.get("LoggingConfig", {}).get("LogGroup", {}))
        if group != f"{logical(name)}LogGroup" or group not in groups:
            yield f"{name} has no log group of its own"
    for name, group in groups.items():
        if "RetentionInDays" not in group["Properties"]:
            yield f"{name} is kept for ever"
        if target(group["Properties"].get("KmsKeyId", {})) != "Key":
            yield f"{name} is not encrypted with our key"


@check
def alarms_cover_and_explain(templates):
    """Errors and throttles of every function, both dead-letter queues, queue age; each text says what, impact, do."""
    template = templates[STACK]
    watched = set()
    alarms = {n: a for t in templates.values() for n, a in of_type(t, "AWS::CloudWatch::Alarm").items()}
    for name, alarm in alarms.items():
        p = alarm["Properties"]
        if not re.search(r"What: .*Impact: .*Do: ", str(p.get("AlarmDescription")), re.S):
            yield f"{name} does not say what, impact and do"
        if not p.get("AlarmActions"):
            yield f"{name} tells nobody"
        if p.get("OKActions") != p.get("AlarmActions"):
            yield f"{name} does not tell the same ones that it is over"
        if "TreatMissingData" not in p:
            yield f"{name} leaves missing data to chance"
        for dimension in p.get("Dimensions", []):
            watched.add((p["MetricName"], target(dimension["Value"])))
    wanted = {(m, f"{logical(n)}Function") for n in functions(template) for m in ("Errors", "Throttles")}
    wanted |= {("ApproximateNumberOfMessagesVisible", q) for q in ("InvoicesDeadLetterQueue", "SchedulesDeadLetterQueue")}
    wanted |= {("ApproximateAgeOfOldestMessage", "InvoicesQueue")}
    for metric, resource in sorted(wanted - watched):
        yield f"nothing watches {metric} of {resource}"


def dashboard(template):
    """The dashboard's body as CloudWatch would get it, the shorthand written out."""
    (board,) = of_type(decided(template)[0], "AWS::CloudWatch::Dashboard").values()
    return json.loads(resolve(board["Properties"]["DashboardBody"], {}, {"AWS::StackName": "s"}))["widgets"]


def dashboard_metrics(template):
    """Each metric on the dashboard: namespace, name, and the dimension's value where it has one."""
    for widget in dashboard(template):
        before = []
        for metric in widget["properties"].get("metrics", []):
            before = before[:-1] + metric[1:] if metric[0] == "..." else metric
            yield (before[0], before[1], before[3] if len(before) > 3 else None)


def metrics_in_code():
    """What telemetry.rs declares, and what is written somewhere."""
    telemetry = ROOT / "shared/aws/src/telemetry.rs"
    declared = re.search(r"METRICS: [^=]*=\s*&\[(.*?)\n\];", telemetry.read_text(encoding="utf-8"), re.S)
    declared = set(re.findall(r'\(\s*"([a-z_]+)",', declared.group(1))) if declared else set()
    own = re.search(r"OF_EACH_CONNECTION: [^=]*=\s*\[(.*?)\];", telemetry.read_text(encoding="utf-8"), re.S)
    own = set(re.findall(r'"([a-z_]+)"', own.group(1)))
    # What is counted by kind beside the metric it is of: written wherever one of those is.
    kinds = re.search(r"ATTENTION: [^=]*=\s*\[(.*?)\n\];", telemetry.read_text(encoding="utf-8"), re.S)
    kinds = {k: set(re.findall(r'"([a-z_]+)"', names)) for k, names in re.findall(r'"([a-z_]+)",\s*&\[(.*?)\]', kinds.group(1), re.S)}
    sources = [p for folder in ("functions", "shared") for p in ROOT.glob(f"{folder}/*/src/**/*.rs") if p != telemetry]
    written = {m for p in sources for m in re.findall(r'\bmetric\s*=\s*"([a-z_]+)"', p.read_text(encoding="utf-8"))}
    by_kind = {kind for kind, names in kinds.items() if names & declared & written}
    return declared | by_kind, written | by_kind, own | by_kind


@check
def alarms_hear_what_the_code_says(templates):
    """Each metric of our own that an alarm or the dashboard waits for is declared and written, and each that is written
    is waited for; what each connection has of its own, by an alarm of the connection, under its name."""
    template = templates[STACK]
    declared, written, own = metrics_in_code()
    ours = {"Ref": "AWS::StackName"}
    waited = {metric: "the dashboard" for namespace, metric, _ in dashboard_metrics(template) if namespace == "s"}
    alarms = of_type(template, "AWS::CloudWatch::Alarm").items()
    waited |= {a["Properties"]["MetricName"]: n for n, a in alarms if a["Properties"]["Namespace"] == ours}
    for metric in own & set(waited):
        yield f"{waited[metric]} waits for {metric} of no connection, which nobody writes"
    for name, alarm in of_type(templates[CONNECTION], "AWS::CloudWatch::Alarm").items():
        p = alarm["Properties"]
        if p["Namespace"] != {"Ref": "StackName"}:
            continue
        waited[p["MetricName"]] = name
        if p.get("Dimensions") != [{"Name": "connection", "Value": {"Ref": "ConnectionId"}}] or p["MetricName"] not in own:
            yield f"{name} waits for {p['MetricName']} as no connection writes it"
    for metric, name in sorted(waited.items()):
        if metric not in declared:
            yield f"{name} waits for {metric}, which telemetry.rs does not declare"
        if metric not in written:
            yield f"{name} waits for {metric}, which nobody writes"
    for metric in sorted(written - declared):
        yield f"{metric} is written and telemetry.rs does not declare it, so CloudWatch never gets it"
    for metric in sorted((written | declared) - set(waited)):
        yield f"no alarm and no line of the dashboard uses {metric}"
    for name, (_, function) in functions(template).items():
        if variables(function).get("METRICS_NAMESPACE") != ours:
            yield f"{name} writes its metrics where no alarm looks"


@check
def dashboard_shows_everything(templates):
    """Each function, log group, table and queue is on the dashboard with what it costs, and errors are grouped by code."""
    template = templates[STACK]
    shown = set(dashboard_metrics(template))
    wanted = []
    always = {n for n, r in template["Resources"].items() if "Condition" not in r}
    for name, (resource, _) in functions(template).items():
        if resource not in always:
            continue  # a dashboard cannot name what may not be there
        wanted += [("AWS/Lambda", metric, resource) for metric in ("Errors", "Invocations", "Duration")]
    wanted += [("AWS/Logs", "IncomingBytes", name) for name in of_type(template, "AWS::Logs::LogGroup") if name in always]
    for name in of_type(template, "AWS::DynamoDB::Table"):
        wanted += [("AWS/DynamoDB", f"Consumed{kind}CapacityUnits", name) for kind in ("Read", "Write")]
    wanted += [("AWS/SQS", "ApproximateNumberOfMessagesVisible", name) for name in of_type(template, "AWS::SQS::Queue")]
    for namespace, metric, resource in wanted:
        if (namespace, metric, f"s/{resource}") not in shown:
            yield f"{metric} of {resource} is not shown"
    queries = [w["properties"]["query"] for w in dashboard(template) if w["type"] == "log"]
    for name, (resource, _) in functions(template).items():
        if resource in always and not any(f"SOURCE 's/{logical(name)}LogGroup'" in q and "by code" in q for q in queries):
            yield f"errors of {name} are not shown by code"
    for widget in dashboard(template):
        if widget["x"] + widget["width"] > 24 or not widget["properties"].get("title"):
            yield f"a widget has no title or does not fit: {widget['properties'].get('title')}"


@check
def alarms_are_in_the_manual(templates):
    """Each alarm has a row in docs/operate.md, by its name or, with one for each function, by the end of its name; and the
    manual names no other."""
    manual = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(…?[A-Za-z]+Alarm)`", manual))
    found = {name for template in templates.values() for name in of_type(template, "AWS::CloudWatch::Alarm")}
    ends = {f"{logical(name)}{kind}": f"…{kind}" for name in functions(templates[STACK]) for kind in ("ErrorsAlarm", "ThrottlesAlarm")}
    for name in sorted(found):
        if ends.get(name, name) not in named:
            yield f"docs/operate.md does not say what to do about {name}"
    for name in sorted(named - found - set(ends.values())):
        yield f"docs/operate.md speaks of {name}, which does not exist"


@check
def manual_names_real_parameters(templates):
    """Each `Name=value` in a command of the documents, and each output they speak of, is one of the templates."""
    known = {name for template in templates.values() for name in template["Parameters"]}
    outputs = {name for template in templates.values() for name in template.get("Outputs", {})}
    seen = 0
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.S):
            for line in block.replace("\\\n", " ").splitlines():
                given = line.partition("--parameter-overrides")[2]
                for name in re.findall(r"\b([A-Z][A-Za-z]+)=", given):
                    seen += 1
                    if name not in known:
                        yield f"{path.name} sets {name}, which is no parameter"
        for name in re.findall(r"output `([A-Za-z]+)`", text):
            if name not in outputs:
                yield f"{path.name} speaks of the output {name}, which does not exist"
    if not seen:
        yield "no command of the documents sets a parameter: they are looked for in the wrong way"


@check
def edge_is_throttled(templates):
    """The webhook address has a rate, a burst and an access log, answers every method on it itself (405 for all but
    POST), and nothing else is reachable."""
    template = templates[STACK]
    for name, api in of_type(template, "AWS::Serverless::HttpApi").items():
        p = api["Properties"]
        if not {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= set(p.get("DefaultRouteSettings", {})):
            yield f"{name} is not throttled"
        log = p.get("AccessLogSettings", {})
        if "DestinationArn" not in log:
            yield f"{name} has no access log"
        if re.search(r"\$context\.(request\.header|authorizer|error\.message)", log.get("Format", "")):
            yield f"{name} logs what callers wrote"
    for name, (_, function) in functions(template).items():
        if "FunctionUrlConfig" in function:
            yield f"{name} has an address of its own"
        for event in function.get("Events", {}).values():
            if event["Type"] != "HttpApi":
                continue
            if name == "console" and event["Properties"]["Path"] in ("/", "/{proxy+}"):
                if event["Properties"]["ApiId"] != {"Ref": "ConsoleApi"}:
                    yield "the page is not on an address of its own"
                continue
            if name != "receive-webhook" or event["Properties"]["Method"] != "ANY":
                yield f"{name} answers {event['Properties']['Method']} {event['Properties']['Path']}"
            if not event["Properties"]["Path"].startswith("/webhooks/coupa/{connection}"):
                yield f"{name} answers {event['Properties']['Path']}"


@check
def an_own_name_is_none_by_default_and_leads_to_the_whole_address(templates):
    """Without a name of one's own there is nothing of it and the outputs are AWS's addresses; with one its mapping is of the whole
    API of the same half, and the outputs, which Coupa, people and the mail follow, are that name."""
    template = templates[STACK]
    for half, output in (("Webhook", "WebhookBaseUrl"), ("Console", "ConsoleUrl")):
        plain, _ = decided(template, ConsoleLogin="oidc")
        if {f"{half}Domain", f"{half}DomainMapping"} & set(plain["Resources"]):
            yield f"{half} has a name of its own by default"
        if plain["Outputs"][output]["Value"] != {"Fn::GetAtt": [f"{half}Api", "ApiEndpoint"]}:
            yield f"{output} is not AWS's address by default"
        named, values = decided(template, **EVERYTHING[STACK])
        host = EVERYTHING[STACK][f"{half}DomainName"]
        if resolve(named["Outputs"][output]["Value"], values, {"AWS::StackName": "s"}) != f"https://{host}":
            yield f"{output} does not follow {half}DomainName"
        mapping = named["Resources"].get(f"{half}DomainMapping", {}).get("Properties", {})
        wanted = {"ApiId": {"Ref": f"{half}Api"}, "DomainName": {"Ref": f"{half}Domain"}, "Stage": "$default"}
        if mapping != wanted:
            yield f"{half}DomainMapping leads to {mapping}"
        domain = named["Resources"].get(f"{half}Domain", {}).get("Properties", {})
        if [c.get("SecurityPolicy") for c in domain.get("DomainNameConfigurations", [])] != ["TLS_1_2"]:
            yield f"{half}Domain takes old TLS"


@check
def schedules_call_what_they_should(templates):
    """One schedule per scheduled function, to the second, with retries, a dead-letter queue and the connection's id."""
    schedules = of_type(templates[CONNECTION], "AWS::Scheduler::Schedule")
    called = set()
    for name, schedule in schedules.items():
        p = schedule["Properties"]
        called.add(imported(p["Target"]["Arn"]))
        if p["Target"].get("Input") != {"Fn::Sub": '{"connection":"${ConnectionId}"}'}:
            yield f"{name} does not hand over the connection"
        if p.get("FlexibleTimeWindow", {}).get("Mode") != "OFF":
            yield f"{name} may come late on purpose"
        if "RetryPolicy" not in p["Target"] or "DeadLetterConfig" not in p["Target"]:
            yield f"{name} loses a tick without a word"
    wanted = {f"{logical(name)}FunctionArn" for name in SCHEDULED}
    if called != wanted:
        yield f"schedules call {sorted(called)}, expected {sorted(wanted)}"
    for name in SCHEDULED:
        _, function = functions(templates[STACK])[name]
        if function.get("Events"):
            yield f"{name} is called by more than schedules"


@check
def one_switch_stops_all_schedules(templates):
    """With ScheduleState off no schedule runs and none is missed; with it on each has a switch of its own."""
    template = templates[CONNECTION]
    given = GIVEN[CONNECTION]
    schedules = of_type(template, "AWS::Scheduler::Schedule")

    def running(**more):
        made, values = decided(template, **given, **more)
        states = {n: resolve(s["Properties"]["State"], values, {}) for n, s in of_type(made, "AWS::Scheduler::Schedule").items()}
        return {n for n, state in states.items() if state == "ENABLED"}, set(of_type(made, "AWS::CloudWatch::Alarm"))

    on, alarms = running(ScheduleState="DISABLED")
    if on or alarms:
        yield f"with all schedules off {sorted(on)} run and {sorted(alarms)} ring"
    if running(ScheduleState="ENABLED")[0] != set(schedules):
        yield "a schedule stays off"
    for name in schedules:
        if running(ScheduleState="ENABLED", **{f"{name}State": "DISABLED"})[0] != set(schedules) - {name}:
            yield f"{name}State does not stop {name} alone"


@check
def imports_are_exported(templates):
    """Whatever a connection imports, the stack exports, and nothing is exported for nobody."""
    exported = {
        output["Export"]["Name"]["Fn::Sub"].removeprefix("${AWS::StackName}-")
        for output in templates[STACK]["Outputs"].values()
        if "Export" in output
    }
    parts = [part for name in (CONNECTION, OPERATORS) for part in walk(templates[name])]
    used = {imported(v) for v in parts if isinstance(v, dict) and "Fn::ImportValue" in v}
    for name in sorted(used - exported):
        yield f"{name} is imported and not exported"
    for name in sorted(exported - used):
        yield f"{name} is exported and not imported"


@check
def translated_stack_keeps_the_chain(templates):
    """What AWS gets after translation: the same times, deliveries per message, own roles, and nothing public but the edge."""
    plain, values = translated(templates[STACK])
    names = {"AWS::StackName": "s"}
    queues = {n: resolve(q["Properties"], values, names) for n, q in of_type(plain, "AWS::SQS::Queue").items()}
    lambdas = {n: resolve(f["Properties"], values, names) for n, f in of_type(plain, "AWS::Lambda::Function").items()}
    if set(lambdas) != {resource for resource, _ in functions(templates[STACK]).values()}:
        yield f"functions are {sorted(lambdas)}"
    for name, function in lambdas.items():
        told = function["Environment"]["Variables"].get("FUNCTION_TIMEOUT_SECONDS", function["Timeout"])
        if str(told) != str(function["Timeout"]):
            yield f"{name} is told {told} s and ended after {function['Timeout']} s"
        if function["Role"] != f"s/{name.removesuffix('Function')}Role":
            yield f"{name} runs as {function['Role']}"
    for name, mapping in of_type(plain, "AWS::Lambda::EventSourceMapping").items():
        p = resolve(mapping["Properties"], values, names)
        queue = queues[p["EventSourceArn"].removeprefix("s/")]
        timeout = int(lambdas[p["FunctionName"].removeprefix("s/")]["Timeout"])
        if int(queue["VisibilityTimeout"]) < 6 * timeout:
            yield f"{name}: visibility {queue['VisibilityTimeout']} s is less than six times {timeout} s"
        if p.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{name} fails whole batches"
    for name, grant in of_type(plain, "AWS::Lambda::Permission").items():
        if grant["Properties"]["Principal"] != "apigateway.amazonaws.com":
            yield f"{name} lets {grant['Properties']['Principal']} call a function"


@check
def a_changed_parameter_arrives(templates):
    """No alias stands between a caller and a function: a version keeps the environment it was published with, and SAM publishes
    none when only a parameter changes (decision 58)."""
    plain, _ = translated(templates[STACK])
    for kind in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
        for name in of_type(plain, kind):
            yield f"{name} would go on with the parameters of before"


@check
def concurrency_is_a_parameter(templates):
    """Each function's reserved concurrency is a parameter of its own, and -1 reserves none."""
    template = templates[STACK]
    for name, (_, function) in functions(template).items():
        parameter, condition = f"{logical(name)}ReservedConcurrency", f"{logical(name)}Unreserved"
        wanted = {"Fn::If": [condition, {"Ref": "AWS::NoValue"}, {"Ref": parameter}]}
        if function.get("ReservedConcurrentExecutions") != wanted:
            yield f"{name} does not take {parameter}"
        if template["Conditions"].get(condition) != {"Fn::Equals": [{"Ref": parameter}, -1]}:
            yield f"{condition} does not ask whether {parameter} is -1"
        if template["Parameters"].get(parameter, {}).get("Default") != -1:
            yield f"{parameter} reserves something by default"


# What a connection's stack may consist of: none of these changes anything that another stack owns.
CONNECTION_TYPES = {
    "AWS::CloudWatch::Alarm",
    "AWS::IAM::Role",
    "AWS::Scheduler::Schedule",
    "AWS::Scheduler::ScheduleGroup",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::SecretsManager::Secret",
}
# Properties that name a resource, or say which one is changed.
NAMING = {"Name", "RoleName", "AlarmName", "SecretId", "GroupName"}


@check
def connections_never_touch_each_other(templates):
    """Two connections, translated: all of the second one's resources are its own, the stack is the same with or without it."""
    template = templates[CONNECTION]
    owned = {}
    for number, connection_id in enumerate(("acme", "zenith")):
        plain, _ = translated(template, StackName="qad-coupa", ConnectionId=connection_id)
        plain, values = decided(plain, StackName="qad-coupa", ConnectionId=connection_id)
        stack_name = f"stack-of-{connection_id}"
        resources = {n: resolve(r, values, {"AWS::StackName": stack_name}) for n, r in plain["Resources"].items()}
        other = ("acme", "zenith")[1 - number]
        if other in json.dumps(resources):
            yield f"the stack of {connection_id} speaks of {other}"
        for name, resource in resources.items():
            if resource["Type"] not in CONNECTION_TYPES:
                yield f"{name} is a {resource['Type']}, which may change what others own"
            properties_of = resource.get("Properties", {})
            group = properties_of.get("GroupName", "")
            named = {k: v for k, v in properties_of.items() if k in NAMING}
            for key, value in named.items():
                if not isinstance(value, str) or value.startswith("import "):
                    yield f"{name}: {key} is {value}, which belongs to another stack"
            own = {group + "/" + v if k == "Name" and group else v for k, v in named.items() if k != "GroupName"}
            own |= {f"{stack_name}/{name}"}  # what has no name gets one from its stack
            owned.setdefault(connection_id, set()).update(own if resource["Type"] != "AWS::SecretsManager::ResourcePolicy" else ())
        if any("Export" in output for output in template.get("Outputs", {}).values()):
            yield "a connection exports something, so another stack could depend on it"
    for name in sorted(owned["acme"] & owned["zenith"]):
        yield f"both connections own {name}"
    if any("ConnectionId" in v for v in walk(templates[STACK]) if isinstance(v, str)):
        yield "the stack knows a connection"
    if set(of_type(templates[STACK], "AWS::SecretsManager::Secret")) - {"ConsoleSecret"}:
        yield "the stack holds a connection's secret"


@check
def parameters_hold_no_secrets(templates):
    """A parameter's value stays readable in a stack's history, so none may be a credential."""
    for name, template in templates.items():
        for parameter, p in template["Parameters"].items():
            if parameter.endswith(("Arn", "TableName")):
                continue  # where it lies, not what lies there
            if re.search(r"secret|password|token|credential|apikey", parameter, re.I):
                yield f"{name}: {parameter}"
            if not p.get("Description"):
                yield f"{name}: {parameter} does not say what it is"


# ---------------------------------------------------------------------------------------------------------------------
# Mutations: (what is broken, how, which check must notice)
# ---------------------------------------------------------------------------------------------------------------------


def stack(templates, name):
    return templates[STACK]["Resources"][name]["Properties"]


def connection(templates, name):
    return templates[CONNECTION]["Resources"][name]["Properties"]


def default(templates, name, value):
    templates[STACK]["Parameters"][name]["Default"] = value


def people(templates, person):
    return templates[OPERATORS]["Resources"][f"{person}Policy"]["Properties"]["PolicyDocument"]["Statement"]


def policy(templates, role):
    return stack(templates, role)["Policies"][0]["PolicyDocument"]["Statement"]


def allow(templates, role, action, resource):
    policy(templates, role).append({"Sid": "More", "Effect": "Allow", "Action": [action], "Resource": resource})


def board(templates, old, new):
    (body, _) = stack(templates, "Dashboard")["DashboardBody"]["Fn::Sub"]
    if old not in body:
        raise ValueError(f"the dashboard does not say {old}")
    stack(templates, "Dashboard")["DashboardBody"]["Fn::Sub"][0] = body.replace(old, new)


def board_list(templates, name):
    return stack(templates, "Dashboard")["DashboardBody"]["Fn::Sub"][1][name]["Fn::Join"][1]


def arn(name):
    return {"Fn::GetAtt": [name, "Arn"]}


MUTATIONS = [
    ("unknown property", lambda t: stack(t, "SweepFunction").update(Colour="red"), "translates"),
    ("role made by the translator", lambda t: stack(t, "SweepFunction").pop("Role"), "translates"),
    ("wildcard action", lambda t: allow(t, "SweepRole", "sqs:*", arn("InvoicesQueue")), "no_wildcard_in_identity_policies"),
    ("wildcard resource", lambda t: allow(t, "SweepRole", "sqs:SendMessage", "*"), "no_wildcard_in_identity_policies"),
    (
        "wildcard resource in the connection",
        lambda t: connection(t, "SchedulerRole")["Policies"][0]["PolicyDocument"]["Statement"][0].update(Resource="*"),
        "no_wildcard_in_identity_policies",
    ),
    ("managed policy", lambda t: stack(t, "SweepRole").update(ManagedPolicyArns=["x"]), "no_wildcard_in_identity_policies"),
    ("shared role", lambda t: stack(t, "SweepFunction").update(Role=arn("PollCoupaRole")), "one_role_per_function"),
    (
        "one action too many",
        lambda t: allow(t, "PollCoupaRole", "dynamodb:DeleteItem", arn("RegisterTable")),
        "grants_are_exactly_these",
    ),
    ("one action too few", lambda t: policy(t, "MatchInvoiceRole").pop(0), "grants_are_exactly_these"),
    ("key without a service", lambda t: policy(t, "SweepRole")[2].pop("Condition"), "grants_are_exactly_these"),
    (
        "a table its flow is not given",
        lambda t: allow(t, "ReceiveWebhookRole", "dynamodb:PutItem", arn("AuditTable")),
        "grants_follow_from_what_the_flows_are_given",
    ),
    ("tokens without a system", lambda t: allow(t, "SweepRole", "dynamodb:GetItem", arn("TokensTable")), "grants_follow_from_what_the_flows_are_given"),
    (
        "audit may be rewritten",
        lambda t: allow(t, "MatchInvoiceRole", "dynamodb:UpdateItem", arn("AuditTable")),
        "audit_is_append_only",
    ),
    (
        "receiver reads a table",
        lambda t: allow(t, "ReceiveWebhookRole", "dynamodb:GetItem", arn("RegisterTable")),
        "receiver_sees_no_table",
    ),
    (
        "receiver reads all secrets",
        lambda t: connection(t, "ConnectionSecretReaders")["ResourcePolicy"]["Statement"][0]["Principal"]["AWS"].append(
            {"Fn::ImportValue": {"Fn::Sub": "${StackName}-ReceiveWebhookRoleArn"}}
        ),
        "secrets_name_their_readers",
    ),
    ("secret in the template", lambda t: connection(t, "WebhookSecret").update(SecretString="x"), "secrets_name_their_readers"),
    ("function without a folder", lambda t: t[STACK]["Resources"].pop("SweepFunction"), "names_agree_with_the_code"),
    ("another architecture", lambda t: stack(t, "SweepFunction").update(Architectures=["arm64"]), "names_agree_with_the_code"),
    (
        "unknown variable",
        lambda t: variables(stack(t, "SweepFunction")).update(SWEEP_COLOUR="red"),
        "environment_agrees_with_the_code",
    ),
    (
        "variable nobody gives",
        lambda t: [variables(f).pop("AUDIT_TABLE", None) for _, f in functions(t[STACK]).values()],
        "environment_agrees_with_the_code",
    ),
    (
        "variable not given",
        lambda t: variables(stack(t, "SweepFunction")).pop("REGISTER_TABLE"),
        "each_function_gets_what_it_needs",
    ),
    (
        "variable not asked for",
        lambda t: variables(stack(t, "ReceiveWebhookFunction")).update(REGISTER_TABLE="x"),
        "each_function_gets_what_it_needs",
    ),
    ("another default", lambda t: default(t, "LeaseSeconds", 200), "defaults_agree_with_the_code"),
    ("HTTP outlives function", lambda t: default(t, "HttpTimeoutSeconds", 170), "timing_chain"),
    ("lease too short", lambda t: default(t, "LeaseSeconds", 184), "timing_chain"),
    (
        "half a chain",
        lambda t: variables(stack(t, "PollCoupaFunction")).pop("LEASE_SECONDS"),
        "timing_chain",
    ),
    ("function told wrong", lambda t: stack(t, "MatchInvoiceFunction").update(Timeout=300), "timing_chain"),
    ("visibility too short", lambda t: default(t, "QueueVisibilitySeconds", 1079), "queue_chain"),
    ("too few receives", lambda t: default(t, "QueueReceiveCountMax", 4), "queue_chain"),
    (
        "dead letters vanish",
        lambda t: stack(t, "InvoicesDeadLetterQueue").update(MessageRetentionPeriod=4 * DAY_SECONDS),
        "queue_chain",
    ),
    (
        "whole batches fail",
        lambda t: stack(t, "MatchInvoiceFunction")["Events"]["Invoices"]["Properties"].pop("FunctionResponseTypes"),
        "one_bad_message_fails_alone",
    ),
    ("no recovery", lambda t: stack(t, "AuditTable").pop("PointInTimeRecoverySpecification"), "tables_are_safe"),
    ("no protection", lambda t: stack(t, "RegisterTable").update(DeletionProtectionEnabled=False), "tables_are_safe"),
    ("AWS's own key", lambda t: stack(t, "TokensTable")["SSESpecification"].pop("KMSMasterKeyId"), "tables_are_safe"),
    (
        "key goes with the stack",
        lambda t: t[STACK]["Resources"]["Key"].pop("DeletionPolicy"),
        "what_is_kept_does_not_block_a_second_try",
    ),
    (
        "key goes when it is replaced",
        lambda t: t[STACK]["Resources"]["Key"].pop("UpdateReplacePolicy"),
        "what_is_kept_does_not_block_a_second_try",
    ),
    (
        "key of a failed try stays",
        lambda t: t[STACK]["Resources"]["Key"].update(DeletionPolicy="Retain"),
        "what_is_kept_does_not_block_a_second_try",
    ),
    (
        "secret of a failed try stays",
        lambda t: t[CONNECTION]["Resources"]["WebhookSecret"].update(DeletionPolicy="Retain"),
        "what_is_kept_does_not_block_a_second_try",
    ),
    (
        "rollback that its tables stop",
        lambda t: t[STACK]["Resources"]["AuditTable"].update(DeletionPolicy="RetainExceptOnCreate"),
        "what_is_kept_does_not_block_a_second_try",
    ),
    (
        "table whose name is taken after a failed try",
        lambda t: stack(t, "AuditTable").update(TableName="audit"),
        "what_is_kept_does_not_block_a_second_try",
    ),
    (
        "grant on the stack's own table alone",
        lambda t: policy(t, "PollCoupaRole")[0].update(Resource=arn("RegisterTable")),
        "what_exists_can_be_taken_over",
    ),
    (
        "function that reads the stack's own table whatever is said",
        lambda t: variables(stack(t, "SweepFunction")).update(AUDIT_TABLE={"Ref": "AuditTable"}),
        "what_exists_can_be_taken_over",
    ),
    (
        "index of the stack's own table",
        lambda t: policy(t, "SweepRole")[0].update(Resource={"Fn::Sub": "${RegisterTable.Arn}/index/due"}),
        "what_exists_can_be_taken_over",
    ),
    (
        "register taken for the audit trail",
        lambda t: variables(stack(t, "SweepFunction"))["AUDIT_TABLE"]["Fn::If"].__setitem__(2, {"Ref": "RegisterTableName"}),
        "what_exists_can_be_taken_over",
    ),
    (
        "register without its audit trail",
        lambda t: t[STACK]["Rules"]["TablesComeInPairs"]["Assertions"][0]["Assert"]["Fn::Or"].append(
            {"Fn::Equals": [{"Ref": "AuditTableName"}, ""]}
        ),
        "what_exists_can_be_taken_over",
    ),
    (
        "secret taken over that nobody may read",
        lambda t: connection(t, "WebhookSecretReaders").update(SecretId={"Ref": "WebhookSecret"}),
        "what_exists_can_be_taken_over",
    ),
    ("queue without TLS", lambda t: stack(t, "QueuesTlsOnly")["Queues"].pop(), "queues_are_safe"),
    ("queue in the clear", lambda t: stack(t, "InvoicesQueue").pop("KmsMasterKeyId"), "queues_are_safe"),
    ("key never changes", lambda t: stack(t, "Key").update(EnableKeyRotation=False), "key_is_safe"),
    (
        "log group the key does not know",
        lambda t: stack(t, "SweepLogGroup").update(LogGroupName={"Fn::Sub": "/aws/lambda/${AWS::StackName}-other"}),
        "key_is_safe",
    ),
    ("key for any log", lambda t: stack(t, "Key")["KeyPolicy"]["Statement"][1].pop("Condition"), "key_is_safe"),
    ("log for ever", lambda t: stack(t, "SweepLogGroup").pop("RetentionInDays"), "logs_end_and_are_encrypted"),
    (
        "log of another",
        lambda t: stack(t, "SweepFunction")["LoggingConfig"].update(LogGroup={"Ref": "PollCoupaLogGroup"}),
        "logs_end_and_are_encrypted",
    ),
    ("alarm gone", lambda t: t[STACK]["Resources"].pop("MatchInvoiceErrorsAlarm"), "alarms_cover_and_explain"),
    (
        "alarm that the manual does not know",
        lambda t: t[STACK]["Resources"].update(NewAlarm=t[STACK]["Resources"]["HoldAgeAlarm"]),
        "alarms_are_in_the_manual",
    ),
    ("parameter that only the manual has", lambda t: t[CONNECTION]["Parameters"].pop("ScheduleState"), "manual_names_real_parameters"),
    ("output that only the manual has", lambda t: t[STACK]["Outputs"].pop("WebhookBaseUrl"), "manual_names_real_parameters"),
    (
        "package that is not the folder's",
        lambda t: stack(t, "SweepFunction").update(Timeout=49),
        "packed_template_is_the_stack",
    ),
    ("alarm mute", lambda t: stack(t, "HoldAgeAlarm").pop("AlarmActions"), "alarms_cover_and_explain"),
    ("nobody hears that it is over", lambda t: stack(t, "HoldAgeAlarm").pop("OKActions"), "alarms_cover_and_explain"),
    (
        "others hear that it is over",
        lambda t: connection(t, "SchedulesSilentAlarm").update(OKActions=["arn"]),
        "alarms_cover_and_explain",
    ),
    ("alarm without advice", lambda t: stack(t, "HoldAgeAlarm").update(AlarmDescription="Old."), "alarms_cover_and_explain"),
    (
        "metric nobody writes",
        lambda t: stack(t, "HoldAgeAlarm").update(MetricName="oldest_hold_days"),
        "alarms_hear_what_the_code_says",
    ),
    (
        "metrics elsewhere",
        lambda t: variables(stack(t, "SweepFunction")).update(METRICS_NAMESPACE="other"),
        "alarms_hear_what_the_code_says",
    ),
    (
        "metric nobody looks at",
        lambda t: board(t, '["${AWS::StackName}", "payment_written"], ', ""),
        "alarms_hear_what_the_code_says",
    ),
    (
        "a kind of trouble that rings nowhere",
        lambda t: t[CONNECTION]["Resources"].pop("AtOnceAlarm"),
        "alarms_hear_what_the_code_says",
    ),
    (
        "a connection's alarm hears all of them",
        lambda t: connection(t, "ReconcileAlarm").pop("Dimensions"),
        "alarms_hear_what_the_code_says",
    ),
    (
        "a connection's number among everybody's",
        lambda t: stack(t, "ParkedAlarm").update(MetricName="reconcile_unexplained"),
        "alarms_hear_what_the_code_says",
    ),
    ("dashboard waits in vain", lambda t: board(t, '"payment_written"', '"payment_made"'), "alarms_hear_what_the_code_says"),
    ("function not shown", lambda t: board_list(t, "Functions").pop(), "dashboard_shows_everything"),
    ("errors not shown", lambda t: board_list(t, "LogSources").pop(), "dashboard_shows_everything"),
    ("table not shown", lambda t: board_list(t, "Tables").pop(), "dashboard_shows_everything"),
    ("queue not shown", lambda t: board_list(t, "Queues").pop(), "dashboard_shows_everything"),
    (
        "late after translation",
        lambda t: stack(t, "MatchInvoiceFunction").update(Timeout=400),
        "translated_stack_keeps_the_chain",
    ),
    (
        "batches fail whole after translation",
        lambda t: stack(t, "WritePaymentFunction")["Events"]["Payments"]["Properties"].pop("FunctionResponseTypes"),
        "translated_stack_keeps_the_chain",
    ),
    ("no ceiling", lambda t: stack(t, "SweepFunction").pop("ReservedConcurrentExecutions"), "concurrency_is_a_parameter"),
    (
        "another reader of the page's secret",
        lambda t: stack(t, "ConsoleSecretReaders")["ResourcePolicy"]["Statement"][0]["Principal"].update(
            AWS={"Fn::GetAtt": ["SweepRole", "Arn"]}
        ),
        "secrets_name_their_readers",
    ),
    ("page's secret in the template", lambda t: stack(t, "ConsoleSecret").update(SecretString="x"), "secrets_name_their_readers"),
    ("page's key known to all", lambda t: stack(t, "ConsoleSecret").pop("GenerateSecretString"), "the_page_is_off_and_holds_no_key"),
    ("page on by itself", lambda t: default(t, "ConsoleLogin", "oidc"), "the_page_is_off_and_holds_no_key"),
    ("mail to somebody by itself", lambda t: default(t, "MailTo", "ap@example.com"), "the_page_is_off_and_holds_no_key"),
    ("mail schedule always there", lambda t: t[STACK]["Resources"]["MailOfTheDay"].pop("Condition"), "the_page_is_off_and_holds_no_key"),
    ("mail that gets lost", lambda t: stack(t, "MailOfTheDay")["Target"].pop("DeadLetterConfig"), "the_page_is_off_and_holds_no_key"),
    (
        "mail from anybody's identity",
        lambda t: stack(t, "ConsoleRole")["Policies"][1]["Fn::If"][1]["PolicyDocument"]["Statement"][0].update(Resource="*"),
        "no_wildcard_in_identity_policies",
    ),
    ("page that cannot be switched off", lambda t: t[STACK]["Resources"]["ConsoleApi"].pop("Condition"), "the_page_is_off_and_holds_no_key"),
    (
        "page's secret without a login that needs it",
        lambda t: t[STACK]["Resources"]["ConsoleSecret"].update(Condition="ConsoleOn"),
        "the_page_is_off_and_holds_no_key",
    ),
    ("reserved for nothing", lambda t: default(t, "SweepReservedConcurrency", 1), "concurrency_is_a_parameter"),
    (
        "one secret for all connections",
        lambda t: connection(t, "WebhookSecret").update(Name={"Fn::Sub": "${StackName}/webhook"}),
        "connections_never_touch_each_other",
    ),
    (
        "one schedule group for all connections",
        lambda t: t[CONNECTION]["Resources"]["ScheduleGroup"].update(Properties={"Name": "polls"}),
        "connections_never_touch_each_other",
    ),
    (
        "a connection changes a queue",
        lambda t: t[CONNECTION]["Resources"].update(Grab={"Type": "AWS::SQS::QueuePolicy", "Properties": {}}),
        "connections_never_touch_each_other",
    ),
    (
        "a connection exports",
        lambda t: t[CONNECTION]["Outputs"]["ConnectionSecretArn"].update(Export={"Name": "x"}),
        "connections_never_touch_each_other",
    ),
    (
        "a connection in the stack",
        lambda t: t[STACK]["Parameters"].update(Extra={"Type": "String", "Default": "ConnectionId", "Description": "x"}),
        "connections_never_touch_each_other",
    ),
    (
        "a name that leads to the other half",
        lambda t: t[STACK]["Resources"]["WebhookDomainMapping"]["Properties"].update(ApiId={"Ref": "ConsoleApi"}),
        "an_own_name_is_none_by_default_and_leads_to_the_whole_address",
    ),
    (
        "an output that forgets the name",
        lambda t: t[STACK]["Outputs"]["ConsoleUrl"].update(Value={"Fn::GetAtt": ["ConsoleApi", "ApiEndpoint"]}),
        "an_own_name_is_none_by_default_and_leads_to_the_whole_address",
    ),
    ("edge without a limit", lambda t: stack(t, "WebhookApi").pop("DefaultRouteSettings"), "edge_is_throttled"),
    (
        "edge answers GET",
        lambda t: stack(t, "ReceiveWebhookFunction")["Events"]["Webhook"]["Properties"].update(Method="GET"),
        "edge_is_throttled",
    ),
    ("late on purpose", lambda t: connection(t, "Sweep")["FlexibleTimeWindow"].update(Mode="FLEXIBLE"), "schedules_call_what_they_should"),
    ("tick lost", lambda t: connection(t, "Sweep")["Target"].pop("DeadLetterConfig"), "schedules_call_what_they_should"),
    ("schedule gone", lambda t: t[CONNECTION]["Resources"].pop("PollReceipts"), "schedules_call_what_they_should"),
    ("role without the boundary", lambda t: stack(t, "SweepRole").pop("PermissionsBoundary"), "company_account"),
    ("scheduler without the boundary", lambda t: connection(t, "SchedulerRole").pop("PermissionsBoundary"), "company_account"),
    ("role elsewhere", lambda t: connection(t, "SchedulerRole").pop("Path"), "company_account"),
    ("role that cannot reach the network", lambda t: stack(t, "ConsoleRole").pop("ManagedPolicyArns"), "company_account"),
    ("boundary by default", lambda t: default(t, "PermissionsBoundaryArn", "x"), "company_account"),
    ("functions outside the network", lambda t: t[STACK].pop("Globals"), "company_account"),
    ("function with a network of its own", lambda t: stack(t, "SweepFunction").update(VpcConfig={"Ref": "AWS::NoValue"}), "company_account"),
    (
        "code that makes interfaces",
        lambda t: stack(t, "NetworkInterfaces")["PolicyDocument"]["Statement"].pop(),
        "company_account",
    ),
    (
        "more than interfaces",
        lambda t: stack(t, "NetworkInterfaces")["PolicyDocument"]["Statement"][0]["Action"].append("ec2:RunInstances"),
        "company_account",
    ),
    (
        "subnets without a security group",
        lambda t: t[STACK]["Rules"]["SubnetsHaveSecurityGroups"]["Assertions"][0].update(Assert={"Fn::Equals": ["a", "a"]}),
        "company_account",
    ),
    ("another managed policy", lambda t: t[STACK]["Resources"].update(More={"Type": "AWS::IAM::ManagedPolicy"}), "no_wildcard_in_identity_policies"),
    (
        "commercial ARN",
        lambda t: policy(t, "SweepRole")[0].update(Resource={"Fn::Sub": "arn:aws:dynamodb:${AWS::Region}:${AWS::AccountId}:table/x"}),
        "any_partition",
    ),
    (
        "commercial address",
        lambda t: stack(t, "Key")["KeyPolicy"]["Statement"][1]["Principal"].update(Service={"Fn::Sub": "logs.${AWS::Region}.amazonaws.com"}),
        "any_partition",
    ),
    ("right that no verb needs", lambda t: people(t, "Viewer")[1]["Action"].append("dynamodb:Scan"), "people_may_what_their_verbs_need"),
    ("right that a verb lacks", lambda t: people(t, "Clerk").pop(), "people_may_what_their_verbs_need"),
    (
        "clerk who rewrites the audit trail",
        lambda t: people(t, "Clerk")[1]["Action"].append("dynamodb:UpdateItem"),
        "people_may_what_their_verbs_need",
    ),
    (
        "viewer who reads credentials",
        lambda t: people(t, "Viewer").append(people(t, "Operator").pop(0)),
        "people_may_what_their_verbs_need",
    ),
    ("key for anything", lambda t: people(t, "Viewer")[-1].pop("Condition"), "people_may_what_their_verbs_need"),
    (
        "viewer with the clerk's policy",
        lambda t: t[OPERATORS]["Resources"]["ViewerRole"]["Properties"]["ManagedPolicyArns"].append({"Ref": "ClerkPolicy"}),
        "people_may_what_their_verbs_need",
    ),
    (
        "one person who is two",
        lambda t: t[OPERATORS]["Resources"]["ClerkRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0].update(
            Condition={}
        ),
        "people_may_what_their_verbs_need",
    ),
    ("role for nobody", lambda t: t[OPERATORS]["Resources"]["AdminRole"].pop("Condition"), "people_may_what_their_verbs_need"),
    (
        "version behind an alias",
        lambda t: stack(t, "SweepFunction").update(AutoPublishAlias="live"),
        "a_changed_parameter_arrives",
    ),
    ("schedule that cannot be stopped", lambda t: connection(t, "PollCoupa").update(State="ENABLED"), "one_switch_stops_all_schedules"),
    (
        "schedule with the switch of another",
        lambda t: connection(t, "PollCoupa").update(State={"Fn::If": ["SchedulesOn", {"Ref": "SweepState"}, "DISABLED"]}),
        "one_switch_stops_all_schedules",
    ),
    (
        "alarm for schedules that are off",
        lambda t: t[CONNECTION]["Resources"]["SchedulesSilentAlarm"].pop("Condition"),
        "one_switch_stops_all_schedules",
    ),
    ("export gone", lambda t: t[STACK]["Outputs"].pop("KeyArn"), "imports_are_exported"),
    (
        "secret parameter",
        lambda t: t[CONNECTION]["Parameters"].update(CoupaClientSecret={"Type": "String", "Description": "x"}),
        "parameters_hold_no_secrets",
    ),
]


# ---------------------------------------------------------------------------------------------------------------------
# Running
# ---------------------------------------------------------------------------------------------------------------------


def run(name, templates):
    """What one check finds; a check that cannot read what it checks has found something."""
    try:
        return list(CHECKS[name](templates))
    except (AttributeError, KeyError, IndexError, OSError, TypeError, ValueError) as error:
        return [f"{UNREADABLE}: {type(error).__name__}: {error}"]


def lint():
    """cfn-lint knows every resource type's schema."""
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([str(linter), *map(str, PATHS.values())], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [done.stdout.strip() or done.stderr.strip()]


def main():
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")  # the translator wants one; nothing is called
    logging.disable(logging.WARNING)  # the translator's own metrics
    templates = load()
    plain = {name: run(name, templates) for name in CHECKS}
    results = [("cfn_lint", lint()), *plain.items()]
    for what, mutate, name in MUTATIONS:
        broken = copy.deepcopy(templates)
        mutate(broken)
        noticed = [line for line in run(name, broken) if line not in plain[name] and not line.startswith(UNREADABLE)]
        results.append((f"{name} notices: {what}", [] if noticed else ["it did not"]))
    for name in sorted(set(CHECKS) - {name for _, _, name in MUTATIONS}):
        results.append((name, ["no mutation proves that it can fail"]))
    failed = [(name, found) for name, found in results if found]
    for name, found in failed:
        for line in found:
            print(f"FAILED {name}: {line}")
    print(f"templates: {len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
