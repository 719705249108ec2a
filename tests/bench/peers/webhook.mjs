// A webhook as one writes it with the AWS SDK v3: verify the signature, queue what it is about, answer.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { serve } from './runtime.mjs';

const secrets = new SecretsManagerClient({});
const queue = new SQSClient({});
const known = new Map();

const secret = async (connection) => {
  if (!known.has(connection)) {
    const name = process.env.WEBHOOK_SECRET_PREFIX + connection;
    const answer = await secrets.send(new GetSecretValueCommand({ SecretId: name }));
    known.set(connection, JSON.parse(answer.SecretString).secrets[0]);
  }
  return known.get(connection);
};

serve(async (event) => {
  const { connection } = event.pathParameters;
  const expected = createHmac('sha256', await secret(connection)).update(event.body).digest();
  const offered = Buffer.from(event.headers['x-coupa-signature'] ?? '', 'hex');
  if (offered.length !== expected.length || !timingSafeEqual(offered, expected)) return { statusCode: 401 };
  const document = JSON.parse(event.body);
  if (document['event-type'] !== 'invoice') return { statusCode: 202 };
  const hint = { v: '1', connection, subject: { invoice: document.object.id }, reason: 'webhook' };
  await queue.send(
    new SendMessageCommand({ QueueUrl: process.env.INVOICES_QUEUE_URL, MessageBody: JSON.stringify(hint) }),
  );
  return { statusCode: 202 };
});
