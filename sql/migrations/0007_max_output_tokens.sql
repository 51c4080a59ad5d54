-- The most that a model answers, which budgets reserve. The program of the release before works on it: it
-- reserves by the context window, as it did.

alter table models add max_output_tokens bigint check (max_output_tokens > 0); -- of each answer; null: not known
