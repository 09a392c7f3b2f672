// Refuses changes of apps that are frozen.
import * as config from 'berth:config/config@0.1.0';

export const judge = {
  // Whatever is thrown counts as a refusal.
  judge(plan) {
    const frozen = JSON.parse(config.get('frozen') ?? '[]');
    if (plan.app === undefined || !frozen.includes(plan.app)) {
      return { tag: 'allow', val: [] };
    }
    const what = plan.actions.join(', ');
    return {
      tag: 'deny',
      val: `${plan.app} is frozen, so ${plan.actor} may not do ${what}; ask an operator to take it off the list`,
    };
  },
};
