// Hides paths of apps from the world.
import * as config from 'berth:config/config@0.1.0';

// An instance answers many requests, so the configuration is read once.
let hidden;

export const requestFilter = {
  // Nothing lets the request go on.
  onRequest(request) {
    hidden ??= JSON.parse(config.get('hidden') ?? '[]');
    const path = request.path();
    if (!hidden.some((prefix) => path.startsWith(prefix))) {
      return undefined;
    }
    const bytes = (text) => new TextEncoder().encode(text);
    return {
      status: 404,
      headers: [['content-type', bytes('text/plain')]],
      body: bytes('not found\n'),
    };
  },
};
