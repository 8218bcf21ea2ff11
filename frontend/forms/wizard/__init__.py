"""The forms of the study wizard, one a step. Field names are those of `studies.plan.Plan`, beside name,
purpose and datasets; a new field of the plan is a new line in one of them."""
