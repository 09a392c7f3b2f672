// Shows whom to ask about an app.
import * as config from 'berth:config/config@0.1.0';

export const pages = {
  pages() {
    return [{ id: 'owner', title: 'Owner', place: 'app', extra: [] }];
  },
  render({ app = '' }) {
    const owner = JSON.parse(config.get('owners') ?? '{}')[app];
    const text = owner ? `Ask ${owner} about ${app}.` : `Nobody is named for ${app}.`;
    return JSON.stringify({ blocks: [{ type: 'text', text }] });
  },
};
