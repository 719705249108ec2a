#!/usr/bin/env python3
"""Packs the functions with infra/build, deploys infra/*.yaml onto an AWS emulator and sends one webhook through them.

    python tests/infra/deploy_locally.py      (needs tests/infra/requirements-deploy.txt)

A second opinion on what the local run of this project does with the same templates: another reading of SAM, of
CloudFormation and of Lambda. The emulator (ministack) is one process without Docker; it enforces no permissions.
"""

import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import botocore.session
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
STACK = "qad-coupa"
BUCKET = "code"
CONNECTION = "example"
SIGNING_SECRET = "fictional-signing-secret-of-example"
# Everything that is none by default, as a company's account may demand it.
COMPANY = {
    "RegisterTableName": "restored-register",
    "AuditTableName": "restored-audit",
    "SubnetIds": "subnet-0a1,subnet-0b2",
    "SecurityGroupIds": "sg-0c3",
    "RolePath": "/finance/",
    "PermissionsBoundaryArn": "arn:aws:iam::000000000000:policy/boundary",
}
START_SECONDS_MAX = 30
STACK_SECONDS_MAX = 60
DEAD_LETTER_SECONDS_MAX = 90


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, seconds, ask):
    """Asks until the answer is not None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(0.2)
    raise TimeoutError(f"{what} did not happen within {seconds} s")


class Emulator:
    """The emulator as a child process, and clients for it."""

    def __init__(self, folder):
        self.port = free_port()
        self.log = open(folder / "ministack.log", "wb")
        environment = {
            **os.environ,
            "GATEWAY_PORT": str(self.port),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",  # where the functions find AWS
            "TMPDIR": str(folder),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ministack"], env=environment, cwd=folder, stdout=self.log, stderr=subprocess.STDOUT
        )
        self.session = botocore.session.get_session()
        self.session.set_credentials("local", "local")
        until("the emulator's start", START_SECONDS_MAX, self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError("the emulator ended by itself")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return None
        return True

    def client(self, service):
        return self.session.create_client(service, region_name=REGION, endpoint_url=f"http://127.0.0.1:{self.port}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def with_numbers(template):
    """Puts the defaults of number parameters where they are used: the emulator hands them on as texts."""
    numbers = {n: p["Default"] for n, p in template["Parameters"].items() if p["Type"] == "Number"}

    def fill(value):
        if isinstance(value, dict):
            if set(value) == {"Ref"} and value["Ref"] in numbers:
                return int(numbers[value["Ref"]])
            return {k: fill(v) for k, v in value.items()}
        return [fill(v) for v in value] if isinstance(value, list) else value

    template["Resources"] = fill(template["Resources"])
    return template


def stack_template(s3, packages):
    """The stack as `infra/build` packed it, with the packages in a bucket."""
    template = with_numbers(yaml_parse((packages / "stack.yaml").read_text(encoding="utf-8")))
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            package = resource["Properties"]["CodeUri"]
            s3.put_object(Bucket=BUCKET, Key=package, Body=(packages / package).read_bytes())
            resource["Properties"]["CodeUri"] = f"s3://{BUCKET}/{package}"
            # Environment values are texts in Lambda.
            variables = resource["Properties"]["Environment"]["Variables"]
            variables.update({k: str(v) for k, v in variables.items() if isinstance(v, int)})
    # The one thing changed: a failing message comes back after a second, so that its way to the dead-letter queue can
    # be watched. (The functions are still told the real visibility.)
    template["Resources"]["InvoicesQueue"]["Properties"]["VisibilityTimeout"] = 1
    return json.dumps(template, default=str)


def connection_template():
    """The connection without what the emulator does not know."""
    template = yaml_parse((ROOT / "infra/connection.yaml").read_text(encoding="utf-8"))
    unknown = [n for n, r in template["Resources"].items() if r["Type"] == "AWS::SecretsManager::ResourcePolicy"]
    for name in unknown:
        del template["Resources"][name]
    print(f"NOT TRIED here, the emulator does not know their type: {', '.join(unknown)}")
    return json.dumps(template, default=str)


def add_routes(emulator, base_url):
    """The template's routes, one by one: the emulator leaves out the API definition SAM writes them into."""
    print("NOT TRIED here, the emulator does not read it: the API definition (its routes are added one by one)")
    gateway = emulator.client("apigatewayv2")
    api = urllib.parse.urlsplit(base_url).netloc.split(".")[0]
    template = yaml_parse((ROOT / "infra/stack.yaml").read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        events = resource.get("Properties", {}).get("Events", {})
        for event in (e["Properties"] for e in events.values() if e["Type"] == "HttpApi"):
            name = f"{STACK}-{resource['Metadata']['BuildProperties']['Binary']}"
            integration = gateway.create_integration(
                ApiId=api,
                IntegrationType="AWS_PROXY",
                IntegrationUri=f"arn:aws:lambda:{REGION}:000000000000:function:{name}",
                PayloadFormatVersion=event["PayloadFormatVersion"],
            )
            gateway.create_route(
                ApiId=api,
                RouteKey=f"{event['Method']} {event['Path']}",
                Target=f"integrations/{integration['IntegrationId']}",
            )


def create(emulator, name, body, **parameters):
    """Creates a stack from a bucket, as `sam deploy` does: a request takes templates of up to 51,200 bytes only."""
    cloudformation = emulator.client("cloudformation")
    emulator.client("s3").put_object(Bucket=BUCKET, Key=f"{name}.json", Body=body.encode())
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=f"http://127.0.0.1:{emulator.port}/{BUCKET}/{name}.json",
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    )

    def ended():
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        return None if stack["StackStatus"].endswith("_IN_PROGRESS") else stack

    stack = until(f"stack {name}", STACK_SECONDS_MAX, ended)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in events if "FAILED" in e["ResourceStatus"]]
        raise RuntimeError(f"{name} ended as {stack['StackStatus']}: {'; '.join(reasons)}")
    return {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}


def delete(emulator, name):
    """Deletes a stack and waits until it is gone."""
    cloudformation = emulator.client("cloudformation")
    cloudformation.delete_stack(StackName=name)

    def gone():
        try:
            stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
        except cloudformation.exceptions.ClientError:
            return True
        return True if stacks[0]["StackStatus"] == "DELETE_COMPLETE" else None

    until(f"the end of {name}", STACK_SECONDS_MAX, gone)


def take_over(emulator, check):
    """The connection goes and comes back, and takes over the secrets that stayed, with what is in them."""
    secrets = emulator.client("secretsmanager")
    names = {key: f"{STACK}/{kind}/{CONNECTION}" for key, kind in (("ConnectionSecretArn", "connection"), ("WebhookSecretArn", "webhook"))}
    delete(emulator, "example-connection")
    arns = {key: secrets.describe_secret(SecretId=name)["ARN"] for key, name in names.items()}
    outputs = create(
        emulator, "example-connection", connection_template(), StackName=STACK, ConnectionId=CONNECTION, ScheduleState="DISABLED", **arns
    )
    told = {key: outputs.get(key) for key in arns}
    check("a connection that comes back takes over its secrets", told == arns, told)
    kept = SIGNING_SECRET in secrets.get_secret_value(SecretId=names["WebhookSecretArn"])["SecretString"]
    check("and what was in them", kept, "the secret was written over")


def company(emulator, template, check):
    """A second stack with everything that is none by default, and the policies for people."""
    functions, iam = emulator.client("lambda"), emulator.client("iam")
    outputs = create(emulator, "company", template, **COMPANY)
    tables = {name: outputs[name] for name in ("RegisterTableName", "AuditTableName")}
    check("a stack is pointed at existing tables", all(COMPANY[name] == table for name, table in tables.items()), tables)
    told = functions.get_function_configuration(FunctionName="company-sweep")["Environment"]["Variables"]
    check("and so are its functions", told["REGISTER_TABLE"] == COMPANY["RegisterTableName"], told)
    paths = {role["Path"] for role in iam.list_roles()["Roles"] if role["RoleName"].startswith("company-")}
    check("its roles are where the company wants them", paths == {COMPANY["RolePath"]}, paths)
    people = yaml_parse((ROOT / "infra/operators.yaml").read_text(encoding="utf-8"))
    given = {"StackName": "company", "ConnectionId": CONNECTION, "ClerkPrincipals": "arn:aws:iam::000000000000:user/alice"}
    outputs = create(emulator, "company-people", json.dumps(people, default=str), **given, **tables, TokensTableName="tokens")
    check("only the role that somebody may take is made", set(outputs) == {"ClerkRoleArn"}, outputs)


def post_webhook(port, base_url, body, signature):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Host": urllib.parse.urlsplit(base_url).netloc, "Content-Type": "application/json"}
    if signature:
        headers["X-Coupa-Signature"] = signature
    connection.request("POST", f"/webhooks/coupa/{CONNECTION}", body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def count(sqs, url):
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def run(emulator, packages, results):
    def check(what, fine, found=""):
        results.append(fine)
        print(f"{'ok    ' if fine else 'FAILED'} {what}{'' if fine else f': {found}'}")

    functions, sqs = emulator.client("lambda"), emulator.client("sqs")
    template = stack_template(emulator.client("s3"), packages)
    outputs = create(emulator, STACK, template)
    create(
        emulator,
        "example-connection",
        connection_template(),
        StackName=STACK,
        ConnectionId=CONNECTION,
        ScheduleState="DISABLED",
    )
    check("both stacks were created", True)
    add_routes(emulator, outputs["WebhookBaseUrl"])

    settings = {"scheme": "coupa-hmac", "secrets": [SIGNING_SECRET]}
    emulator.client("secretsmanager").put_secret_value(
        SecretId=f"{STACK}/webhook/{CONNECTION}", SecretString=json.dumps(settings)
    )

    tick = json.dumps({"connection": CONNECTION}).encode()
    answer = functions.invoke(FunctionName=f"{STACK}-sweep", Payload=tick)
    check("sweep reads the empty register", "FunctionError" not in answer, answer["Payload"].read()[:500])
    answer = functions.invoke(FunctionName=f"{STACK}-poll-coupa", Payload=tick)
    check("poll-coupa refuses a connection whose secret was never filled", "FunctionError" in answer, "it succeeded")

    event = {"event-id": "e-1", "event-type": "invoice", "event": "approved", "object": {"id": 92010}}
    body = json.dumps(event).encode()
    signature = "sha256=" + hmac.new(SIGNING_SECRET.encode(), body, hashlib.sha256).hexdigest()
    status, text = post_webhook(emulator.port, outputs["WebhookBaseUrl"], body, None)
    check("a webhook without a signature is answered 401", status == 401, (status, text))
    status, text = post_webhook(emulator.port, outputs["WebhookBaseUrl"], body, signature)
    check("a signed webhook is answered 202", status == 202, (status, text))

    take_over(emulator, check)
    company(emulator, template, check)

    def dead():
        return True if count(sqs, outputs["InvoicesDeadLetterQueueUrl"]) == 1 else None

    try:
        until("the dead letter", DEAD_LETTER_SECONDS_MAX, dead)
        check("its hint, which no connection settings can serve, ends in the dead-letter queue", True)
    except TimeoutError as error:
        check("its hint, which no connection settings can serve, ends in the dead-letter queue", False, error)


def main():
    results = []
    with tempfile.TemporaryDirectory(prefix="deploy-locally-") as folder:
        packages = Path(folder) / "packages"
        subprocess.run([sys.executable, ROOT / "infra/build", "--profile", "dev", "--out", packages], check=True)
        emulator = Emulator(Path(folder))
        try:
            run(emulator, packages, results)
        except Exception as error:  # whatever it is, the deployment failed; say so and show the emulator's log
            results.append(False)
            print(f"FAILED {type(error).__name__}: {str(error)[:2000]}")
        finally:
            emulator.stop()
        if not all(results):
            lines = (Path(folder) / "ministack.log").read_text(encoding="utf-8", errors="replace").splitlines()
            print("\n".join(["---- the emulator's last lines", *lines[-60:]]))
    print(f"deployment: {results.count(True)} passed, {results.count(False)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
