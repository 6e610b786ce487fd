"""Says what policies allow, with MiniStack's own evaluator; run by MiniStack's Python, because only that has it.

In: {"policies": [document], "cases": [{"action", "resource", "region", "tags", "request_tags", "service"}]}.
Out: a list of decisions.
"""

import json
import sys

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

ACCOUNT = "000000000000"
asked = json.load(sys.stdin)
# Its evaluator takes conditions as AWS does, but does not fill in variables.
filled = [
    json.dumps(policy).replace("${aws:username}", "least").replace("${aws:userid}", "AIDA")
    for policy in asked["policies"]
]
policies = [parse_policy_document(policy) for policy in filled]
decisions = []
for case in asked["cases"]:
    context = {f"aws:resourcetag/{key}": value for key, value in case.get("tags", {}).items()}
    context |= {f"aws:requesttag/{key}": value for key, value in case.get("request_tags", {}).items()}
    context |= {"iam:passedtoservice": case.get("service"), "iam:awsservicename": case.get("service")}
    request = EvalContext(
        principal_arn=f"arn:aws:iam::{ACCOUNT}:user/least",
        principal_type="User",
        principal_account=ACCOUNT,
        action=case["action"],
        resource_arn=case["resource"],
        region=case.get("region", "eu-west-1"),
        request_tags=case.get("request_tags", {}),
        service_context=context,
        principal_keys={"aws:username": "least"},
    )
    decisions.append(evaluate(request, policies).decision)
json.dump(decisions, sys.stdout)
