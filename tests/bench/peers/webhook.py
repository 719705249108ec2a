"""A webhook as one writes it with boto3: verify the signature, queue what it is about, answer."""
import hashlib
import hmac
import json
import os

import boto3
from runtime import serve

secrets = boto3.client("secretsmanager")
queue = boto3.client("sqs")
known = {}


def secret(connection):
    if connection not in known:
        name = os.environ["WEBHOOK_SECRET_PREFIX"] + connection
        document = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])
        known[connection] = document["secrets"][0].encode()
    return known[connection]


def handler(event):
    connection = event["pathParameters"]["connection"]
    body = event["body"]
    expected = hmac.new(secret(connection), body.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, event["headers"].get("x-coupa-signature", "")):
        return {"statusCode": 401}
    document = json.loads(body)
    if document["event-type"] != "invoice":
        return {"statusCode": 202}
    hint = {"v": "1", "connection": connection, "subject": {"invoice": document["object"]["id"]}, "reason": "webhook"}
    queue.send_message(QueueUrl=os.environ["INVOICES_QUEUE_URL"], MessageBody=json.dumps(hint))
    return {"statusCode": 202}


serve(handler)
