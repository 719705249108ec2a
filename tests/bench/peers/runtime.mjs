// The thinnest loop over Lambda's Runtime API: what a function in Node costs at least.
import http from 'node:http';

const agent = new http.Agent({ keepAlive: true });
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const API = '/2018-06-01/runtime/invocation/';

const exchange = (method, path, body) =>
  new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
    const request = http.request({ agent, host, port, method, path, headers }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve([answer.headers, Buffer.concat(parts).toString()]));
    });
    request.on('error', reject);
    request.end(body);
  });

export const serve = async (handler) => {
  for (;;) {
    const [headers, event] = await exchange('GET', `${API}next`);
    const answer = JSON.stringify(await handler(JSON.parse(event)));
    await exchange('POST', `${API}${headers['lambda-runtime-aws-request-id']}/response`, answer);
  }
};
