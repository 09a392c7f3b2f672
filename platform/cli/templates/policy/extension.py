"""Refuses changes of apps that are frozen."""

import json

from wit_world import exports
from wit_world.exports.judge import Verdict_Allow, Verdict_Deny
from wit_world.imports import config


class Judge(exports.Judge):
    def judge(self, plan):
        """Whatever is raised counts as a refusal."""
        frozen = json.loads(config.get("frozen") or "[]")
        if plan.app not in frozen:
            return Verdict_Allow([])
        what = ", ".join(plan.actions)
        return Verdict_Deny(
            f"{plan.app} is frozen, so {plan.actor} may not do {what}; "
            "ask an operator to take it off the list"
        )
