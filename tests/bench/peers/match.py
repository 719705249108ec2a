"""A plain connector with boto3 and urllib3: the same seven requests for an invoice of one line, and a record of each step."""
import json
import os
import sys
import uuid
from datetime import datetime, timezone
from decimal import Decimal
from urllib.parse import urlencode

import boto3
import urllib3
from runtime import serve

COUPA, QAD = os.environ["COUPA_URL"], os.environ["QAD_URL"]
VIEW = "urn:be:com.qad.financials.purchaseledger.supplierinvoice.ISupplierInvoice"
register = boto3.client("dynamodb")
http = urllib3.PoolManager()
tokens = {}


def token(system):
    if system not in tokens:
        if system == "coupa":
            url = COUPA + "/oauth2/token"
            form = {"grant_type": "client_credentials", "client_id": "example-coupa-client",
                    "client_secret": "example-coupa-secret",
                    "scope": "core.invoice.read core.invoice.write core.purchase_order.read"}
        else:
            url = QAD + "/oauth/token"
            form = {"grant_type": "password", "client_id": "example-qad-client", "username": "example-user",
                    "password": "example-password"}
        answer = http.request("POST", url, body=urlencode(form),
                              headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json",
                                       "user-agent": "peer"})
        tokens[system] = json.loads(answer.data)["access_token"]
    return tokens[system]


def call(system, method, path, query=(), body=None):
    url = (COUPA if system == "coupa" else QAD) + path + ("?" + urlencode(query) if query else "")
    headers = {"authorization": "Bearer " + token(system), "accept": "application/json", "user-agent": "peer"}
    if system == "coupa":
        headers["x-coupa-api-version"] = "39"
    if method != "GET":
        headers["idempotency-key"] = str(uuid.uuid4())
    if body is not None:
        headers["content-type"] = "application/json"
    answer = http.request(method, url, body=body, headers=headers)
    if answer.status not in (200, 201):
        raise RuntimeError(f"{method} {url}: {answer.status} {answer.data[:300]}")
    return json.loads(answer.data, parse_float=Decimal)


def browse(browse_id, column, order):
    query = [("browseId", browse_id), ("page", "1"), ("pageSize", "500"), ("pageAction", "first"),
             ("filter", f"{column},eq,{order},literal")]
    return call("qad", "GET", "/api/qracore/browses", query)["data"]


def note(invoice, state, more=""):
    register.put_item(TableName=os.environ["REGISTER_TABLE"],
                      Item={"pk": {"S": f"peer#{invoice}"}, "sk": {"S": "-"}, "state": {"S": state}, "body": {"S": more}})


def post(number):
    invoice = call("coupa", "GET", f"/api/invoices/{number}")
    note(number, "received", json.dumps(invoice, default=str))
    line = invoice["invoice-lines"][0]
    order = line["po-number"]
    call("coupa", "GET", "/api/purchase_orders", [("po-number", order), ("limit", "1")])
    [ordered] = browse("urn:browse:mfg:po804", "pod_det.pod_nbr", order)
    [received] = browse("urn:browse:mfg:po041", "prh_hist.prh_nbr", order)
    quantity, price = Decimal(line["quantity"]), Decimal(line["price"])
    if Decimal(str(ordered["pod_det.pod_pur_cost"])) != price or Decimal(str(received["prh_hist.prh_rcvd"])) < quantity:
        raise RuntimeError("does not match")
    keys = [("entityCode", "10USACO"), ("supplierCode", "S1001"), ("supplierInvoiceReference", invoice["invoice-number"])]
    if call("qad", "GET", "/api/erp/supplierInvoices", keys + [("viewUri", VIEW)])["data"].get("supplierInvoices"):
        raise RuntimeError("is there already")
    note(number, "sending")
    today = datetime.now(timezone.utc).strftime("%Y-%m-%dT00:00:00.000Z")
    record = {
        "entityCode": "10USACO", "domainCode": "10USA", "supplierCode": "S1001",
        "supplierInvoiceReference": invoice["invoice-number"], "invoiceType": "INVOICE", "daybookCode": "SI",
        "matchingDaybookCode": "RM", "currencyCode": "USD", "invoiceDate": invoice["invoice-date"][:10] + "T00:00:00.000Z",
        "postingDate": today, "creditTermsCode": "N30", "invoiceStatusCode": "AP-RMALLOC",
        "totalAmount": float(quantity * price), "taxAmount": 0, "description": f"Peer {number}",
        "purchaseOrders": [{"purchaseOrderDomain": "10USA", "purchaseOrderNumber": order}],
        "receiverMatchings": [{"purchaseOrderNumber": order, "purchaseOrderLine": 1,
                               "receiverNumber": received["prh_hist.prh_receiver"], "matchQuantity": float(quantity),
                               "matchUnitPrice": float(price), "isFinished": True}],
        "additionalCosts": [], "dataOperation": "C", "concurrencyHash": "",
    }
    answer = call("qad", "POST", "/api/erp/supplierInvoices", [("viewUri", VIEW)], json.dumps({"supplierInvoices": [record]}))
    if not answer.get("submitResult", {}).get("success"):
        raise RuntimeError(f"not posted: {answer}")
    note(number, "posted")
    call("coupa", "PUT", f"/api/invoices/{number}", [("exported", "true")])
    note(number, "exported")


def handler(event):
    failed = []
    for message in event["Records"]:
        try:
            post(json.loads(message["body"])["subject"]["invoice"])
        except Exception as error:
            print(error, file=sys.stderr, flush=True)
            failed.append({"itemIdentifier": message["messageId"]})
    return {"batchItemFailures": failed}


serve(handler)
