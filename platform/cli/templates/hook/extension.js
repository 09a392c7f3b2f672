// Tells a chat channel how deployments end.
import * as config from 'berth:config/config@0.1.0';
import { Request } from 'berth:http-out/http-out@0.1.0';
import * as log from 'berth:log/log@0.1.0';
import * as secrets from 'berth:secrets/secrets@0.1.0';

export const handler = {
  // What is thrown must be an error of the platform's form; it is tried again later.
  onEvent(event) {
    const { app } = JSON.parse(event.payload);
    const text =
      event.kind === 'deployment.failed'
        ? `${setting('mention')} the deployment of ${app} failed`
        : `${app} was deployed`;
    // The address is a secret: the host puts it in, this code never sees it.
    const request = new Request('POST', '');
    request.setSecretUrl(secrets.open('webhook-url'));
    request.setHeader('content-type', new TextEncoder().encode('application/json'));
    request.setBody(new TextEncoder().encode(JSON.stringify({ text })));
    const { status } = request.send();
    log.line('info', `${event.kind}: the channel answered ${status}`);
    if (status >= 300) {
      const retry = status >= 500 || status === 429;
      throw { code: 'refused', message: `the channel answered ${status}`, retry, extra: [] };
    }
  },
};

// A value of the configuration, which comes as JSON.
function setting(name) {
  const json = config.get(name);
  return json === undefined ? '' : JSON.parse(json);
}
