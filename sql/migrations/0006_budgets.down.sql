-- lost: budgets | select count(*) from budgets
-- lost: counters of budgets, with what was spent of them | select count(*) from budget_counters

drop table gateway_epochs, budget_shares, budget_counters, budgets;
